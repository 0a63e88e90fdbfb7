// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two views of guest memory, and the states of a page.

use crate::names::named;

named! {
    /// The encryption attribute by which an address is accessed.
    pub enum View ("view") {
        Private = "private", "C-bit set (SEV, SNP) or shared bit clear (TDX, VBS): the guest's own key";
        Shared = "shared", "the other alias: what the host and its devices access";
    }
}

impl View {
    /// The index of this view in a table of both.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The opposite view.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Private => Self::Shared,
            Self::Shared => Self::Private,
        }
    }
}

named! {
    /// What a 4 KiB page is.
    pub enum PageState ("page state") {
        Private = "private", "assigned to the guest and accepted (TDX) or validated (SNP): the private view may access it";
        Unaccepted = "unaccepted", "assigned to the guest, not (or no longer) accepted or validated: no view may access it";
        Shared = "shared", "the hypervisor's: the shared view may access it";
    }
}

impl PageState {
    /// Whether `view` may access a page in this state.
    pub const fn admits(self, view: View) -> bool {
        matches!((self, view), (Self::Private, View::Private) | (Self::Shared, View::Shared))
    }
}

impl From<View> for PageState {
    fn from(view: View) -> Self {
        match view {
            View::Private => Self::Private,
            View::Shared => Self::Shared,
        }
    }
}
