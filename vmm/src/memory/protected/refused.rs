// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shared pages whose conversion to private was refused: the guest must not use them again.
//!
//! Their state admits the shared view, through which a kernel that frees such a page goes on to use it, so the state alone
//! shows no mistake. Until the first access the VMM keeps the contents of such a page, which is missing in the shared view.
//! That access is recorded, and the page is what it was.

use std::ops::Range;

use types::{PageState, View};

use super::super::cipher::PAGE;
use super::super::{GuestMemory, MemoryError};
use super::{Protected, Protection};
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};

impl GuestMemory {
    /// Watches for an access to the shared pages among these, at offsets in RAM.
    pub(in super::super) fn withhold(&self, offsets: impl Iterator<Item = u64>) -> Result<(), MemoryError> {
        let Some(protection) = self.protection() else { return Ok(()) };
        let Some(uffd) = &protection.uffd else { return Ok(()) };
        let mut state = protection.lock();
        for offset in offsets {
            let is_shared = state.state(offset) == Some(PageState::Shared);
            if !is_shared || state.refused.contains_key(&offset) {
                continue;
            }
            let failed = |source| MemoryError::Move { gpa: self.ram.gpa(offset), view: View::Shared, source };
            let chunk = offset / LARGE_PAGE_SIZE;
            let start = chunk * LARGE_PAGE_SIZE;
            let registered = &mut state.registered[View::Shared.index()][chunk as usize];
            if !*registered {
                // A page missing in a registered chunk is inaccessible, so every other page must be present.
                protection.shared.populate(start, LARGE_PAGE_SIZE as usize).map_err(failed)?;
                uffd.register(protection.shared.base() + start, LARGE_PAGE_SIZE).map_err(failed)?;
                *registered = true;
            }
            let mut page = Box::new([0; PAGE]);
            protection.shared.read(offset, &mut page[..]);
            protection.shared.discard(offset, PAGE).map_err(failed)?;
            state.refused.insert(offset, page);
        }
        Ok(())
    }

    /// Ends that for the page at `offset`: it is present again. Returns whether it was watched.
    pub(in super::super) fn give_back(
        &self,
        protection: &Protection,
        state: &mut Protected,
        offset: u64,
    ) -> Result<bool, MemoryError> {
        let Some(page) = state.refused.remove(&offset) else { return Ok(false) };
        let failed = |source| MemoryError::Move { gpa: self.ram.gpa(offset), view: View::Shared, source };
        if let Some(uffd) = &protection.uffd {
            protection.shared.put(uffd, offset, &page[..]).map_err(failed)?;
        }
        Ok(true)
    }

    /// The same for every page of a range of page numbers; gives their offsets.
    pub(in super::super) fn give_back_all(
        &self,
        protection: &Protection,
        state: &mut Protected,
        pages: Range<usize>,
    ) -> Result<Vec<u64>, MemoryError> {
        let range = pages.start as u64 * PAGE_SIZE..pages.end as u64 * PAGE_SIZE;
        let offsets: Vec<u64> = state.refused.range(range).map(|(offset, _)| *offset).collect();
        for offset in &offsets {
            self.give_back(protection, state, *offset)?;
        }
        Ok(offsets)
    }

    /// Makes every watched page present, so that memory can be saved or restored; gives their addresses.
    pub(crate) fn give_back_refused(&self) -> Result<Vec<u64>, MemoryError> {
        let Some(protection) = self.protection() else { return Ok(Vec::new()) };
        let mut state = protection.lock();
        let pages = state.table.pages();
        let offsets = self.give_back_all(protection, &mut state, 0..pages)?;
        Ok(offsets.into_iter().map(|offset| self.ram.gpa(offset)).collect())
    }

    /// Watches these pages, by address, again.
    pub(crate) fn withhold_refused(&self, pages: &[u64]) -> Result<(), MemoryError> {
        self.withhold(pages.iter().filter_map(|gpa| self.ram.offset(*gpa)))
    }
}

impl Protected {
    /// A page of this chunk of the shared view is watched.
    pub(super) fn has_refused(&self, chunk: usize, view: View) -> bool {
        let start = chunk as u64 * LARGE_PAGE_SIZE;
        view == View::Shared && self.refused.range(start..start + LARGE_PAGE_SIZE).next().is_some()
    }

    /// The contents of a watched page, as the shared view shows them.
    pub(in super::super) fn refused_page(&mut self, view: View, offset: u64) -> Option<&mut [u8; PAGE]> {
        let page =
            (view == View::Shared).then(|| self.refused.get_mut(&(offset & !(PAGE_SIZE - 1)))).flatten();
        page.map(Box::as_mut)
    }
}
