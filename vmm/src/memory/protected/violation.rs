// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An access through the view that a page's state forbids: pending at its instruction, then resolved by the mode.

use types::{AccessKind, PageState};

use super::super::cipher::PAGE;
use super::super::history::StateChange;
use super::super::pending::FaultAction;
use super::super::userfaultfd::PageFault;
use super::super::{GuestMemory, MemoryError, Mismatch};
use super::Protection;
use super::state::{Answer, Cause};
use crate::layout::PAGE_SIZE;

/// How a pending access is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It completes.
    Resumed,
    /// It does not complete; the platform decides what the guest gets instead.
    Denied(Mismatch),
}

impl GuestMemory {
    /// Handles one userfault: makes the access pending until [`GuestMemory::release`].
    pub(in super::super) fn on_protected_fault(&self, protection: &Protection, fault: PageFault) {
        let Some(uffd) = &protection.uffd else { return };
        let mut state = protection.lock();
        state.counters.faults += 1;
        let Some((view, offset)) = self.locate(&protection.shared, fault.address) else { return };
        let kind = if fault.write { AccessKind::Write } else { AccessKind::Read };
        let gpa = self.ram.gpa(offset);
        let mapping = self.view_mapping(protection, view);
        let page = state.state(offset).unwrap_or(PageState::Private);
        let failed = |source| MemoryError::Move { gpa, view, source };
        let wake = || uffd.wake(fault.address, PAGE_SIZE).map_err(failed);
        let stop = || mapping.set_accessible(offset, PAGE, false).map_err(failed).and_then(|()| wake());
        let refused = state.refused_page(view, offset).is_some();
        let outcome = if !refused && (page.admits(view) || state.is_mapped_temporarily(view, offset)) {
            // Only a page that is there already: a fault that raced with its grant.
            uffd.wake_present(fault.address).map_err(failed)
        } else {
            let action = state.pending.arrive(Mismatch { gpa, view, state: page, kind, refused });
            state.counters.mismatches += u64::from(matches!(action, FaultAction::Stop | FaultAction::Pass));
            match action {
                FaultAction::Stop => stop(),
                FaultAction::Again => wake(),
                FaultAction::Instead(earlier) => {
                    let mapping = self.view_mapping(protection, earlier.view);
                    self.make_accessible(mapping, earlier).and_then(|()| stop())
                }
                FaultAction::Pass if refused => self.give_back(protection, &mut state, offset).map(|_| ()),
                FaultAction::Pass => self.map_temporarily(protection, &mut state, view, offset),
            }
        };
        if let Err(error) = outcome {
            state.failed.get_or_insert(error);
            // The vCPU must not wait for ever: without its page KVM_RUN fails, and the error is reported.
            let _ = mapping.set_accessible(offset, PAGE, false);
            let _ = wake();
        }
    }

    /// Resolves the pending access.
    pub(in super::super) fn resolve_protected_access(
        &self,
        protection: &Protection,
    ) -> Result<Resolution, MemoryError> {
        let mut state = protection.lock();
        let Some(mismatch) = state.pending.take() else { return Ok(Resolution::Resumed) };
        let Some(offset) = self.ram.offset(mismatch.gpa) else { return Ok(Resolution::Resumed) };
        self.make_accessible(self.view_mapping(protection, mismatch.view), mismatch)?;
        if self.give_back(protection, &mut state, offset)? {
            return Ok(Resolution::Resumed);
        }
        let page = (offset / PAGE_SIZE) as usize;
        let cause = Cause::access(mismatch.view);
        if state.permits_access(offset, mismatch.view) {
            let page = state.state(offset).unwrap_or(PageState::Private);
            state.watch.record(offset, StateChange::Permitted { view: mismatch.view, state: page });
            self.map_temporarily(protection, &mut state, mismatch.view, offset)?;
            return Ok(Resolution::Resumed);
        }
        let before = state.states_of(&(page..page + 1));
        let Some(change) = state.table.apply(page, cause) else { return Ok(Resolution::Denied(mismatch)) };
        state.record_change(offset, cause, change);
        let chunk = page / super::table::PAGES_PER_CHUNK;
        if change.transition.to != change.from {
            state.table.set_large(chunk, false);
        }
        self.enforce(protection, &mut state, chunk, page..page + 1, &before)?;
        Ok(if change.transition.answer == Answer::Denied {
            Resolution::Denied(mismatch)
        } else {
            Resolution::Resumed
        })
    }

    /// Ends the temporary mappings, before `KVM_RUN`.
    pub fn revoke_temporary_mappings(&self) -> Result<(), MemoryError> {
        let Some(protection) = self.protection() else { return Ok(()) };
        let mut state = protection.lock();
        if state.mapped_temporarily.is_empty() {
            Ok(())
        } else {
            self.unmap_temporary_mappings(protection, &mut state)
        }
    }
}
