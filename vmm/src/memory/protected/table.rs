// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of every page and the size of every entry: the RMP or SEPT of one guest, without its memory.

use std::ops::Range;

use types::{PageState, View};

use super::super::image::SavedStates;
use super::state::{Answer, Architecture, Cause, Transition, transition};

/// 4 KiB pages in a 2 MiB entry.
pub const PAGES_PER_CHUNK: usize = 512;

/// One page's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Page number in the table.
    pub page: usize,
    /// State before.
    pub from: PageState,
    /// What happened.
    pub transition: Transition,
}

/// States of all pages.
#[derive(Debug)]
pub struct PageTable {
    architecture: Architecture,
    states: Vec<PageState>,
    /// The chunk has one 2 MiB entry.
    large: Vec<bool>,
    /// Pages the private and the shared view may access, per chunk.
    admitted: Vec<[u16; 2]>,
    unaccepted: u64,
}

impl PageTable {
    /// `chunks` × 2 MiB, all private, with 4 KiB entries: what a launch that measures every page leaves.
    pub fn new(architecture: Architecture, chunks: usize) -> Self {
        Self {
            architecture,
            states: vec![PageState::Private; chunks * PAGES_PER_CHUNK],
            large: vec![false; chunks],
            admitted: vec![[PAGES_PER_CHUNK as u16, 0]; chunks],
            unaccepted: 0,
        }
    }

    /// All states.
    pub fn save(&self) -> SavedStates {
        SavedStates::Separate { states: self.states.clone(), large: self.large.clone() }
    }

    /// The architecture that defines the states.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.states.len()
    }

    /// Pages neither view may access.
    pub fn unaccepted(&self) -> u64 {
        self.unaccepted
    }

    /// State of a page.
    pub fn state(&self, page: usize) -> Option<PageState> {
        self.states.get(page).copied()
    }

    /// States of some pages; fewer if there are not that many.
    pub fn states(&self, pages: Range<usize>) -> &[PageState] {
        let end = pages.end.min(self.states.len());
        &self.states[pages.start.min(end)..end]
    }

    /// The page lies in a 2 MiB entry.
    pub fn is_large(&self, page: usize) -> bool {
        self.large.get(page / PAGES_PER_CHUNK).copied().unwrap_or(false)
    }

    /// Pages of the chunk `view` may access.
    pub fn admitted(&self, chunk: usize, view: View) -> usize {
        self.admitted.get(chunk).map_or(0, |counts| usize::from(counts[view.index()]))
    }

    /// Sets the size of the entry: PSMASH, SEPT demotion, or a mapping made anew.
    pub fn set_large(&mut self, chunk: usize, large: bool) {
        if let Some(entry) = self.large.get_mut(chunk) {
            *entry = large;
        }
    }

    /// Sets a state outright: for the launch, and for pages that are restored.
    pub fn put(&mut self, page: usize, to: PageState) -> Option<PageState> {
        let from = std::mem::replace(self.states.get_mut(page)?, to);
        let counts = &mut self.admitted[page / PAGES_PER_CHUNK];
        for view in [View::Private, View::Shared] {
            counts[view.index()] -= u16::from(from.admits(view));
            counts[view.index()] += u16::from(to.admits(view));
        }
        self.unaccepted -= u64::from(from == PageState::Unaccepted);
        self.unaccepted += u64::from(to == PageState::Unaccepted);
        Some(from)
    }

    /// Carries out `cause` on one page; `None` if there is no such page or no such call.
    pub fn apply(&mut self, page: usize, cause: Cause) -> Option<Change> {
        let from = self.state(page)?;
        let transition = transition(self.architecture, from, cause)?;
        if transition.to != from {
            self.put(page, transition.to);
        }
        Some(Change { page, from, transition })
    }

    /// What `cause` would do to one page.
    pub fn judge(&self, page: usize, cause: Cause) -> Option<Answer> {
        Some(transition(self.architecture, self.state(page)?, cause)?.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_follow_any_sequence_of_calls_and_no_state_is_left_without_an_answer(
            architecture in prop::sample::select(Architecture::ALL.to_vec()),
            calls in prop::collection::vec((0usize..3 * PAGES_PER_CHUNK + 2, prop::sample::select(Cause::ALL.to_vec())), 0..200),
        ) {
            let mut table = PageTable::new(architecture, 3);
            for (page, cause) in calls {
                let before = table.state(page);
                let change = table.apply(page, cause);
                prop_assert_eq!(change.map(|c| c.from), before.filter(|_| change.is_some()));
                prop_assert_eq!(change.map(|c| Some(c.transition.to)), change.map(|_| table.state(page)));
            }
            for chunk in 0..3 {
                for view in [View::Private, View::Shared] {
                    let range = chunk * PAGES_PER_CHUNK..(chunk + 1) * PAGES_PER_CHUNK;
                    let counted = range.filter(|p| table.state(*p).unwrap().admits(view)).count();
                    prop_assert_eq!(table.admitted(chunk, view), counted);
                }
            }
            let unaccepted = (0..table.pages()).filter(|p| table.state(*p) == Some(PageState::Unaccepted)).count();
            prop_assert_eq!(table.unaccepted(), unaccepted as u64);
        }
    }
}
