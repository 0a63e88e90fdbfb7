// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exits through the GHCB page: the guest's requests to the hypervisor, and the responses.
//!
//! GHCB specification 2.03 §4.1, "Invoking VMGEXIT" and the list of supported non-automatic exits;
//! `arch/x86/kvm/svm/sev.c:sev_handle_vmgexit`, `sev_es_validate_vmgexit`.

use super::ghcb::{Field, Ghcb, GhcbError};
use super::{FEATURES, PROTOCOL_VERSION, Snp, call, instructions, psc};
use crate::layout::PAGE_SIZE;
use crate::platform::services::{Next, Services, Termination};

/// `SW_EXITCODE` of the exits answered here: intercept codes (AMD APM volume 2 appendix C) below 0x80000000, the
/// protocol's own from there on (`arch/x86/include/uapi/asm/svm.h:SVM_VMGEXIT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Event {
    /// RDTSC.
    Rdtsc = 0x6e,
    /// RDPMC.
    Rdpmc = 0x6f,
    /// CPUID.
    Cpuid = 0x72,
    /// INVD.
    Invd = 0x76,
    /// IN, OUT, INS, OUTS.
    Port = 0x7b,
    /// RDMSR, WRMSR.
    Msr = 0x7c,
    /// VMMCALL.
    Vmmcall = 0x81,
    /// RDTSCP.
    Rdtscp = 0x87,
    /// WBINVD.
    Wbinvd = 0x89,
    /// MONITOR.
    Monitor = 0x8a,
    /// MWAIT.
    Mwait = 0x8b,
    /// Load from a device.
    MmioRead = 0x8000_0001,
    /// Store to a device.
    MmioWrite = 0x8000_0002,
    /// The guest's NMI handler is done.
    NmiComplete = 0x8000_0003,
    /// The vCPU waits for INIT and SIPI.
    ApResetHold = 0x8000_0004,
    /// Keeps or gives back an address for APs.
    ApJumpTable = 0x8000_0005,
    /// A list of page state changes.
    PageStateChange = 0x8000_0010,
    /// A message to the SNP firmware.
    GuestRequest = 0x8000_0011,
    /// The same, certificates wanted.
    ExtendedGuestRequest = 0x8000_0012,
    /// Starts another vCPU.
    ApCreation = 0x8000_0013,
    /// Restricted injection's doorbell page.
    HvDoorbell = 0x8000_0014,
    /// Runs another VM privilege level.
    RunVmpl = 0x8000_0018,
    /// Reads the hypervisor's features.
    Features = 0x8000_fffd,
    /// The guest requests its termination.
    Termination = 0x8000_fffe,
    /// The guest reports a #VC it does not handle.
    Unsupported = 0x8000_ffff,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::Rdtsc,
        Self::Rdpmc,
        Self::Cpuid,
        Self::Invd,
        Self::Port,
        Self::Msr,
        Self::Vmmcall,
        Self::Rdtscp,
        Self::Wbinvd,
        Self::Monitor,
        Self::Mwait,
        Self::MmioRead,
        Self::MmioWrite,
        Self::NmiComplete,
        Self::ApResetHold,
        Self::ApJumpTable,
        Self::PageStateChange,
        Self::GuestRequest,
        Self::ExtendedGuestRequest,
        Self::ApCreation,
        Self::HvDoorbell,
        Self::RunVmpl,
        Self::Features,
        Self::Termination,
        Self::Unsupported,
    ];

    /// `SW_EXITCODE`.
    pub fn code(self) -> u64 {
        self as u64
    }

    /// The event of a `SW_EXITCODE`.
    pub fn of(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.code() == code)
    }
}

/// Why a GHCB is malformed: `SW_EXITINFO2` when `SW_EXITINFO1` is 2 (`arch/x86/include/asm/sev-common.h:GHCB_ERR_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Reason {
    /// The GHCB page was not registered.
    NotRegistered = 1,
    /// The page has another format.
    InvalidUsage = 2,
    /// `SW_SCRATCH` does not point into the shared buffer.
    InvalidScratch = 3,
    /// A field the exit needs is not marked valid.
    MissingInput = 4,
    /// A field holds what it must not.
    InvalidInput = 5,
    /// The exit code is unknown.
    InvalidEvent = 6,
}

/// How an exit fails.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The GHCB makes no sense.
    Malformed(Reason, String),
    /// The instruction raises #GP(0).
    GeneralProtection,
    /// The guest ends.
    End(Termination),
}

impl Failure {
    pub(super) fn input(why: impl Into<String>) -> Self {
        Self::Malformed(Reason::InvalidInput, why.into())
    }
}

/// `SW_EXITINFO2` of an answer that went well, or the failure.
pub(super) type Answer = Result<u64, Failure>;

/// `SW_EXITINFO1`[31:0]: nothing further to do; raise the exception in `SW_EXITINFO2`; the GHCB is malformed
/// (`arch/x86/kvm/svm/svm.h:GHCB_HV_RESP_*`).
const NO_ACTION: u64 = 0;
const ISSUE_EXCEPTION: u64 = 1;
const MALFORMED_INPUT: u64 = 2;
/// An exception as EVENTINJ has it: vector 13, type 3, error code [63:32] there and 0, valid (AMD APM volume 2 §15.20).
const GENERAL_PROTECTION: u64 = 0x0d | 3 << 8 | 1 << 11 | 1 << 31;

/// `SW_EXITINFO1` of [`Event::ApJumpTable`]: keep `SW_EXITINFO2`.
const JUMP_TABLE_SET: u64 = 0;
/// `SW_EXITINFO1` of [`Event::ApJumpTable`]: give it back.
const JUMP_TABLE_GET: u64 = 1;
/// "The hypervisor has failed" of a guest request, in `SW_EXITINFO2`[63:32]; codes below are taken
/// (`SNP_GUEST_VMM_ERR_GENERIC` of later `include/uapi/linux/sev-guest.h`).
const GUEST_REQUEST_FAILED: u64 = (u32::MAX as u64) << 32;

/// Answers the request in the GHCB page at `gpa`.
///
/// A page the hypervisor cannot read takes no answer: the guest finds in it what it wrote, as with KVM, which returns
/// "right back to the guest".
pub(super) fn vmgexit(snp: &mut Snp, gpa: u64, services: &mut dyn Services) -> Next {
    let loaded = if gpa == 0 { Err(GhcbError::NotRam(0)) } else { Ghcb::load(services.memory(), gpa) };
    let mut ghcb = match loaded {
        Ok(ghcb) => ghcb,
        Err(why) => {
            services.report_bad_call(call::VMGEXIT, why.to_string());
            return Next::Resume;
        }
    };
    let (information, details) = match request(snp, &mut ghcb, services) {
        Ok(details) => (NO_ACTION, details),
        Err(Failure::Malformed(reason, why)) => {
            services.report_bad_call(call::VMGEXIT, why);
            (MALFORMED_INPUT, reason as u64)
        }
        Err(Failure::GeneralProtection) => (ISSUE_EXCEPTION, GENERAL_PROTECTION),
        Err(Failure::End(end)) => return Next::End(end),
    };
    ghcb.set(Field::SW_EXITINFO1, information);
    ghcb.set(Field::SW_EXITINFO2, details);
    if let Err(why) = ghcb.store(services.memory()) {
        services.report_bad_call(call::VMGEXIT, format!("the answer cannot be written: {why}"));
    }
    Next::Resume
}

/// Checks the GHCB and answers its event.
fn request(snp: &mut Snp, ghcb: &mut Ghcb, services: &mut dyn Services) -> Answer {
    let malformed = |reason, why| Err(Failure::Malformed(reason, why));
    if snp.state.registered != Some(ghcb.gpa()) {
        return malformed(
            Reason::NotRegistered,
            format!("the GHCB page {:#x} was not registered", ghcb.gpa()),
        );
    }
    if ghcb.usage() != 0 {
        return malformed(Reason::InvalidUsage, format!("GHCB usage {:#x}", ghcb.usage()));
    }
    if ghcb.protocol_version() > PROTOCOL_VERSION {
        let version = ghcb.protocol_version();
        // Nothing depends on it: Linux leaves it at 0 in its NMI path (`core.c:__sev_es_nmi_complete`).
        services.report_bad_call(
            call::VMGEXIT,
            format!("GHCB protocol version {version}, which was not offered"),
        );
    }
    let code = need(ghcb, Field::SW_EXITCODE)?;
    let first = need(ghcb, Field::SW_EXITINFO1)?;
    let second = need(ghcb, Field::SW_EXITINFO2)?;
    let Some(event) = Event::of(code) else {
        return malformed(Reason::InvalidEvent, format!("unknown SW_EXITCODE {code:#x}"));
    };
    match event {
        Event::PageStateChange => page_state_change(ghcb, services),
        Event::NmiComplete => Ok(0),
        Event::ApResetHold => {
            // There is one vCPU, so it never receives a SIPI.
            services.idle();
            Ok(0)
        }
        Event::ApJumpTable => match first {
            JUMP_TABLE_SET => {
                snp.state.ap_jump_table = second;
                Ok(0)
            }
            JUMP_TABLE_GET => Ok(snp.state.ap_jump_table),
            other => Err(Failure::input(format!("AP jump table request {other:#x}"))),
        },
        Event::GuestRequest | Event::ExtendedGuestRequest => guest_request(first, second),
        Event::ApCreation | Event::HvDoorbell | Event::RunVmpl => malformed(
            Reason::InvalidEvent,
            format!("{event:?}, which the hypervisor's features do not offer"),
        ),
        Event::Features => Ok(FEATURES),
        Event::Termination => Err(Failure::End(Termination::GhcbRequest {
            // SVM_VMGEXIT_TERM_REASON: set in [3:0], reason in [11:4].
            set: (first & 0xf) as u8,
            reason: (first >> 4) as u8,
        })),
        Event::Unsupported => {
            let why = format!("the guest does not handle #VC {first:#x} (information {second:#x})");
            services.report_bad_call(call::VMGEXIT, why);
            Ok(0)
        }
        _ => instructions::answer(event, first, second, ghcb, services),
    }
}

/// A field the exit needs.
pub(super) fn need(ghcb: &Ghcb, field: Field) -> Answer {
    ghcb.get(field).ok_or_else(|| {
        Failure::Malformed(Reason::MissingInput, format!("{} is not marked valid", field.name))
    })
}

/// Offsets in the page of `len` bytes at `SW_SCRATCH`.
pub(super) fn scratch(ghcb: &Ghcb, len: usize) -> Result<std::ops::Range<usize>, Failure> {
    let address = need(ghcb, Field::SW_SCRATCH)?;
    ghcb.scratch(address, len).ok_or_else(|| {
        let why = format!("SW_SCRATCH {address:#x} (+{len:#x}) is not in the GHCB's shared buffer");
        Failure::Malformed(Reason::InvalidScratch, why)
    })
}

/// `SW_SCRATCH` = GPA of the list, which reaches to the end of the shared buffer at most.
fn page_state_change(ghcb: &mut Ghcb, services: &mut dyn Services) -> Answer {
    let start = scratch(ghcb, psc::HEADER_SIZE)?.start;
    let buffer = &mut ghcb.bytes_mut()[start..super::ghcb::SHARED_BUFFER.end];
    let conversion = psc::conversion_of_list(buffer, services.memory());
    let refusal = conversion.and_then(|it| services.refuse(&it));
    let (outcome, why) = psc::process(buffer, services.memory(), refusal);
    if let Some(why) = why {
        services.report_bad_call(call::VMGEXIT, why);
    }
    Ok(outcome.encode())
}

/// `SW_EXITINFO1` = GPA of the request, `SW_EXITINFO2` = GPA of the response. No SNP firmware answers, so the hypervisor
/// reports that the request failed (`drivers/virt/coco/sev-guest/sev-guest.c` gives EIO).
fn guest_request(request: u64, response: u64) -> Answer {
    if !request.is_multiple_of(PAGE_SIZE) || !response.is_multiple_of(PAGE_SIZE) || request == response {
        return Err(Failure::input(format!("guest request at {request:#x}, response at {response:#x}")));
    }
    Ok(GUEST_REQUEST_FAILED)
}

#[cfg(test)]
mod tests;
