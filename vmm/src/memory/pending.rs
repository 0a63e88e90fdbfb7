// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Forbidden accesses that the vCPU is stopped at, or that KVM made where it cannot stop.

use super::Mismatch;

/// Forbidden accesses that the machine has not recorded yet. At most one page is inaccessible at a time, so that a
/// failing `KVM_RUN` has one possible cause.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The access whose page was made inaccessible.
    stopped: Option<Mismatch>,
    /// EINTR or another exit came before the access completed: the guest makes it again later.
    postponed: bool,
    /// Accesses to further pages within the same `KVM_RUN`, which went through.
    passed: Vec<Mismatch>,
}

/// What the fault handler has to do with a forbidden access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultAction {
    /// Make its page inaccessible and let the vCPU try again.
    Stop,
    /// The page is inaccessible already: let the vCPU try again.
    Again,
    /// Make its page inaccessible, and this one accessible: the guest makes it again later and faults again.
    Instead(Mismatch),
    /// Let it through: KVM is in the middle of an instruction that it cannot stop a second time.
    Pass,
}

impl Pending {
    /// A forbidden access arrived.
    pub(super) fn arrive(&mut self, mismatch: Mismatch) -> FaultAction {
        let Some(stopped) = self.stopped else {
            self.stopped = Some(mismatch);
            self.postponed = false;
            return FaultAction::Stop;
        };
        if (stopped.gpa, stopped.view) == (mismatch.gpa, mismatch.view) {
            return FaultAction::Again;
        }
        if self.postponed {
            self.stopped = Some(mismatch);
            self.postponed = false;
            return FaultAction::Instead(stopped);
        }
        self.passed.push(mismatch);
        FaultAction::Pass
    }

    /// The access the vCPU is stopped at.
    pub(super) fn stopped(&self) -> Option<Mismatch> {
        self.stopped
    }

    /// `KVM_RUN` returned for another reason before the access completed.
    pub(super) fn postpone(&mut self) {
        self.postponed = true;
    }

    /// Takes the access the vCPU is stopped at.
    pub(super) fn take(&mut self) -> Option<Mismatch> {
        self.postponed = false;
        self.stopped.take()
    }

    /// There are accesses that went through.
    pub(super) fn has_passed(&self) -> bool {
        !self.passed.is_empty()
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
        Mismatch {
            gpa: page << 12,
            view: View::Shared,
            state: PageState::Private,
            kind: AccessKind::Read,
            refused: false,
        }
    }

    #[test]
    fn an_interrupted_access_stays_one_and_gives_way_to_another() {
        let mut pending = Pending::default();
        assert_eq!(pending.arrive(access(1)), FaultAction::Stop);
        pending.postpone();
        assert_eq!(pending.arrive(access(1)), FaultAction::Again);
        assert_eq!(pending.arrive(access(2)), FaultAction::Instead(access(1)));
        assert_eq!(pending.take(), Some(access(2)));
        assert_eq!((pending.take(), pending.take_passed()), (None, vec![]));
    }

    #[test]
    fn a_second_page_of_one_instruction_is_not_forgotten() {
        let mut pending = Pending::default();
        pending.arrive(access(1));
        assert_eq!(pending.arrive(access(2)), FaultAction::Pass);
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
                        FaultAction::Stop => open = vec![access(page)],
                        FaultAction::Again => prop_assert_eq!(pending.stopped(), Some(access(page))),
                        FaultAction::Instead(earlier) => {
                            prop_assert_eq!(open[0], earlier);
                            open[0] = access(page);
                        }
                        FaultAction::Pass => open.push(access(page)),
                    },
                }
            }
            let found: Vec<Mismatch> = pending.take().into_iter().chain(pending.take_passed()).collect();
            prop_assert_eq!(found, open);
        }
    }
}
