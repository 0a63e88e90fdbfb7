// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who called: the kernel functions on a guest's stack, from its registers and memory alone.
//!
//! Copra enters vmlinux itself and never the code before it that would move the kernel (`CONFIG_RANDOMIZE_BASE`,
//! arch/x86/boot/compressed/kaslr.c), so an address in the running kernel is the address in its ELF file.

use std::fmt;
use std::ops::Range;

use types::UnwindMethod;

use crate::boot::image::{SymbolTable, Vmlinux};
use crate::stored::{Reader, StoredError, Writer};

pub use orc::Orc;

mod orc;
mod scan;
#[cfg(test)]
mod tests;
mod unwind;

/// No backtrace has more frames.
pub const MAX_FRAMES: usize = 32;

/// `arch/x86/include/asm/page_64_types.h:THREAD_SIZE`. Stacks of tasks and of interrupts are aligned to it.
const THREAD_SIZE: u64 = 16 << 10;
/// Kernel addresses are in the upper half.
const KERNEL_HALF: u64 = 1 << 63;
/// What a call pushes.
const WORD: u64 = 8;

/// A stopped guest's memory, seen through the page tables of its kernel.
pub trait KernelMemory {
    /// Fills the buffer with what is at a virtual address; false if not all of it is mapped memory.
    fn read(&self, virtual_address: u64, buffer: &mut [u8]) -> bool;
}

/// Where a vCPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// The instruction.
    pub rip: u64,
    /// The stack.
    pub rsp: u64,
    /// The frame pointer, or another value that the function keeps there.
    pub rbp: u64,
}

/// Where a frame's address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is the next instruction: of the vCPU, or of what an interrupt or exception stopped.
    Instruction,
    /// A call will return to it.
    Call,
    /// A value on the stack that looks like a return address.
    StackValue,
}

/// One function that has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// An address in it.
    pub address: u64,
    /// Where that comes from.
    pub origin: Origin,
}

/// The functions that have not returned, the innermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backtrace {
    /// How they were found.
    pub method: UnwindMethod,
    /// At least one, the vCPU's RIP, and at most `MAX_FRAMES`.
    pub frames: Vec<Frame>,
}

/// What it takes to follow one kernel's stacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unwinder {
    code: Code,
    orc: Option<Orc>,
}

/// Where the kernel's code is. That of modules is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Code(Vec<Range<u64>>);

impl Code {
    fn contains(&self, address: u64) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }
}

impl Unwinder {
    /// Takes from a kernel file what is needed of it, a few MiB.
    pub fn new(kernel: &Vmlinux<'_>) -> Self {
        Self { code: Code(kernel.code()), orc: Orc::of(kernel) }
    }

    /// Appends what it has.
    pub(crate) fn encode(&self, to: &mut Writer) {
        to.u32(self.code.0.len() as u32);
        for range in &self.code.0 {
            to.u64(range.start);
            to.u64(range.end);
        }
        to.option(self.orc.as_ref(), |to, orc| orc.encode(to));
    }

    /// Takes it back.
    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredError> {
        let mut code = Vec::new();
        for _ in 0..from.u32("ranges of code")? {
            code.push(from.u64("range of code")?..from.u64("range of code")?);
        }
        Ok(Self { code: Code(code), orc: from.option("unwind tables", Orc::decode)? })
    }

    /// Whether the kernel's own code is there; that of modules is not known.
    pub fn is_code(&self, address: u64) -> bool {
        self.code.contains(address)
    }

    /// Whether the kernel has tables for this (`CONFIG_UNWINDER_ORC`).
    pub fn has_orc(&self) -> bool {
        self.orc.is_some()
    }

    /// The functions on the stack of a vCPU that is in the kernel.
    pub fn backtrace(&self, memory: &dyn KernelMemory, registers: Registers) -> Backtrace {
        let mut frames = vec![Frame { address: registers.rip, origin: Origin::Instruction }];
        let mut method = UnwindMethod::StackScan;
        let mut rsp = registers.rsp;
        if let Some(orc) = &self.orc {
            let lost_at = unwind::unwind(orc, &self.code, memory, registers, &mut frames);
            if frames.len() > 1 || lost_at.is_none() {
                method = UnwindMethod::Orc;
            }
            match lost_at {
                Some(at) => rsp = at,
                None => return Backtrace { method, frames },
            }
        }
        let known = frames.len();
        scan::scan(&self.code, memory, rsp, &mut frames);
        if method == UnwindMethod::Orc && frames.len() > known {
            method = UnwindMethod::OrcThenScan;
        }
        Backtrace { method, frames }
    }
}

impl Backtrace {
    /// The addresses alone, first the RIP.
    pub fn addresses(&self) -> impl Iterator<Item = u64> {
        self.frames.iter().map(|frame| frame.address)
    }

    /// Shows it with names, one frame per line.
    pub fn with<'a>(&'a self, symbols: &'a SymbolTable) -> NamedFrames<'a> {
        NamedFrames { frames: &self.frames, symbols }
    }
}

impl Frame {
    /// Shows it with its name.
    pub fn with<'a>(&'a self, symbols: &'a SymbolTable) -> NamedFrames<'a> {
        NamedFrames { frames: std::slice::from_ref(self), symbols }
    }
}

/// Frames as the kernel shows them (arch/x86/kernel/dumpstack.c: `printk_stack_address`): `vfs_read+0x9f`, with "? "
/// before a value only found on the stack, and a number where there is no name.
#[derive(Debug, Clone, Copy)]
pub struct NamedFrames<'a> {
    frames: &'a [Frame],
    symbols: &'a SymbolTable,
}

impl fmt::Display for NamedFrames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, frame) in self.frames.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            if frame.origin == Origin::StackValue {
                f.write_str("? ")?;
            }
            // A call that never returns may be a function's last instruction; then it would return to the next one
            // (kernel/kallsyms.c: `sprint_backtrace`).
            let back = u64::from(frame.origin != Origin::Instruction);
            match self.symbols.resolve(frame.address.wrapping_sub(back)) {
                Some(symbol) => write!(f, "{}+{:#x}", symbol.name, symbol.offset + back)?,
                None => write!(f, "{:#x}", frame.address)?,
            }
        }
        Ok(())
    }
}

/// A word of kernel memory.
fn read_word(memory: &dyn KernelMemory, address: u64) -> Option<u64> {
    let mut word = [0; WORD as usize];
    let is_kernel = (KERNEL_HALF..=u64::MAX - WORD).contains(&address);
    (is_kernel && memory.read(address, &mut word)).then(|| u64::from_le_bytes(word))
}
