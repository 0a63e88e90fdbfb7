// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The TDX module's side of TDCALL.

use kvm_bindings::kvm_regs;
use serde::{Deserialize, Serialize};
use types::{PageState, View};

use super::leaf::status::operand;
use super::leaf::{field, status, tdcall};
use super::{report, vmcall};
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};
use crate::memory::protected::Cause;
use crate::platform::failure::{Conversion, ConversionCall};
use crate::platform::services::{Next, Services, Termination};

/// VMX exit reason "EPT violation" (Intel SDM volume 3 appendix C).
pub const EXIT_REASON_EPT_VIOLATION: u32 = 48;
/// TD attribute 0, `DEBUG`.
const ATTRIBUTE_DEBUG: u64 = 1;
/// TD attribute 28, `SEPT_VE_DISABLE` (TDX Module ABI, ATTRIBUTES).
const ATTRIBUTE_SEPT_VE_DISABLE: u64 = 1 << 28;
/// RAX bits 15:0 are the leaf, 23:16 its version, the rest is reserved.
const LEAF_NUMBER: u64 = 0xffff;
const LEAF_RESERVED: u64 = !0xff_ffff;

/// What `TDG.VP.VEINFO.GET` returns (TDX Module ABI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VeInfo {
    /// VMX exit reason.
    pub reason: u32,
    /// Exit qualification.
    pub qualification: u64,
    /// Guest linear address.
    pub linear_address: u64,
    /// Guest physical address.
    pub physical_address: u64,
}

/// One TD's module state.
#[derive(Debug)]
pub struct Module {
    shared_bit: u8,
    attributes: u64,
    pub(super) state: TdState,
}

/// What the module keeps of one TD while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TdState {
    notify_enables: u64,
    ve_info: Option<VeInfo>,
}

impl Module {
    pub fn new(shared_bit: u8, sept_ve_disable: bool) -> Self {
        // Linux refuses to run with #VE for private memory unless the TD is a debug one
        // (`arch/x86/coco/tdx/tdx.c:disable_sept_ve`).
        let attributes = if sept_ve_disable { ATTRIBUTE_SEPT_VE_DISABLE } else { ATTRIBUTE_DEBUG };
        Self { shared_bit, attributes, state: TdState { notify_enables: 0, ve_info: None } }
    }

    /// #VE is raised where private memory is not accepted (`SEPT_VE_DISABLE` clear).
    pub fn raises_ve(&self) -> bool {
        self.attributes & ATTRIBUTE_SEPT_VE_DISABLE == 0
    }

    /// Keeps the #VE information for the handler; `false` if the last one's was never read.
    pub fn take_ve(&mut self, information: VeInfo) -> bool {
        let free = self.state.ve_info.is_none();
        self.state.ve_info.get_or_insert(information);
        free
    }

    /// TDCALL: leaf in RAX, completion status in RAX.
    pub fn tdcall(&mut self, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
        let leaf = regs.rax & LEAF_NUMBER;
        if regs.rax & LEAF_RESERVED != 0 {
            services
                .report_bad_call("TDCALL", format!("RAX {:#x} has reserved bits: OPERAND_INVALID", regs.rax));
            regs.rax = status::OPERAND_INVALID | operand::RAX;
            return Next::Resume;
        }
        regs.rax = match leaf {
            tdcall::VP_VMCALL => return vmcall::dispatch(self.shared_bit, regs, services),
            tdcall::VP_INFO => self.vp_info(regs),
            tdcall::VP_VEINFO_GET => self.veinfo_get(regs),
            tdcall::MR_REPORT => self.mr_report(regs, services),
            tdcall::VP_CPUIDVE_SET => status::SUCCESS,
            tdcall::MEM_PAGE_ACCEPT => match self.accept(regs.rcx, services) {
                Ok(status) => status,
                Err(termination) => return Next::End(termination),
            },
            tdcall::VM_RD => self.vm_rd(regs),
            tdcall::VM_WR => self.vm_wr(regs),
            _ => {
                services.report_bad_call(
                    "TDCALL",
                    format!("leaf {leaf} is none copra's module has: OPERAND_INVALID"),
                );
                status::OPERAND_INVALID | operand::RAX
            }
        };
        Next::Resume
    }

    /// TDX Module ABI, `TDG.VP.INFO`: RCX = address width, RDX = attributes, R8 = vCPUs (number, most), R9 = index.
    fn vp_info(&self, regs: &mut kvm_regs) -> u64 {
        const ONE_OF_ONE: u64 = 1 << 32 | 1;
        regs.rcx = u64::from(self.shared_bit) + 1;
        regs.rdx = self.attributes;
        (regs.r8, regs.r9, regs.r10, regs.r11) = (ONE_OF_ONE, 0, 0, 0);
        status::SUCCESS
    }

    /// TDX Module ABI, `TDG.VP.VEINFO.GET`: once per #VE.
    fn veinfo_get(&mut self, regs: &mut kvm_regs) -> u64 {
        let Some(information) = self.state.ve_info.take() else { return status::NO_VALID_VE_INFO };
        regs.rcx = u64::from(information.reason);
        regs.rdx = information.qualification;
        regs.r8 = information.linear_address;
        regs.r9 = information.physical_address;
        regs.r10 = 0;
        status::SUCCESS
    }

    /// TDX Module ABI, `TDG.MR.REPORT`: RCX = report, 1 KiB aligned; RDX = 64 bytes of the caller's, 64-byte aligned; R8 =
    /// sub-type 0. Both lie in private memory.
    fn mr_report(&self, regs: &kvm_regs, services: &mut dyn Services) -> u64 {
        let private = |gpa: u64, align: u64| {
            gpa.is_multiple_of(align) && services.memory().state(gpa) == Some(PageState::Private)
        };
        let bad = if !private(regs.rcx, report::SIZE as u64) {
            Some(operand::RCX)
        } else if !private(regs.rdx, report::DATA_SIZE as u64) {
            Some(operand::RDX)
        } else if regs.r8 != 0 {
            Some(operand::R8)
        } else {
            None
        };
        if let Some(operand) = bad {
            services
                .report_bad_call("TDG.MR.REPORT", format!("operand {operand} is invalid: OPERAND_INVALID"));
            return status::OPERAND_INVALID | operand;
        }
        let mut data = [0; report::DATA_SIZE];
        let memory = services.memory();
        let done = memory
            .read(View::Private, regs.rdx, &mut data)
            .and_then(|()| memory.store(View::Private, regs.rcx, &report::fake(&data, self.attributes)));
        if done.is_ok() { status::SUCCESS } else { status::OPERAND_INVALID | operand::RCX }
    }

    /// TDX Module ABI, `TDG.VM.RD`: RDX = field; R8 = value.
    fn vm_rd(&self, regs: &mut kvm_regs) -> u64 {
        let Some(value) = self.field(regs.rdx) else { return status::METADATA_FIELD_ID_INCORRECT };
        regs.r8 = value;
        status::SUCCESS
    }

    /// TDX Module ABI, `TDG.VM.WR`: RDX = field, R8 = value, R9 = mask; R8 = value before.
    fn vm_wr(&mut self, regs: &mut kvm_regs) -> u64 {
        let Some(before) = self.field(regs.rdx) else { return status::METADATA_FIELD_ID_INCORRECT };
        if !same(regs.rdx, field::NOTIFY_ENABLES) {
            return status::METADATA_FIELD_NOT_WRITABLE;
        }
        self.state.notify_enables = (before & !regs.r9) | (regs.r8 & regs.r9);
        regs.r8 = before;
        status::SUCCESS
    }

    /// No flexible #VE (`CONFIG_FLAGS` bit 1), no control set: the attribute alone decides.
    fn field(&self, id: u64) -> Option<u64> {
        [(field::CONFIG_FLAGS, 0), (field::TD_CTLS, 0), (field::TOPOLOGY_ENUM, 0)]
            .into_iter()
            .chain([(field::NOTIFY_ENABLES, self.state.notify_enables)])
            .find_map(|(known, value)| same(id, known).then_some(value))
    }

    /// TDX Module ABI, `TDG.MEM.PAGE.ACCEPT`: RCX = address, level in bits 2:0 (0 = 4 KiB, 1 = 2 MiB, 2 = 1 GiB).
    fn accept(&self, operand: u64, services: &mut dyn Services) -> Result<u64, Termination> {
        const CALL: &str = "TDG.MEM.PAGE.ACCEPT";
        let (level, gpa) = (operand & 7, operand & !0xfff);
        let size = match level {
            0 => PAGE_SIZE,
            1 => LARGE_PAGE_SIZE,
            _ => 1 << 30,
        };
        if level > 2 || operand & 0xff8 != 0 || !gpa.is_multiple_of(size) || gpa >> self.shared_bit != 0 {
            services.report_bad_call(
                CALL,
                format!("RCX {operand:#x} is no private page of any size: OPERAND_INVALID"),
            );
            return Ok(status::OPERAND_INVALID | operand::RCX);
        }
        let Some(state) = services.memory().state(gpa) else {
            services.report_bad_call(CALL, format!("{gpa:#x} is not memory"));
            return Err(Termination::NoMemory { gpa });
        };
        if level == 2 || (level == 1 && !services.memory().is_large_entry(gpa) && state != PageState::Shared)
        {
            // Linux tries smaller ones (`arch/x86/coco/tdx/tdx-shared.c:tdx_accept_memory`).
            return Ok(status::PAGE_SIZE_MISMATCH | operand::RCX);
        }
        if state == PageState::Private {
            services.report_bad_call(CALL, format!("{gpa:#x} is accepted already: PAGE_ALREADY_ACCEPTED"));
            return Ok(status::PAGE_ALREADY_ACCEPTED);
        }
        let conversion =
            Conversion { call: ConversionCall::Accept, to: View::Private, gpa, pages: size / PAGE_SIZE };
        if let Some(refusal) = services.refuse(&conversion) {
            services.memory().note_refusal(gpa, conversion.pages, View::Private);
            return Ok(refusal.error.value);
        }
        if level == 0 {
            services.memory().smash(gpa);
        }
        match services.memory().apply(gpa, size / PAGE_SIZE, Cause::Accept) {
            Ok(applied) => {
                if applied.implicit > 0 {
                    services.report_bad_call(
                        CALL,
                        format!(
                            "{} of {} pages from {gpa:#x} were shared: implicit conversion by the hypervisor",
                            applied.implicit, applied.pages
                        ),
                    );
                }
                Ok(status::SUCCESS)
            }
            Err(_) => Ok(status::OPERAND_INVALID | operand::RCX),
        }
    }
}

/// The same field, however it is to be accessed.
fn same(id: u64, known: u64) -> bool {
    (id ^ known) & field::IDENTITY == 0
}
