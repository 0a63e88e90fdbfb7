// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two separate contents behind two views, as SEV-SNP, TDX and VBS have them.
//!
//! A view may access a page only in the state that admits it. Memory is registered with userfaultfd *only where a
//! view may not access it*, so allowed memory runs without faults and with huge pages, and every userfault is a
//! mismatch. In a 2 MiB chunk that is registered, every page the view may access is present: missing means
//! forbidden. A page the view loses is dropped, as hardware drops its contents.

mod enforcement;
mod refused;
pub mod state;
pub mod table;
mod violation;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use types::{Mode, PageState, View};

pub use self::state::{Answer, Architecture, Cause};
use self::table::PageTable;
pub use self::violation::Resolution;
use super::history::{StateChange, Watch};
use super::pending::Pending;
use super::userfaultfd::Userfaultfd;
use super::view::Mapping;
use super::{GuestMemory, MemoryCounters, MemoryError};
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};

/// The second view, and which view may access which page.
#[derive(Debug)]
pub(super) struct Protection {
    pub(super) shared: Mapping,
    /// `None`: states are kept without enforcement, as no vCPU will run.
    pub(super) uffd: Option<Userfaultfd>,
    state: Mutex<Protected>,
}

#[derive(Debug)]
pub(super) struct Protected {
    mode: Mode,
    pub(super) table: PageTable,
    /// Chunks registered, per view.
    registered: [Vec<bool>; 2],
    pub(super) pending: Pending,
    /// Pages present in a view that may not access them, for the access that is resolved.
    mapped_temporarily: Vec<(View, u64)>,
    /// By offset in RAM, contents of shared pages whose conversion to private was refused, until they are accessed.
    refused: BTreeMap<u64, Box<[u8; PAGE_SIZE as usize]>>,
    pub(super) counters: MemoryCounters,
    pub(super) failed: Option<MemoryError>,
    pub(super) watch: Watch,
}

/// What a request for a range of pages did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Pages in the range that are RAM.
    pub pages: u64,
    /// Of them, pages that were so already.
    pub unchanged: u64,
    /// Of them, pages that needed an implicit conversion by the hypervisor first.
    pub implicit: u64,
}

/// The guest's call has no meaning on this platform, or the memory no such states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this platform's memory has no such call")]
pub struct NoSuchCall;

impl Protection {
    pub(super) fn new(
        architecture: Architecture,
        mode: Mode,
        shared: Mapping,
        uffd: Option<Userfaultfd>,
    ) -> Result<Self, MemoryError> {
        let chunks = shared.len() / LARGE_PAGE_SIZE as usize;
        let state = Protected {
            mode,
            table: PageTable::new(architecture, chunks),
            registered: [vec![false; chunks], vec![true; chunks]],
            pending: Pending::default(),
            mapped_temporarily: Vec::new(),
            refused: BTreeMap::new(),
            counters: MemoryCounters::default(),
            failed: None,
            watch: Watch::default(),
        };
        if let Some(uffd) = &uffd {
            uffd.register(shared.base(), shared.len() as u64).map_err(MemoryError::Userfaultfd)?;
        }
        Ok(Self { shared, uffd, state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Protected> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GuestMemory {
    /// What a mismatch leads to at present, where pages have states.
    pub fn mode(&self) -> Option<Mode> {
        self.protection().map(|protection| protection.lock().mode)
    }

    /// Sets what a mismatch leads to from now on.
    pub fn set_mode(&self, mode: Mode) {
        if let Some(protection) = self.protection() {
            protection.lock().mode = mode;
        }
    }

    /// State of the page at `gpa`, where pages have one.
    pub fn state(&self, gpa: u64) -> Option<PageState> {
        let page = self.ram.offset(gpa)? / PAGE_SIZE;
        self.protection()?.lock().table.state(page as usize)
    }

    /// The page at `gpa` lies in a 2 MiB RMP or SEPT entry.
    pub fn is_large_entry(&self, gpa: u64) -> bool {
        let page = self.ram.offset(gpa).map(|offset| (offset / PAGE_SIZE) as usize);
        page.zip(self.protection()).is_some_and(|(page, p)| p.lock().table.is_large(page))
    }

    /// Splits the 2 MiB entry at `gpa` into 4 KiB entries (PSMASH, SEPT demotion). Returns whether there was one.
    pub fn smash(&self, gpa: u64) -> bool {
        let Some((offset, protection)) = self.ram.offset(gpa).zip(self.protection()) else { return false };
        let chunk = (offset / LARGE_PAGE_SIZE) as usize;
        let mut state = protection.lock();
        let was = state.table.is_large((offset / PAGE_SIZE) as usize);
        state.table.set_large(chunk, false);
        state.counters.smashed += u64::from(was);
        was
    }

    /// Bytes of RAM neither view may access.
    pub fn unaccepted(&self) -> u64 {
        self.protection().map_or(0, |p| p.lock().table.unaccepted() * PAGE_SIZE)
    }

    /// Launches `[gpa, gpa + len)` in a state other than accepted. Contents are lost.
    pub fn launch_as(&self, gpa: u64, len: u64, to: PageState) -> Result<(), MemoryError> {
        let Some(protection) = self.protection() else { return Ok(()) };
        let mut state = protection.lock();
        for (chunk, pages) in self.chunks(gpa, len / PAGE_SIZE) {
            state
                .table
                .set_large(chunk, to == PageState::Unaccepted && pages.len() == table::PAGES_PER_CHUNK);
            let before = state.states_of(&pages);
            for page in pages.clone() {
                state.table.put(page, to);
                state.watch.record(page as u64 * PAGE_SIZE, StateChange::Launched(to));
            }
            self.enforce(protection, &mut state, chunk, pages, &before)?;
        }
        Ok(())
    }

    /// Carries out a guest's request for `[gpa, gpa + pages × 4 KiB)`; what is not RAM is passed over.
    ///
    /// # Errors
    /// [`NoSuchCall`] where the platform has no such request; a host's failure is kept for
    /// [`GuestMemory::take_failure`], as with a fault.
    pub fn apply(&self, gpa: u64, pages: u64, cause: Cause) -> Result<Applied, NoSuchCall> {
        let protection = self.protection().ok_or(NoSuchCall)?;
        let mut state = protection.lock();
        let mut applied = Applied::default();
        for (chunk, range) in self.chunks(gpa, pages) {
            if let Err(error) = self.give_back_all(protection, &mut state, range.clone()) {
                state.failed.get_or_insert(error);
            }
            let before = state.states_of(&range);
            let whole = range.len() == table::PAGES_PER_CHUNK;
            for page in range.clone() {
                let change = state.table.apply(page, cause).ok_or(NoSuchCall)?;
                applied.pages += 1;
                applied.unchanged += u64::from(change.transition.answer == Answer::Unchanged);
                applied.implicit += u64::from(change.transition.implicit);
                let offset = page as u64 * PAGE_SIZE;
                state.record_change(offset, cause, change);
            }
            if matches!(cause, Cause::MakePrivate | Cause::MakeShared) {
                // A large entry has one state; of pages accepted and not, it cannot be made.
                let first = state.table.state(range.start);
                let alike = range.clone().all(|page| state.table.state(page) == first);
                state.table.set_large(chunk, whole && alike);
            }
            match cause {
                Cause::Accept => state.counters.accepted += range.len() as u64,
                Cause::MakePrivate | Cause::MakeShared => state.counters.conversions += range.len() as u64,
                _ => {}
            }
            if let Err(error) = self.enforce(protection, &mut state, chunk, range, &before) {
                state.failed.get_or_insert(error);
            }
        }
        state.counters.mismatches += applied.implicit;
        Ok(applied)
    }

    /// The parts of `[gpa, gpa + pages × 4 KiB)` that are RAM, by chunk, as page numbers in the mapping.
    fn chunks(&self, gpa: u64, pages: u64) -> Vec<(usize, std::ops::Range<usize>)> {
        let end = gpa.saturating_add(pages.saturating_mul(PAGE_SIZE));
        let mut found = Vec::new();
        for (start, len) in self.ram.backed() {
            let (mut at, end) = (start.max(gpa & !(PAGE_SIZE - 1)), (start + len).min(end));
            while at < end {
                let Some(offset) = self.ram.offset(at) else { break };
                let chunk = offset / LARGE_PAGE_SIZE;
                let until = ((chunk + 1) * LARGE_PAGE_SIZE).min(offset + (end - at));
                found.push((
                    chunk as usize,
                    (offset / PAGE_SIZE) as usize..(until.div_ceil(PAGE_SIZE)) as usize,
                ));
                at += until - offset;
            }
        }
        found
    }
}

impl Protected {
    pub(super) fn state(&self, offset: u64) -> Option<PageState> {
        self.table.state((offset / PAGE_SIZE) as usize)
    }

    /// A forbidden access of this page through `view` completes without a change of state. Otherwise the page is
    /// converted for it and holds zeros, as with a real host.
    pub(super) fn permits_access(&self, offset: u64, view: View) -> bool {
        let page = (offset / PAGE_SIZE) as usize;
        self.mode == Mode::Record || self.table.judge(page, Cause::access(view)) == Some(Answer::Tolerated)
    }

    pub(super) fn is_mapped_temporarily(&self, view: View, offset: u64) -> bool {
        self.mapped_temporarily.contains(&(view, offset))
    }

    pub(super) fn states_of(&self, pages: &std::ops::Range<usize>) -> Vec<PageState> {
        self.table.states(pages.clone()).to_vec()
    }

    fn record_change(&mut self, offset: u64, cause: Cause, change: table::Change) {
        let table::Change { from, transition, .. } = change;
        let (to, implicit) = (transition.to, transition.implicit);
        self.watch.record(offset, StateChange::State { cause, from, to, implicit });
    }
}

#[cfg(test)]
mod tests;
