// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A touch that the page's state forbids, told alike on every platform.
//! An access that the page's state forbids, in one form for every platform.

use types::{AccessKind, PageState, View};

/// An access the guest's claim or the page's state forbids, stopped at its instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// GPA of the page, without any encryption bit.
    pub gpa: u64,
    /// View used.
    pub view: View,
    /// State of the page.
    pub state: PageState,
    /// What the access does.
    pub kind: AccessKind,
}
