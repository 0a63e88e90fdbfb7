// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The history of one watched page: every change of its state, of the view the guest declared, and of its contents.

use std::fmt;

use types::{PageState, View};

use super::protected::Cause;
use super::{GuestMemory, Scheme};
use crate::layout::PAGE_SIZE;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateChange {
    /// The state it was launched in (platforms with page states).
    Launched(PageState),
    /// Its state changed (platforms with page states).
    State {
        /// What happened.
        cause: Cause,
        /// State before.
        from: PageState,
        /// State after.
        to: PageState,
        /// Implicit conversion by the hypervisor after `KVM_EXIT_MEMORY_FAULT`.
        implicit: bool,
    },
    /// The guest declared the view it uses (SEV).
    Declared(View),
    /// Its contents were moved by an access through the other view (SEV).
    Moved {
        /// View they are in now.
        to: View,
        /// The view that the guest declared forbids the access.
        forbidden: bool,
    },
    /// An access that its state forbids, permitted without a change of state (platforms with page states).
    Permitted {
        /// View used.
        view: View,
        /// State of the page.
        state: PageState,
    },
    /// Restored to what it was when the guest was saved ([`GuestMemory::restore`]).
    Restored(Option<PageState>),
}

impl fmt::Display for StateChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launched(state) => write!(f, "launched {state}"),
            Self::State { cause, from, to, implicit } => {
                write!(f, "{}: ", cause.name())?;
                match (from == to, implicit) {
                    (true, _) => write!(f, "{to} as it was"),
                    (false, true) => write!(f, "{from} → {to}, implicit conversion by the hypervisor"),
                    (false, false) => write!(f, "{from} → {to}"),
                }
            }
            Self::Declared(view) => write!(f, "declared {view} by the guest"),
            Self::Moved { to, forbidden: false } => write!(f, "contents moved to the {to} view"),
            Self::Moved { to, forbidden: true } => {
                write!(f, "contents moved to the {to} view by a forbidden access")
            }
            Self::Permitted { view, state } => {
                write!(f, "accessed through the {view} view while {state}; recorded, nothing changed")
            }
            Self::Restored(Some(state)) => write!(f, "restored to {state} by the VMM"),
            Self::Restored(None) => write!(f, "restored by the VMM"),
        }
    }
}

/// Changes kept until they are taken.
const MAX_CHANGES: usize = 4096;

/// The watched page, and its changes recorded since the last [`Watch::take`].
#[derive(Debug, Default)]
pub(super) struct Watch {
    offset: Option<u64>,
    changes: Vec<StateChange>,
    /// Changes that came and were not kept.
    dropped: u64,
}

impl Watch {
    pub(super) fn on(&mut self, offset: Option<u64>) {
        self.offset = offset;
    }

    /// Records a change of the page at `offset` if it is the one watched.
    pub(super) fn record(&mut self, offset: u64, change: StateChange) {
        if self.offset != Some(offset) {
            return;
        }
        if self.changes.len() < MAX_CHANGES {
            self.changes.push(change);
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes recorded since the last call, and how many more there were.
    pub(super) fn take(&mut self) -> (Vec<StateChange>, u64) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.dropped))
    }
}

impl GuestMemory {
    /// Records every change of the page at `gpa` from now on.
    pub fn watch(&self, gpa: u64) {
        let offset = self.ram.offset(gpa & !(PAGE_SIZE - 1));
        self.with_watch(|watch| watch.on(offset));
    }

    /// A change of the watched page was recorded.
    pub fn has_changes(&self) -> bool {
        self.with_watch(|watch| !watch.is_empty()).unwrap_or(false)
    }

    /// Takes the recorded changes of the watched page, and how many more there were.
    pub fn take_changes(&self) -> (Vec<StateChange>, u64) {
        self.with_watch(Watch::take).unwrap_or_default()
    }

    fn with_watch<T>(&self, f: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        match &self.scheme {
            Scheme::OneView => None,
            Scheme::EncryptedAlias(encryption) => Some(f(&mut encryption.lock().watch)),
            Scheme::SeparateBacking(protection) => Some(f(&mut protection.lock().watch)),
        }
    }
}
