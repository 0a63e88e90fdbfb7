// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happens when a page is accessed through the view that its contents are not in.

use types::{AccessKind, View};

use super::cipher::PAGE;
use super::history::StateChange;
use super::pending::{FaultAction, Pending};
use super::protected::Resolution;
use super::state::{AliasAccess, AliasState, Owner};
use super::userfaultfd::PageFault;
use super::view::Mapping;
use super::{Encryption, GuestMemory, MemoryError, Mismatch, Pages, Scheme};
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};

/// Pages moved for one fault at most.
const MAX_PAGES_MOVED: usize = 64;

impl GuestMemory {
    /// The forbidden access the vCPU is stopped at, if there is one.
    pub fn pending(&self) -> Option<Mismatch> {
        self.with_pending(|pending| pending.stopped()).flatten()
    }

    /// `KVM_RUN` returned for another reason before the pending access completed: the guest makes it again.
    pub fn postpone(&self) {
        self.with_pending(Pending::postpone);
    }

    /// There are accesses that [`Self::take_passed`] returns.
    pub fn has_passed(&self) -> bool {
        self.with_pending(|pending| pending.has_passed()).unwrap_or(false)
    }

    /// Takes the forbidden accesses that completed because KVM cannot stop at them.
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

    /// Resolves the pending access. On SEV it completes and the contents are moved; elsewhere the page's state decides.
    pub fn release(&self) -> Result<Resolution, MemoryError> {
        match &self.scheme {
            Scheme::OneView => Ok(Resolution::Resumed),
            Scheme::EncryptedAlias(encryption) => {
                self.release_encrypted(encryption).map(|()| Resolution::Resumed)
            }
            Scheme::SeparateBacking(protection) => self.resolve_protected_access(protection),
        }
    }

    /// The pending access was not the guest's: it goes on, and makes another.
    pub(crate) fn dismiss_pending(&self) -> Result<(), MemoryError> {
        let Some(mismatch) = self.with_pending(Pending::take).flatten() else { return Ok(()) };
        match &self.scheme {
            Scheme::OneView => Ok(()),
            Scheme::EncryptedAlias(encryption) => {
                encryption.lock().counters.mismatches -= 1;
                self.make_accessible(self.mapping(encryption, mismatch.view), mismatch)
            }
            Scheme::SeparateBacking(protection) => {
                protection.lock().counters.mismatches -= 1;
                self.make_accessible(self.view_mapping(protection, mismatch.view), mismatch)
            }
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
        self.resolve_access(encryption, &mut pages, offset, mismatch.view, mismatch.kind)
    }

    /// Ends the inaccessibility of the page of a pending access: the next one faults anew.
    pub(super) fn make_accessible(&self, mapping: &Mapping, mismatch: Mismatch) -> Result<(), MemoryError> {
        let Mismatch { gpa, view, .. } = mismatch;
        let offset = self.ram.offset(gpa).ok_or(MemoryError::NotRam { gpa, len: PAGE })?;
        mapping.set_accessible(offset, PAGE, true).map_err(|source| MemoryError::Move { gpa, view, source })
    }

    /// Handles one userfault: moves the page, or makes the access pending until [`Self::release`].
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
        let access = state.judge(view, kind, self.owner(gpa), pages.map_gpa_range_enabled);
        let failed = |source| MemoryError::Move { gpa, view, source };
        let stop = || {
            self.mapping(encryption, view)
                .set_accessible(offset, PAGE, false)
                .and_then(|()| encryption.uffd.wake(fault.address, PAGE_SIZE))
                .map_err(failed)
        };
        let action = (access == AliasAccess::Mismatch).then(|| {
            let mismatch = Mismatch { gpa, view, state: state.declared().into(), kind, refused: false };
            pages.pending.arrive(mismatch)
        });
        pages.counters.mismatches += u64::from(matches!(action, Some(FaultAction::Stop | FaultAction::Pass)));
        let outcome = match action {
            Some(FaultAction::Stop) => stop(),
            Some(FaultAction::Again) => encryption.uffd.wake(fault.address, PAGE_SIZE).map_err(failed),
            Some(FaultAction::Instead(earlier)) => {
                let mapping = self.mapping(encryption, earlier.view);
                self.make_accessible(mapping, earlier).and_then(|()| stop())
            }
            Some(FaultAction::Pass) | None => self.resolve_access(encryption, &mut pages, offset, view, kind),
        };
        if let Err(error) = outcome {
            pages.failed.get_or_insert(error);
            // The vCPU must not wait for ever: without its page KVM_RUN fails and the error is reported.
            let _ = self.mapping(encryption, view).set_accessible(offset, PAGE, false);
            let _ = encryption.uffd.wake(fault.address, PAGE_SIZE);
        }
    }

    fn resolve_access(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        view: View,
        kind: AccessKind,
    ) -> Result<(), MemoryError> {
        let gpa = self.ram.gpa(offset);
        let index = (offset / PAGE_SIZE) as usize;
        let map_gpa_range_enabled = pages.map_gpa_range_enabled;
        if pages.states[index].content() == view {
            let hva = self.mapping(encryption, view).base() + offset;
            encryption.uffd.wake_present(hva).map_err(|source| MemoryError::Move { gpa, view, source })?;
            return Ok(());
        }
        self.move_page(encryption, pages, offset, view)?;
        let access = pages.states[index].access(view, kind, self.owner(gpa), map_gpa_range_enabled);
        let forbidden = access == AliasAccess::Mismatch;
        pages.watch.record(offset, StateChange::Moved { to: view, forbidden });
        match access {
            AliasAccess::Declared => {
                pages.counters.declared_moves += 1;
                pages.provisional.remove(&gpa);
                self.move_neighbours(encryption, pages, offset, view)?;
            }
            AliasAccess::Implicit => pages.counters.implicit_moves += 1,
            AliasAccess::Here | AliasAccess::Mismatch => {}
        }
        Ok(())
    }

    /// Moves the following pages that are declared for `view` and are in the other: their first access would move them
    /// anyway, and a fault costs far more than a page.
    fn move_neighbours(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        view: View,
    ) -> Result<(), MemoryError> {
        let first = (offset / PAGE_SIZE) as usize + 1;
        let waiting = |state: &&AliasState| state.declared() == view && state.content() != view;
        let following = pages.states.get(first..).unwrap_or_default();
        let count = following.iter().take(MAX_PAGES_MOVED - 1).take_while(waiting).count();
        if count == 0 {
            return Ok(());
        }
        self.move_pages(encryption, pages, offset + PAGE_SIZE, count, view)?;
        for index in first..first + count {
            pages.states[index].access(view, AccessKind::Read, Owner::Kernel, true);
            pages.counters.declared_moves += 1;
            pages.watch.record(index as u64 * PAGE_SIZE, StateChange::Moved { to: view, forbidden: false });
        }
        Ok(())
    }

    /// Moves the page from the view it is in to `to`, encrypted or decrypted.
    pub(super) fn move_page(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        to: View,
    ) -> Result<(), MemoryError> {
        self.move_pages(encryption, pages, offset, 1, to)
    }

    /// The same for `count` pages from `offset` on, all in the other view.
    fn move_pages(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        count: usize,
        to: View,
    ) -> Result<(), MemoryError> {
        let from = self.mapping(encryption, to.other());
        let mut contents = vec![[0; PAGE]; count];
        for (page, at) in contents.iter_mut().zip((offset..).step_by(PAGE)) {
            from.read(at, page);
            let gpa = self.ram.gpa(at);
            match to {
                View::Shared => encryption.cipher.encrypt(gpa, page),
                View::Private => encryption.cipher.decrypt(gpa, page),
            }
        }
        self.place_pages(encryption, pages, offset, to, contents.as_flattened())
    }

    /// Puts the contents of one or several pages into the view `to`, and drops them in the other one.
    pub(super) fn place_pages(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        to: View,
        contents: &[u8],
    ) -> Result<(), MemoryError> {
        let failed = |source| MemoryError::Move { gpa: self.ram.gpa(offset), view: to, source };
        let end = offset + contents.len() as u64;
        for chunk in offset / LARGE_PAGE_SIZE..end.div_ceil(LARGE_PAGE_SIZE) {
            if !pages.registered[chunk as usize] {
                // Whole 2 MiB chunks bound the number of mappings. Populated first, so that what is missing in a
                // registered chunk is always in the other view.
                let start = chunk * LARGE_PAGE_SIZE;
                self.private.populate(start, LARGE_PAGE_SIZE as usize).map_err(failed)?;
                encryption.uffd.register(self.private.base() + start, LARGE_PAGE_SIZE).map_err(failed)?;
                pages.registered[chunk as usize] = true;
            }
        }
        self.mapping(encryption, to.other()).discard(offset, contents.len()).map_err(failed)?;
        self.mapping(encryption, to).put(&encryption.uffd, offset, contents).map_err(failed)
    }

    /// Moves the contents of every page that the guest declared private to the private view (SEV): where an access has left
    /// them in the other one, the next such access would not be a mismatch.
    pub fn move_private_contents(&self) -> Result<(), MemoryError> {
        let Some(encryption) = self.encryption() else { return Ok(()) };
        let mut pages = encryption.lock();
        for index in 0..pages.states.len() {
            let state = pages.states[index];
            if (state.declared(), state.content()) == (View::Private, View::Shared) {
                self.move_page(encryption, &mut pages, index as u64 * PAGE_SIZE, View::Private)?;
                pages.states[index].access(View::Private, AccessKind::Read, Owner::Kernel, true);
            }
        }
        Ok(())
    }

    /// View and mapping offset of a host virtual address.
    pub(super) fn locate(&self, shared: &Mapping, address: u64) -> Option<(View, u64)> {
        [(View::Private, &self.private), (View::Shared, shared)].into_iter().find_map(|(view, m)| {
            let offset = address.checked_sub(m.base())?;
            (offset < m.len() as u64).then_some((view, offset))
        })
    }
}
