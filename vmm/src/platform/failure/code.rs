// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The calls that convert memory, and the errors that each may return.

use types::names::{UnknownName, named};
use types::{Platform, View};

named! {
    /// A call by which a guest converts memory.
    pub enum ConversionCall ("conversion call") {
        MapGpa = "map-gpa", "TDX: TDG.VP.VMCALL<MapGPA> of the hypervisor";
        Accept = "accept", "TDX: TDG.MEM.PAGE.ACCEPT of the module";
        Psc = "psc", "SNP: a list of page state changes in a GHCB page (SW_EXITCODE 0x80000010); one list is one call";
        MsrPsc = "msr-psc", "SNP: a page state change through the GHCB MSR (0x014)";
        Pvalidate = "pvalidate", "SNP: the instruction PVALIDATE";
        MapGpaRange = "map-gpa-range", "SEV: the hypercall KVM_HC_MAP_GPA_RANGE";
        HostVisibility = "host-visibility", "VBS: the hypercall HvCallModifySparseGpaPageHostVisibility";
    }
}

/// An error code of an ABI.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// The name in a rule.
    pub name: &'static str,
    /// The name in the ABI.
    pub abi: &'static str,
    /// The value.
    pub value: u64,
    /// Where it is written.
    pub source: &'static str,
}

const GHCI: &str = "TDX Guest-Host-Communication Interface §3.1, TDG.VP.VMCALL completion status codes";
const MODULE: &str = "TDX Module ABI, TDG.MEM.PAGE.ACCEPT, completion status codes";
const GHCB_PSC: &str =
    "GHCB specification 2.03 §4.1.6; arch/x86/include/asm/sev-common.h:VMGEXIT_PSC_ERROR_*";
const GHCB_MSR: &str =
    "GHCB specification 2.03 §2.3.1; arch/x86/include/asm/sev-common.h:GHCB_MSR_PSC_RESP_VAL";
const APM: &str = "AMD APM volume 3, PVALIDATE, return codes; arch/x86/include/asm/sev.h:pvalidate";
const KVM: &str = "include/uapi/linux/kvm_para.h; arch/x86/kvm/x86.c:kvm_emulate_hypercall";
const TLFS: &str = "Hyper-V TLFS, hypercall status codes; include/asm-generic/hyperv-tlfs.h:HV_STATUS_*";

const fn code(name: &'static str, abi: &'static str, value: u64, source: &'static str) -> ErrorCode {
    ErrorCode { name, abi, value, source }
}

/// R10.
const MAP_GPA: &[ErrorCode] = &[
    code("invalid-operand", "TDG.VP.VMCALL_OPERAND_INVALID", 0x8000_0000_0000_0000, GHCI),
    code("in-use", "TDG.VP.VMCALL_GPA_INUSE", 0x8000_0000_0000_0001, GHCI),
    code("align-error", "TDG.VP.VMCALL_ALIGN_ERROR", 0x8000_0000_0000_0002, GHCI),
    // R11 is the address reached. Linux goes on there (`arch/x86/coco/tdx/tdx.c:tdx_map_gpa`).
    code("retry", "TDG.VP.VMCALL_RETRY", 1, GHCI),
];
/// RAX; the low half names the operand RCX, 1.
const ACCEPT: &[ErrorCode] = &[
    code("operand-invalid", "TDX_OPERAND_INVALID", 0xc000_0100_0000_0001, MODULE),
    code("operand-busy", "TDX_OPERAND_BUSY", 0x8000_0200_0000_0001, MODULE),
    code("size-mismatch", "TDX_PAGE_SIZE_MISMATCH", 0xc000_0b0b_0000_0001, MODULE),
];
/// `SW_EXITINFO2`.
const PSC: &[ErrorCode] = &[
    code("failed", "VMGEXIT_PSC_ERROR_GENERIC", 0x100 << 32, GHCB_PSC),
    code("invalid-header", "VMGEXIT_PSC_INVALID_HEADER", 1 << 32 | 1, GHCB_PSC),
    code("invalid-entry", "VMGEXIT_PSC_INVALID_ENTRY", 1 << 32 | 2, GHCB_PSC),
    // No error: cur_entry shows that entries are left, and Linux calls again (`coco/sev/shared.c:vmgexit_psc`).
    code("stopped", "no error, cur_entry not beyond end_entry", 0, GHCB_PSC),
];
/// Bits 63:32 of the GHCB MSR; any value but 0 is the hypervisor's own.
const MSR_PSC: &[ErrorCode] = &[code("failed", "GHCB_MSR_PSC_RESP_ERROR", 1 << 31, GHCB_MSR)];
/// EAX; the last one is success with the carry flag set.
const PVALIDATE: &[ErrorCode] = &[
    code("fail-input", "FAIL_INPUT", 1, APM),
    code("size-mismatch", "FAIL_SIZEMISMATCH", 6, APM),
    code("unchanged", "carry flag: the RMP entry was not changed", 0, APM),
];
/// RAX.
const MAP_GPA_RANGE: &[ErrorCode] = &[
    code("einval", "-KVM_EINVAL", (-22i64).cast_unsigned(), KVM),
    code("enosys", "-KVM_ENOSYS", (-1000i64).cast_unsigned(), KVM),
];
/// RAX bits 15:0.
const HOST_VISIBILITY: &[ErrorCode] = &[
    code("invalid-parameter", "HV_STATUS_INVALID_PARAMETER", 5, TLFS),
    code("access-denied", "HV_STATUS_ACCESS_DENIED", 6, TLFS),
    code("operation-denied", "HV_STATUS_OPERATION_DENIED", 8, TLFS),
    code("insufficient-memory", "HV_STATUS_INSUFFICIENT_MEMORY", 11, TLFS),
];

impl ConversionCall {
    /// The platform whose guests make it.
    pub const fn platform(self) -> Platform {
        match self {
            Self::MapGpa | Self::Accept => Platform::Tdx,
            Self::Psc | Self::MsrPsc | Self::Pvalidate => Platform::Snp,
            Self::MapGpaRange => Platform::Sev,
            Self::HostVisibility => Platform::Vbs,
        }
    }

    /// Its name in the ABI.
    pub const fn abi(self) -> &'static str {
        match self {
            Self::MapGpa => "TDG.VP.VMCALL<MapGPA>",
            Self::Accept => "TDG.MEM.PAGE.ACCEPT",
            Self::Psc => "GHCB page state change",
            Self::MsrPsc => "GHCB MSR page state change",
            Self::Pvalidate => "PVALIDATE",
            Self::MapGpaRange => "KVM_HC_MAP_GPA_RANGE",
            Self::HostVisibility => "HvCallModifySparseGpaPageHostVisibility",
        }
    }

    /// The errors it may return, the usual one first.
    pub const fn errors(self) -> &'static [ErrorCode] {
        match self {
            Self::MapGpa => MAP_GPA,
            Self::Accept => ACCEPT,
            Self::Psc => PSC,
            Self::MsrPsc => MSR_PSC,
            Self::Pvalidate => PVALIDATE,
            Self::MapGpaRange => MAP_GPA_RANGE,
            Self::HostVisibility => HOST_VISIBILITY,
        }
    }

    /// The usual error.
    pub const fn default_error(self) -> &'static ErrorCode {
        &self.errors()[0]
    }

    /// The error of this name.
    pub fn error(self, name: &str) -> Result<&'static ErrorCode, UnknownName> {
        let names = || self.errors().iter().map(|error| error.name);
        let found = self.errors().iter().find(|error| error.name == name);
        found.ok_or_else(|| UnknownName::new("error of this call", name, names()))
    }

    /// The guest learns how much was done before the error: `MapGPA` in R11, a list in its header, a rep hypercall in the
    /// reps completed. Other calls are done whole or not at all.
    pub const fn reports_progress(self) -> bool {
        matches!(self, Self::MapGpa | Self::Psc | Self::HostVisibility)
    }

    /// What memory can become by it.
    pub const fn can_make(self, view: View) -> bool {
        !matches!((self, view), (Self::Accept, View::Shared))
    }
}
