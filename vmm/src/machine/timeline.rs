// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a machine does, as it happens, for a recorder of the caller's. Without one each exit costs two comparisons.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use kvm_bindings::kvm_regs;
use types::VcpuId;

use super::vcpu::statistics::InterruptCounter;
use super::{Machine, Stats, Stop, VmExit};
use crate::memory::MemoryCounters;
use crate::trace::RecordedAccess;
use crate::trace::event_log::EventCursor;

/// A recorder.
pub trait Timeline: fmt::Debug + Send + Sync {
    /// This happened. Calls come in the order of `at`, from the thread that runs the guest.
    fn record(&self, at: Instant, vcpu: VcpuId, moment: Moment<'_>);
}

/// What happened.
#[derive(Debug)]
pub enum Moment<'a> {
    /// The vCPU enters the guest.
    Entered,
    /// It left the guest.
    Left(&'a VmExit),
    /// `KVM_RUN` failed.
    Failed,
    /// The exit, or the failure, is handled.
    Handled,
    /// A call to the module, firmware or hypervisor begins.
    Call {
        /// The instruction, or the hypercall page.
        name: &'static str,
        /// Registers at the call.
        registers: &'a kvm_regs,
    },
    /// It is answered.
    CallEnded,
    /// A forbidden access was recorded.
    Access {
        /// Which.
        access: &'a RecordedAccess,
        /// The kernel function it was made in, where it is known.
        place: Option<String>,
    },
    /// What enforcement did since the last such moment: conversions, moves, faults.
    Memory(MemoryCounters),
    /// KVM has injected so many interrupts since the last such moment.
    Interrupts(u64),
    /// The VMM delivers an exception.
    Exception(u8),
    /// The run ended.
    Stopped {
        /// Why.
        stop: &'a Stop,
        /// The machine's counters since it was made.
        stats: &'a Stats,
    },
}

/// A machine's recorder, and what it has.
#[derive(Debug)]
pub(crate) struct Recording {
    timeline: Arc<dyn Timeline>,
    /// An exit is not handled yet.
    open: bool,
    events: EventCursor,
    memory: MemoryCounters,
    interrupts: Option<InterruptCounter>,
    injected: u64,
}

impl Machine {
    /// Begins to record, if the machine's configuration has a recorder.
    pub(crate) fn start_recording(&mut self) {
        let Some(timeline) = self.config.timeline.clone() else { return };
        let interrupts = self.vcpu(VcpuId::BOOT).interrupt_counter();
        self.recording = Some(Box::new(Recording {
            timeline,
            open: false,
            events: self.records.events.cursor(),
            memory: self.memory.counters(),
            injected: interrupts.as_ref().and_then(InterruptCounter::read).unwrap_or(0),
            interrupts,
        }));
    }

    pub(super) fn mark(&self, id: VcpuId, moment: Moment<'_>) {
        if let Some(recording) = &self.recording {
            recording.timeline.record(Instant::now(), id, moment);
        }
    }

    /// The vCPU has left the guest.
    pub(super) fn mark_exit(&mut self, id: VcpuId, exit: Option<&VmExit>) {
        if let Some(recording) = &mut self.recording {
            recording.open = true;
            let interrupts = recording.interrupts.as_ref().and_then(InterruptCounter::read);
            recording.timeline.record(Instant::now(), id, exit.map_or(Moment::Failed, Moment::Left));
            if let Some(injected) = interrupts
                && injected > recording.injected
            {
                let count = injected - std::mem::replace(&mut recording.injected, injected);
                recording.timeline.record(Instant::now(), id, Moment::Interrupts(count));
            }
        }
    }

    /// The exit is handled: what came of it.
    pub(super) fn mark_handled(&mut self, id: VcpuId) {
        if !self.recording.as_ref().is_some_and(|recording| recording.open) {
            return;
        }
        self.mark_changes(id);
        if let Some(recording) = &mut self.recording {
            recording.open = false;
        }
        self.mark(id, Moment::Handled);
    }

    /// Accesses and what memory did since the last time.
    fn mark_changes(&mut self, id: VcpuId) {
        let Some(recording) = &mut self.recording else { return };
        let accesses = self.records.events.since(recording.events).events;
        recording.events = self.records.events.cursor();
        for access in &accesses {
            let rip = access.at.as_ref().map(|at| at.rip);
            let place = rip.zip(self.kernel.as_ref()).and_then(|(rip, names)| names.name(rip));
            recording.timeline.record(Instant::now(), id, Moment::Access { access, place });
        }
        let memory = self.memory.counters();
        if memory != recording.memory {
            let done = memory.since(&recording.memory);
            recording.memory = memory;
            recording.timeline.record(Instant::now(), id, Moment::Memory(done));
        }
    }

    /// The run ended.
    pub(super) fn mark_stop(&mut self, id: VcpuId, stop: &Stop) {
        if self.recording.is_some() {
            self.mark_changes(id);
            self.mark(id, Moment::Stopped { stop, stats: &self.stats() });
        }
    }
}
