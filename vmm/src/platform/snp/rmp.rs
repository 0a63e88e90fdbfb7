// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PVALIDATE and RMPADJUST: the guest's side of the reverse map table (RMP).
//!
//! AMD APM volume 3, PVALIDATE and RMPADJUST; `arch/x86/include/asm/sev.h:pvalidate`, `rmpadjust`. Both work on the
//! page at a virtual address, which must be mapped private.

use kvm_bindings::kvm_regs;
use types::{PageState, View};

use super::{Snp, call, not_validated};
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};
use crate::memory::protected::Cause;
use crate::platform::PlatformModel;
use crate::platform::failure::{Conversion, ConversionCall};
use crate::platform::services::{Next, Services, Termination};
use crate::x86::exception::Exception;

/// EAX: done.
pub const SUCCESS: u32 = 0;
/// EAX: an operand means nothing.
pub const FAIL_INPUT: u32 = 1;
/// EAX: the target VMPL is not less privileged than the one that runs.
pub const FAIL_PERMISSION: u32 = 2;
/// EAX: 2 MiB requested, RMP entries are 4 KiB (`sev.h:PVALIDATE_FAIL_SIZEMISMATCH`).
pub const FAIL_SIZEMISMATCH: u32 = 6;

/// ECX: the page is 2 MiB (`sev.h:RMP_PG_SIZE_2M`).
const SIZE_2M: u64 = 1;
/// RDX[7:0] of RMPADJUST: the VMPL whose rights change.
const TARGET_VMPL: u64 = 0xff;
/// RDX[15:8]: its rights. RDX[16]: the page is a VMSA (`sev.h:RMPADJUST_VMSA_PAGE_BIT`).
const ATTRIBUTES: u64 = TARGET_VMPL | 0xff << 8 | 1 << 16;
/// Least privileged VMPL.
const MAX_VMPL: u64 = 3;

const CARRY: u64 = 1 << 0;
const PARITY: u64 = 1 << 2;
const ADJUST: u64 = 1 << 4;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;

/// Why an instruction fails.
enum Fault {
    /// This in EAX, and the reason, if it is reported.
    Code(u32, Option<String>),
    /// This in EAX, because a rule says so; success means that the carry flag is set.
    Refused(u32),
    /// #PF at this address.
    NotMapped(u64),
    /// An exception at the instruction, or the end of the guest.
    Stop(Next, String),
}

impl Fault {
    fn input(why: String) -> Self {
        Self::Code(FAIL_INPUT, Some(why))
    }
}

/// A page an instruction names.
struct Target {
    gpa: u64,
    /// 4 KiB pages.
    pages: u64,
    state: PageState,
}

/// PVALIDATE: RAX = virtual address, ECX = size, EDX bit 0 = 1 to validate, 0 to rescind. EAX = code, CF = 1 if the page was
/// so already.
pub fn pvalidate(snp: &Snp, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
    // Linux passes a C bool and leaves what it finds in the register's other bits (`asm/sev.h:pvalidate`), which works on
    // hardware: only bit 0 counts.
    let cause = if regs.rdx & 1 == 1 { Cause::Accept } else { Cause::Rescind };
    let outcome = target(snp, regs, &*services).and_then(|target| {
        let to = if cause == Cause::Accept { View::Private } else { View::Shared };
        let Target { gpa, pages, .. } = target;
        if let Some(refusal) =
            services.refuse(&Conversion { call: ConversionCall::Pvalidate, to, gpa, pages })
        {
            services.memory().note_refusal(gpa, pages, to);
            return Err(Fault::Refused(refusal.error.value as u32));
        }
        let done = services
            .memory()
            .apply(target.gpa, target.pages, cause)
            .map_err(|why| Fault::input(why.to_string()))?;
        Ok((target, cause, done))
    });
    match outcome {
        Ok((target, cause, done)) => {
            let gpa = target.gpa;
            if done.implicit > 0 {
                let why = format!("page {gpa:#x} was shared: the hypervisor had to make it private first");
                services.report_bad_call(call::PVALIDATE, why);
            }
            let carry = done.unchanged == done.pages;
            if carry && done.implicit == 0 {
                services.report_bad_call(call::PVALIDATE, format!("page {gpa:#x}: {} twice", cause.name()));
            }
            finish(regs, SUCCESS);
            regs.rflags |= if carry { CARRY } else { 0 };
            Next::Resume
        }
        Err(fault) => fail(fault, regs, call::PVALIDATE, services),
    }
}

/// RMPADJUST: RAX = virtual address, RCX = size, RDX = target VMPL, its rights, VMSA bit. EAX = code.
///
/// Nothing runs at another VMPL, so the rights are not kept. Linux executes it once, to find whether it runs at VMPL0
/// (`arch/x86/coco/sev/shared.c:svsm_setup_ca`).
pub fn rmpadjust(snp: &Snp, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
    let (vmpl, rdx) = (regs.rdx & TARGET_VMPL, regs.rdx);
    let outcome = if rdx & !ATTRIBUTES != 0 {
        Err(Fault::input(format!("reserved bits in RDX {rdx:#x}")))
    } else if vmpl == 0 {
        // Not malformed: this is how a guest finds out where it runs.
        Err(Fault::Code(FAIL_PERMISSION, None))
    } else if vmpl > MAX_VMPL {
        Err(Fault::input(format!("there is no VMPL{vmpl}")))
    } else {
        target(snp, regs, &*services).and_then(|target| match target.state {
            PageState::Private => Ok(()),
            state => {
                // The RMP check comes first: the hypervisor converts a shared page, which then is not validated.
                let _ = services.memory().apply(target.gpa, target.pages, Cause::AccessPrivate);
                let why = format!("page {:#x} is {state}, not validated", target.gpa);
                Err(Fault::Stop(Next::Fault(not_validated()), why))
            }
        })
    };
    match outcome {
        Ok(()) => {
            finish(regs, SUCCESS);
            Next::Resume
        }
        Err(fault) => fail(fault, regs, call::RMPADJUST, services),
    }
}

/// The page RAX and ECX name, its 2 MiB RMP entry split if 4 KiB are requested.
fn target(snp: &Snp, regs: &kvm_regs, services: &dyn Services) -> Result<Target, Fault> {
    let virtual_address = regs.rax;
    let size = if regs.rcx & SIZE_2M == 0 { PAGE_SIZE } else { LARGE_PAGE_SIZE };
    if !virtual_address.is_multiple_of(size) {
        return Err(Fault::input(format!("address {virtual_address:#x} is not aligned to {size:#x}")));
    }
    // Early on Linux maps its direct map only as it faults (`arch/x86/kernel/head64.c:early_make_pgtable`), PVALIDATE's
    // included.
    let address = services.translate(virtual_address).ok_or(Fault::NotMapped(virtual_address))?;
    let (view, gpa) = snp.split(address);
    if view == View::Shared {
        // What hardware does is not specified; Linux never does this, so it is reported.
        return Err(Fault::input(format!("address {virtual_address:#x} maps page {gpa:#x} shared")));
    }
    if !gpa.is_multiple_of(size) {
        return Err(Fault::input(format!("page {gpa:#x} is not aligned to {size:#x}")));
    }
    let memory = services.memory();
    let Some(state) = memory.state(gpa) else {
        // A nested fault KVM cannot resolve: there is no memory to make private.
        let why = format!("page {gpa:#x} is not RAM");
        return Err(Fault::Stop(Next::End(Termination::NoMemory { gpa }), why));
    };
    if size == LARGE_PAGE_SIZE && !memory.is_large_entry(gpa) {
        return Err(Fault::Code(FAIL_SIZEMISMATCH, None));
    }
    if size == PAGE_SIZE {
        // A nested fault (RMP size mismatch), at which the hypervisor splits the entry and the guest tries again
        // (`arch/x86/kvm/svm/sev.c:sev_handle_rmp_fault`).
        memory.smash(gpa);
    }
    Ok(Target { gpa, pages: size / PAGE_SIZE, state })
}

fn fail(fault: Fault, regs: &mut kvm_regs, call: &'static str, services: &mut dyn Services) -> Next {
    match fault {
        Fault::Code(code, why) => {
            if let Some(why) = why {
                services.report_bad_call(call, why);
            }
            finish(regs, code);
            Next::Resume
        }
        Fault::Refused(code) => {
            finish(regs, code);
            regs.rflags |= if code == SUCCESS { CARRY } else { 0 };
            Next::Resume
        }
        Fault::NotMapped(address) => Next::Fault(Exception::page_fault(address)),
        Fault::Stop(next, why) => {
            services.report_bad_call(call, why);
            next
        }
    }
}

/// Writes the code to EAX, which clears the upper half of RAX, and sets the flags from it; CF is clear.
fn finish(regs: &mut kvm_regs, code: u32) {
    regs.rax = u64::from(code);
    regs.rflags &= !(CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW);
    if code == 0 {
        regs.rflags |= ZERO;
    }
    if (code as u8).count_ones().is_multiple_of(2) {
        regs.rflags |= PARITY;
    }
}

#[cfg(test)]
mod tests;
