// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An access that the page's state forbids, in one form for every platform.

use types::{AccessKind, PageState, View};

/// An access that the page's state, or the view the guest declared, forbids.
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
    /// The page is shared, and its conversion to private was refused: the state admits the access, and the guest must not
    /// make it.
    pub refused: bool,
}
