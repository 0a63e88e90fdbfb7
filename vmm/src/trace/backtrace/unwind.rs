// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a function to its caller, as the kernel does it itself (`arch/x86/kernel/unwind_orc.c:unwind_next_frame`).

use std::mem::offset_of;

use super::orc::{Base, Entry, Kind, Orc};
use super::{Code, Frame, KernelMemory, MAX_FRAMES, Origin, Registers, THREAD_SIZE, WORD, read_word};

/// arch/x86/include/asm/ptrace.h: `struct pt_regs`.
#[repr(C)]
struct PtRegs {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    bp: u64,
    bx: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    ax: u64,
    cx: u64,
    dx: u64,
    si: u64,
    di: u64,
    orig_ax: u64,
    ip: u64,
    cs: u64,
    flags: u64,
    sp: u64,
    ss: u64,
}

const _: () = assert!(offset_of!(PtRegs, ip) == 128 && offset_of!(PtRegs, ss) == 160);

/// The privilege level in CS.
const CPL: u64 = 3;

/// Registers that an interrupt or exception left on the stack.
#[derive(Debug, Clone, Copy)]
enum Saved {
    None,
    /// All of them, here.
    All(u64),
    /// Those that the processor pushes; all of an earlier interrupt's, perhaps, here.
    Partial(Option<u64>),
}

/// Where the walk is.
struct Walk<'a> {
    memory: &'a dyn KernelMemory,
    ip: u64,
    sp: u64,
    bp: u64,
    origin: Origin,
    saved: Saved,
    /// What an interrupt or exception stopped was user space.
    user: bool,
}

/// Adds the callers of the first frame, up to the end of the stack. If the walk cannot go on, returns from where on
/// the stack could be searched.
pub(super) fn unwind(
    orc: &Orc,
    code: &Code,
    memory: &dyn KernelMemory,
    registers: Registers,
    frames: &mut Vec<Frame>,
) -> Option<u64> {
    let Registers { rip: ip, rsp: sp, rbp: bp } = registers;
    let mut walk = Walk { memory, ip, sp, bp, origin: Origin::Instruction, saved: Saved::None, user: false };
    while frames.len() < MAX_FRAMES {
        // For a call, what counts is the stack at the call itself.
        let at = walk.ip.wrapping_sub(u64::from(walk.origin == Origin::Call));
        let entry = if code.contains(at) { orc.find(at) } else { null_call(at) };
        let Some(entry) = entry else { return Some(walk.sp) };
        if entry.kind == Kind::EndOfStack {
            return None;
        }
        // A failed step leaves the walk half-way.
        let lost_at = walk.sp;
        if walk.step(entry).is_none() {
            return Some(lost_at);
        }
        if walk.user {
            return None;
        }
        if !code.contains(walk.ip.wrapping_sub(u64::from(walk.origin == Origin::Call))) {
            return Some(walk.sp);
        }
        frames.push(Frame { address: walk.ip, origin: walk.origin });
    }
    None
}

/// A call through a null pointer pushed a return address and nothing else
/// (`arch/x86/kernel/unwind_orc.c:null_orc_entry`).
fn null_call(at: u64) -> Option<Entry> {
    (at == 0).then_some(Entry {
        sp_offset: WORD.cast_signed(),
        sp_base: Base::Sp,
        bp_offset: 0,
        bp_base: Base::Undefined,
        kind: Kind::Call,
        signal: false,
    })
}

impl Walk<'_> {
    /// One frame up; `None` if the tables or the stack do not allow it.
    fn step(&mut self, entry: Entry) -> Option<()> {
        let below = self.sp;
        let sp = self.stack(entry)?;
        match entry.kind {
            Kind::Call => {
                self.ip = self.word(sp.wrapping_sub(WORD))?;
                self.sp = sp;
                self.saved = Saved::None;
            }
            Kind::Registers => {
                self.interrupted(sp)?;
                self.saved = Saved::All(sp);
            }
            Kind::PartialRegisters => {
                self.interrupted(sp.wrapping_sub(offset_of!(PtRegs, ip) as u64))?;
                self.saved = Saved::Partial(match self.saved {
                    Saved::All(at) => Some(at),
                    Saved::Partial(earlier) => earlier,
                    Saved::None => None,
                });
            }
            Kind::Undefined | Kind::EndOfStack | Kind::Unknown => return None,
        }
        match entry.bp_base {
            Base::Undefined => self.bp = self.register(offset_of!(PtRegs, bp)).unwrap_or(self.bp),
            Base::PreviousSp => self.bp = self.word(sp.wrapping_add_signed(entry.bp_offset))?,
            Base::Bp => self.bp = self.word(self.bp.wrapping_add_signed(entry.bp_offset))?,
            _ => return None,
        }
        self.origin = if entry.signal { Origin::Instruction } else { Origin::Call };
        // On one stack, callers are above; another one may be anywhere.
        let same_stack = self.sp / THREAD_SIZE == below / THREAD_SIZE;
        (!same_stack || self.sp > below || self.user).then_some(())
    }

    /// The caller's stack pointer, or where registers are.
    fn stack(&self, entry: Entry) -> Option<u64> {
        let offset = entry.sp_offset;
        match entry.sp_base {
            Base::Sp => Some(self.sp.wrapping_add_signed(offset)),
            Base::Bp => Some(self.bp.wrapping_add_signed(offset)),
            Base::SpIndirect => Some(self.word(self.sp)?.wrapping_add_signed(offset)),
            Base::BpIndirect => self.word(self.bp.wrapping_add_signed(offset)),
            Base::R10 => self.register(offset_of!(PtRegs, r10)),
            Base::R13 => self.register(offset_of!(PtRegs, r13)),
            Base::Ax => self.register(offset_of!(PtRegs, ax)),
            Base::Di => self.register(offset_of!(PtRegs, di)),
            Base::Dx => self.register(offset_of!(PtRegs, dx)),
            Base::Undefined | Base::PreviousSp | Base::Unknown => None,
        }
    }

    /// Continues with the frame that an interrupt or exception stopped.
    fn interrupted(&mut self, registers: u64) -> Option<()> {
        let word = |offset: usize| self.word(registers.wrapping_add(offset as u64));
        let (ip, cs) = (word(offset_of!(PtRegs, ip))?, word(offset_of!(PtRegs, cs))?);
        let sp = word(offset_of!(PtRegs, sp))?;
        (self.ip, self.sp, self.user) = (ip, sp, cs & CPL != 0);
        Some(())
    }

    /// A register of what was interrupted.
    fn register(&self, offset: usize) -> Option<u64> {
        match self.saved {
            Saved::All(at) | Saved::Partial(Some(at)) => self.word(at.wrapping_add(offset as u64)),
            Saved::None | Saved::Partial(None) => None,
        }
    }

    fn word(&self, address: u64) -> Option<u64> {
        read_word(self.memory, address)
    }
}
