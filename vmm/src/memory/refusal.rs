// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Conversions that were refused: no page changes its state, and its history says why.

use types::View;

use super::GuestMemory;
use super::history::StateChange;
use crate::layout::PAGE_SIZE;

impl GuestMemory {
    /// The guest requested that these pages become `to`, and was refused. Pages that are not RAM are passed over. Those that stay
    /// shared must not be used again: the first access to each is recorded as forbidden.
    pub fn note_refusal(&self, gpa: u64, pages: u64, to: View) {
        for offset in self.offsets(gpa, pages) {
            self.with_watch(|watch| watch.record(offset, StateChange::Refused(to)));
        }
        if to == View::Private
            && let Err(error) = self.withhold(self.offsets(gpa, pages))
        {
            self.fail(error);
        }
    }

    /// The mapping offset of each page of the range that is RAM.
    fn offsets(&self, gpa: u64, pages: u64) -> impl Iterator<Item = u64> {
        let end = gpa.saturating_add(pages.saturating_mul(PAGE_SIZE));
        self.ram.backed().into_iter().flat_map(move |(start, len)| {
            let (first, end) = (start.max(gpa & !(PAGE_SIZE - 1)), end.min(start + len));
            (first..end.max(first)).step_by(PAGE_SIZE as usize).filter_map(|at| self.ram.offset(at))
        })
    }
}
