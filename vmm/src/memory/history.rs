// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happened to one page that somebody watches: every change of its state, claim or contents.

use std::fmt;

use types::{PageState, View};

use super::protected::Cause;
use super::{GuestMemory, Scheme};
use crate::layout::PAGE_SIZE;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageChange {
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
        /// The hypervisor converted it unasked.
        implicit: bool,
    },
    /// The guest said which view it uses (SEV).
    Claimed(View),
    /// Its contents followed a touch through the other view (SEV).
    Moved {
        /// View they stand in now.
        to: View,
        /// The guest's claim forbade the touch.
        forbidden: bool,
    },
    /// A touch its state forbids, let through and changing nothing (platforms with page states).
    LetThrough {
        /// View used.
        view: View,
        /// State of the page.
        state: PageState,
    },
    /// Put back to what it was before a mismatch, between two tests.
    PutBack(Option<PageState>),
}

impl fmt::Display for PageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launched(state) => write!(f, "launched {state}"),
            Self::State { cause, from, to, implicit } => {
                write!(f, "{}: ", cause.name())?;
                match (from == to, implicit) {
                    (true, _) => write!(f, "{to} as it was"),
                    (false, true) => write!(f, "{from} → {to}, converted by the hypervisor unasked"),
                    (false, false) => write!(f, "{from} → {to}"),
                }
            }
            Self::Claimed(view) => write!(f, "declared {view} by the guest"),
            Self::Moved { to, forbidden: false } => write!(f, "contents follow into the {to} view"),
            Self::Moved { to, forbidden: true } => {
                write!(f, "contents follow a forbidden touch into the {to} view")
            }
            Self::LetThrough { view, state } => {
                write!(f, "touched through the {view} view while {state}; recorded, nothing changed")
            }
            Self::PutBack(Some(state)) => write!(f, "put back to {state} after a test"),
            Self::PutBack(None) => write!(f, "put back after a test"),
        }
    }
}

/// Changes kept until they are taken.
const MAX_CHANGES: usize = 4096;

/// The page that is watched, and what was noted and nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Watch {
    offset: Option<u64>,
    changes: Vec<PageChange>,
    /// Changes that came and were not kept.
    dropped: u64,
}

impl Watch {
    pub(super) fn on(&mut self, offset: Option<u64>) {
        self.offset = offset;
    }

    /// Notes a change of the page at `offset` if it is the one watched.
    pub(super) fn note(&mut self, offset: u64, change: PageChange) {
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

    /// The changes noted since the last call, and how many more there were.
    pub(super) fn take(&mut self) -> (Vec<PageChange>, u64) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.dropped))
    }
}

impl GuestMemory {
    /// Notes every change of the page at `gpa` from now on.
    pub fn watch(&self, gpa: u64) {
        let offset = self.ram.offset(gpa & !(PAGE_SIZE - 1));
        self.with_watch(|watch| watch.on(offset));
    }

    /// Something was noted of the page watched.
    pub fn has_changes(&self) -> bool {
        self.with_watch(|watch| !watch.is_empty()).unwrap_or(false)
    }

    /// Takes what was noted of the page watched, and how many more changes there were.
    pub fn take_changes(&self) -> (Vec<PageChange>, u64) {
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
