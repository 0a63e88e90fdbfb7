// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Forbidden accesses that the vCPU is stopped at, or that KVM made where it cannot stop.

use super::Mismatch;

/// What the fault handler found and the machine has not recorded yet. At most one page is inaccessible on its account,
/// so that a failing `KVM_RUN` has one possible cause.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The access whose page was made inaccessible.
    stopped: Option<Mismatch>,
    /// `KVM_RUN` has returned for another reason since: the guest comes back to the access later.
    postponed: bool,
    /// Accesses to further pages within the same `KVM_RUN`, which went through.
    passed: Vec<Mismatch>,
}

/// What the fault handler has to do with a forbidden access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Make its page inaccessible and let the vCPU try again.
    Stop,
    /// The page is inaccessible already: let the vCPU try again.
    Again,
    /// Make its page inaccessible, and this one accessible: the guest will come back to it and fault again.
    Instead(Mismatch),
    /// Let it through: KVM is in the middle of an instruction that it cannot stop a second time.
    Pass,
}

impl Pending {
    /// A forbidden access arrived.
    pub(super) fn arrive(&mut self, mismatch: Mismatch) -> Arrival {
        let Some(stopped) = self.stopped else {
            self.stopped = Some(mismatch);
            self.postponed = false;
            return Arrival::Stop;
        };
        if (stopped.gpa, stopped.view) == (mismatch.gpa, mismatch.view) {
            return Arrival::Again;
        }
        if self.postponed {
            self.stopped = Some(mismatch);
            self.postponed = false;
            return Arrival::Instead(stopped);
        }
        self.passed.push(mismatch);
        Arrival::Pass
    }

    /// The access the vCPU is stopped at.
    pub(super) fn stopped(&self) -> Option<Mismatch> {
        self.stopped
    }

    /// `KVM_RUN` returned for another reason.
    pub(super) fn postpone(&mut self) {
        self.postponed = true;
    }

    /// Takes the access the vCPU is stopped at.
    pub(super) fn take(&mut self) -> Option<Mismatch> {
        self.postponed = false;
        self.stopped.take()
    }

    /// Takes the accesses that went through.
    pub(super) fn take_passed(&mut self) -> Vec<Mismatch> {
        std::mem::take(&mut self.passed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use types::{AccessKind, PageState, View};

    fn access(page: u64) -> Mismatch {
        Mismatch { gpa: page << 12, view: View::Shared, state: PageState::Private, kind: AccessKind::Read }
    }

    #[test]
    fn an_interrupted_access_stays_one_and_gives_way_to_another() {
        let mut pending = Pending::default();
        assert_eq!(pending.arrive(access(1)), Arrival::Stop);
        pending.postpone();
        assert_eq!(pending.arrive(access(1)), Arrival::Again);
        assert_eq!(pending.arrive(access(2)), Arrival::Instead(access(1)));
        assert_eq!(pending.take(), Some(access(2)));
        assert_eq!((pending.take(), pending.take_passed()), (None, vec![]));
    }

    #[test]
    fn a_second_page_of_one_instruction_is_not_forgotten() {
        let mut pending = Pending::default();
        pending.arrive(access(1));
        assert_eq!(pending.arrive(access(2)), Arrival::Pass);
        assert_eq!((pending.take(), pending.take_passed()), (Some(access(1)), vec![access(2)]));
    }

    proptest! {
        /// An access that arrived is stopped at, has passed, or faults again.
        #[test]
        fn no_access_is_lost(acts in prop::collection::vec(prop::option::of(1u64..4), 0..40)) {
            let mut pending = Pending::default();
            let mut open: Vec<Mismatch> = Vec::new();
            for act in acts {
                match act {
                    None => pending.postpone(),
                    Some(page) => match pending.arrive(access(page)) {
                        Arrival::Stop => open = vec![access(page)],
                        Arrival::Again => prop_assert_eq!(pending.stopped(), Some(access(page))),
                        Arrival::Instead(earlier) => {
                            prop_assert_eq!(open[0], earlier);
                            open[0] = access(page);
                        }
                        Arrival::Pass => open.push(access(page)),
                    },
                }
            }
            let found: Vec<Mismatch> = pending.take().into_iter().chain(pending.take_passed()).collect();
            prop_assert_eq!(found, open);
        }
    }
}
