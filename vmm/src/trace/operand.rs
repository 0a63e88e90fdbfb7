// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which bytes an instruction accessed: a fault names only the page, the instruction at RIP the bytes.

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};
use kvm_bindings::{kvm_regs, kvm_sregs};

use crate::layout::PAGE_SIZE;

/// The longest x86 instruction (Intel SDM volume 2 §2.3.11).
pub const LONGEST_INSTRUCTION: usize = 15;

/// The memory operand in the accessed page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    /// Guest virtual address of its first byte in that page; of a device's access, the physical one.
    pub address: u64,
    /// Offset of that byte in the page.
    pub offset: u64,
    /// Bytes of the whole operand; of a repeated string instruction, of one element. 0 where the instruction does not show it.
    pub len: usize,
}

/// Finds the operand of the instruction `code`, which the vCPU is at, that accesses the page `is_page` recognises by
/// virtual address. `None` if the code is no instruction or has no such operand.
pub fn locate(
    code: &[u8],
    regs: &kvm_regs,
    sregs: &kvm_sregs,
    is_page: impl Fn(u64) -> bool,
) -> Option<Operand> {
    let mut decoder = Decoder::with_ip(64, code, regs.rip, DecoderOptions::NONE);
    let instruction: Instruction = decoder.decode();
    if instruction.is_invalid() {
        return None;
    }
    let len = instruction.memory_size().size();
    (0..instruction.op_count()).filter(|op| is_memory(instruction.op_kind(*op))).find_map(|op| {
        let address = instruction.virtual_address(op, 0, |register, _, _| value(register, regs, sregs))?;
        let last = address.checked_add(len.max(1) as u64 - 1)?;
        if is_page(address) {
            return Some(Operand { address, offset: address % PAGE_SIZE, len });
        }
        let second = last & !(PAGE_SIZE - 1);
        (second > address && is_page(second)).then_some(Operand { address: second, offset: 0, len })
    })
}

fn is_memory(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Memory
            | OpKind::MemorySegSI
            | OpKind::MemorySegESI
            | OpKind::MemorySegRSI
            | OpKind::MemorySegDI
            | OpKind::MemorySegEDI
            | OpKind::MemorySegRDI
            | OpKind::MemoryESDI
            | OpKind::MemoryESEDI
            | OpKind::MemoryESRDI
    )
}

/// A register's value, of a segment register its base. Vector registers are of no use here.
fn value(register: Register, regs: &kvm_regs, sregs: &kvm_sregs) -> Option<u64> {
    let general = [
        regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8, regs.r9,
        regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ];
    match register {
        Register::ES | Register::CS | Register::SS | Register::DS => Some(0),
        Register::FS => Some(sregs.fs.base),
        Register::GS => Some(sregs.gs.base),
        _ if register.is_gpr64() => general.get(register.number()).copied(),
        _ if register.is_gpr32() => general.get(register.number()).map(|value| value & 0xffff_ffff),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regs() -> kvm_regs {
        kvm_regs { rip: 0x1000, rsi: 0x5000, rdi: 0x6ffc, rbx: 0x7100, rcx: 2, ..Default::default() }
    }

    fn at(code: &[u8], page: u64) -> Option<(u64, u64, usize)> {
        let found = locate(code, &regs(), &kvm_sregs::default(), |a| a & !0xfff == page);
        found.map(|o| (o.address, o.offset, o.len))
    }

    #[test]
    fn the_operand_in_the_page_is_found_with_its_size() {
        // mov rax, [rbx + rcx*4 + 8]
        assert_eq!(at(&[0x48, 0x8b, 0x44, 0x8b, 0x08], 0x7000), Some((0x7110, 0x110, 8)));
        // movzx eax, byte [rsi]
        assert_eq!(at(&[0x0f, 0xb6, 0x06], 0x5000), Some((0x5000, 0, 1)));
        // rep movsb: source and destination are distinguished by their pages.
        assert_eq!(at(&[0xf3, 0xa4], 0x5000), Some((0x5000, 0, 1)));
        assert_eq!(at(&[0xf3, 0xa4], 0x6000), Some((0x6ffc, 0xffc, 1)));
    }

    #[test]
    fn an_operand_across_two_pages_is_found_in_the_second() {
        // mov rax, [rdi]: 4 bytes before the page's end
        assert_eq!(at(&[0x48, 0x8b, 0x07], 0x7000), Some((0x7000, 0, 8)));
    }

    #[test]
    fn what_accesses_no_memory_has_no_operand() {
        assert_eq!(at(&[0x90], 0x5000), None);
        assert_eq!(at(&[], 0x5000), None);
        assert_eq!(at(&[0x06], 0x5000), None);
    }

    proptest::proptest! {
        #[test]
        fn any_code_and_registers_are_taken(code: [u8; 15], rip: u64, rsi: u64, rdi: u64, rax: u64) {
            let regs = kvm_regs { rip, rsi, rdi, rax, ..Default::default() };
            let _ = locate(&code, &regs, &kvm_sregs::default(), |_| true);
        }
    }
}
