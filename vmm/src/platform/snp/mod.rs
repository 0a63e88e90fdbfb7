// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SEV-SNP at VMPL0: the RMP's instructions and the hypervisor's side of the GHCB protocol.
//!
//! What makes Linux an SNP guest: `arch/x86/mm/mem_encrypt_identity.c:sme_enable` and
//! `arch/x86/coco/sev/core.c:snp_init`: one CPUID leaf, one MSR, a CC blob, and RMPADJUST that succeeds. CPUID, MSRs and
//! port I/O work without an exit, so Linux raises no #VC for them; requests for them through the GHCB are answered too.

#[cfg(test)]
mod bench;
pub mod events;
pub mod ghcb;
mod instructions;
pub mod msr_protocol;
pub mod psc;
pub mod rmp;

use kvm_bindings::kvm_regs;
use serde::{Deserialize, Serialize};
use types::{Mode, Platform, VcpuId, View};

use self::msr_protocol::{Message, NO_FRAME, Register};
use super::guest_type::{self, GuestActivity, NoEvidence};
use super::services::{Consequence, Next, Services, Termination};
use super::sev::LEAF_ENCRYPTED_MEMORY;
use super::{MsrRange, PlatformModel, PlatformState};
use crate::layout::PAGE_SIZE;
use crate::memory::protected::Architecture;
use crate::memory::{Content, GuestMemory, Mismatch};
use crate::x86::cpuid::{CpuidTable, LEAF_ADDRESS_SIZES};
use crate::x86::exception::Exception;
use crate::x86::opcode::Opcode;

/// Largest extended leaf.
const LEAF_LARGEST_EXTENDED: u32 = 0x8000_0000;
/// KVM's features; bit 17 lets the guest report conversions (`kvm_para.h:KVM_FEATURE_MIGRATION_CONTROL`).
const LEAF_KVM_FEATURES: u32 = 0x4000_0001;

/// The GHCB MSR (AMD APM volume 2 §15.35.7).
pub const MSR_GHCB: u32 = 0xc001_0130;
/// `SEV_STATUS` (AMD APM volume 2 §15.34.10).
const MSR_SEV_STATUS: u32 = 0xc001_0131;
/// SEV, SEV-ES and SEV-SNP are active.
const SEV_STATUS: u64 = 0b111;

/// The one protocol version supported: SNP needs 2, and nothing newer is defined.
const PROTOCOL_VERSION: u16 = 2;
/// GHCB hypervisor features, bit 0: SNP (`arch/x86/include/asm/sev-common.h:GHCB_HV_FT_SNP`). AP creation, restricted
/// injection and further VMPLs are not there.
const FEATURES: u64 = 1;
/// "Not done" in answers whose error codes are the hypervisor's own (`sev-common.h:GHCB_MSR_PSC_RESP_ERROR`).
const MSR_ERROR: u32 = 1 << 31;

/// VMM communication exception.
const VC: u8 = 29;
/// #VC error code `PAGE_NOT_VALIDATED` (AMD APM volume 2 §15.36.10).
const PAGE_NOT_VALIDATED: u32 = 0x404;

/// Names of calls in reports of bad ones.
mod call {
    pub const VMGEXIT: &str = "VMGEXIT";
    pub const MSR_PROTOCOL: &str = "GHCB MSR protocol";
    pub const PVALIDATE: &str = "PVALIDATE";
    pub const RMPADJUST: &str = "RMPADJUST";
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// Platform `snp`.
#[derive(Debug)]
pub struct Snp {
    c_bit: u8,
    mode: Mode,
    state: SnpState,
}

/// What the hypervisor keeps of one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnpState {
    /// The GHCB MSR: what the guest wrote, or what VMGEXIT answered.
    msr: u64,
    /// GPA the guest registered its GHCB at.
    registered: Option<u64>,
    /// The AP jump table address that the guest set last; only the guest reads it.
    ap_jump_table: u64,
}

impl Snp {
    /// A guest whose C-bit is at `c_bit`.
    pub fn new(c_bit: u8, mode: Mode) -> Self {
        // At reset the register holds the response to 0x002 (`arch/x86/kvm/svm/sev.c:sev_es_vcpu_reset`).
        let msr = sev_information(c_bit).encode();
        Self { c_bit, mode, state: SnpState { msr, registered: None, ap_jump_table: 0 } }
    }

    /// VMGEXIT: handles the request in the GHCB MSR.
    fn vmgexit(&mut self, services: &mut dyn Services) -> Next {
        let message = Message::parse(self.state.msr);
        if let Message::GhcbPage { gpa } = message {
            return events::vmgexit(self, gpa, services);
        }
        if message.encode() != self.state.msr {
            services.report_bad_call(
                call::MSR_PROTOCOL,
                format!("reserved bits in {:#x} ({message:?})", self.state.msr),
            );
        }
        match self.answer(message, services) {
            Ok(answer) => self.state.msr = answer.encode(),
            Err(end) => return Next::End(end),
        }
        Next::Resume
    }

    /// One request of the MSR protocol; the response to an unknown one is the request itself (`arch/x86/kvm/svm/sev.c`, "keep GHCB MSR
    /// value as-is").
    fn answer(&mut self, request: Message, services: &mut dyn Services) -> Result<Message, Termination> {
        Ok(match request {
            Message::SevInformationRequest => sev_information(self.c_bit),
            Message::CpuidRequest { leaf, register } => {
                let found = services.cpuid(leaf, 0);
                let value = match register {
                    Register::Eax => found.eax,
                    Register::Ebx => found.ebx,
                    Register::Ecx => found.ecx,
                    Register::Edx => found.edx,
                };
                Message::CpuidResponse { value, register }
            }
            Message::ApResetHoldRequest => {
                // There is one vCPU, so it never receives a SIPI.
                services.idle();
                Message::ApResetHoldResponse { result: 0 }
            }
            Message::PreferredGhcbRequest => Message::PreferredGhcbResponse { frame: NO_FRAME },
            Message::RegisterGhcbRequest { frame } => {
                let gpa = frame * PAGE_SIZE;
                if services.memory().state(gpa).is_some() {
                    self.state.registered = Some(gpa);
                    Message::RegisterGhcbResponse { frame }
                } else {
                    services.report_bad_call(
                        call::MSR_PROTOCOL,
                        format!("GHCB registered at {gpa:#x}, which is not RAM"),
                    );
                    Message::RegisterGhcbResponse { frame: NO_FRAME }
                }
            }
            Message::PageStateRequest { frame, operation } => {
                let memory = services.memory();
                let conversion = psc::conversion_of_page(frame, operation, memory);
                if let Some((conversion, refusal)) =
                    conversion.and_then(|it| Some((it, services.refuse(&it)?)))
                {
                    services.memory().note_refusal(conversion.gpa, conversion.pages, conversion.to);
                    // The error is the register's upper half.
                    return Ok(Message::PageStateResponse { error: refusal.error.value as u32 });
                }
                let error = match psc::change_page(frame, operation, services.memory()) {
                    Ok(()) => 0,
                    Err(refused) => {
                        services.report_bad_call(call::MSR_PROTOCOL, format!("page state change: {refused}"));
                        MSR_ERROR
                    }
                };
                Message::PageStateResponse { error }
            }
            Message::RunVmplRequest { vmpl } => {
                services.report_bad_call(call::MSR_PROTOCOL, format!("VMPL{vmpl} does not exist here"));
                Message::RunVmplResponse { error: MSR_ERROR }
            }
            Message::FeaturesRequest => Message::FeaturesResponse { features: FEATURES },
            Message::Termination { set, reason } => return Err(Termination::GhcbRequest { set, reason }),
            other => {
                services.report_bad_call(call::MSR_PROTOCOL, format!("{other:x?} is no request"));
                Message::Unknown(self.state.msr)
            }
        })
    }
}

/// #VC for a private access to a page not validated.
fn not_validated() -> Exception {
    Exception { vector: VC, error_code: Some(PAGE_NOT_VALIDATED), address: None }
}

fn sev_information(c_bit: u8) -> Message {
    Message::SevInformation { max: PROTOCOL_VERSION, min: PROTOCOL_VERSION, c_bit }
}

impl PlatformModel for Snp {
    fn kind(&self) -> Platform {
        Platform::Snp
    }

    fn content(&self) -> Content {
        Content::SeparateBacking { architecture: Architecture::Snp, mode: self.mode }
    }

    fn save(&self) -> PlatformState {
        PlatformState::Snp(self.state.clone())
    }

    fn restore(&mut self, state: &PlatformState) -> bool {
        let PlatformState::Snp(state) = state else { return false };
        self.state = state.clone();
        true
    }

    fn encryption_bit(&self) -> Option<u8> {
        Some(self.c_bit)
    }

    fn view_with_bit(&self) -> View {
        View::Private
    }

    fn cpuid(&self, table: &mut CpuidTable) {
        const SEV: u32 = 1 << 1;
        const SEV_ES: u32 = 1 << 3;
        const SEV_SNP: u32 = 1 << 4;
        const MIGRATION_CONTROL: u32 = 1 << 17;
        /// EBX[11:6]: physical address bits given up when memory encryption is on.
        const REDUCTION: u32 = 1 << 6;
        /// EBX[31]: validating a page needs no eviction of its cache lines (`cpufeatures.h:X86_FEATURE_COHERENCY_SFW_NO`).
        /// There are no such caches here, and the reads that evict would make memory of every page at once.
        const COHERENCY_SFW_NO: u32 = 1 << 31;
        table.edit(LEAF_LARGEST_EXTENDED, |leaf| leaf.eax = leaf.eax.max(LEAF_ENCRYPTED_MEMORY));
        table.edit(LEAF_ENCRYPTED_MEMORY, |leaf| {
            leaf.eax = SEV | SEV_ES | SEV_SNP;
            leaf.ebx = u32::from(self.c_bit) | REDUCTION | COHERENCY_SFW_NO;
            (leaf.ecx, leaf.edx) = (0, 0);
        });
        table.edit(LEAF_ADDRESS_SIZES, |leaf| {
            // Page-table entries may carry the bit only if it is a physical address bit.
            leaf.eax = (leaf.eax & !0xff) | (leaf.eax & 0xff).max(u32::from(self.c_bit) + 1);
        });
        if table.get(LEAF_KVM_FEATURES).is_some() {
            // Conversions go through the GHCB; a second report of them by hypercall would find no page state to change.
            table.edit(LEAF_KVM_FEATURES, |leaf| leaf.eax &= !MIGRATION_CONTROL);
        }
    }

    fn msrs(&self) -> &'static [MsrRange] {
        &[MsrRange { first: MSR_GHCB, count: 2 }]
    }

    fn read_msr(&mut self, _vcpu: VcpuId, index: u32) -> Option<u64> {
        match index {
            MSR_GHCB => Some(self.state.msr),
            MSR_SEV_STATUS => Some(SEV_STATUS),
            _ => None,
        }
    }

    fn write_msr(&mut self, _vcpu: VcpuId, index: u32, value: u64, _memory: &GuestMemory) -> Option<()> {
        // SEV_STATUS is read-only.
        (index == MSR_GHCB).then(|| self.state.msr = value)
    }

    fn guest_type_evidence(&self, activity: &GuestActivity) -> Result<String, NoEvidence> {
        guest_type::c_bit_in_cr3(activity, self.c_bit)?;
        match (activity.calls(Opcode::Pvalidate), activity.calls(Opcode::Vmgexit)) {
            (0, _) => Err(NoEvidence("validated no page (PVALIDATE)")),
            (_, 0) => Err(NoEvidence("made no GHCB request (VMGEXIT)")),
            (pvalidate, vmgexit) => {
                Ok(format!("C-bit in CR3, {pvalidate} times PVALIDATE, {vmgexit} times VMGEXIT"))
            }
        }
    }

    fn opcodes(&self) -> &'static [Opcode] {
        &[Opcode::Vmgexit, Opcode::Pvalidate, Opcode::Rmpadjust]
    }

    fn instruction(&mut self, opcode: Opcode, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
        match opcode {
            Opcode::Vmgexit => self.vmgexit(services),
            Opcode::Pvalidate => rmp::pvalidate(self, regs, services),
            Opcode::Rmpadjust => rmp::rmpadjust(self, regs, services),
            Opcode::Tdcall => {
                services.report_bad_call(Opcode::Tdcall.name(), "this is no TD".into());
                Next::Resume
            }
        }
    }

    /// A private access to a page not validated: #VC at the instruction. Through the shared view every access goes
    /// through, for the hypervisor converts the page.
    fn denied(&mut self, _mismatch: &Mismatch, _address: u64, _exact: bool) -> Consequence {
        Consequence::Exception(Exception { vector: VC, error_code: Some(PAGE_NOT_VALIDATED), address: None })
    }

    /// A nested fault on a private address that cannot be backed: KVM fails the run
    /// (`arch/x86/kvm/mmu/mmu.c:kvm_mmu_faultin_pfn_private`, `KVM_EXIT_MEMORY_FAULT`), and so does its user.
    fn private_device(&mut self, gpa: u64) -> Consequence {
        Consequence::End(Termination::NoMemory { gpa })
    }
}

#[cfg(test)]
mod tests;
