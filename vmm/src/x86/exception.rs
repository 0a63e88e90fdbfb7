// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exceptions the VMM delivers itself: the frame is built in guest memory as the processor would build it.
//!
//! KVM's own injection pushes error codes for a fixed list of vectors only, and #VC (29) is not among them.

use kvm_bindings::{kvm_regs, kvm_sregs};

use super::walk::{self, PageTables, PhysicalMemory};

/// Interrupt gate, as against a trap gate, which leaves IF alone (Intel SDM volume 3 §6.14).
const INTERRUPT_GATE: u8 = 0xe;
/// 64-bit TSS: RSP0, and IST1 (Intel SDM volume 3 §8.7).
const TSS_RSP0: u64 = 4;
const TSS_IST1: u64 = 0x24;
/// RFLAGS: TF, IF, NT, RF.
const FLAG_TRAP: u64 = 1 << 8;
const FLAG_INTERRUPT: u64 = 1 << 9;
const FLAG_NESTED: u64 = 1 << 14;
const FLAG_RESUME: u64 = 1 << 16;
/// 64-bit TSS, available: QEMU's emulation of user-mode port checks needs it where it reports a busy one.
pub const TSS_AVAILABLE: u8 = 9;

/// An exception to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Vector.
    pub vector: u8,
    /// Error code, if this vector pushes one.
    pub error_code: Option<u32>,
    /// What CR2 holds afterwards; `None` leaves it alone.
    pub address: Option<u64>,
}

impl Exception {
    /// #PF of a load in kernel mode from an address nothing is mapped at.
    pub fn page_fault(address: u64) -> Self {
        Self { vector: 14, error_code: Some(0), address: Some(address) }
    }
}

/// An exception that could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("exception {vector} could not be delivered: {why}")]
pub struct Undeliverable {
    /// Vector.
    pub vector: u8,
    /// Why.
    pub why: &'static str,
}

/// Delivers `exception` at the instruction the vCPU is at: registers and frame afterwards are those of the handler's
/// first instruction.
pub fn deliver(
    memory: &dyn PhysicalMemory,
    tables: &PageTables,
    regs: &mut kvm_regs,
    sregs: &mut kvm_sregs,
    exception: Exception,
) -> Result<(), Undeliverable> {
    let failed = |why| Undeliverable { vector: exception.vector, why };
    let word = |address: u64| {
        let mut bytes = [0; 8];
        walk::read(memory, tables, address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    };
    let at = u64::from(exception.vector) * 16;
    if at + 15 > u64::from(sregs.idt.limit) {
        return Err(failed("its gate is beyond the end of the IDT"));
    }
    // The guest chooses all three bases; what it computes past the last address wraps, as on a processor.
    let gate = sregs.idt.base.wrapping_add(at);
    let low = word(gate).ok_or(failed("its gate is not mapped"))?;
    let high = word(gate.wrapping_add(8)).ok_or(failed("its gate is not mapped"))?;
    let gate = Gate { low, high };
    if !gate.present() {
        return Err(failed("its gate is not present"));
    }
    let from_user = sregs.ss.dpl == 3;
    let stack = match (gate.ist(), from_user) {
        (0, false) => Some(regs.rsp),
        (0, true) => word(sregs.tr.base.wrapping_add(TSS_RSP0)),
        (ist, _) => word(sregs.tr.base.wrapping_add(TSS_IST1 + (ist - 1) * 8)),
    };
    let top = stack.ok_or(failed("the task state segment is not mapped"))? & !0xf;
    let mut frame = Vec::with_capacity(48);
    if let Some(code) = exception.error_code {
        frame.extend_from_slice(&u64::from(code).to_le_bytes());
    }
    let saved = [
        regs.rip,
        u64::from(sregs.cs.selector),
        regs.rflags | FLAG_RESUME,
        regs.rsp,
        u64::from(sregs.ss.selector),
    ];
    frame.extend(saved.iter().flat_map(|word| word.to_le_bytes()));
    let bottom = top.wrapping_sub(frame.len() as u64);
    if !walk::write(memory, tables, bottom, &frame) {
        return Err(failed("its stack is not mapped, or the states of its pages forbid the write"));
    }
    if let Some(address) = exception.address {
        sregs.cr2 = address;
    }
    regs.rip = gate.offset();
    regs.rsp = bottom;
    regs.rflags &= !(FLAG_TRAP | FLAG_NESTED | FLAG_RESUME);
    if gate.kind() == INTERRUPT_GATE {
        regs.rflags &= !FLAG_INTERRUPT;
    }
    sregs.cs.selector = gate.selector();
    (sregs.cs.dpl, sregs.cs.l, sregs.cs.db) = (0, 1, 0);
    if from_user {
        // A null SS of the new privilege level (Intel SDM volume 3 §6.14.4).
        sregs.ss.selector = 0;
        sregs.ss.dpl = 0;
    }
    if super::cpuid::host_is_tcg() {
        sregs.tr.type_ = TSS_AVAILABLE;
    }
    Ok(())
}

/// A 64-bit IDT gate (Intel SDM volume 3 §6.14.1).
struct Gate {
    low: u64,
    high: u64,
}

impl Gate {
    fn present(&self) -> bool {
        self.low >> 47 & 1 == 1
    }

    fn kind(&self) -> u8 {
        (self.low >> 40 & 0xf) as u8
    }

    fn ist(&self) -> u64 {
        self.low >> 32 & 7
    }

    fn selector(&self) -> u16 {
        (self.low >> 16) as u16
    }

    fn offset(&self) -> u64 {
        (self.low & 0xffff) | (self.low >> 32 & 0xffff_0000) | self.high << 32
    }
}

#[cfg(test)]
mod tests;
