// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's services for a module call, and how the guest continues after it.

#[cfg(test)]
pub mod fake;

use std::fmt;

use types::VcpuId;

use super::failure::{Conversion, Refusal};
use crate::memory::GuestMemory;
use crate::x86::cpuid::Leaf;
use crate::x86::exception::{Exception, Undeliverable};

/// What a platform's firmware or hypervisor uses of the machine while it handles a guest's call.
pub trait Services {
    /// The vCPU that made the call.
    fn vcpu(&self) -> VcpuId;

    /// Guest RAM and its page states.
    fn memory(&self) -> &GuestMemory;

    /// GPA, encryption bit and all, behind a guest virtual address; `None` if nothing is mapped there.
    fn translate(&self, virtual_address: u64) -> Option<u64>;

    /// IN of 1, 2 or 4 bytes.
    fn port_read(&mut self, port: u16, size: usize) -> u32;

    /// OUT of 1, 2 or 4 bytes.
    fn port_write(&mut self, port: u16, size: usize, value: u32);

    /// Load of up to 8 bytes from plain GPA `gpa`, device memory; `false` if that is RAM.
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) -> bool;

    /// Store of up to 8 bytes to plain GPA `gpa`, device memory; `false` if that is RAM.
    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> bool;

    /// CPUID as this guest sees it.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf;

    /// RDMSR as this guest would see it; `None` is #GP.
    fn read_msr(&mut self, index: u32) -> Option<u64>;

    /// WRMSR; `false` is #GP.
    fn write_msr(&mut self, index: u32, value: u64) -> bool;

    /// Waits a little for a guest that halts.
    fn idle(&mut self);

    /// The guest makes this conversion call, which is well formed: how it is refused, if it is.
    fn refuse(&mut self, conversion: &Conversion) -> Option<Refusal>;

    /// Reports that the guest's call was malformed, and in which way.
    fn report_bad_call(&mut self, call: &'static str, why: String);
}

/// How the guest continues after its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// After the instruction.
    Resume,
    /// With an exception at the instruction; registers stay unchanged.
    Fault(Exception),
    /// It ends.
    End(Termination),
}

/// The result of an access that is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consequence {
    /// It completes.
    Resume,
    /// An exception at the instruction.
    Exception(Exception),
    /// The guest ends.
    End(Termination),
}

/// How a platform ends a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Termination {
    /// A TD accessed private memory it has not accepted, and #VE is disabled: the module exits to the hypervisor, which
    /// can do nothing (`arch/x86/kvm/vmx/tdx.c:tdx_handle_ept_violation`).
    SeptViolation {
        /// Page.
        gpa: u64,
    },
    /// A private access where there is no private memory.
    NoMemory {
        /// Page.
        gpa: u64,
    },
    /// The guest requested its termination through the GHCB MSR (GHCB specification §2.3.1, 0x100).
    GhcbRequest {
        /// Reason code set.
        set: u8,
        /// Reason.
        reason: u8,
    },
    /// `TDG.VP.VMCALL<ReportFatalError>`.
    FatalError {
        /// R12.
        code: u64,
        /// The guest's message.
        text: String,
    },
    /// An exception could not be delivered.
    Undeliverable(Undeliverable),
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SeptViolation { gpa } => write!(
                f,
                "SEPT violation: the TD accessed private page {gpa:#x}, which it has not accepted, and SEPT_VE_DISABLE is set: the TD cannot continue"
            ),
            Self::NoMemory { gpa } => write!(
                f,
                "the guest accessed private memory at {gpa:#x}, where there is none, and the hypervisor ended it"
            ),
            Self::GhcbRequest { set, reason } => write!(
                f,
                "the guest terminated itself through the GHCB MSR (reason set {set}, reason {reason}: {})",
                ghcb_reason(*set, *reason)
            ),
            Self::FatalError { code, text } => {
                write!(f, "the guest reported a fatal error ({code:#x}): \"{text}\"")
            }
            Self::Undeliverable(undeliverable) => undeliverable.fmt(f),
        }
    }
}

/// `arch/x86/include/asm/sev-common.h`: `SEV_TERM_SET_GEN` and `SEV_TERM_SET_LINUX`.
fn ghcb_reason(set: u8, reason: u8) -> &'static str {
    match (set, reason) {
        (0, 0) => "general termination request",
        (0, 1) => "SEV-ES GHCB protocol range not supported",
        (0, 2) => "SEV-SNP features not supported",
        (1, 0) => "GHCB could not be registered",
        (1, 1) => "page state change failed",
        (1, 2) => "PVALIDATE failed",
        (1, 3) => "not running at VMPL0",
        (1, 4) => "CPUID table invalid",
        (1, 5) => "CPUID hypervisor mismatch",
        _ => "reason not in the specification",
    }
}
