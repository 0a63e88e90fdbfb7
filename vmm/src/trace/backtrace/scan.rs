// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Return addresses on a stack, recognised by the call before them. What functions left there that have returned
//! long ago is found, too (`arch/x86/kernel/unwind_guess.c`).

use super::{Code, Frame, KERNEL_HALF, KernelMemory, MAX_FRAMES, Origin, THREAD_SIZE, WORD, read_word};

/// The longest call: an opcode, a `ModRM` and a SIB byte and four bytes of displacement.
const MAX_CALL: usize = 7;
/// CALL rel32.
const CALL_NEAR: u8 = 0xe8;
/// Group 5, of which /2 is CALL r/m64.
const GROUP_5: u8 = 0xff;

/// Adds what looks like return addresses, from the stack pointer to the end of the stack.
pub(super) fn scan(code: &Code, memory: &dyn KernelMemory, rsp: u64, frames: &mut Vec<Frame>) {
    if rsp < KERNEL_HALF {
        return;
    }
    let start = rsp & !(WORD - 1);
    let room = THREAD_SIZE - start % THREAD_SIZE;
    for offset in (0..room).step_by(WORD as usize) {
        let Some(address) = start.checked_add(offset).and_then(|at| read_word(memory, at)) else { return };
        if frames.len() >= MAX_FRAMES {
            return;
        }
        if code.contains(address) && follows_call(code, memory, address) {
            frames.push(Frame { address, origin: Origin::StackValue });
        }
    }
}

/// Whether the instruction before is a call. Reads memory and not the file: the kernel patches its code.
fn follows_call(code: &Code, memory: &dyn KernelMemory, address: u64) -> bool {
    let mut before = [0; MAX_CALL];
    let Some(start) = address.checked_sub(MAX_CALL as u64) else { return false };
    if !memory.read(start, &mut before) {
        return false;
    }
    let is_code = |distance: i32| code.contains(address.wrapping_add_signed(distance.into()));
    if let [_, _, CALL_NEAR, target @ ..] = before
        && is_code(i32::from_le_bytes(target))
    {
        return true;
    }
    (2..=MAX_CALL).any(|size| is_indirect_call(&before[MAX_CALL - size..]))
}

/// Whether all of this is one CALL r/m64, apart from prefixes (Intel SDM, volume 2, table 2-2 and 2-3).
fn is_indirect_call(bytes: &[u8]) -> bool {
    let &[GROUP_5, modrm, ref rest @ ..] = bytes else { return false };
    let (mode, operation, operand) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
    let sib = (mode != 3 && operand == 4).then(|| rest.first().copied().unwrap_or_default());
    let displacement = match (mode, operand, sib) {
        // Relative to RIP.
        (0, 5, _) | (2, ..) => 4,
        // No base.
        (0, _, Some(sib)) if sib & 7 == 5 => 4,
        (1, ..) => 1,
        _ => 0,
    };
    operation == 2 && rest.len() == usize::from(sib.is_some()) + displacement
}
