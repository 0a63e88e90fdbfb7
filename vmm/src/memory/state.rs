// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page-state machine of a platform with one content and two views of it (plain SEV).
//!
//! SEV has no page state in hardware: any page may be touched either way at any time, and what comes back is
//! plaintext or ciphertext by how it was last written (AMD APM volume 2 §15.34.5). What makes an access a
//! *mismatch* is the guest's own claim about the page. Linux makes that claim by a hypercall where the
//! hypervisor asks for it (`arch/x86/kernel/kvm.c:kvm_sev_hc_page_enc_status`); before or without it, a first
//! write of a RAM page through the other view is taken for a conversion, as `clear_bss` does with
//! `.bss..decrypted`. Firmware's pages are private by contract and never converted by a mere write.

use types::{AccessKind, View};

/// Who may decide what a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The kernel's RAM: it converts pages as it likes.
    Kernel,
    /// Given by firmware, private for good.
    Firmware,
}

/// What a touch means for a page whose contents stand in the other view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasAccess {
    /// The contents are in this view already.
    Here,
    /// The guest declared this view: the contents follow.
    Declared,
    /// Taken for a conversion the guest had no way to declare; the contents follow.
    Implicit,
    /// The guest's claim forbids this view.
    Mismatch,
}

/// One page: what the guest claims, and in which view its contents stand at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasState {
    declared: View,
    content: View,
}

impl AliasState {
    /// Everything starts private: the loader wrote it so.
    pub const INITIAL: Self = Self { declared: View::Private, content: View::Private };

    /// View the guest claims to use.
    pub fn declared(self) -> View {
        self.declared
    }

    /// View in which the bytes stand untransformed.
    pub fn content(self) -> View {
        self.content
    }

    /// The guest declares the page private or shared. Contents follow on the first touch.
    pub fn declare(&mut self, view: View) {
        self.declared = view;
    }

    /// What a touch through `view` would be. `announces`: this guest declares its conversions.
    pub fn judge(self, view: View, kind: AccessKind, owner: Owner, announces: bool) -> AliasAccess {
        if self.content == view {
            AliasAccess::Here
        } else if self.declared == view {
            AliasAccess::Declared
        } else if !announces && owner == Owner::Kernel && kind == AccessKind::Write {
            AliasAccess::Implicit
        } else {
            AliasAccess::Mismatch
        }
    }

    /// Carries out a touch: the contents move to `view`; an implicit conversion also changes the claim.
    pub fn touch(&mut self, view: View, kind: AccessKind, owner: Owner, announces: bool) -> AliasAccess {
        let touch = self.judge(view, kind, owner, announces);
        if touch == AliasAccess::Implicit {
            self.declared = view;
        }
        self.content = view;
        touch
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
            assert_eq!(page.touch(Shared, Read, Owner::Firmware, false), AliasAccess::Mismatch);
            assert_eq!(page.touch(Private, Read, Owner::Firmware, false), AliasAccess::Declared);
        }
        assert_eq!(page.touch(Shared, Write, Owner::Firmware, false), AliasAccess::Mismatch);
    }

    #[test]
    fn a_first_shared_write_of_ram_converts_until_the_guest_announces() {
        let mut page = AliasState::INITIAL;
        assert_eq!(page.touch(Shared, Write, Owner::Kernel, false), AliasAccess::Implicit);
        assert_eq!(page.declared(), Shared);
        let mut page = AliasState::INITIAL;
        assert_eq!(page.touch(Shared, Write, Owner::Kernel, true), AliasAccess::Mismatch);
        assert_eq!(page.declared(), Private);
    }

    fn views() -> impl Strategy<Value = View> {
        prop_oneof![Just(Private), Just(Shared)]
    }

    proptest! {
        #[test]
        fn contents_always_stand_where_last_touched(steps in prop::collection::vec((views(), any::<bool>(), any::<bool>()), 1..40), announces: bool) {
            let mut page = AliasState::INITIAL;
            for (view, write, declare) in steps {
                if declare {
                    let content = page.content();
                    page.declare(view);
                    prop_assert_eq!(page.content(), content);
                } else {
                    let before = page;
                    let kind = if write { Write } else { Read };
                    let touch = page.touch(view, kind, Owner::Kernel, announces);
                    prop_assert_eq!(page.content(), view);
                    prop_assert_eq!(touch == AliasAccess::Here, before.content() == view);
                    prop_assert_eq!(touch == AliasAccess::Mismatch && before.declared() == view, false);
                    prop_assert_eq!(page.declared() != before.declared(), touch == AliasAccess::Implicit);
                }
            }
        }
    }
}
