// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers of the TDX Module ABI and the Guest-Host-Communication Interface.

/// TDCALL leaves (TDX Module ABI, "Guest-side interface functions"); RAX bits 15:0.
pub mod tdcall {
    /// `TDG.VP.VMCALL`.
    pub const VP_VMCALL: u64 = 0;
    /// `TDG.VP.INFO`.
    pub const VP_INFO: u64 = 1;
    /// `TDG.VP.VEINFO.GET`.
    pub const VP_VEINFO_GET: u64 = 3;
    /// `TDG.MR.REPORT`.
    pub const MR_REPORT: u64 = 4;
    /// `TDG.VP.CPUIDVE.SET`.
    pub const VP_CPUIDVE_SET: u64 = 5;
    /// `TDG.MEM.PAGE.ACCEPT`.
    pub const MEM_PAGE_ACCEPT: u64 = 6;
    /// `TDG.VM.RD`.
    pub const VM_RD: u64 = 7;
    /// `TDG.VM.WR`.
    pub const VM_WR: u64 = 8;
}

/// Completion status in RAX (TDX Module ABI, "Completion status codes"); operand errors carry the operand's number in
/// the low half.
pub mod status {
    /// `TDX_SUCCESS`.
    pub const SUCCESS: u64 = 0;
    /// `TDX_OPERAND_INVALID`.
    pub const OPERAND_INVALID: u64 = 0xc000_0100_0000_0000;
    /// `TDX_NO_VALID_VE_INFO`.
    pub const NO_VALID_VE_INFO: u64 = 0xc000_0704_0000_0000;
    /// `TDX_PAGE_ALREADY_ACCEPTED`, a warning.
    pub const PAGE_ALREADY_ACCEPTED: u64 = 0x0000_0b0a_0000_0000;
    /// `TDX_PAGE_SIZE_MISMATCH`.
    pub const PAGE_SIZE_MISMATCH: u64 = 0xc000_0b0b_0000_0000;
    /// `TDX_METADATA_FIELD_ID_INCORRECT`.
    pub const METADATA_FIELD_ID_INCORRECT: u64 = 0xc000_0c00_0000_0000;
    /// `TDX_METADATA_FIELD_NOT_WRITABLE`.
    pub const METADATA_FIELD_NOT_WRITABLE: u64 = 0xc000_0c03_0000_0000;

    /// Operand numbers (TDX Module ABI, "Function completion status operand ID").
    pub mod operand {
        /// RAX.
        pub const RAX: u64 = 0;
        /// RCX.
        pub const RCX: u64 = 1;
        /// RDX.
        pub const RDX: u64 = 2;
        /// R8.
        pub const R8: u64 = 8;
    }
}

/// TD-scope metadata fields (`arch/x86/include/asm/shared/tdx.h`).
pub mod field {
    /// `TDCS_CONFIG_FLAGS`.
    pub const CONFIG_FLAGS: u64 = 0x1110_0003_0000_0016;
    /// `TDCS_TD_CTLS`.
    pub const TD_CTLS: u64 = 0x1110_0003_0000_0017;
    /// `TDCS_NOTIFY_ENABLES`.
    pub const NOTIFY_ENABLES: u64 = 0x9100_0000_0000_0010;
    /// `TDCS_TOPOLOGY_ENUM_CONFIGURED`.
    pub const TOPOLOGY_ENUM: u64 = 0x9100_0000_0000_0019;
    /// The class and element of a field; the rest is its access rights.
    pub const IDENTITY: u64 = 0xff00_0000_ffff_ffff;
}

/// Sub-functions of `TDG.VP.VMCALL` with R10 = 0 (GHCI §3); those below 0x100 are VMX exit reasons.
pub mod vmcall {
    /// CPUID.
    pub const CPUID: u64 = 10;
    /// HLT.
    pub const HLT: u64 = 12;
    /// Port I/O.
    pub const IO: u64 = 30;
    /// RDMSR.
    pub const RDMSR: u64 = 31;
    /// WRMSR.
    pub const WRMSR: u64 = 32;
    /// Device memory.
    pub const REQUEST_MMIO: u64 = 48;
    /// WBINVD and INVD.
    pub const WBINVD: u64 = 54;
    /// `GetTdVmCallInfo`.
    pub const INFO: u64 = 0x10000;
    /// `MapGPA`.
    pub const MAP_GPA: u64 = 0x10001;
    /// `GetQuote`.
    pub const GET_QUOTE: u64 = 0x10002;
    /// `ReportFatalError`.
    pub const REPORT_FATAL_ERROR: u64 = 0x10003;
    /// `SetupEventNotifyInterrupt`.
    pub const SETUP_EVENT_NOTIFY: u64 = 0x10004;
}

/// What the hypervisor answers in R10 (GHCI §3.1, "TDG.VP.VMCALL completion status codes").
pub mod answer {
    /// `TDG.VP.VMCALL_SUCCESS`.
    pub const SUCCESS: u64 = 0;
    /// `TDG.VP.VMCALL_RETRY`.
    pub const RETRY: u64 = 1;
    /// `TDG.VP.VMCALL_OPERAND_INVALID`.
    pub const OPERAND_INVALID: u64 = 0x8000_0000_0000_0000;
    /// `TDG.VP.VMCALL_ALIGN_ERROR`.
    pub const ALIGN_ERROR: u64 = 0x8000_0000_0000_0002;
}
