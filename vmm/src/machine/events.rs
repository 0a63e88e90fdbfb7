//! Forbidden accesses become events: with registers, bounded in number, and taken back when they turn out to be legal.

use std::collections::HashSet;

use super::{Machine, RunError};
use crate::audit::{AccessEvent, Instruction, PageView};
use crate::layout::PAGE_SIZE;
use crate::memory::{AccessKind, Mismatch, View};

/// Events kept of one guest.
const MAX_EVENTS: usize = 1 << 16;

impl Machine {
    /// The access the fault handler holds back becomes an event, and then goes on.
    pub(super) fn record_mismatch(&mut self, exact: bool) -> Result<(), RunError> {
        let Some(mismatch) = self.memory.pending() else { return Ok(()) };
        self.stats.memory_faults += u64::from(exact);
        let at = self.instruction(exact)?;
        let fetch = exact && mismatch.kind == AccessKind::Read && self.is_fetched(at.rip, &mismatch);
        self.keep(AccessEvent {
            number: 0,
            gpa: mismatch.gpa,
            view: mismatch.view,
            state: PageView::Memory(mismatch.declared),
            kind: if fetch { AccessKind::Fetch } else { mismatch.kind },
            at: Some(at),
        });
        Ok(self.memory.release()?)
    }

    /// The instruction at `rip` itself lies in the page held back: a userfault does not tell a fetch from a load.
    fn is_fetched(&self, rip: u64, mismatch: &Mismatch) -> bool {
        const LONGEST_INSTRUCTION: u64 = 15;
        [rip, rip.wrapping_add(LONGEST_INSTRUCTION - 1)].into_iter().any(|address| {
            self.vcpu.translate_gva(address).is_ok_and(|t| {
                let (view, gpa) = self.platform.split(t.physical_address);
                t.valid != 0 && (view, gpa & !(PAGE_SIZE - 1)) == (mismatch.view, mismatch.gpa)
            })
        })
    }

    /// Takes back the events that turned out to begin a conversion: of each page settled, its last write.
    pub(super) fn withdraw_settled(&mut self) {
        let mut settled: HashSet<u64> = self.memory.take_settled().into_iter().collect();
        if !settled.is_empty() {
            let newest_first = self.events.drain(..).rev();
            let mut kept: Vec<_> =
                newest_first.filter(|e| e.kind != AccessKind::Write || !settled.remove(&e.gpa)).collect();
            kept.reverse();
            self.events = kept;
        }
    }

    /// Keeps an event; past the bound only counts it, so that a guest cannot eat the host's memory.
    fn keep(&mut self, mut event: AccessEvent) {
        if self.events.len() < MAX_EVENTS {
            event.number = self.events.last().map_or(0, |last| last.number + 1);
            self.events.push(event);
        } else {
            self.stats.events_not_kept += 1;
        }
    }

    /// A device access through the private view is an event, as devices are never private.
    pub(super) fn device_access(&mut self, view: View, gpa: u64, kind: AccessKind) -> Result<(), RunError> {
        if self.platform.encryption_bit().is_some() && view == View::Private {
            let page = gpa & !(PAGE_SIZE - 1);
            let repeated = self
                .events
                .last()
                .is_some_and(|e| (e.gpa, e.view, e.kind, e.state) == (page, view, kind, PageView::Device));
            if !repeated {
                // KVM has gone past a store by the time it tells of it.
                let at = self.instruction(kind == AccessKind::Read)?;
                self.keep(AccessEvent {
                    number: 0,
                    gpa: page,
                    view,
                    state: PageView::Device,
                    kind,
                    at: Some(at),
                });
            }
        }
        Ok(())
    }

    fn instruction(&self, exact: bool) -> Result<Instruction, RunError> {
        let failed = |source| RunError::Kvm { attempt: "reading the vCPU's registers", rip: 0, source };
        let regs = self.vcpu.get_regs().map_err(failed)?;
        let sregs = self.vcpu.get_sregs().map_err(failed)?;
        Ok(Instruction { rip: regs.rip, cpl: sregs.ss.dpl, cr3: sregs.cr3, rsp: regs.rsp, exact })
    }
}
