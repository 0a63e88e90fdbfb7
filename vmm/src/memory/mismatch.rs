// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A touch that the page's state forbids, told alike on every platform.

use super::{AccessKind, View, protected};

/// What a page is, told alike on every platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The private view's.
    Private,
    /// The shared view's.
    Shared,
    /// Assigned to the guest and not accepted: nobody's yet.
    Unaccepted,
}

impl Standing {
    pub(super) fn of(state: protected::PageState) -> Self {
        match state {
            protected::PageState::Private => Self::Private,
            protected::PageState::Unaccepted => Self::Unaccepted,
            protected::PageState::Shared => Self::Shared,
        }
    }
}

impl From<View> for Standing {
    fn from(view: View) -> Self {
        match view {
            View::Private => Self::Private,
            View::Shared => Self::Shared,
        }
    }
}

/// A touch the guest's claim forbids, held back at its instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// GPA of the page, without any encryption bit.
    pub gpa: u64,
    /// View used.
    pub view: View,
    /// What the page is.
    pub state: Standing,
    /// What the touch does.
    pub kind: AccessKind,
}
