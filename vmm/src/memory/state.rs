// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page states of a platform with one content and two views of it (plain SEV).
//!
//! SEV has no page state in hardware: any page may be accessed either way at any time, and what comes back is
//! plaintext or ciphertext by how it was last written (AMD APM volume 2 §15.34.5). What makes an access a
//! *mismatch* is the view that the guest declared for the page. Linux declares it by a hypercall where the
//! hypervisor offers that (`arch/x86/kernel/kvm.c:kvm_sev_hc_page_enc_status`); before or without it, a first
//! write of a RAM page through the other view is taken for a conversion, as `clear_bss` does with
//! `.bss..decrypted`. Firmware's pages are private by contract and never converted by a mere write.

use types::{AccessKind, View};

/// Who may convert a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The kernel's RAM: it converts pages as it likes.
    Kernel,
    /// Given by firmware, private for good.
    Firmware,
}

/// What an access means for a page, by the view its contents are in and the view the guest declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasAccess {
    /// The contents are in this view already.
    Here,
    /// The guest declared this view: the contents are moved to it.
    Declared,
    /// Taken for a conversion that the guest had no way to declare; the contents are moved.
    Implicit,
    /// The guest declared the other view.
    Mismatch,
}

/// One page: the view the guest declared, and the view its contents are in at present.
#[derive(Debug, Clone, Copy, Eq)]
pub struct AliasState {
    declared: View,
    content: View,
}

impl PartialEq for AliasState {
    #[expect(clippy::needless_bitwise_bool, reason = "comparing all pages is a loop of vectors then")]
    fn eq(&self, other: &Self) -> bool {
        (self.declared == other.declared) & (self.content == other.content)
    }
}

impl AliasState {
    /// Everything starts private: the loader wrote it so.
    pub const INITIAL: Self = Self { declared: View::Private, content: View::Private };

    /// A page in these views.
    pub const fn new(declared: View, content: View) -> Self {
        Self { declared, content }
    }

    /// View the guest declared.
    pub fn declared(self) -> View {
        self.declared
    }

    /// View that shows the bytes as they are in memory.
    pub fn content(self) -> View {
        self.content
    }

    /// The guest declares the page private or shared. Contents are moved on the first access.
    pub fn declare(&mut self, view: View) {
        self.declared = view;
    }

    /// What an access through `view` would be. `map_gpa_range_enabled`: this guest reports its conversions
    /// (`KVM_HC_MAP_GPA_RANGE`).
    pub fn judge(
        self,
        view: View,
        kind: AccessKind,
        owner: Owner,
        map_gpa_range_enabled: bool,
    ) -> AliasAccess {
        if self.content == view {
            AliasAccess::Here
        } else if self.declared == view {
            AliasAccess::Declared
        } else if !map_gpa_range_enabled && owner == Owner::Kernel && kind == AccessKind::Write {
            AliasAccess::Implicit
        } else {
            AliasAccess::Mismatch
        }
    }

    /// Carries out an access: the contents move to `view`; an implicit conversion also changes the declared view.
    pub fn access(
        &mut self,
        view: View,
        kind: AccessKind,
        owner: Owner,
        map_gpa_range_enabled: bool,
    ) -> AliasAccess {
        let access = self.judge(view, kind, owner, map_gpa_range_enabled);
        if access == AliasAccess::Implicit {
            self.declared = view;
        }
        self.content = view;
        access
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AccessKind::{Read, Write};
    use View::{Private, Shared};
    use proptest::prelude::*;

    #[test]
    fn a_shared_read_of_firmwares_page_is_a_mismatch_each_time() {
        let mut page = AliasState::INITIAL;
        for _ in 0..2 {
            assert_eq!(page.access(Shared, Read, Owner::Firmware, false), AliasAccess::Mismatch);
            assert_eq!(page.access(Private, Read, Owner::Firmware, false), AliasAccess::Declared);
        }
        assert_eq!(page.access(Shared, Write, Owner::Firmware, false), AliasAccess::Mismatch);
    }

    #[test]
    fn a_first_shared_write_of_ram_converts_until_the_guest_reports_conversions() {
        let mut page = AliasState::INITIAL;
        assert_eq!(page.access(Shared, Write, Owner::Kernel, false), AliasAccess::Implicit);
        assert_eq!(page.declared(), Shared);
        let mut page = AliasState::INITIAL;
        assert_eq!(page.access(Shared, Write, Owner::Kernel, true), AliasAccess::Mismatch);
        assert_eq!(page.declared(), Private);
    }

    fn views() -> impl Strategy<Value = View> {
        prop_oneof![Just(Private), Just(Shared)]
    }

    proptest! {
        #[test]
        fn contents_are_always_in_the_view_last_accessed(steps in prop::collection::vec((views(), any::<bool>(), any::<bool>()), 1..40), map_gpa_range_enabled: bool) {
            let mut page = AliasState::INITIAL;
            for (view, write, declare) in steps {
                if declare {
                    let content = page.content();
                    page.declare(view);
                    prop_assert_eq!(page.content(), content);
                } else {
                    let before = page;
                    let kind = if write { Write } else { Read };
                    let access = page.access(view, kind, Owner::Kernel, map_gpa_range_enabled);
                    prop_assert_eq!(page.content(), view);
                    prop_assert_eq!(access == AliasAccess::Here, before.content() == view);
                    prop_assert_eq!(access == AliasAccess::Mismatch && before.declared() == view, false);
                    prop_assert_eq!(page.declared() != before.declared(), access == AliasAccess::Implicit);
                }
            }
        }
    }
}
