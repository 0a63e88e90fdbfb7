// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happens when a page is touched through the view its contents do not stand in.

use types::{AccessKind, View};

use super::cipher::PAGE;
use super::history::PageChange;
use super::pending::{Arrival, Pending};
use super::protected::Resolution;
use super::saved::SavedPages;
use super::state::{AliasAccess, Owner};
use super::userfaultfd::PageFault;
use super::view::Mapping;
use super::{Displaced, Encryption, GuestMemory, MemoryError, Mismatch, Pages, Scheme};
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};

/// Pages moved for one fault at most.
const FOLLOW: u64 = 64;

impl GuestMemory {
    /// The forbidden access the vCPU is stopped at, if there is one.
    pub fn pending(&self) -> Option<Mismatch> {
        self.with_pending(|pending| pending.stopped()).flatten()
    }

    /// `KVM_RUN` returned for another reason than the pending access: the guest comes back to it.
    pub fn postpone(&self) {
        self.with_pending(Pending::postpone);
    }

    /// Takes the forbidden accesses that went through, since KVM could not stop at them.
    pub fn take_passed(&self) -> Vec<Mismatch> {
        self.with_pending(Pending::take_passed).unwrap_or_default()
    }

    fn with_pending<T>(&self, f: impl FnOnce(&mut Pending) -> T) -> Option<T> {
        match &self.scheme {
            Scheme::OneView => None,
            Scheme::EncryptedAlias(encryption) => Some(f(&mut encryption.lock().pending)),
            Scheme::SeparateBacking(protection) => Some(f(&mut protection.lock().pending)),
        }
    }

    /// The first failure of the fault handler, if any.
    pub fn take_failure(&self) -> Option<MemoryError> {
        match &self.scheme {
            Scheme::OneView => None,
            Scheme::EncryptedAlias(encryption) => encryption.lock().failed.take(),
            Scheme::SeparateBacking(protection) => protection.lock().failed.take(),
        }
    }

    /// Settles the touch held back. On SEV it goes on and the contents follow it; elsewhere the page's state decides.
    pub fn release(&self) -> Result<Resolution, MemoryError> {
        match &self.scheme {
            Scheme::OneView => Ok(Resolution::Resumed),
            Scheme::EncryptedAlias(encryption) => {
                self.release_encrypted(encryption).map(|()| Resolution::Resumed)
            }
            Scheme::SeparateBacking(protection) => self.settle_protected(protection),
        }
    }

    fn release_encrypted(&self, encryption: &Encryption) -> Result<(), MemoryError> {
        let mut pages = encryption.lock();
        let Some(mismatch) = pages.pending.take() else { return Ok(()) };
        let Some(offset) = self.ram.offset(mismatch.gpa) else { return Ok(()) };
        self.make_accessible(self.mapping(encryption, mismatch.view), mismatch)?;
        if mismatch.kind == AccessKind::Write && self.owner(mismatch.gpa) == Owner::Kernel {
            pages.provisional.insert(mismatch.gpa);
        }
        self.settle(encryption, &mut pages, offset, mismatch.view, mismatch.kind)
    }

    /// Ends the inaccessibility of the page of a pending access: the next one faults anew.
    pub(super) fn make_accessible(&self, mapping: &Mapping, mismatch: Mismatch) -> Result<(), MemoryError> {
        let Mismatch { gpa, view, .. } = mismatch;
        let offset = self.ram.offset(gpa).ok_or(MemoryError::NotRam { gpa, len: PAGE })?;
        mapping.set_accessible(offset, PAGE, true).map_err(|source| MemoryError::Move { gpa, view, source })
    }

    /// Answers one userfault: moves the page, or holds the touch back for [`Self::release`].
    pub(super) fn on_fault(&self, fault: PageFault) {
        let encryption = match &self.scheme {
            Scheme::OneView => return,
            Scheme::EncryptedAlias(encryption) => encryption,
            Scheme::SeparateBacking(protection) => return self.on_protected_fault(protection, fault),
        };
        let mut pages = encryption.lock();
        pages.counters.faults += 1;
        let Some((view, offset)) = self.locate(&encryption.shared, fault.address) else { return };
        let kind = if fault.write { AccessKind::Write } else { AccessKind::Read };
        let gpa = self.ram.gpa(offset);
        let state = pages.states[(offset / PAGE_SIZE) as usize];
        let touch = state.judge(view, kind, self.owner(gpa), pages.announces);
        let failed = |source| MemoryError::Move { gpa, view, source };
        let stop = || {
            self.mapping(encryption, view)
                .set_accessible(offset, PAGE, false)
                .and_then(|()| encryption.uffd.wake(fault.address, PAGE_SIZE))
                .map_err(failed)
        };
        let arrival = (touch == AliasAccess::Mismatch).then(|| {
            let mismatch = Mismatch { gpa, view, state: state.declared().into(), kind };
            pages.pending.arrive(mismatch)
        });
        pages.counters.mismatches += u64::from(matches!(arrival, Some(Arrival::Stop | Arrival::Pass)));
        let outcome = match arrival {
            Some(Arrival::Stop) => stop(),
            Some(Arrival::Again) => encryption.uffd.wake(fault.address, PAGE_SIZE).map_err(failed),
            Some(Arrival::Instead(earlier)) => {
                let mapping = self.mapping(encryption, earlier.view);
                self.make_accessible(mapping, earlier).and_then(|()| stop())
            }
            Some(Arrival::Pass) | None => self.settle(encryption, &mut pages, offset, view, kind),
        };
        if let Err(error) = outcome {
            pages.failed.get_or_insert(error);
            // Whoever waits must not wait for ever; without its page KVM_RUN fails and the error is told.
            let _ = self.mapping(encryption, view).set_accessible(offset, PAGE, false);
            let _ = encryption.uffd.wake(fault.address, PAGE_SIZE);
        }
    }

    fn settle(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        view: View,
        kind: AccessKind,
    ) -> Result<(), MemoryError> {
        let gpa = self.ram.gpa(offset);
        let index = (offset / PAGE_SIZE) as usize;
        let announces = pages.announces;
        if pages.states[index].content() == view {
            let hva = self.mapping(encryption, view).base() + offset;
            encryption.uffd.wake_present(hva).map_err(|source| MemoryError::Move { gpa, view, source })?;
            return Ok(());
        }
        let before = pages.states[index];
        if before.judge(view, kind, self.owner(gpa), announces) == AliasAccess::Mismatch {
            let view = before.content();
            pages.displaced.save(offset, || {
                let mut contents = Box::new([0; PAGE]);
                self.mapping(encryption, view).read(offset, contents.as_mut_slice());
                Displaced { view, contents }
            });
        }
        self.move_page(encryption, pages, offset, view)?;
        let touch = pages.states[index].touch(view, kind, self.owner(gpa), announces);
        let forbidden = touch == AliasAccess::Mismatch;
        pages.watch.note(offset, PageChange::Moved { to: view, forbidden });
        match touch {
            AliasAccess::Declared => {
                pages.counters.declared_moves += 1;
                pages.provisional.remove(&gpa);
                self.apply_consequence(encryption, pages, offset, view)?;
            }
            AliasAccess::Implicit => pages.counters.implicit_moves += 1,
            AliasAccess::Here | AliasAccess::Mismatch => {}
        }
        Ok(())
    }

    /// Moves the neighbours that are declared for `view` and stand in the other: their contents would follow on
    /// the first touch anyway, and a fault costs far more than a page.
    fn apply_consequence(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        view: View,
    ) -> Result<(), MemoryError> {
        for next in 1..FOLLOW {
            let offset = offset + next * PAGE_SIZE;
            let index = (offset / PAGE_SIZE) as usize;
            match pages.states.get(index) {
                Some(state) if state.declared() == view && state.content() != view => {}
                _ => break,
            }
            self.move_page(encryption, pages, offset, view)?;
            pages.states[index].touch(view, AccessKind::Read, Owner::Kernel, true);
            pages.counters.declared_moves += 1;
            pages.watch.note(offset, PageChange::Moved { to: view, forbidden: false });
        }
        Ok(())
    }

    /// Takes the page out of the view it stands in and puts it, transformed, into `to`.
    pub(super) fn move_page(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        to: View,
    ) -> Result<(), MemoryError> {
        let gpa = self.ram.gpa(offset);
        let failed = |source| MemoryError::Move { gpa, view: to, source };
        let mut page = [0u8; PAGE];
        let from = self.mapping(encryption, to.other());
        from.read(offset, &mut page);
        match to {
            View::Shared => encryption.cipher.encrypt(gpa, &mut page),
            View::Private => encryption.cipher.decrypt(gpa, &mut page),
        }
        let is_back = |before: &Displaced| before.view == to && before.contents.as_slice() == page.as_slice();
        if pages.displaced.get(offset).is_some_and(is_back) {
            pages.displaced.forget(offset);
        }
        let chunk = (offset / LARGE_PAGE_SIZE) as usize;
        if !pages.registered[chunk] {
            // Whole 2 MiB chunks bound the number of mappings. Populated first, so that what is missing in a
            // registered chunk stands in the other view, always.
            let start = chunk as u64 * LARGE_PAGE_SIZE;
            self.private.populate(start, LARGE_PAGE_SIZE as usize).map_err(failed)?;
            encryption.uffd.register(self.private.base() + start, LARGE_PAGE_SIZE).map_err(failed)?;
            pages.registered[chunk] = true;
        }
        from.discard(offset, PAGE).map_err(failed)?;
        encryption.uffd.copy(self.mapping(encryption, to).base() + offset, &page).map_err(failed)
    }

    /// Puts every page a mismatch changed back to what it was, so that one test's damage is not the next one's. Gives how
    /// many.
    ///
    /// # Errors
    /// Where a page could not be put back. The guest is of no use to another test then.
    pub fn undo_damage(&self) -> Result<usize, MemoryError> {
        match &self.scheme {
            Scheme::OneView => Ok(0),
            Scheme::EncryptedAlias(encryption) => self.put_displaced_back(encryption),
            Scheme::SeparateBacking(protection) => self.undo_conversions(protection),
        }
    }

    /// Tests start from what memory is now: what mismatches changed until now is not put back. On SEV contents go back to
    /// the view the guest uses, since each access through the other one is a mismatch.
    pub fn mark_start(&self) -> Result<(), MemoryError> {
        match &self.scheme {
            Scheme::OneView => {}
            Scheme::EncryptedAlias(encryption) => {
                let mut pages = encryption.lock();
                pages.displaced = SavedPages::default();
                for index in 0..pages.states.len() {
                    let state = pages.states[index];
                    if (state.declared(), state.content()) == (View::Private, View::Shared) {
                        let offset = index as u64 * PAGE_SIZE;
                        self.move_page(encryption, &mut pages, offset, View::Private)?;
                        pages.states[index].touch(View::Private, AccessKind::Read, Owner::Kernel, true);
                    }
                }
            }
            Scheme::SeparateBacking(protection) => protection.lock().lost = SavedPages::default(),
        }
        Ok(())
    }

    fn put_displaced_back(&self, encryption: &Encryption) -> Result<usize, MemoryError> {
        let mut pages = encryption.lock();
        let displaced = pages.displaced.take()?;
        let count = displaced.len();
        for (offset, Displaced { view, contents }) in displaced {
            let index = (offset / PAGE_SIZE) as usize;
            if pages.states[index].content() != view {
                self.move_page(encryption, &mut pages, offset, view)?;
                pages.states[index].touch(view, AccessKind::Read, Owner::Kernel, true);
            }
            self.mapping(encryption, view).write(offset, contents.as_slice());
            pages.provisional.remove(&self.ram.gpa(offset));
            pages.watch.note(offset, PageChange::PutBack(None));
        }
        Ok(count)
    }

    /// View and mapping offset of a host virtual address.
    pub(super) fn locate(&self, shared: &Mapping, address: u64) -> Option<(View, u64)> {
        [(View::Private, &self.private), (View::Shared, shared)].into_iter().find_map(|(view, m)| {
            let offset = address.checked_sub(m.base())?;
            (offset < m.len() as u64).then_some((view, offset))
        })
    }
}
