// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All RAM of a guest at one instant: page states, and of each page the contents in the view that its state admits.
//!
//! Restoring makes memory equal to it: states are compared one by one, contents only of the pages that may have changed.
//! Which these are is known from KVM's dirty log and from what this process wrote itself.

use std::ops::Range;

use types::{PageState, View};

use super::cipher::PAGE;
use super::history::StateChange;
use super::page_set::PageSet;
use super::pending::Pending;
use super::protected::table::PAGES_PER_CHUNK;
use super::protected::{Protected, Protection};
use super::state::AliasState;
use super::view::Mapping;
use super::{Encryption, GuestMemory, MemoryError, Pages, Scheme};
use crate::layout::PAGE_SIZE;

/// RAM at one instant.
#[derive(Debug)]
pub struct MemoryImage {
    /// By mapping offset, what the view that a page's state admits shows.
    contents: Mapping,
    /// Pages that are not all zeros.
    filled: PageSet,
    states: SavedStates,
}

/// The page states, as the platform has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SavedStates {
    /// None.
    OneView,
    /// Views of one content.
    Alias {
        /// By page.
        states: Vec<AliasState>,
        /// The guest reports its conversions.
        map_gpa_range_enabled: bool,
    },
    /// Two contents.
    Separate {
        /// By page.
        states: Vec<PageState>,
        /// By chunk of 2 MiB: it has one large entry.
        large: Vec<bool>,
    },
}

impl SavedStates {
    /// A page has the same state in `other`.
    fn is_same(&self, other: &Self, page: usize) -> bool {
        match (self, other) {
            (Self::OneView, Self::OneView) => true,
            (Self::Alias { states, .. }, Self::Alias { states: others, .. }) => {
                states.get(page) == others.get(page)
            }
            (Self::Separate { states, .. }, Self::Separate { states: others, .. }) => {
                states.get(page) == others.get(page)
            }
            _ => false,
        }
    }
}

/// What restoring did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Pages whose contents were compared.
    pub compared: usize,
    /// Pages that differed, in contents or state.
    pub changed: PageSet,
}

/// A restoration that is going on.
struct Restoring<'a> {
    image: &'a MemoryImage,
    /// The memory is a new machine's: what may differ does.
    fresh: bool,
    /// Pages that differed so far.
    changed: PageSet,
}

/// An image does not fit this memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the image is of {image} MiB of another kind of guest memory, this guest has {memory} MiB")]
pub struct Unfit {
    image: u64,
    memory: u64,
}

impl MemoryImage {
    /// An empty image: zeros in these states.
    pub fn new(states: SavedStates, mapped_size: u64) -> Result<Self, MemoryError> {
        let contents = Mapping::new(mapped_size)
            .map_err(|source| MemoryError::Reserve { mib: mapped_size >> 20, source })?;
        Ok(Self { filled: PageSet::new(contents.len() / PAGE), contents, states })
    }

    /// The page states.
    pub fn states(&self) -> &SavedStates {
        &self.states
    }

    /// Pages that are not all zeros.
    pub fn filled(&self) -> &PageSet {
        &self.filled
    }

    /// Bytes of RAM, in one view.
    pub fn mapped_size(&self) -> u64 {
        self.contents.len() as u64
    }

    /// Pages of RAM.
    pub fn pages(&self) -> usize {
        self.contents.len() / PAGE
    }

    /// Contents of a page.
    pub fn page(&self, page: usize, buffer: &mut [u8; PAGE]) {
        self.contents.read(page as u64 * PAGE_SIZE, buffer);
    }

    /// Sets the contents of a page; `false` if there is no such page.
    pub fn set_page(&mut self, page: usize, contents: &[u8; PAGE]) -> bool {
        let written = self.contents.set_page(page as u64 * PAGE_SIZE, contents);
        if written {
            self.filled.insert(page);
        }
        written
    }

    /// Pages in which `other`, of a guest of the same size, has another state or other contents.
    pub fn differences(&self, other: &Self) -> PageSet {
        let mut pages = PageSet::new(self.pages());
        let mut filled = self.filled.clone();
        filled.union(&other.filled);
        for page in filled.iter() {
            if !self.contents.page_equals(page as u64 * PAGE_SIZE, &other.contents) {
                pages.insert(page);
            }
        }
        for page in (0..self.pages()).filter(|page| !self.states.is_same(&other.states, *page)) {
            pages.insert(page);
        }
        pages
    }

    fn take_page(&mut self, from: &Mapping, page: usize) {
        let offset = page as u64 * PAGE_SIZE;
        if !from.page_is_zero(offset) && self.contents.copy_page(offset, from) {
            self.filled.insert(page);
        }
    }
}

impl GuestMemory {
    /// Saves all of RAM. The guest does not run, and nothing forbidden is pending.
    pub fn save(&self) -> Result<MemoryImage, MemoryError> {
        let failed = |source| MemoryError::Inspect { mib: self.ram.mapped_size() >> 20, source };
        let private = self.private.resident_pages().map_err(failed)?;
        let shared = self.shared().map_or(Ok(PageSet::default()), Mapping::resident_pages).map_err(failed)?;
        let size = self.ram.mapped_size();
        self.revoke_temporary_mappings()?;
        match &self.scheme {
            Scheme::OneView => {
                let mut image = MemoryImage::new(SavedStates::OneView, size)?;
                private.iter().for_each(|page| image.take_page(&self.private, page));
                Ok(image)
            }
            Scheme::EncryptedAlias(encryption) => {
                let pages = encryption.lock();
                let map_gpa_range_enabled = pages.map_gpa_range_enabled;
                let saved = SavedStates::Alias { states: pages.states.clone(), map_gpa_range_enabled };
                let mut image = MemoryImage::new(saved, size)?;
                for (page, state) in pages.states.iter().enumerate() {
                    let resident = if state.content() == View::Private { &private } else { &shared };
                    if resident.contains(page) {
                        image.take_page(self.mapping(encryption, state.content()), page);
                    }
                }
                Ok(image)
            }
            Scheme::SeparateBacking(protection) => {
                let state = protection.lock();
                let mut image = MemoryImage::new(state.table.save(), size)?;
                for page in 0..state.table.pages() {
                    let Some((view, resident)) = admitted_view(state.table.state(page))
                        .map(|view| (view, if view == View::Private { &private } else { &shared }))
                    else {
                        continue;
                    };
                    if resident.contains(page) {
                        image.take_page(self.view_mapping(protection, view), page);
                    }
                }
                Ok(image)
            }
        }
    }

    /// Makes memory what it was when `image` was saved. `dirty`: pages whose contents may differ; those that this
    /// process changed are added to them. `fresh`: the memory is a new machine's, in which nearly all of these do.
    ///
    /// # Errors
    /// Where that is not possible. The guest is in no known state then.
    pub fn restore(
        &self,
        image: &MemoryImage,
        dirty: &mut PageSet,
        fresh: bool,
    ) -> Result<Restored, MemoryError> {
        let unfit = MemoryError::Unfit(Unfit {
            image: image.mapped_size() >> 20,
            memory: self.ram.mapped_size() >> 20,
        });
        if image.mapped_size() != self.ram.mapped_size() {
            return Err(unfit);
        }
        if let Some(failure) = self.take_failure() {
            return Err(failure);
        }
        dirty.union(&self.private.take_touched());
        if let Some(shared) = self.shared() {
            dirty.union(&shared.take_touched());
        }
        let mut restoring = Restoring { image, fresh, changed: PageSet::new(image.contents.len() / PAGE) };
        let compared = dirty.len();
        match (&self.scheme, &image.states) {
            (Scheme::OneView, SavedStates::OneView) => {
                for page in dirty.iter() {
                    self.restore_contents(&self.private, page, &mut restoring);
                }
            }
            (Scheme::EncryptedAlias(encryption), SavedStates::Alias { states, map_gpa_range_enabled }) => {
                let mut pages = encryption.lock();
                pages.map_gpa_range_enabled = *map_gpa_range_enabled;
                self.restore_aliases(encryption, &mut pages, states, dirty, &mut restoring)?;
            }
            (Scheme::SeparateBacking(protection), SavedStates::Separate { states, large }) => {
                let mut state = protection.lock();
                self.restore_separate(protection, &mut state, (states, large), dirty, &mut restoring)?;
            }
            _ => return Err(unfit),
        }
        // What restoring wrote is as saved.
        self.forget_touched();
        Ok(Restored { compared, changed: restoring.changed })
    }

    /// What this process changed up to now is not to be restored: memory is as it was saved.
    pub fn forget_touched(&self) {
        self.private.take_touched();
        if let Some(shared) = self.shared() {
            shared.take_touched();
        }
    }

    /// Forgets the pending access, whose page becomes accessible.
    fn forget_pending(&self, pending: &mut Pending) -> Result<(), MemoryError> {
        if let Some(mismatch) = pending.take() {
            let mapping = if mismatch.view == View::Private { Some(&self.private) } else { self.shared() };
            mapping.map_or(Ok(()), |mapping| self.make_accessible(mapping, mismatch))?;
        }
        pending.take_passed();
        Ok(())
    }

    fn restore_contents(&self, mapping: &Mapping, page: usize, restoring: &mut Restoring<'_>) {
        let offset = page as u64 * PAGE_SIZE;
        let is_ram = self.ram.offset(self.ram.gpa(offset)).is_some();
        // Looking at a page that was never used would make it one that is.
        if !is_ram || !restoring.fresh && mapping.page_equals(offset, &restoring.image.contents) {
            return;
        }
        mapping.copy_page(offset, &restoring.image.contents);
        restoring.changed.insert(page);
    }

    fn restore_aliases(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        saved: &[AliasState],
        dirty: &PageSet,
        restoring: &mut Restoring<'_>,
    ) -> Result<(), MemoryError> {
        self.forget_pending(&mut pages.pending)?;
        let mut pending = dirty.clone();
        for first in (0..saved.len()).step_by(PAGES_PER_CHUNK) {
            let chunk = first..(first + PAGES_PER_CHUNK).min(saved.len());
            if differ(&pages.states[chunk.clone()], &saved[chunk.clone()]) {
                chunk.for_each(|page| pending.insert(page));
            }
        }
        for (page, saved) in pending.iter().filter_map(|page| Some((page, saved.get(page)?))) {
            let now = pages.states[page];
            let offset = page as u64 * PAGE_SIZE;
            if now.content() != saved.content() {
                let mut contents = [0; PAGE];
                restoring.image.contents.read(offset, &mut contents);
                self.place_pages(encryption, pages, offset, saved.content(), &contents)?;
                restoring.changed.insert(page);
            } else if dirty.contains(page) {
                self.restore_contents(self.mapping(encryption, now.content()), page, restoring);
            }
            if now != *saved {
                pages.states[page] = *saved;
                restoring.changed.insert(page);
                pages.watch.record(offset, StateChange::Restored(None));
            }
        }
        pages.provisional.clear();
        pages.confirmed.clear();
        Ok(())
    }

    fn restore_separate(
        &self,
        protection: &Protection,
        state: &mut Protected,
        (saved, large): (&[PageState], &[bool]),
        dirty: &PageSet,
        restoring: &mut Restoring<'_>,
    ) -> Result<(), MemoryError> {
        self.forget_pending(&mut state.pending)?;
        self.unmap_temporary_mappings(protection, state)?;
        for (chunk, large) in large.iter().enumerate() {
            let pages = chunk * PAGES_PER_CHUNK..(chunk + 1) * PAGES_PER_CHUNK;
            state.table.set_large(chunk, *large);
            if !differ(state.table.states(pages.clone()), &saved[pages.clone()]) {
                continue;
            }
            let before = state.states_of(&pages);
            self.restore_states(protection, state, saved, pages.clone(), &before)?;
            for page in
                pages.zip(before).filter(|(page, before)| *before != saved[*page]).map(|(page, _)| page)
            {
                // In place of what a view has gained with the page.
                if let Some(view) = admitted_view(Some(saved[page])) {
                    self.restore_contents(self.view_mapping(protection, view), page, restoring);
                }
                restoring.changed.insert(page);
            }
        }
        for page in dirty.iter() {
            if let Some(view) = admitted_view(saved.get(page).copied()) {
                self.restore_contents(self.view_mapping(protection, view), page, restoring);
            }
        }
        Ok(())
    }

    /// Makes the states of one chunk those that were saved; pages that a view gains hold zeros.
    fn restore_states(
        &self,
        protection: &Protection,
        state: &mut Protected,
        saved: &[PageState],
        pages: Range<usize>,
        before: &[PageState],
    ) -> Result<(), MemoryError> {
        for page in pages.clone() {
            if state.table.put(page, saved[page]) != Some(saved[page]) {
                state.watch.record(page as u64 * PAGE_SIZE, StateChange::Restored(Some(saved[page])));
            }
        }
        let chunk = pages.start / PAGES_PER_CHUNK;
        self.enforce(protection, state, chunk, pages, before)
    }
}

/// Some pages have other states.
#[expect(clippy::needless_bitwise_bool, reason = "a loop without branches becomes one of vectors")]
fn differ<T: PartialEq>(states: &[T], others: &[T]) -> bool {
    states.iter().zip(others).fold(false, |differ, (one, other)| differ | (one != other))
}

/// The view that may access a page in this state.
fn admitted_view(state: Option<PageState>) -> Option<View> {
    [View::Private, View::Shared].into_iter().find(|view| state.is_some_and(|state| state.admits(*view)))
}
