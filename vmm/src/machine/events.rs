// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Forbidden accesses become events: with registers, bounded in number, and withdrawn when they turn out to be legal.

use types::{AccessKind, AccessTarget, Mode, VcpuId, View};

use super::timeline::Moment;
use super::vcpu_state::VcpuState;
use super::{Machine, RunError, Stop};
use crate::layout::PAGE_SIZE;
use crate::memory::Mismatch;
use crate::memory::protected::Resolution;
use crate::platform::services::{Consequence, Termination};
use crate::trace::operand::LONGEST_INSTRUCTION;
use crate::trace::{Instruction, RecordedAccess, RecordedChange};
use crate::x86::exception::{self, Exception};
use crate::x86::walk;

impl Machine {
    /// Records the pending access as an event; then the platform decides how it is resolved.
    pub(super) fn on_mismatch(&mut self, id: VcpuId, exact: bool) -> Result<Option<Stop>, RunError> {
        let Some(mismatch) = self.memory.pending() else { return Ok(None) };
        self.records.stats.memory_faults += u64::from(exact);
        let state = self.vcpu_state(id)?;
        if exact && self.forces_root_private(id, &state, &mismatch)? {
            return Ok(None);
        }
        let at = self.instruction(&state, exact);
        if exact && self.vcpus[id.index()].begins_instruction(&state.regs) && !self.memory.has_passed() {
            // The pages of earlier instructions: were they left, what later ones access there would be missing.
            self.memory.revoke_temporary_mappings()?;
        }
        let fetch = exact && mismatch.kind == AccessKind::Read && self.is_fetched(&state, &mismatch);
        let kind = if fetch { AccessKind::Fetch } else { mismatch.kind };
        let operand = if exact && !fetch { self.operand(&state, &mismatch) } else { None };
        self.records.events.push(RecordedAccess {
            number: 0,
            count: 1,
            gpa: mismatch.gpa,
            view: mismatch.view,
            state: target(&mismatch),
            kind,
            operand,
            device: None,
            at: Some(at.clone()),
        });
        let resolution = self.memory.release()?;
        self.record_changes(Some(&at));
        match resolution {
            Resolution::Resumed => Ok(None),
            Resolution::Denied(mismatch) => {
                let consequence = self.platform.denied(&mismatch, operand.map_or(0, |o| o.address), exact);
                self.apply_consequence(id, consequence, exact)
            }
        }
    }

    /// Records the accesses that KVM cannot stop at.
    pub(super) fn record_passed(&mut self, id: VcpuId) -> Result<(), RunError> {
        for mismatch in self.memory.take_passed() {
            let state = self.vcpu_state(id)?;
            let at = self.instruction(&state, false);
            self.records.events.push(RecordedAccess {
                number: 0,
                count: 1,
                gpa: mismatch.gpa,
                view: mismatch.view,
                state: target(&mismatch),
                kind: mismatch.kind,
                operand: None,
                device: None,
                at: Some(at),
            });
        }
        Ok(())
    }

    /// Applies the result of a denied access.
    fn apply_consequence(
        &mut self,
        id: VcpuId,
        consequence: Consequence,
        exact: bool,
    ) -> Result<Option<Stop>, RunError> {
        match consequence {
            Consequence::Resume => Ok(None),
            Consequence::End(termination) => Ok(Some(Stop::Terminated(termination))),
            // KVM is in the middle of the instruction, so there is none to raise an exception at.
            Consequence::Exception(_) if !exact => Ok(None),
            Consequence::Exception(exception) => self.raise(id, exception),
        }
    }

    /// Delivers an exception at the instruction at RIP.
    pub(super) fn raise(&mut self, id: VcpuId, exception: Exception) -> Result<Option<Stop>, RunError> {
        let failed = |source| RunError::Kvm { attempt: "delivering an exception", rip: 0, source };
        let VcpuState { mut regs, mut sregs, tables, .. } = self.vcpu_state(id)?;
        self.records.stats.exceptions += 1;
        self.mark(id, Moment::Exception(exception.vector));
        match exception::deliver(&*self.memory, &tables, &mut regs, &mut sregs, exception) {
            Ok(()) => {
                self.vcpu(id).set_sregs(&sregs).map_err(failed)?;
                self.vcpu(id).set_regs(&regs).map_err(failed)?;
                Ok(None)
            }
            Err(failed) => Ok(Some(Stop::Terminated(Termination::Undeliverable(failed)))),
        }
    }

    /// Records the changes of watched pages, with the instruction that made them.
    pub(crate) fn record_changes(&mut self, at: Option<&Instruction>) {
        let (changes, dropped) = self.memory.take_changes();
        for (gpa, change) in changes {
            self.records.history.push(RecordedChange { gpa, change, at: at.cloned() });
        }
        self.records.history.count_dropped(dropped);
    }

    /// The instruction itself lies in the inaccessible page: a userfault does not distinguish a fetch from a load.
    fn is_fetched(&self, state: &VcpuState, mismatch: &Mismatch) -> bool {
        let rip = state.regs.rip;
        [rip, rip.wrapping_add(LONGEST_INSTRUCTION as u64 - 1)].into_iter().any(|address| {
            walk::translate(&*self.memory, &state.tables, address)
                .is_some_and(|t| (t.view, t.gpa & !(PAGE_SIZE - 1)) == (mismatch.view, mismatch.gpa))
        })
    }

    /// Withdraws the events that turned out to begin a conversion: of each confirmed page, its last write.
    pub(super) fn withdraw_confirmed_conversions(&mut self) {
        let confirmed = self.memory.take_confirmed_conversions();
        if !confirmed.is_empty() {
            self.records.events.withdraw_last_writes(confirmed);
        }
    }

    /// A device access through the private view is an event, as devices are never private.
    pub(super) fn device_access(
        &mut self,
        id: VcpuId,
        view: View,
        gpa: u64,
        kind: AccessKind,
    ) -> Result<Option<Stop>, RunError> {
        if self.platform.encryption_bit().is_some() && view == View::Private {
            let page = gpa & !(PAGE_SIZE - 1);
            if !self.records.events.repeat_device(page, view, kind) {
                // RIP is behind a store when KVM reports it.
                let state = self.vcpu_state(id)?;
                let at = self.instruction(&state, kind == AccessKind::Read);
                self.records.events.push(RecordedAccess {
                    number: 0,
                    count: 1,
                    gpa: page,
                    view,
                    state: AccessTarget::Device,
                    kind,
                    operand: None,
                    device: None,
                    at: Some(at),
                });
            }
            if self.memory.mode() != Some(Mode::Record) {
                let consequence = self.platform.private_device(page);
                return self.apply_consequence(id, consequence, false);
            }
        }
        Ok(None)
    }
}

/// What an access was made to.
fn target(mismatch: &Mismatch) -> AccessTarget {
    if mismatch.refused { AccessTarget::Refused } else { AccessTarget::Page(mismatch.state) }
}
