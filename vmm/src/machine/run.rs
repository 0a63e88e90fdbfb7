// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run loop: exits in, answers out, until there is something to tell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::calls::Called;
use super::{Machine, RunError, Stop};
use crate::device::Request;
use crate::layout::PAGE_SIZE;
use crate::memory::{AccessKind, Mismatch, View};
use crate::vcpu::exit::Exit;
use crate::vcpu::heartbeat::Heartbeat;

/// RFLAGS.IF.
const INTERRUPT_FLAG: u64 = 1 << 9;
/// HLT.
const HLT: u8 = 0xf4;
/// Heartbeats in a row at HLT with interrupts off before the guest counts as halted.
const HALT_BEATS: u32 = 3;

impl Machine {
    /// Runs the guest until it has something to tell, `deadline` passes or `interrupt` is set. Whatever a guest does
    /// ends in a [`Stop`]; an error is the host's.
    pub fn run(&mut self, deadline: Instant, interrupt: &AtomicBool) -> Result<Stop, RunError> {
        let _heartbeat = Heartbeat::start().map_err(RunError::Timer)?;
        let stop = loop {
            if let Some(stop) = self.step()? {
                break stop;
            }
            if !self.devices.agent.sink().is_empty() {
                break Stop::Agent;
            }
            if interrupt.load(Ordering::Relaxed) {
                break Stop::Interrupted;
            }
            if Instant::now() >= deadline {
                break Stop::Deadline;
            }
        };
        // An access that was interrupted and not tried again belongs to what ran until now, and so does one that KVM
        // made without a stop.
        let stop =
            if self.memory.pending().is_some() { self.on_mismatch(false)?.unwrap_or(stop) } else { stop };
        self.record_passed()?;
        Ok(stop)
    }

    /// KVM itself accesses the page for an instruction it emulates: it takes an inaccessible page for a device.
    fn is_emulated(&self, exit: &Exit, mismatch: &Mismatch) -> bool {
        let (Exit::MmioRead { gpa, .. } | Exit::MmioWrite { gpa, .. }) = exit else { return false };
        let (view, gpa) = self.platform.split(*gpa);
        (view, gpa & !(PAGE_SIZE - 1)) == (mismatch.view, mismatch.gpa)
    }

    fn step(&mut self) -> Result<Option<Stop>, RunError> {
        let exit = self.enter_guest()?;
        self.stats.exits += 1;
        if let Some(stop) = self.drain_coalesced() {
            return Ok(Some(stop));
        }
        if let Some(failure) = self.memory.take_failure() {
            return Err(failure.into());
        }
        if let Some(mismatch) = self.memory.pending() {
            if exit == Exit::MemoryFault || self.is_emulated(&exit, &mismatch) {
                let stop = self.on_mismatch(exit == Exit::MemoryFault)?;
                if exit == Exit::MemoryFault || stop.is_some() {
                    // The other page of an instruction that touches two may have been accessed without a stop.
                    self.record_passed()?;
                    return Ok(stop);
                }
            } else {
                // An interrupt or a signal came before the access was tried again. The guest comes back to it, and then
                // RIP is at the very instruction.
                self.memory.postpone();
                self.memory.end_loans()?;
            }
        } else {
            self.memory.end_loans()?;
        }
        self.record_passed()?;
        let handled = self.handle(exit);
        self.note_changes(None);
        handled
    }

    fn enter_guest(&mut self) -> Result<Exit, RunError> {
        match self.vcpu.run() {
            Ok(_) => Ok(self.run_page.decode()),
            Err(e) if e.errno() == libc::EINTR || e.errno() == libc::EAGAIN => Ok(Exit::Interrupted),
            // A page held back has no access rights in this process; KVM says only that it cannot reach it.
            Err(e) if e.errno() == libc::EFAULT && self.memory.pending().is_some() => Ok(Exit::MemoryFault),
            Err(source) => {
                if let Some(failure) = self.memory.take_failure() {
                    return Err(failure.into());
                }
                let rip = self.vcpu.get_regs().map_or(0, |regs| regs.rip);
                Err(RunError::Kvm { attempt: "running the guest", rip, source })
            }
        }
    }

    fn handle(&mut self, exit: Exit) -> Result<Option<Stop>, RunError> {
        if exit != Exit::Interrupted {
            self.idle_halts = 0;
        }
        match exit {
            Exit::PortWrite { port, size, data } => {
                if size == size_of::<u32>()
                    && let Called::Answered(stop) = self.on_call(port)?
                {
                    return Ok(stop);
                }
                self.stats.port_io += 1;
                let mut asked = None;
                for item in data.chunks(size.max(1)) {
                    asked = asked.or(self.devices.port_write(port, item));
                }
                return Ok(asked.map(stop));
            }
            Exit::PortRead { port, size, count } => {
                self.stats.port_io += 1;
                let mut data = vec![0; size * count];
                for item in data.chunks_mut(size.max(1)) {
                    self.devices.port_read(port, item);
                }
                self.run_page.complete_port_read(&data)?;
            }
            Exit::MmioRead { gpa, len } => {
                self.stats.mmio += 1;
                let mut data = vec![0; len];
                let (view, plain) = self.platform.split(gpa);
                // Where KVM emulates an instruction, it takes a page that was held back for a device.
                if self.memory.read(view, plain, &mut data).is_err() {
                    if let Some(stop) = self.device_access(view, plain, AccessKind::Read)? {
                        return Ok(Some(stop));
                    }
                    self.devices.mmio_read(plain, &mut data);
                }
                self.run_page.complete_mmio_read(&data)?;
            }
            Exit::MmioWrite { gpa, data } => {
                self.stats.mmio += 1;
                let (view, plain) = self.platform.split(gpa);
                if self.memory.store(view, plain, &data).is_err() {
                    if let Some(stop) = self.device_access(view, plain, AccessKind::Write)? {
                        return Ok(Some(stop));
                    }
                    self.devices.mmio_write(plain, &data);
                }
            }
            Exit::ReadMsr(index) => {
                self.stats.msr += 1;
                let value = self.platform.read_msr(index);
                self.run_page.complete_msr(value)?;
            }
            Exit::WriteMsr(index, value) => {
                self.stats.msr += 1;
                let taken = self.platform.write_msr(index, value, &self.memory);
                self.run_page.complete_msr(taken.map(|()| value))?;
            }
            Exit::Hypercall { number, arguments } => {
                self.stats.hypercalls += 1;
                let rax = self.platform.hypercall(number, &arguments, &self.memory);
                self.run_page.complete_hypercall(rax)?;
                self.withdraw_settled();
            }
            Exit::Interrupted => {
                self.stats.interruptions += 1;
                let Ok(regs) = self.vcpu.get_regs() else { return Ok(None) };
                if regs.rflags & INTERRUPT_FLAG != 0 {
                    (self.idle_halts, self.interrupts_off_beats) = (0, 0);
                    return Ok(None);
                }
                self.interrupts_off_beats = self.interrupts_off_beats.saturating_add(1);
                if self.is_at_halt(regs.rip) {
                    self.idle_halts += 1;
                    return Ok((self.idle_halts >= HALT_BEATS).then_some(Stop::Halted));
                }
                self.idle_halts = 0;
            }
            Exit::Halt => return Ok(Some(Stop::Halted)),
            Exit::Shutdown => return Ok(Some(Stop::TripleFault)),
            Exit::Debug => {}
            Exit::MemoryFault => {
                return Ok(Some(Stop::Failed("KVM could not reach guest memory nobody holds back".into())));
            }
            Exit::Failed(why) => return Ok(Some(Stop::Failed(why))),
        }
        Ok(None)
    }

    /// Port writes KVM gathered since the last exit come before the exit itself.
    fn drain_coalesced(&mut self) -> Option<Stop> {
        let mut asked = None;
        while let Ok(Some(entry)) = self.vcpu.coalesced_mmio_read() {
            self.stats.coalesced += 1;
            let len = (entry.len as usize).min(entry.data.len());
            asked = asked.or(self.devices.port_write(entry.phys_addr as u16, &entry.data[..len]));
        }
        asked.map(stop)
    }

    /// `arch/x86/kernel/process.c:stop_this_cpu` ends every power-off and halt in HLT with interrupts off.
    fn is_at_halt(&self, rip: u64) -> bool {
        let at = |address: u64| {
            let translated = self.vcpu.translate_gva(address).ok().filter(|t| t.valid != 0)?;
            let (_, gpa) = self.platform.split(translated.physical_address);
            let mut byte = [0];
            self.memory.read(View::Private, gpa, &mut byte).ok()?;
            Some(byte[0])
        };
        at(rip) == Some(HLT) || at(rip.wrapping_sub(1)) == Some(HLT)
    }
}

/// What a device asks for, as a reason to stop.
pub(super) fn stop(request: Request) -> Stop {
    match request {
        Request::Reset { port } => Stop::Reset { port },
        Request::DebugExit(code) => Stop::DebugExit(code),
    }
}
