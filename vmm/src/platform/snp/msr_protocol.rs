// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The GHCB MSR protocol: requests small enough for one register, for a guest that has no GHCB page yet.
//!
//! GHCB specification 2.03 §2.3.1; `arch/x86/include/asm/sev-common.h:GHCB_MSR_*`. Bits [11:0] select the meaning of
//! the rest; 0 there makes the register the address of a GHCB page.

/// Bits [11:0]: which message it is.
const INFO: u64 = 0xfff;

/// Page operation "make private" (`GHCBData`[55:52]; `sev-common.h:SNP_PAGE_STATE_PRIVATE`).
pub const OPERATION_PRIVATE: u8 = 1;
/// Page operation "make shared" (`sev-common.h:SNP_PAGE_STATE_SHARED`).
pub const OPERATION_SHARED: u8 = 2;
/// Highest frame number 52 bits hold: "none" in the answers to 0x010 and 0x012
/// (`sev-common.h:GHCB_MSR_PREF_GPA_NONE`).
pub const NO_FRAME: u64 = (1 << 52) - 1;

const SEV_INFORMATION_RESPONSE: u64 = 0x001;
const SEV_INFORMATION_REQUEST: u64 = 0x002;
const CPUID_REQUEST: u64 = 0x004;
const CPUID_RESPONSE: u64 = 0x005;
const AP_RESET_HOLD_REQUEST: u64 = 0x006;
const AP_RESET_HOLD_RESPONSE: u64 = 0x007;
const PREFERRED_GHCB_REQUEST: u64 = 0x010;
const PREFERRED_GHCB_RESPONSE: u64 = 0x011;
const REGISTER_GHCB_REQUEST: u64 = 0x012;
const REGISTER_GHCB_RESPONSE: u64 = 0x013;
const PAGE_STATE_REQUEST: u64 = 0x014;
const PAGE_STATE_RESPONSE: u64 = 0x015;
const RUN_VMPL_REQUEST: u64 = 0x016;
const RUN_VMPL_RESPONSE: u64 = 0x017;
const FEATURES_REQUEST: u64 = 0x080;
const FEATURES_RESPONSE: u64 = 0x081;
const TERMINATION: u64 = 0x100;

/// A register of CPUID, as numbered in bits [31:30] (`sev-common.h:GHCB_CPUID_REQ_EAX`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Register {
    /// 0.
    Eax,
    /// 1.
    Ebx,
    /// 2.
    Ecx,
    /// 3.
    Edx,
}

impl Register {
    /// Every register, by number.
    pub const ALL: [Self; 4] = [Self::Eax, Self::Ebx, Self::Ecx, Self::Edx];

    fn of(number: u64) -> Self {
        Self::ALL[(number & 3) as usize]
    }
}

/// What the GHCB MSR (0xC0010130) holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    /// [11:0] = 0: the request is in a GHCB page.
    GhcbPage {
        /// Its GPA, a multiple of 4 KiB.
        gpa: u64,
    },
    /// 0x001: protocol versions and the C-bit.
    SevInformation {
        /// [63:48]: newest protocol version of the hypervisor.
        max: u16,
        /// [47:32]: oldest.
        min: u16,
        /// [31:24]: position of the C-bit.
        c_bit: u8,
    },
    /// 0x002: requests 0x001.
    SevInformationRequest,
    /// 0x004: requests one register of CPUID, subleaf 0.
    CpuidRequest {
        /// [63:32]: EAX.
        leaf: u32,
        /// [31:30]: register wanted.
        register: Register,
    },
    /// 0x005.
    CpuidResponse {
        /// [63:32]: what the register holds.
        value: u32,
        /// [31:30]: which register that is.
        register: Register,
    },
    /// 0x006: the vCPU waits for INIT and SIPI.
    ApResetHoldRequest,
    /// 0x007.
    ApResetHoldResponse {
        /// [63:12]: not 0 if a SIPI came.
        result: u64,
    },
    /// 0x010: requests the GHCB frame the hypervisor prefers.
    PreferredGhcbRequest,
    /// 0x011.
    PreferredGhcbResponse {
        /// [63:12]: frame number, or [`NO_FRAME`].
        frame: u64,
    },
    /// 0x012: registers the GHCB page.
    RegisterGhcbRequest {
        /// [63:12]: frame number.
        frame: u64,
    },
    /// 0x013.
    RegisterGhcbResponse {
        /// [63:12]: the frame number, or [`NO_FRAME`] if it is refused.
        frame: u64,
    },
    /// 0x014: requests a page state change of one 4 KiB page.
    PageStateRequest {
        /// [51:12]: frame number.
        frame: u64,
        /// [55:52]: [`OPERATION_PRIVATE`] or [`OPERATION_SHARED`].
        operation: u8,
    },
    /// 0x015.
    PageStateResponse {
        /// [63:32]: 0 if it was done.
        error: u32,
    },
    /// 0x016: requests to run another VM privilege level.
    RunVmplRequest {
        /// [39:32]: level.
        vmpl: u8,
    },
    /// 0x017.
    RunVmplResponse {
        /// [63:32]: 0 if that level ran.
        error: u32,
    },
    /// 0x080: requests the hypervisor's features.
    FeaturesRequest,
    /// 0x081.
    FeaturesResponse {
        /// [63:12]: bit map.
        features: u64,
    },
    /// 0x100: the guest requests its termination.
    Termination {
        /// [15:12]: reason code set.
        set: u8,
        /// [23:16]: reason.
        reason: u8,
    },
    /// Any other, as it is.
    Unknown(u64),
}

impl Message {
    /// Reads the register. Bits the message does not use are dropped: [`Message::encode`] gives them back as 0.
    pub fn parse(value: u64) -> Self {
        let high = (value >> 32) as u32;
        let frame = value >> 12;
        let register = Register::of(value >> 30);
        match value & INFO {
            0 => Self::GhcbPage { gpa: value },
            SEV_INFORMATION_RESPONSE => Self::SevInformation {
                max: (value >> 48) as u16,
                min: (value >> 32) as u16,
                c_bit: (value >> 24) as u8,
            },
            SEV_INFORMATION_REQUEST => Self::SevInformationRequest,
            CPUID_REQUEST => Self::CpuidRequest { leaf: high, register },
            CPUID_RESPONSE => Self::CpuidResponse { value: high, register },
            AP_RESET_HOLD_REQUEST => Self::ApResetHoldRequest,
            AP_RESET_HOLD_RESPONSE => Self::ApResetHoldResponse { result: frame },
            PREFERRED_GHCB_REQUEST => Self::PreferredGhcbRequest,
            PREFERRED_GHCB_RESPONSE => Self::PreferredGhcbResponse { frame },
            REGISTER_GHCB_REQUEST => Self::RegisterGhcbRequest { frame },
            REGISTER_GHCB_RESPONSE => Self::RegisterGhcbResponse { frame },
            PAGE_STATE_REQUEST => {
                Self::PageStateRequest { frame: frame & FRAME_40, operation: (value >> 52 & 0xf) as u8 }
            }
            PAGE_STATE_RESPONSE => Self::PageStateResponse { error: high },
            RUN_VMPL_REQUEST => Self::RunVmplRequest { vmpl: high as u8 },
            RUN_VMPL_RESPONSE => Self::RunVmplResponse { error: high },
            FEATURES_REQUEST => Self::FeaturesRequest,
            FEATURES_RESPONSE => Self::FeaturesResponse { features: frame },
            TERMINATION => Self::Termination { set: (value >> 12 & 0xf) as u8, reason: (value >> 16) as u8 },
            _ => Self::Unknown(value),
        }
    }

    /// Writes the register; parts too large for their field are cut.
    pub fn encode(self) -> u64 {
        let high = |value: u32| u64::from(value) << 32;
        let register = |register: Register| (register as u64) << 30;
        match self {
            Self::GhcbPage { gpa } => gpa & !INFO,
            Self::SevInformation { max, min, c_bit } => {
                u64::from(max) << 48
                    | u64::from(min) << 32
                    | u64::from(c_bit) << 24
                    | SEV_INFORMATION_RESPONSE
            }
            Self::SevInformationRequest => SEV_INFORMATION_REQUEST,
            Self::CpuidRequest { leaf, register: r } => high(leaf) | register(r) | CPUID_REQUEST,
            Self::CpuidResponse { value, register: r } => high(value) | register(r) | CPUID_RESPONSE,
            Self::ApResetHoldRequest => AP_RESET_HOLD_REQUEST,
            Self::ApResetHoldResponse { result } => result << 12 | AP_RESET_HOLD_RESPONSE,
            Self::PreferredGhcbRequest => PREFERRED_GHCB_REQUEST,
            Self::PreferredGhcbResponse { frame } => frame << 12 | PREFERRED_GHCB_RESPONSE,
            Self::RegisterGhcbRequest { frame } => frame << 12 | REGISTER_GHCB_REQUEST,
            Self::RegisterGhcbResponse { frame } => frame << 12 | REGISTER_GHCB_RESPONSE,
            Self::PageStateRequest { frame, operation } => {
                u64::from(operation & 0xf) << 52 | (frame & FRAME_40) << 12 | PAGE_STATE_REQUEST
            }
            Self::PageStateResponse { error } => high(error) | PAGE_STATE_RESPONSE,
            Self::RunVmplRequest { vmpl } => high(u32::from(vmpl)) | RUN_VMPL_REQUEST,
            Self::RunVmplResponse { error } => high(error) | RUN_VMPL_RESPONSE,
            Self::FeaturesRequest => FEATURES_REQUEST,
            Self::FeaturesResponse { features } => features << 12 | FEATURES_RESPONSE,
            Self::Termination { set, reason } => {
                u64::from(reason) << 16 | u64::from(set & 0xf) << 12 | TERMINATION
            }
            Self::Unknown(value) => value,
        }
    }
}

/// A frame number of 40 bits, as page state change requests have it.
const FRAME_40: u64 = (1 << 40) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_encoded_as_linux_writes_and_reads_them() {
        // GHCB_MSR_SEV_INFO(2, 1, 51).
        assert_eq!(Message::SevInformation { max: 2, min: 1, c_bit: 51 }.encode(), 0x0002_0001_3300_0001);
        // GHCB_CPUID_REQ(0x8000001f, GHCB_CPUID_REQ_EBX).
        assert_eq!(
            Message::parse(0x8000_001f_4000_0004),
            Message::CpuidRequest { leaf: 0x8000_001f, register: Register::Ebx }
        );
        // GHCB_MSR_PSC_REQ_GFN(0x1a00, SNP_PAGE_STATE_SHARED).
        assert_eq!(
            Message::parse(0x0020_0000_01a0_0014),
            Message::PageStateRequest { frame: 0x1a00, operation: OPERATION_SHARED }
        );
        // GHCB_MSR_REG_GPA_REQ_VAL(0x1a00) and its answer.
        assert_eq!(Message::parse(0x01a0_0012), Message::RegisterGhcbRequest { frame: 0x1a00 });
        assert_eq!(Message::RegisterGhcbResponse { frame: 0x1a00 }.encode(), 0x01a0_0013);
        assert_eq!(Message::PreferredGhcbResponse { frame: NO_FRAME }.encode(), 0xffff_ffff_ffff_f011);
        // sev_es_terminate(SEV_TERM_SET_LINUX, GHCB_TERM_PVALIDATE).
        assert_eq!(Message::parse(0x0002_1100), Message::Termination { set: 1, reason: 2 });
        assert_eq!(Message::FeaturesResponse { features: 1 }.encode(), 0x1081);
        assert_eq!(Message::parse(0x0030_0000), Message::GhcbPage { gpa: 0x0030_0000 });
    }

    proptest! {
        #[test]
        fn any_value_parses_and_what_is_written_reads_back(value: u64, info in 0u64..0x120) {
            for value in [value, value & !INFO | info] {
                let message = Message::parse(value);
                prop_assert_eq!(Message::parse(message.encode()), message);
                prop_assert_eq!(message.encode() & !value, 0, "no bit is invented");
                prop_assert_eq!(message.encode() & INFO, value & INFO);
            }
        }

        #[test]
        fn fields_too_large_do_not_spill(frame: u64, operation: u8, set: u8, reason: u8) {
            let request = Message::PageStateRequest { frame, operation }.encode();
            prop_assert_eq!(
                Message::parse(request),
                Message::PageStateRequest { frame: frame & FRAME_40, operation: operation & 0xf }
            );
            let end = Message::Termination { set, reason }.encode();
            prop_assert_eq!(Message::parse(end), Message::Termination { set: set & 0xf, reason });
        }
    }
}
