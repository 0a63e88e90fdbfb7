// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's side of `TDG.VP.VMCALL`.

use kvm_bindings::kvm_regs;
use types::View;

use super::leaf::{answer, status, vmcall};
use crate::layout::PAGE_SIZE;
use crate::memory::protected::Cause;
use crate::platform::failure::{Conversion, ConversionCall};
use crate::platform::services::{Next, Services, Termination};

/// Most bytes one `MapGPA` converts before it answers `RETRY`: it bounds the time of one exit.
pub const MAP_GPA_AT_ONCE: u64 = 64 << 20;
/// `ReportFatalError` registers that hold text, in order (GHCI §3.4), 8 bytes each.
const TEXT_REGISTERS: usize = 8;

/// Answers one call. with R10 = 0, R11 is a sub-function of the GHCI; anything else is the hypervisor's own (KVM's
/// hypercalls, `arch/x86/coco/tdx/tdx.c:tdx_kvm_hypercall`).
pub fn dispatch(shared_bit: u8, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
    regs.rax = status::SUCCESS;
    if regs.r10 != 0 {
        regs.r10 = crate::platform::plain::KVM_ENOSYS;
        return Next::Resume;
    }
    let function = regs.r11;
    regs.r10 = match function {
        vmcall::CPUID => cpuid(regs, services),
        vmcall::HLT => {
            services.idle();
            answer::SUCCESS
        }
        vmcall::IO => io(regs, services),
        vmcall::RDMSR => match services.read_msr(regs.r12 as u32) {
            Some(value) => {
                regs.r11 = value;
                answer::SUCCESS
            }
            None => answer::OPERAND_INVALID,
        },
        vmcall::WRMSR => success_if(services.write_msr(regs.r12 as u32, regs.r13)),
        vmcall::REQUEST_MMIO => mmio(shared_bit, regs, services),
        vmcall::WBINVD | vmcall::SETUP_EVENT_NOTIFY => answer::SUCCESS,
        vmcall::INFO => {
            (regs.r11, regs.r12, regs.r13, regs.r14) = (0, 0, 0, 0);
            answer::SUCCESS
        }
        vmcall::MAP_GPA => map_gpa(shared_bit, regs, services),
        vmcall::GET_QUOTE => {
            services.report_bad_call(
                "TDG.VP.VMCALL<GetQuote>",
                "there is no quoting enclave here: OPERAND_INVALID".into(),
            );
            answer::OPERAND_INVALID
        }
        vmcall::REPORT_FATAL_ERROR => {
            return Next::End(Termination::FatalError { code: regs.r12, text: fatal_text(regs) });
        }
        _ => {
            services.report_bad_call(
                "TDG.VP.VMCALL",
                format!("sub-function {function:#x} is unknown: OPERAND_INVALID"),
            );
            answer::OPERAND_INVALID
        }
    };
    Next::Resume
}

fn success_if(done: bool) -> u64 {
    if done { answer::SUCCESS } else { answer::OPERAND_INVALID }
}

/// GHCI §3.6: R12 = leaf, R13 = subleaf; R12–R15 = EAX, EBX, ECX, EDX.
fn cpuid(regs: &mut kvm_regs, services: &dyn Services) -> u64 {
    let leaf = services.cpuid(regs.r12 as u32, regs.r13 as u32);
    (regs.r12, regs.r13) = (leaf.eax.into(), leaf.ebx.into());
    (regs.r14, regs.r15) = (leaf.ecx.into(), leaf.edx.into());
    answer::SUCCESS
}

/// GHCI §3.9: R12 = bytes, R13 = 1 for OUT, R14 = port, R15 = data; R11 = data.
fn io(regs: &mut kvm_regs, services: &mut dyn Services) -> u64 {
    let (Ok(port), size @ (1 | 2 | 4)) = (u16::try_from(regs.r14), regs.r12) else {
        services.report_bad_call(
            "TDG.VP.VMCALL<IO>",
            format!("port {:#x}, {} bytes: OPERAND_INVALID", regs.r14, regs.r12),
        );
        return answer::OPERAND_INVALID;
    };
    match regs.r13 {
        0 => regs.r11 = u64::from(services.port_read(port, size as usize)),
        1 => services.port_write(port, size as usize, regs.r15 as u32),
        _ => return answer::OPERAND_INVALID,
    }
    answer::SUCCESS
}

/// GHCI §3.12: R12 = bytes, R13 = 1 for a store, R14 = GPA with the shared bit, R15 = data; R11 = data.
fn mmio(shared_bit: u8, regs: &mut kvm_regs, services: &mut dyn Services) -> u64 {
    let gpa = regs.r14 & !(1 << shared_bit);
    let size = regs.r12;
    let mut data = regs.r15.to_le_bytes();
    let valid = matches!(size, 1 | 2 | 4 | 8) && gpa >> shared_bit == 0;
    let done = valid
        && match regs.r13 {
            0 => {
                data = [0; 8];
                services.mmio_read(gpa, &mut data[..size as usize])
            }
            1 => services.mmio_write(gpa, &data[..size as usize]),
            _ => false,
        };
    if !done {
        services.report_bad_call(
            "TDG.VP.VMCALL<RequestMMIO>",
            format!("{size} bytes at {:#x}: OPERAND_INVALID", regs.r14),
        );
        return answer::OPERAND_INVALID;
    }
    if regs.r13 == 0 {
        regs.r11 = u64::from_le_bytes(data);
    }
    answer::SUCCESS
}

/// GHCI §3.2: R12 = first GPA, whose shared bit is the range's new state, R13 = bytes; on `RETRY` R11 = where to go on.
fn map_gpa(shared_bit: u8, regs: &mut kvm_regs, services: &mut dyn Services) -> u64 {
    const CALL: &str = "TDG.VP.VMCALL<MapGPA>";
    let shared = regs.r12 >> shared_bit & 1 == 1;
    let (gpa, len) = (regs.r12 & !(1 << shared_bit), regs.r13);
    if !gpa.is_multiple_of(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) {
        services.report_bad_call(CALL, format!("{gpa:#x} + {len:#x} is not page aligned: ALIGN_ERROR"));
        regs.r11 = regs.r12;
        return answer::ALIGN_ERROR;
    }
    let end = gpa.checked_add(len).filter(|end| *end <= 1 << shared_bit);
    let Some(end) = end.filter(|_| len > 0) else {
        services
            .report_bad_call(CALL, format!("{gpa:#x} + {len:#x} leaves the address space: OPERAND_INVALID"));
        regs.r11 = regs.r12;
        return answer::OPERAND_INVALID;
    };
    if !shared && let Some(device) = first_device(services, gpa, end) {
        services.report_bad_call(CALL, format!("no memory at {device:#x} to make private: OPERAND_INVALID"));
        regs.r11 = device;
        return answer::OPERAND_INVALID;
    }
    let (cause, to) =
        if shared { (Cause::MakeShared, View::Shared) } else { (Cause::MakePrivate, View::Private) };
    let pages = len / PAGE_SIZE;
    if let Some(refusal) = services.refuse(&Conversion { call: ConversionCall::MapGpa, to, gpa, pages }) {
        let part = refusal.done * PAGE_SIZE;
        if services.memory().apply(gpa, refusal.done, cause).is_err() {
            return answer::OPERAND_INVALID;
        }
        services.memory().note_refusal(gpa + part, pages - refusal.done, to);
        // The first address that was not converted, with any status but success.
        regs.r11 = regs.r12 + part;
        return refusal.error.value;
    }
    let part = len.min(MAP_GPA_AT_ONCE);
    if services.memory().apply(gpa, part / PAGE_SIZE, cause).is_err() {
        return answer::OPERAND_INVALID;
    }
    if part < len {
        regs.r11 = regs.r12 + part;
        return answer::RETRY;
    }
    answer::SUCCESS
}

/// First page of the range that is not RAM. The walk looks at the ends of RAM only.
fn first_device(services: &dyn Services, gpa: u64, end: u64) -> Option<u64> {
    let mut at = gpa;
    for (start, len) in services.memory().ram().backed() {
        if at < start {
            break;
        }
        at = at.max((start + len).min(end));
    }
    (at < end).then_some(at)
}

/// The text, in the GHCI's order of registers; what is not printable becomes a dot.
fn fatal_text(regs: &kvm_regs) -> String {
    let words: [u64; TEXT_REGISTERS] =
        [regs.r14, regs.r15, regs.rbx, regs.rdi, regs.rsi, regs.r8, regs.r9, regs.rdx];
    words
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .take_while(|byte| *byte != 0)
        .map(|byte| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' })
        .collect()
}
