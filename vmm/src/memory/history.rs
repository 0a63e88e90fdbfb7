// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The history of watched pages, one or all: every change of their state, of the view the guest declared, and of their contents.

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
    /// The guest requested that the page become this, and was refused: nothing changed.
    Refused(View),
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
            Self::Refused(to) => write!(f, "refused: the guest requested that it become {to}"),
            Self::Restored(Some(state)) => write!(f, "restored to {state} by the VMM"),
            Self::Restored(None) => write!(f, "restored by the VMM"),
        }
    }
}

/// Changes kept until they are taken.
const MAX_CHANGES: usize = 4096;

/// Which pages are watched.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Watched {
    #[default]
    None,
    /// The page at this offset in RAM.
    Page(u64),
    All,
}

/// The watched pages, and their changes recorded since the last [`Watch::take`], each with the page's offset in RAM.
#[derive(Debug, Default)]
pub(super) struct Watch {
    watched: Watched,
    changes: Vec<(u64, StateChange)>,
    /// Changes that came and were not kept.
    dropped: u64,
}

impl Watch {
    /// Records a change of the page at `offset` if it is watched.
    pub(super) fn record(&mut self, offset: u64, change: StateChange) {
        match self.watched {
            Watched::All => {}
            Watched::Page(watched) if watched == offset => {}
            Watched::Page(_) | Watched::None => return,
        }
        if self.changes.len() < MAX_CHANGES {
            self.changes.push((offset, change));
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes recorded since the last call, and how many more there were.
    pub(super) fn take(&mut self) -> (Vec<(u64, StateChange)>, u64) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.dropped))
    }
}

impl GuestMemory {
    /// Records every change of the page at `gpa` from now on.
    pub fn watch(&self, gpa: u64) {
        let offset = self.ram.offset(gpa & !(PAGE_SIZE - 1));
        self.with_watch(|watch| watch.watched = offset.map_or(Watched::None, Watched::Page));
    }

    /// Records every change of every page from now on, or of none.
    pub fn watch_all(&self, on: bool) {
        self.with_watch(|watch| watch.watched = if on { Watched::All } else { Watched::None });
    }

    /// A change of a watched page was recorded.
    pub fn has_changes(&self) -> bool {
        self.with_watch(|watch| !watch.is_empty()).unwrap_or(false)
    }

    /// Takes the recorded changes of watched pages, each with the page's address, and how many more there were.
    pub fn take_changes(&self) -> (Vec<(u64, StateChange)>, u64) {
        let (mut changes, dropped) = self.with_watch(Watch::take).unwrap_or_default();
        for (place, _) in &mut changes {
            *place = self.ram.gpa(*place);
        }
        (changes, dropped)
    }

    pub(super) fn with_watch<T>(&self, f: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        match &self.scheme {
            Scheme::OneView => None,
            Scheme::EncryptedAlias(encryption) => Some(f(&mut encryption.lock().watch)),
            Scheme::SeparateBacking(protection) => Some(f(&mut protection.lock().watch)),
        }
    }
}
