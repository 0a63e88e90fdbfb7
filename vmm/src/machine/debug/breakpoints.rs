// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Breakpoints: an instruction in the guest's memory, or an address in one of the four debug registers
//! (Documentation/virt/kvm/api.rst §4.87, `KVM_SET_GUEST_DEBUG`).
//!
//! The instruction is INT3. On a KVM host that QEMU emulates KVM never sees it: there INT3 is intercepted as a software interrupt
//! only (QEMU 7.2, `target/i386/tcg/excp_helper.c:raise_interrupt2`), and VMRUN enables no debug registers
//! (`target/i386/tcg/sysemu/svm_helper.c:helper_vmrun`). The kernel's code gets an OUT then, which every KVM intercepts.

use std::collections::BTreeMap;

use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP,
    KVM_GUESTDBG_USE_SW_BP, kvm_guest_debug, kvm_guest_debug_arch, kvm_regs,
};
use types::{AccessKind, VcpuId};

use super::{DebugAddress, DebugStop};
use crate::layout::BREAKPOINT_PORT;
use crate::machine::vcpu::VmEntry;
use crate::machine::{Machine, RunError, Stop};
use crate::x86::cpuid::host_is_tcg;

/// INT3.
const INT3: [u8; 1] = [0xcc];
/// `out %eax, $BREAKPOINT_PORT`.
const OUT: [u8; 2] = [0xe7, BREAKPOINT_PORT as u8];
const _: () = assert!(BREAKPOINT_PORT <= u8::MAX as u16, "OUT has room for one byte");
/// Debug registers with an address.
const REGISTERS: usize = 4;
/// DR7.GE and bit 10, which reads as 1 (Intel SDM volume 3 §17.2.4).
const DR7_FIXED: u64 = 0x600;

/// What stops the guest on this host.
fn instruction() -> &'static [u8] {
    if host_is_tcg() { &OUT } else { &INT3 }
}

/// What a debug register watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// The first byte.
    pub address: u64,
    /// 1, 2, 4 or 8 bytes, aligned.
    pub len: u8,
    /// Which accesses; `None`: execution. A read is watched with writes: the processor has no other way.
    pub kind: Option<AccessKind>,
}

impl Watched {
    /// Its bits of DR7, for register 0: length above, kind below.
    fn condition(self) -> Option<u64> {
        let len = match self.len {
            1 => 0,
            2 => 1,
            4 => 3,
            8 => 2,
            _ => return None,
        };
        if !self.address.is_multiple_of(u64::from(self.len)) {
            return None;
        }
        let kind = match self.kind {
            None | Some(AccessKind::Fetch) if self.len == 1 => 0,
            Some(AccessKind::Write) => 1,
            Some(AccessKind::Read) => 3,
            _ => return None,
        };
        Some(len << 2 | kind)
    }
}

/// Why there is no such breakpoint.
#[derive(Debug, thiserror::Error)]
pub enum BreakpointError {
    /// The guest has no debugger.
    #[error("the guest is not being debugged")]
    NotDebugged,
    /// Nothing is mapped there.
    #[error("writing a breakpoint at {0:#x}: the guest has no memory mapped there, or may not write it")]
    NotMapped(u64),
    /// Its bytes are those of another one.
    #[error("a breakpoint at {0:#x} would overlap another one; on this host each takes two bytes")]
    Overlaps(u64),
    /// A program's code.
    #[error(
        "a breakpoint at {0:#x}, in a program's code: the KVM host inside QEMU has breakpoints for the kernel only; step, or use a \
         machine with a working KVM"
    )]
    Program(u64),
    /// This host has no debug registers.
    #[error(
        "the KVM host inside QEMU has no debug registers for guests; use ordinary breakpoints, or a machine with a working KVM"
    )]
    NoRegisters,
    /// No register is free.
    #[error("the processor has {REGISTERS} debug registers, and all are in use; remove a breakpoint")]
    NoRegister,
    /// A register cannot watch this.
    #[error("a debug register watches 1, 2, 4 or 8 aligned bytes, not {len} at {address:#x}")]
    Shape {
        /// Address.
        address: u64,
        /// Bytes.
        len: u8,
    },
    /// KVM refused.
    #[error("KVM_SET_GUEST_DEBUG: KVM answered {0}")]
    Kvm(#[from] kvm_ioctls::Error),
}

/// An instruction in memory: where each byte of it is, what it is, and what was there.
#[derive(Debug, Clone)]
struct Planted {
    bytes: Vec<(DebugAddress, u8, u8)>,
}

/// All breakpoints of a guest.
#[derive(Debug, Default)]
pub(super) struct Breakpoints {
    planted: BTreeMap<u64, Planted>,
    registers: [Option<Watched>; REGISTERS],
}

impl Breakpoints {
    /// There is an INT3 of the debugger's at this address.
    pub(super) fn is_at(&self, address: u64) -> bool {
        self.planted.contains_key(&address)
    }

    pub(super) fn in_register(&self, index: usize) -> Option<Watched> {
        self.registers.get(index).copied().flatten()
    }

    /// Gives the bytes that the guest's own memory has, where breakpoints are in it.
    pub(super) fn hide(&self, address: u64, bytes: &mut [u8]) {
        let end = address.saturating_add(bytes.len() as u64);
        for (at, planted) in self.planted.range(address.saturating_sub(OUT.len() as u64)..end) {
            for (at, (.., original)) in (*at..).zip(&planted.bytes) {
                let byte = at.checked_sub(address).and_then(|offset| bytes.get_mut(offset as usize));
                if let Some(byte) = byte {
                    *byte = *original;
                }
            }
        }
    }

    /// Bytes of a breakpoint of this length at this address are another one's.
    fn overlap(&self, address: u64, len: usize) -> bool {
        let first = address.saturating_sub(OUT.len() as u64);
        let mut near = self.planted.range(first..address.saturating_add(len as u64));
        near.any(|(at, planted)| at.saturating_add(planted.bytes.len() as u64) > address)
    }
}

impl Machine {
    /// Stops the guest at the instruction at `address`: writes another one there. The guest's own reads of its code see that, and
    /// code that is patched later loses it.
    pub fn add_breakpoint(&mut self, address: u64) -> Result<(), BreakpointError> {
        let breakpoints = &self.debugging()?.breakpoints;
        if breakpoints.is_at(address) {
            return Ok(());
        }
        let instruction = instruction();
        if breakpoints.overlap(address, instruction.len()) {
            return Err(BreakpointError::Overlaps(address));
        }
        let mut bytes = Vec::new();
        for (at, new) in (address..).zip(instruction) {
            let mut original = [0];
            let place = self.debug_address(at).filter(|place| self.read_at(*place, &mut original));
            let place = place.ok_or(BreakpointError::NotMapped(address))?;
            if place.user && host_is_tcg() {
                return Err(BreakpointError::Program(address));
            }
            bytes.push((place, *new, original[0]));
        }
        let set = bytes.iter().all(|(place, new, _)| self.write_at(*place, &[*new]));
        let planted = Planted { bytes };
        if !set {
            self.take_out(&planted);
            return Err(BreakpointError::NotMapped(address));
        }
        self.debugging_mut()?.breakpoints.planted.insert(address, planted);
        self.apply_debugging(VcpuId::BOOT)
    }

    /// Stops the guest at an instruction that is still where it will be copied from: `bytes` are those of the instruction now, `rip` its
    /// address when it is executed.
    pub fn add_breakpoint_before_copy(
        &mut self,
        rip: u64,
        bytes: impl Iterator<Item = DebugAddress>,
    ) -> Result<(), BreakpointError> {
        let instruction = instruction();
        let mut planted = Vec::new();
        for (place, new) in bytes.zip(instruction) {
            let mut original = [0];
            if !self.read_at(place, &mut original) || !self.write_at(place, &[*new]) {
                return Err(BreakpointError::NotMapped(rip));
            }
            planted.push((place, *new, original[0]));
        }
        self.debugging_mut()?.breakpoints.planted.insert(rip, Planted { bytes: planted });
        self.apply_debugging(VcpuId::BOOT)
    }

    /// Removes it; returns whether there was one. Memory that the guest has written meanwhile is left as it is.
    pub fn remove_breakpoint(&mut self, address: u64) -> Result<bool, BreakpointError> {
        let Some(planted) = self.debugging_mut()?.breakpoints.planted.remove(&address) else {
            return Ok(false);
        };
        self.take_out(&planted);
        self.apply_debugging(VcpuId::BOOT)?;
        Ok(true)
    }

    fn take_out(&self, planted: &Planted) {
        for (place, new, original) in &planted.bytes {
            let mut now = [0];
            if self.read_at(*place, &mut now) && now == [*new] {
                self.write_at(*place, &[*original]);
            }
        }
    }

    /// The guest wrote to [`BREAKPOINT_PORT`]: whether it did so at a breakpoint.
    pub(in crate::machine) fn is_breakpoint(&self, id: VcpuId, port: u16) -> bool {
        let Some(debugging) = self.debugging.as_ref().filter(|_| port == BREAKPOINT_PORT) else {
            return false;
        };
        self.vcpu(id).regs().is_ok_and(|regs| debugging.breakpoints.is_at(regs.rip))
    }

    /// Has KVM complete the OUT of a breakpoint, and leaves RIP where the original instruction is.
    pub(in crate::machine) fn stop_at_breakpoint(
        &mut self,
        id: VcpuId,
        entry: VmEntry,
    ) -> Result<(VmEntry, Stop), RunError> {
        let failed = |source| RunError::Kvm { attempt: "stopping at a breakpoint", rip: 0, source };
        let rip = self.vcpu(id).regs().map_err(failed)?.rip;
        let entry = self.vcpus[id.index()].complete(entry).map_err(failed)?;
        let regs = kvm_regs { rip, ..self.vcpu(id).regs().map_err(failed)? };
        self.vcpu(id).set_regs(&regs).map_err(failed)?;
        Ok((entry, Stop::Debug(DebugStop::Breakpoint)))
    }

    /// Uses a debug register.
    pub fn watch_memory(&mut self, watched: Watched) -> Result<(), BreakpointError> {
        if watched.condition().is_none() {
            return Err(BreakpointError::Shape { address: watched.address, len: watched.len });
        }
        if host_is_tcg() {
            return Err(BreakpointError::NoRegisters);
        }
        let registers = &mut self.debugging_mut()?.breakpoints.registers;
        let free = registers.iter_mut().find(|register| register.is_none());
        *free.ok_or(BreakpointError::NoRegister)? = Some(watched);
        self.apply_debugging(VcpuId::BOOT)
    }

    /// Frees the register again; returns whether there was one.
    pub fn unwatch_memory(&mut self, watched: Watched) -> Result<bool, BreakpointError> {
        let registers = &mut self.debugging_mut()?.breakpoints.registers;
        let Some(used) = registers.iter_mut().find(|register| **register == Some(watched)) else {
            return Ok(false);
        };
        *used = None;
        self.apply_debugging(VcpuId::BOOT)?;
        Ok(true)
    }

    /// Removes every breakpoint and frees every register.
    pub fn remove_all_breakpoints(&mut self) -> Result<(), BreakpointError> {
        let addresses: Vec<u64> = self.debugging()?.breakpoints.planted.keys().copied().collect();
        for address in addresses {
            self.remove_breakpoint(address)?;
        }
        self.debugging_mut()?.breakpoints.registers = [None; REGISTERS];
        self.apply_debugging(VcpuId::BOOT)
    }

    /// Gives KVM what the debugger wants of this vCPU.
    pub(super) fn apply_debugging(&self, id: VcpuId) -> Result<(), BreakpointError> {
        let debugging = self.debugging()?;
        let Breakpoints { planted, registers } = &debugging.breakpoints;
        let mut arch = kvm_guest_debug_arch::default();
        for (index, watched) in registers.iter().enumerate() {
            if let Some((watched, condition)) = watched.and_then(|w| w.condition().map(|c| (w, c))) {
                arch.debugreg[index] = watched.address;
                // A global breakpoint: G0 to G3 are the odd bits.
                arch.debugreg[7] |= DR7_FIXED | 2 << (2 * index) | condition << (16 + 4 * index);
            }
        }
        let flags = [
            (!planted.is_empty(), KVM_GUESTDBG_USE_SW_BP),
            (arch.debugreg[7] != 0, KVM_GUESTDBG_USE_HW_BP),
            // Without interrupts: a step would mostly lead into the timer's handler.
            (debugging.stepping, KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ),
        ];
        let wanted = flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag);
        let mut request = kvm_guest_debug { arch, ..Default::default() };
        request.control = if wanted == 0 { 0 } else { KVM_GUESTDBG_ENABLE | wanted };
        let vcpu = self.vcpu(id);
        vcpu.set_guest_debug(&request).or_else(|error| {
            // Before Linux 5.16 KVM has no KVM_GUESTDBG_BLOCKIRQ.
            if request.control & KVM_GUESTDBG_BLOCKIRQ == 0 {
                return Err(error.into());
            }
            request.control &= !KVM_GUESTDBG_BLOCKIRQ;
            Ok(vcpu.set_guest_debug(&request)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_register_watches_aligned_bytes_only() {
        let condition = |address, len, kind| Watched { address, len, kind }.condition();
        assert_eq!(condition(0x1001, 1, None), Some(0));
        assert_eq!(condition(0x1000, 4, Some(AccessKind::Write)), Some(0b1101));
        assert_eq!(condition(0x1008, 8, Some(AccessKind::Read)), Some(0b1011));
        assert_eq!(condition(0x1002, 2, Some(AccessKind::Write)), Some(0b0101));
        for (address, len, kind) in [
            (0x1001, 2, Some(AccessKind::Write)),
            (0x1004, 8, Some(AccessKind::Read)),
            (0x1000, 3, Some(AccessKind::Read)),
            (0x1000, 4, None),
        ] {
            assert_eq!(condition(address, len, kind), None, "{address:#x} {len}");
        }
    }

    /// Breakpoints of two bytes; the guest's own bytes are those of the addresses.
    fn planted(addresses: &[u64]) -> Breakpoints {
        let place = DebugAddress { view: types::View::Private, gpa: 0, user: false };
        let mut breakpoints = Breakpoints::default();
        for at in addresses {
            let bytes = OUT.iter().zip(*at..).map(|(new, at)| (place, *new, at as u8)).collect();
            breakpoints.planted.insert(*at, Planted { bytes });
        }
        breakpoints
    }

    #[test]
    fn breakpoints_are_not_in_what_is_read() {
        let breakpoints = planted(&[6, 9, 11, 15, 20]);
        let mut bytes = [0; 6];
        breakpoints.hide(10, &mut bytes);
        assert_eq!(bytes, [10, 11, 12, 0, 0, 15]);
    }

    #[test]
    fn breakpoints_share_no_byte() {
        let breakpoints = planted(&[10]);
        let overlaps = |at, len| breakpoints.overlap(at, len);
        assert_eq!([8, 9, 10, 11, 12].map(|at| overlaps(at, 2)), [false, true, true, true, false]);
        assert_eq!([9, 10, 11, 12].map(|at| overlaps(at, 1)), [false, true, true, false]);
    }
}
