// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sets up the host's mappings according to the page states.

use std::ops::Range;

use types::{PageState, View};

use super::super::cipher::PAGE;
use super::super::{GuestMemory, MemoryError};
use super::table::PAGES_PER_CHUNK;
use super::{Protected, Protection};
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};
use crate::marker::{self, Tag};

/// Pages put in place by one ioctl.
const RUN: usize = 64;
static ZEROS: [u8; RUN * PAGE] = [0; RUN * PAGE];

impl GuestMemory {
    /// Brings both views of `pages`, all of one chunk, from the states `before` to those in the table. What a view gains
    /// holds zeros.
    pub(in super::super) fn enforce(
        &self,
        protection: &Protection,
        state: &mut Protected,
        chunk: usize,
        pages: Range<usize>,
        before: &[PageState],
    ) -> Result<(), MemoryError> {
        let Some(uffd) = &protection.uffd else {
            return self.set_contents(protection, state, pages, before);
        };
        for view in [View::Private, View::Shared] {
            let (granted, revoked) = changes(pages.start, before, state.table.states(pages.clone()), view);
            if granted.is_empty() && revoked.is_empty() {
                continue;
            }
            let mapping = self.view_mapping(protection, view);
            let start = chunk as u64 * LARGE_PAGE_SIZE;
            let failed = |source| MemoryError::Move { gpa: self.ram.gpa(start), view, source };
            let admitted = state.table.admitted(chunk, view);
            let has_refused = state.has_refused(chunk, view);
            // Pages present for one access only, with other bytes.
            let temporary = &state.mapped_temporarily;
            let registered = &mut state.registered[view.index()][chunk];
            if admitted == PAGES_PER_CHUNK && !has_refused {
                for page in granted.into_iter().flatten() {
                    let offset = page as u64 * PAGE_SIZE;
                    if temporary.contains(&(view, offset)) {
                        mapping.write(offset, &ZEROS[..PAGE]);
                    }
                }
                if *registered {
                    uffd.unregister(mapping.base() + start, LARGE_PAGE_SIZE).map_err(failed)?;
                    *registered = false;
                }
                continue;
            }
            if !*registered {
                if admitted > 0 {
                    // A page missing in a registered chunk is forbidden, so every allowed page must be present.
                    mapping.populate(start, LARGE_PAGE_SIZE as usize).map_err(failed)?;
                }
                uffd.register(mapping.base() + start, LARGE_PAGE_SIZE).map_err(failed)?;
                *registered = true;
            }
            for run in revoked {
                mapping.discard(run.start as u64 * PAGE_SIZE, run.len() * PAGE).map_err(failed)?;
            }
            for run in granted {
                let mut page = run.start;
                while page < run.end {
                    let count = RUN.min(run.end - page);
                    let offset = page as u64 * PAGE_SIZE;
                    let first_temporary = (page..page + count)
                        .find(|page| temporary.contains(&(view, *page as u64 * PAGE_SIZE)))
                        .unwrap_or(page + count);
                    let fresh = first_temporary - page;
                    if fresh > 0 {
                        mapping.put(uffd, offset, &ZEROS[..fresh * PAGE]).map_err(failed)?;
                        page += fresh;
                    } else {
                        mapping.write(offset, &ZEROS[..PAGE]);
                        page += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// The same without userfaultfd: contents only.
    fn set_contents(
        &self,
        protection: &Protection,
        state: &Protected,
        pages: Range<usize>,
        before: &[PageState],
    ) -> Result<(), MemoryError> {
        for (page, was) in pages.zip(before) {
            for view in [View::Private, View::Shared] {
                let now = state.table.state(page).is_some_and(|s| s.admits(view));
                let offset = page as u64 * PAGE_SIZE;
                let mapping = self.view_mapping(protection, view);
                if was.admits(view) && !now {
                    let failed = |source| MemoryError::Move { gpa: self.ram.gpa(offset), view, source };
                    mapping.discard(offset, PAGE).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// Maps a page into a view that may not access it, for one access.
    pub(super) fn map_temporarily(
        &self,
        protection: &Protection,
        state: &mut Protected,
        view: View,
        offset: u64,
    ) -> Result<(), MemoryError> {
        let mut page = [0; PAGE];
        if view == View::Shared {
            marker::fill(Tag::Shared, self.ram.gpa(offset), &mut page);
        }
        let mapping = self.view_mapping(protection, view);
        match &protection.uffd {
            Some(uffd) => mapping.put(uffd, offset, &page).map_err(|source| MemoryError::Move {
                gpa: self.ram.gpa(offset),
                view,
                source,
            })?,
            None => {
                mapping.write(offset, &page);
            }
        }
        state.mapped_temporarily.push((view, offset));
        Ok(())
    }

    /// Unmaps every page that is mapped temporarily.
    pub(in super::super) fn unmap_temporary_mappings(
        &self,
        protection: &Protection,
        state: &mut Protected,
    ) -> Result<(), MemoryError> {
        for (view, offset) in std::mem::take(&mut state.mapped_temporarily) {
            if state.state(offset).is_none_or(|s| !s.admits(view)) {
                self.view_mapping(protection, view)
                    .discard(offset, PAGE)
                    .map_err(|source| MemoryError::Move { gpa: self.ram.gpa(offset), view, source })?;
            }
        }
        Ok(())
    }

    pub(in super::super) fn view_mapping<'a>(
        &'a self,
        protection: &'a Protection,
        view: View,
    ) -> &'a super::super::view::Mapping {
        match view {
            View::Private => &self.private,
            View::Shared => &protection.shared,
        }
    }
}

/// The runs of pages that `view` may access from now on, and of those that it may not access any more. `first` is the
/// number of the page that both slices begin with.
fn changes(
    first: usize,
    before: &[PageState],
    after: &[PageState],
    view: View,
) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let (mut granted, mut revoked) = (Vec::new(), Vec::new());
    let mut push = |page: usize, len: usize, was: PageState, now: PageState| {
        let runs: &mut Vec<Range<usize>> = match (was.admits(view), now.admits(view)) {
            (false, true) => &mut granted,
            (true, false) => &mut revoked,
            _ => return,
        };
        match runs.last_mut() {
            Some(run) if run.end == page => run.end += len,
            _ => runs.push(page..page + len),
        }
    };
    // Most requests change all their pages alike, so equal neighbours are counted first.
    let (mut at, len) = (0, before.len().min(after.len()));
    while at < len {
        let alike = |i: &usize| (before[*i], after[*i]) == (before[at], after[at]);
        let count = (at..len).take_while(alike).count();
        push(first + at, count, before[at], after[at]);
        at += count;
    }
    (granted, revoked)
}
