// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hyper-V VBS isolation with a virtual top of memory: to Linux an AMD guest with vTOM, without any SEV.
//!
//! `arch/x86/kernel/cpu/mshyperv.c:ms_hyperv_init_platform` and `arch/x86/hyperv/ivm.c:hv_vtom_init`; section numbers
//! are those of the Hypervisor Top-Level Functional Specification (TLFS).

use std::cell::Cell;

use kvm_bindings::kvm_regs;
use serde::{Deserialize, Serialize};
use types::{Mode, Platform, VcpuId, View};

use super::failure::{Conversion, ConversionCall};
use super::guest_type::{GuestActivity, NoEvidence};
use super::services::{Next, Services};
use super::sev::{LEAF_ENCRYPTED_MEMORY, LEAF_KVM_FEATURES};
use super::{MsrRange, PlatformModel, PlatformState};
use crate::layout::{self, PAGE_SIZE};
use crate::memory::protected::{Architecture, Cause};
use crate::memory::{Content, GuestMemory};
use crate::x86::cpuid::{CpuidTable, LEAF_ADDRESS_SIZES};

/// TLFS §2.4: vendor, largest leaf.
const LEAF_VENDOR: u32 = 0x4000_0000;
const LEAF_VERSION: u32 = 0x4000_0002;
const LEAF_FEATURES: u32 = 0x4000_0003;
const LEAF_RECOMMENDATIONS: u32 = 0x4000_0004;
const LEAF_LIMITS: u32 = 0x4000_0005;
/// `HYPERV_CPUID_ISOLATION_CONFIG`.
const LEAF_ISOLATION: u32 = 0x4000_000c;

/// TLFS §2.4.4, leaf 0x40000003 EAX: hypercall MSRs, VP index MSR.
const ACCESS_HYPERCALL_MSRS: u32 = 1 << 5;
const ACCESS_VP_INDEX: u32 = 1 << 6;
/// The TSC never changes its rate, and an MSR reports that: without it Linux takes the TSC for unstable
/// (`arch/x86/kernel/cpu/mshyperv.c:ms_hyperv_init_platform`).
const ACCESS_TSC_INVARIANT: u32 = 1 << 15;
/// The frequencies of TSC and APIC timer can be read from MSRs: without them Linux measures both against the PIT. The same
/// is repeated in EDX.
const ACCESS_FREQUENCY_MSRS: u32 = 1 << 11;
const FREQUENCY_MSRS_AVAILABLE: u32 = 1 << 8;
/// The same, EBX: the partition is isolated.
const ISOLATION: u32 = 1 << 22;
/// Leaf 0x4000000C EBX: type VBS in bits 3:0, boundary active, its bit number in 11:6
/// (`include/asm-generic/mshyperv.h:struct ms_hyperv_info`).
const ISOLATION_TYPE_VBS: u32 = 1;
const BOUNDARY_ACTIVE: u32 = 1 << 5;
const BOUNDARY_BITS_SHIFT: u32 = 6;

/// TLFS §3.13: guest OS identity, hypercall page.
const MSR_GUEST_OS_ID: u32 = 0x4000_0000;
const MSR_HYPERCALL: u32 = 0x4000_0001;
const HYPERCALL_ENABLE: u64 = 1;
const MSR_TSC_FREQUENCY: u32 = 0x4000_0022;
const MSR_APIC_FREQUENCY: u32 = 0x4000_0023;
/// KVM's local APIC counts nanoseconds (`arch/x86/kvm/lapic.h:APIC_BUS_CYCLE_NS_DEFAULT`).
const APIC_HZ: u64 = 1_000_000_000;
/// Every synthetic MSR Linux may access.
const MSRS: &[MsrRange] = &[MsrRange { first: MSR_GUEST_OS_ID, count: 0x200 }];

/// `HvCallModifySparseGpaPageHostVisibility`.
const CALL_MODIFY_HOST_VISIBILITY: u64 = 0xdb;
/// Its list: partition, visibility, reserved, then page numbers (`struct hv_gpa_range_for_visibility`).
const LIST_OFFSET: u64 = 16;
/// Most page numbers a list of one page holds.
const MAX_LIST: u64 = (PAGE_SIZE - LIST_OFFSET) / 8;
/// `HV_PARTITION_ID_SELF`.
const PARTITION_SELF: u64 = u64::MAX;

/// TLFS §3.12, hypercall status.
const STATUS_SUCCESS: u64 = 0;
const STATUS_INVALID_CODE: u64 = 2;
const STATUS_INVALID_INPUT: u64 = 3;
const STATUS_INVALID_ALIGNMENT: u64 = 4;
const STATUS_INVALID_PARAMETER: u64 = 5;

/// TLFS §3.7, hypercall input value: call code, fast, variable header words, rep count, rep start.
const INPUT_CODE: u64 = 0xffff;
const INPUT_FAST: u64 = 1 << 16;
const REPS_SHIFT: u32 = 32;
const REP_START_SHIFT: u32 = 48;
const REPS: u64 = 0xfff;

/// Platform `vbs`.
#[derive(Debug)]
pub struct Vbs {
    boundary_bit: u8,
    mode: Mode,
    state: VbsState,
    tsc_hz: Cell<u64>,
}

/// The synthetic MSRs of one guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VbsState {
    guest_os_id: u64,
    hypercall: u64,
}

impl Vbs {
    /// A guest whose shared memory begins at 2^`boundary_bit`.
    pub fn new(boundary_bit: u8, mode: Mode) -> Self {
        Self { boundary_bit, mode, state: VbsState::default(), tsc_hz: Cell::new(0) }
    }
}

impl PlatformModel for Vbs {
    fn kind(&self) -> Platform {
        Platform::Vbs
    }

    fn content(&self) -> Content {
        Content::SeparateBacking { architecture: Architecture::Vbs, mode: self.mode }
    }

    fn save(&self) -> PlatformState {
        PlatformState::Vbs(self.state.clone())
    }

    fn restore(&mut self, state: &PlatformState) -> bool {
        let PlatformState::Vbs(state) = state else { return false };
        self.state = state.clone();
        true
    }

    fn encryption_bit(&self) -> Option<u8> {
        Some(self.boundary_bit)
    }

    fn view_with_bit(&self) -> View {
        View::Shared
    }

    fn cpuid(&self, table: &mut CpuidTable) {
        let text = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| b"Microsoft Hv"[at + i]));
        // Without "Hv#1" in leaf 0x40000001 KVM's own Hyper-V emulation stays off
        // (`arch/x86/kvm/hyperv.c:kvm_hv_set_cpuid`).
        for leaf in [LEAF_VENDOR, LEAF_KVM_FEATURES, LEAF_ENCRYPTED_MEMORY] {
            table.remove(leaf);
        }
        table.edit(LEAF_VENDOR, |leaf| {
            (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (LEAF_ISOLATION, text(0), text(4), text(8));
        });
        table.edit(LEAF_VERSION, |_| {});
        let tsc_hz = table.tsc_hz();
        table.edit(LEAF_FEATURES, |leaf| {
            leaf.eax = ACCESS_HYPERCALL_MSRS | ACCESS_VP_INDEX | ACCESS_TSC_INVARIANT;
            leaf.ebx = ISOLATION;
            if let Some(hz) = tsc_hz {
                leaf.eax |= ACCESS_FREQUENCY_MSRS;
                leaf.edx = FREQUENCY_MSRS_AVAILABLE;
                self.tsc_hz.set(hz);
            }
        });
        table.edit(LEAF_RECOMMENDATIONS, |_| {});
        table.edit(LEAF_LIMITS, |leaf| leaf.eax = 1);
        table.edit(LEAF_ISOLATION, |leaf| {
            leaf.ebx =
                ISOLATION_TYPE_VBS | BOUNDARY_ACTIVE | u32::from(self.boundary_bit) << BOUNDARY_BITS_SHIFT;
        });
        table.edit(LEAF_ADDRESS_SIZES, |leaf| {
            leaf.eax = (leaf.eax & !0xff) | (leaf.eax & 0xff).max(u32::from(self.boundary_bit) + 1);
        });
    }

    fn msrs(&self) -> &'static [MsrRange] {
        MSRS
    }

    fn read_msr(&mut self, _vcpu: VcpuId, index: u32) -> Option<u64> {
        match index {
            MSR_GUEST_OS_ID => Some(self.state.guest_os_id),
            MSR_HYPERCALL => Some(self.state.hypercall),
            MSR_TSC_FREQUENCY => Some(self.tsc_hz.get()),
            MSR_APIC_FREQUENCY => Some(APIC_HZ),
            // The VP index is 0, and every feature that was not offered reads as off.
            _ => Some(0),
        }
    }

    /// TLFS §3.13: enabling the hypercall page makes the hypervisor put its code there.
    fn write_msr(&mut self, _vcpu: VcpuId, index: u32, value: u64, memory: &GuestMemory) -> Option<()> {
        match index {
            MSR_GUEST_OS_ID => self.state.guest_os_id = value,
            MSR_HYPERCALL => {
                if let Some(page) = call_page(value) {
                    // out %eax, $HYPERCALL_PORT; ret
                    memory.write(page, &[0xe7, layout::HYPERCALL_PORT as u8, 0xc3]).ok()?;
                }
                self.state.hypercall = value;
            }
            _ => {}
        }
        Some(())
    }

    fn guest_type_evidence(&self, activity: &GuestActivity) -> Result<String, NoEvidence> {
        match (activity.page_calls, activity.conversions) {
            (0, _) => Err(NoEvidence("made no hypercall through the hypercall page")),
            (_, 0) => {
                Err(NoEvidence("made no page visible to the host (HvCallModifySparseGpaPageHostVisibility)"))
            }
            (calls, conversions) => Ok(format!("{calls} hypercalls, {conversions} pages converted")),
        }
    }

    fn hypercall_page(&self) -> Option<u64> {
        call_page(self.state.hypercall)
    }

    /// TLFS §3.7: RCX = input value, RDX = input page, R8 = output page; RAX = status and reps done.
    fn page_call(&mut self, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
        let (code, count, first) =
            (regs.rcx & INPUT_CODE, regs.rcx >> REPS_SHIFT & REPS, regs.rcx >> REP_START_SHIFT & REPS);
        let (status, done) = match code {
            CALL_MODIFY_HOST_VISIBILITY if regs.rcx & INPUT_FAST == 0 => {
                modify_host_visibility(regs.rdx, count, first, services)
            }
            CALL_MODIFY_HOST_VISIBILITY => (STATUS_INVALID_INPUT, 0),
            _ => {
                services
                    .report_bad_call("hypercall page", format!("call {code:#x} is none copra's Hyper-V has"));
                (STATUS_INVALID_CODE, 0)
            }
        };
        regs.rax = status | done << REPS_SHIFT;
        Next::Resume
    }
}

/// The page MSR `HV_X64_MSR_HYPERCALL` enables.
fn call_page(msr: u64) -> Option<u64> {
    (msr & HYPERCALL_ENABLE != 0).then_some(msr & !(PAGE_SIZE - 1))
}

/// TLFS: RDX = input page; every page named becomes visible to the host, or no longer. Gives status and pages done.
fn modify_host_visibility(input: u64, reps: u64, start: u64, services: &mut dyn Services) -> (u64, u64) {
    const CALL: &str = "HvCallModifySparseGpaPageHostVisibility";
    const NOT_VISIBLE: u32 = 0;
    const READ_WRITE: u32 = 3;
    let mut list = vec![0; (LIST_OFFSET + reps.min(MAX_LIST) * 8) as usize];
    let fits = reps <= MAX_LIST && start <= reps && input % PAGE_SIZE + list.len() as u64 <= PAGE_SIZE;
    if !input.is_multiple_of(8) || !fits {
        services.report_bad_call(
            CALL,
            format!("a list of {reps} pages at {input:#x} (start {start}) is malformed"),
        );
        return (STATUS_INVALID_ALIGNMENT, 0);
    }
    if services.memory().read(View::Private, input, &mut list).is_err() {
        services.report_bad_call(CALL, format!("its input at {input:#x} is not memory"));
        return (STATUS_INVALID_PARAMETER, 0);
    }
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| list[at + i]));
    let visibility = (word(8) & 3) as u32;
    let cause = match visibility {
        NOT_VISIBLE => Cause::MakePrivate,
        READ_WRITE => Cause::MakeShared,
        _ => {
            services.report_bad_call(CALL, format!("visibility {visibility} is neither none nor read-write"));
            return (STATUS_INVALID_PARAMETER, 0);
        }
    };
    if word(0) != PARTITION_SELF {
        services.report_bad_call(CALL, format!("partition {:#x} is not the caller's", word(0)));
        return (STATUS_INVALID_PARAMETER, 0);
    }
    let page_at = |rep: u64| word((LIST_OFFSET + rep * 8) as usize).checked_mul(PAGE_SIZE);
    let to = if cause == Cause::MakePrivate { View::Private } else { View::Shared };
    let first = (start < reps).then(|| page_at(start)).flatten();
    let first = first.filter(|gpa| services.memory().ram().offset(*gpa).is_some());
    let call = ConversionCall::HostVisibility;
    let refusal = first.and_then(|gpa| services.refuse(&Conversion { call, to, gpa, pages: reps - start }));
    let end = refusal.map_or(reps, |refusal| start + refusal.done);
    for rep in start..end {
        let page = word((LIST_OFFSET + rep * 8) as usize);
        let gpa = page.checked_mul(PAGE_SIZE).filter(|gpa| services.memory().ram().offset(*gpa).is_some());
        let Some(gpa) = gpa else {
            services.report_bad_call(CALL, format!("page number {page:#x} is not memory"));
            return (STATUS_INVALID_PARAMETER, rep);
        };
        if services.memory().apply(gpa, 1, cause).is_err() {
            return (STATUS_INVALID_PARAMETER, rep);
        }
    }
    let Some(refusal) = refusal else { return (STATUS_SUCCESS, reps) };
    (end..reps).filter_map(page_at).for_each(|gpa| services.memory().note_refusal(gpa, 1, to));
    (refusal.error.value, end)
}

#[cfg(test)]
mod tests;
