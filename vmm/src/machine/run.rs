// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run loop: handles exits until there is a reason to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use types::{AccessKind, VcpuId, View};

use super::calls::TrappedInstruction;
use super::setup::COALESCED_WRITES;
use super::timeline::Moment;
use super::vcpu::exit::MmioReadExit;
use super::vcpu::heartbeat::Heartbeat;
use super::vcpu::{VmEntry, VmExit};
use super::{Machine, RunError, Stop};
use crate::device::Request;
use crate::layout::PAGE_SIZE;
use crate::memory::Mismatch;

/// RFLAGS.IF.
const INTERRUPT_FLAG: u64 = 1 << 9;
/// HLT.
const HLT: u8 = 0xf4;
/// Heartbeats in a row at HLT with interrupts off before the guest counts as halted.
const HALT_BEATS: u32 = 3;

impl Machine {
    /// Runs the guest until it has something to report, `deadline` passes or `interrupt` is set. Whatever a guest does
    /// ends in a [`Stop`]; an error is the host's.
    pub fn run(&mut self, deadline: Instant, interrupt: &AtomicBool) -> Result<Stop, RunError> {
        let _heartbeat = Heartbeat::start().map_err(RunError::Timer)?;
        let id = VcpuId::BOOT;
        let stop = loop {
            if let Some(stop) = self.step(id)? {
                break stop;
            }
            if let Some(stop) = self.debug_stop() {
                break stop;
            }
            if self.devices.agent.is_notified() || !self.devices.agent.sink().is_empty() {
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
            if self.memory.pending().is_some() { self.on_mismatch(id, false)?.unwrap_or(stop) } else { stop };
        self.record_passed(id)?;
        self.mark_stop(id, &stop);
        Ok(stop)
    }

    /// KVM itself accesses the page for an instruction it emulates: it takes an inaccessible page for a device.
    fn is_emulated(&self, exit: &VmExit, mismatch: &Mismatch) -> bool {
        let (VmExit::MmioRead(MmioReadExit { gpa, .. }) | VmExit::MmioWrite { gpa, .. }) = exit else {
            return false;
        };
        let (view, gpa) = self.platform.split(*gpa);
        (view, gpa & !(PAGE_SIZE - 1)) == (mismatch.view, mismatch.gpa)
    }

    /// One entry into the guest and the exit from it, recorded.
    fn step(&mut self, id: VcpuId) -> Result<Option<Stop>, RunError> {
        let stop = self.one_exit(id);
        self.mark_handled(id);
        stop
    }

    /// The same. The entry after it is kept unless the host failed.
    fn one_exit(&mut self, id: VcpuId) -> Result<Option<Stop>, RunError> {
        let exit = self.enter_guest(id)?;
        self.records.stats.exits += 1;
        if let Some(stop) = self.drain_coalesced(id) {
            // The port write that stops the machine came before this exit; nothing runs after it.
            return Ok(Some(stop));
        }
        if let Some(failure) = self.memory.take_failure() {
            return Err(failure.into());
        }
        if let Some(mismatch) = self.memory.pending() {
            let at_instruction = matches!(exit, VmExit::MemoryFault(_));
            if at_instruction || self.is_emulated(&exit, &mismatch) {
                let stop = self.on_mismatch(id, at_instruction)?;
                match exit {
                    VmExit::MemoryFault(resume) => {
                        self.entries[id.index()] = Some(resume.entry());
                        // The other page of an instruction that accesses two may have been accessed without a stop.
                        self.record_passed(id)?;
                        return Ok(stop);
                    }
                    _ if stop.is_some() => {
                        self.record_passed(id)?;
                        return Ok(stop);
                    }
                    _ => {}
                }
            } else {
                // EINTR or an interrupt before the access completed. The guest makes it again, and then
                // RIP is at the very instruction.
                self.memory.postpone();
                self.revoke_mappings_at(&exit)?;
            }
        } else {
            self.revoke_mappings_at(&exit)?;
        }
        self.record_passed(id)?;
        let handled = self.handle(id, exit);
        if self.memory.has_changes() {
            let state = self.vcpu_state(id)?;
            let at = self.instruction(&state, true);
            self.record_changes(Some(&at));
        }
        let (entry, stop) = handled?;
        self.entries[id.index()] = entry;
        Ok(stop)
    }

    /// Ends the temporary mappings at an exit that the guest's instructions alone cause. Where a signal comes, or the ring
    /// of coalesced writes is full, depends on time; what is recorded of an access must not.
    fn revoke_mappings_at(&mut self, exit: &VmExit) -> Result<(), RunError> {
        let depends_on_time = match exit {
            VmExit::Interrupted(_) => true,
            VmExit::PortWrite { port, size, .. } => COALESCED_WRITES.contains(&(*port, *size as u32)),
            _ => false,
        };
        if !depends_on_time {
            self.memory.revoke_temporary_mappings()?;
        }
        Ok(())
    }

    fn enter_guest(&mut self, id: VcpuId) -> Result<VmExit, RunError> {
        let entry = self.entries[id.index()].take().ok_or(RunError::Unanswered(id.0))?;
        self.mark(id, Moment::Entered);
        let left = self.vcpus[id.index()].run(entry);
        self.mark_exit(id, left.as_ref().ok());
        match left {
            // A page that a forbidden access waits at has no access rights in this process; KVM reports only that it
            // could not access it. Without such a page it is a failure.
            Ok(VmExit::MemoryFault(_)) if self.memory.pending().is_none() => {
                Err(self.run_failure(id, kvm_ioctls::Error::new(libc::EFAULT)))
            }
            Ok(exit) => Ok(exit),
            Err(source) => Err(self.run_failure(id, source)),
        }
    }

    fn run_failure(&self, id: VcpuId, source: kvm_ioctls::Error) -> RunError {
        self.memory.take_failure().map_or_else(
            || {
                let rip = self.vcpu(id).regs().map_or(0, |regs| regs.rip);
                RunError::Kvm { attempt: "running the guest", rip, source }
            },
            RunError::from,
        )
    }

    /// Handles an exit. Returns the next entry (none where the guest cannot go on) and the reason to stop.
    fn handle(&mut self, id: VcpuId, exit: VmExit) -> Result<(Option<VmEntry>, Option<Stop>), RunError> {
        if !matches!(exit, VmExit::Interrupted(_)) {
            self.idle_halts = 0;
        }
        let mut stop = None;
        let entry = match exit {
            VmExit::PortWrite { port, resume, .. } if self.is_breakpoint(id, port) => {
                let (entry, at) = self.stop_at_breakpoint(id, resume.entry())?;
                return Ok((Some(entry), Some(at)));
            }
            VmExit::PortWrite { port, size, data, resume } => {
                stop = self.port_write(id, port, size, &data)?;
                resume.entry()
            }
            VmExit::PortRead(read) => {
                self.records.stats.port_io += 1;
                let (port, size) = (read.port, read.size.max(1));
                let devices = &mut self.devices;
                read.answer(|data| data.chunks_mut(size).for_each(|item| devices.port_read(port, item)))
            }
            VmExit::MmioRead(read) => {
                self.records.stats.mmio += 1;
                let (view, plain) = self.platform.split(read.gpa);
                let mut data = vec![0; read.size()];
                // Where KVM emulates an instruction, it takes an inaccessible page for a device.
                if self.memory.read(view, plain, &mut data).is_err() {
                    stop = self.device_access(id, view, plain, AccessKind::Read)?;
                    if stop.is_none() {
                        self.devices.load(plain, &mut data);
                    }
                }
                read.answer(|bytes| bytes.copy_from_slice(&data))
            }
            VmExit::MmioWrite { gpa, data, resume } => {
                self.records.stats.mmio += 1;
                let (view, plain) = self.platform.split(gpa);
                if self.memory.store(view, plain, &data).is_err() {
                    stop = self.device_access(id, view, plain, AccessKind::Write)?;
                    if stop.is_none() {
                        let submitted = self.devices.store(plain, &data);
                        submitted.map_or(Ok(()), |what| self.on_submission(id, what))?;
                    }
                }
                resume.entry()
            }
            VmExit::Msr(msr) => {
                self.records.stats.msr += 1;
                let value = match msr.written {
                    None => self.platform.read_msr(id, msr.index),
                    Some(value) => {
                        self.platform.write_msr(id, msr.index, value, &self.memory).map(|()| value)
                    }
                };
                msr.answer(value)
            }
            VmExit::Hypercall(call) => {
                self.records.stats.hypercalls += 1;
                let rax = self.answer_hypercall(id, call.number, &call.arguments)?;
                self.withdraw_confirmed_conversions();
                call.answer(rax)
            }
            VmExit::Interrupted(resume) => {
                self.serve_input(id)?;
                stop = self.heartbeat(id);
                resume.entry()
            }
            VmExit::Halt(resume) => {
                stop = Some(Stop::Halted);
                resume.entry()
            }
            VmExit::Shutdown(resume) => {
                stop = Some(Stop::TripleFault);
                resume.entry()
            }
            // `enter_guest` lets no memory fault through that `step` does not handle.
            VmExit::MemoryFault(resume) => resume.entry(),
            VmExit::Debug { exception, address, dr6, resume } => {
                stop = self.on_debug_exit(id, exception, address, dr6)?;
                resume.entry()
            }
            VmExit::Failed { why, .. } => return Ok((None, Some(Stop::Failed(why)))),
        };
        Ok((Some(entry), stop))
    }

    fn port_write(
        &mut self,
        id: VcpuId,
        port: u16,
        size: usize,
        data: &[u8],
    ) -> Result<Option<Stop>, RunError> {
        if size == size_of::<u32>()
            && let TrappedInstruction::Answered(stop) = self.handle_trapped_instruction(id, port)?
        {
            return Ok(stop.or_else(|| self.stepped_over()));
        }
        self.records.stats.port_io += 1;
        let mut requested = None;
        for item in data.chunks(size.max(1)) {
            requested = requested.or(self.devices.port_write(port, item));
        }
        Ok(requested.map(stop))
    }

    /// A signal ended `KVM_RUN`: how long interrupts have been off, and whether the guest has halted for good.
    fn heartbeat(&mut self, id: VcpuId) -> Option<Stop> {
        self.records.stats.interruptions += 1;
        let regs = self.vcpu(id).regs().ok()?;
        if regs.rflags & INTERRUPT_FLAG != 0 {
            (self.idle_halts, self.interrupts_off_beats) = (0, 0);
            return None;
        }
        self.interrupts_off_beats = self.interrupts_off_beats.saturating_add(1);
        if self.is_at_halt(id, regs.rip) {
            self.idle_halts += 1;
            return (self.idle_halts >= HALT_BEATS).then_some(Stop::Halted);
        }
        self.idle_halts = 0;
        None
    }

    /// Port writes that KVM coalesced since the last exit come before the exit itself.
    fn drain_coalesced(&mut self, id: VcpuId) -> Option<Stop> {
        let mut requested = None;
        while let Some(entry) = self.vcpus[id.index()].next_coalesced() {
            self.records.stats.coalesced += 1;
            let len = (entry.len as usize).min(entry.data.len());
            requested = requested.or(self.devices.port_write(entry.phys_addr as u16, &entry.data[..len]));
        }
        requested.map(stop)
    }

    /// `arch/x86/kernel/process.c:stop_this_cpu` ends every power-off and halt in HLT with interrupts off.
    fn is_at_halt(&self, id: VcpuId, rip: u64) -> bool {
        let at = |address: u64| {
            let (_, gpa) = self.platform.split(self.vcpu(id).translate(address)?);
            let mut byte = [0];
            self.memory.read(View::Private, gpa, &mut byte).ok()?;
            Some(byte[0])
        };
        at(rip) == Some(HLT) || at(rip.wrapping_sub(1)) == Some(HLT)
    }
}

/// A device's request, as a reason to stop.
pub(super) fn stop(request: Request) -> Stop {
    match request {
        Request::Reset { port } => Stop::Reset { port },
        Request::PowerOff => Stop::PowerOff,
        Request::DebugExit(code) => Stop::DebugExit(code),
    }
}
