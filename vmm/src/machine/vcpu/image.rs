// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything KVM keeps of one vCPU, saved and set again.

use std::arch::x86_64::_rdtsc;

use kvm_bindings::{
    KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, Msrs, kvm_debugregs, kvm_device_attr, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Error, VcpuFd};
use serde::{Deserialize, Serialize};
use vmm_sys_util::ioctl::ioctl_with_ref;

use super::Vcpu;
use crate::x86::{cpuid, exception};

/// Time stamp counter: set through its offset, as time passes between saving and restoring (Intel SDM volume 4).
const MSR_TSC: u32 = 0x10;
/// When the local APIC's timer fires, in TSC cycles: set once TSC and local APIC are.
const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// Most MSRs in one request (`arch/x86/kvm/x86.c:MAX_IO_MSRS`).
const MAX_MSRS: usize = 256;

mod request {
    use super::kvm_device_attr;
    vmm_sys_util::ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, kvm_bindings::KVMIO, 0xe1, kvm_device_attr);
}

/// A vCPU at one instant.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct VcpuImage {
    regs: kvm_regs,
    sregs: kvm_sregs,
    /// Floating-point and vector registers, and which of them are enabled.
    xsave: Box<kvm_xsave>,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    events: kvm_vcpu_events,
    mp_state: kvm_mp_state,
    lapic: kvm_lapic_state,
    /// Number and value of each MSR that KVM keeps, without the TSC.
    msrs: Vec<(u32, u64)>,
    /// Time stamp counter as the guest reads it.
    tsc: u64,
}

/// A vCPU could not be saved or set.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{attempt}: KVM answered {source}")]
pub struct VcpuImageError {
    attempt: &'static str,
    source: Error,
}

fn failed(attempt: &'static str) -> impl Fn(Error) -> VcpuImageError {
    move |source| VcpuImageError { attempt, source }
}

impl Vcpu {
    /// Saves it, between two runs. `msrs`: numbers of the MSRs that KVM keeps.
    pub fn save(&self, msrs: &[u32]) -> Result<VcpuImage, VcpuImageError> {
        let fd = &self.fd;
        let mut sregs = fd.get_sregs().map_err(failed("saving a vCPU's system registers"))?;
        if cpuid::host_is_tcg() {
            sregs.tr.type_ = exception::TSS_AVAILABLE;
        }
        let msrs = msrs.iter().filter(|index| ![MSR_TSC, MSR_TSC_DEADLINE].contains(index));
        let msrs = read_msrs(fd, msrs.copied().chain([MSR_TSC_DEADLINE]));
        Ok(VcpuImage {
            regs: fd.get_regs().map_err(failed("saving a vCPU's registers"))?,
            sregs,
            xsave: Box::new(fd.get_xsave().map_err(failed("saving a vCPU's vector registers"))?),
            xcrs: fd.get_xcrs().map_err(failed("saving a vCPU's XCR0"))?,
            debug: fd.get_debug_regs().map_err(failed("saving a vCPU's debug registers"))?,
            events: fd.get_vcpu_events().map_err(failed("saving a vCPU's pending events"))?,
            mp_state: fd.get_mp_state().map_err(failed("saving a vCPU's state of activity"))?,
            lapic: fd.get_lapic().map_err(failed("saving a vCPU's local APIC"))?,
            msrs,
            tsc: self
                .read_msr(MSR_TSC)
                .ok_or(Error::new(libc::EINVAL))
                .map_err(failed("saving a vCPU's TSC"))?,
        })
    }

    /// Makes it what it was when `image` was saved; no exit of it is unanswered. The guest finds no time passed.
    pub fn restore(&self, image: &VcpuImage) -> Result<(), VcpuImageError> {
        let fd = &self.fd;
        fd.set_sregs(&image.sregs).map_err(failed("restoring a vCPU's system registers"))?;
        fd.set_regs(&image.regs).map_err(failed("restoring a vCPU's registers"))?;
        fd.set_xcrs(&image.xcrs).map_err(failed("restoring a vCPU's XCR0"))?;
        // SAFETY: the structure is what KVM_GET_XSAVE gave on a host with the same features, and no larger state was enabled by
        // arch_prctl(2).
        unsafe { fd.set_xsave(&image.xsave) }.map_err(failed("restoring a vCPU's vector registers"))?;
        self.set_tsc(image.tsc)?;
        // What is as it was is not written: writing some of KVM's own MSRs has effects on guest memory.
        let now = read_msrs(fd, image.msrs.iter().map(|(index, _)| *index));
        let deadline = |(index, _): &&(u32, u64)| *index == MSR_TSC_DEADLINE;
        let changed = image.msrs.iter().filter(|msr| !deadline(msr) && !now.contains(msr));
        self.set_each_msr(&changed.copied().collect::<Vec<_>>())?;
        fd.set_lapic(&image.lapic).map_err(failed("restoring a vCPU's local APIC"))?;
        if let Some(deadline) = image.msrs.iter().find(deadline).filter(|(_, value)| *value != 0) {
            self.set_each_msr(&[*deadline])?;
        }
        fd.set_vcpu_events(&image.events).map_err(failed("restoring a vCPU's pending events"))?;
        fd.set_debug_regs(&image.debug).map_err(failed("restoring a vCPU's debug registers"))?;
        fd.set_mp_state(image.mp_state).map_err(failed("restoring a vCPU's state of activity"))
    }

    /// Sets MSRs one by one, since KVM stops at the first one that it refuses. One that KVM does not let be set keeps
    /// the value that every new vCPU has.
    fn set_each_msr(&self, msrs: &[(u32, u64)]) -> Result<(), VcpuImageError> {
        let mut rest = msrs;
        while !rest.is_empty() {
            let done = self.set_msrs(rest).map_err(failed("restoring a vCPU's MSRs"))?;
            let Some((refused, after)) = rest.get(done..).and_then(<[_]>::split_first) else { return Ok(()) };
            if self.read_msr(refused.0) != Some(refused.1) {
                return Err(VcpuImageError {
                    attempt: "restoring a vCPU's MSRs, one of which KVM does not set",
                    source: Error::new(libc::EINVAL),
                });
            }
            rest = after;
        }
        Ok(())
    }

    /// Sets the TSC to `tsc` now.
    fn set_tsc(&self, tsc: u64) -> Result<(), VcpuImageError> {
        // SAFETY: RDTSC reads a counter; every processor with virtualisation has it.
        let offset = tsc.wrapping_sub(unsafe { _rdtsc() });
        let attribute = kvm_device_attr {
            group: KVM_VCPU_TSC_CTRL,
            attr: u64::from(KVM_VCPU_TSC_OFFSET),
            addr: (&raw const offset) as u64,
            flags: 0,
        };
        // SAFETY: the attribute and the offset that it points to live through the call.
        if unsafe { ioctl_with_ref(&self.fd, request::KVM_SET_DEVICE_ATTR(), &attribute) } == 0 {
            return Ok(());
        }
        // Up to 5.15: KVM takes a value near the present one for an attempt to synchronise vCPUs, and keeps the present one
        // (`arch/x86/kvm/x86.c:kvm_synchronize_tsc`). The guest then finds that time has passed.
        self.set_msrs(&[(MSR_TSC, tsc)]).map_err(failed("restoring a vCPU's TSC")).map(|_| ())
    }
}

/// The values of those of these MSRs that can be read.
fn read_msrs(fd: &VcpuFd, indices: impl Iterator<Item = u32>) -> Vec<(u32, u64)> {
    let all: Vec<kvm_msr_entry> =
        indices.map(|index| kvm_msr_entry { index, ..Default::default() }).collect();
    let mut found = Vec::new();
    let mut rest = &all[..];
    while !rest.is_empty() {
        let part = &rest[..rest.len().min(MAX_MSRS)];
        let Ok(mut list) = Msrs::from_entries(part) else { break };
        let done = fd.get_msrs(&mut list).unwrap_or(0);
        found.extend(list.as_slice().iter().take(done).map(|msr| (msr.index, msr.data)));
        // KVM stops at the first one that it does not have.
        let skipped = usize::from(done < part.len());
        rest = &rest[done + skipped..];
    }
    found
}
