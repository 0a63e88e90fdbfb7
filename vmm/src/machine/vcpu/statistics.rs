// SPDX-License-Identifier: Apache-2.0 OR MIT
//! KVM's own counters of a vCPU (Documentation/virt/kvm/api.rst §4.134, `KVM_GET_STATS_FD`).

use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

use vmm_sys_util::ioctl::ioctl;

use super::Vcpu;

mod request {
    vmm_sys_util::ioctl_io_nr!(KVM_GET_STATS_FD, kvm_bindings::KVMIO, 0xce);
}

/// Counts interrupts that KVM injected (`arch/x86/kvm/x86.c:kvm_vcpu_stats_desc`).
const INJECTIONS: &[u8] = b"irq_injections";
/// Bytes of `struct kvm_stats_header`, and of `struct kvm_stats_desc` before the name.
const HEADER: usize = 24;
const DESCRIPTOR: usize = 16;
/// More than KVM has of either.
const MOST: usize = 1024;

/// The number of interrupts injected into one vCPU.
#[derive(Debug)]
pub struct InterruptCounter {
    file: File,
    offset: u64,
}

impl InterruptCounter {
    /// Its present value.
    pub fn read(&self) -> Option<u64> {
        let mut value = [0; 8];
        self.file.read_exact_at(&mut value, self.offset).ok()?;
        Some(u64::from_ne_bytes(value))
    }
}

impl Vcpu {
    /// The counter of injected interrupts; `None` before Linux 5.14.
    pub fn interrupt_counter(&self) -> Option<InterruptCounter> {
        // SAFETY: the request takes no argument, and changes nothing.
        let fd = unsafe { ioctl(&self.fd, request::KVM_GET_STATS_FD()) };
        if fd < 0 {
            return None;
        }
        // SAFETY: KVM has just made this descriptor for the caller.
        let file = unsafe { File::from_raw_fd(fd) };
        let word = |bytes: &[u8], at: usize| {
            Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
        };
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).ok()?;
        let (name_size, count) = (word(&header, 4)?.min(MOST), word(&header, 8)?.min(MOST));
        let (descriptors, data) = (word(&header, 16)?, word(&header, 20)?);
        let mut descriptor = vec![0; DESCRIPTOR + name_size];
        for index in 0..count {
            file.read_exact_at(&mut descriptor, (descriptors + index * (DESCRIPTOR + name_size)) as u64)
                .ok()?;
            let name = descriptor[DESCRIPTOR..].split(|byte| *byte == 0).next();
            if name == Some(INJECTIONS) {
                let offset = (data + word(&descriptor, 8)?) as u64;
                return Some(InterruptCounter { file, offset });
            }
        }
        None
    }
}
