// SPDX-License-Identifier: Apache-2.0 OR MIT
//! At which byte of a guest's output each of its forbidden accesses was made.
//!
//! A guest writes to its console and its ports by instructions that stop it, in the order in which it makes accesses. So the
//! count of accesses when a byte is written tells exactly which of them were made before it, and time plays no part.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::event_log::MAX_EVENTS;

/// The number of the next forbidden access of a guest. A clone shows the same number.
#[derive(Debug, Clone, Default)]
pub struct AccessCount(Arc<AtomicU64>);

impl AccessCount {
    /// The number now.
    pub fn get(&self) -> u64 {
        // Only the thread that runs the guest writes it and depends on it.
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, next: u64) {
        self.0.store(next, Ordering::Relaxed);
    }
}

/// The accesses before this one were made when the output had this length, or earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    next: u64,
    position: u64,
}

/// The places of accesses in one output.
#[derive(Debug, Clone, Default)]
pub struct OutputMarks {
    accesses: AccessCount,
    marks: Vec<Mark>,
    /// Accesses from this one on have no known place: there were more marks than are kept.
    lost_from: Option<u64>,
}

impl OutputMarks {
    /// Marks of an output of the guest whose accesses are counted there. Accesses made earlier get the place of the first byte.
    pub fn new(accesses: AccessCount) -> Self {
        Self { accesses, marks: Vec::new(), lost_from: None }
    }

    /// Marks of another output of the same guest.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self::new(self.accesses.clone())
    }

    /// Something is about to be written at `position`.
    pub fn before_output(&mut self, position: u64) {
        let next = self.accesses.get();
        let marked = self.marks.last().map_or(0, |mark| mark.next);
        if next == marked || self.lost_from.is_some() {
            return;
        }
        if self.marks.len() < MAX_EVENTS {
            self.marks.push(Mark { next, position });
        } else {
            self.lost_from = Some(marked);
        }
    }

    /// The length that the output had when access `number` was made; `len` is its length now. `None` where that is not known.
    pub fn position(&self, number: u64, len: u64) -> Option<u64> {
        let index = self.marks.partition_point(|mark| mark.next <= number);
        match self.marks.get(index) {
            Some(mark) => Some(mark.position),
            None if self.lost_from.is_some() => None,
            None => Some(len),
        }
    }

    /// The number of accesses, from `number` on and at most `count`, that have the same place as this one.
    pub fn run(&self, number: u64, count: u64) -> u64 {
        let index = self.marks.partition_point(|mark| mark.next <= number);
        self.marks.get(index).map_or(count, |mark| count.min(mark.next - number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_access_has_the_length_of_the_output_when_it_was_made(
            acts in prop::collection::vec((any::<bool>(), 1u64..4), 0..60),
        ) {
            let accesses = AccessCount::default();
            let mut marks = OutputMarks::new(accesses.clone());
            let (mut made, mut written) = (Vec::new(), 0);
            for (writes, count) in acts {
                if writes {
                    marks.before_output(written);
                    written += count;
                } else {
                    made.extend((0..count).map(|_| written));
                    accesses.set(made.len() as u64);
                }
            }
            for (number, position) in (0..).zip(&made) {
                prop_assert_eq!(marks.position(number, written), Some(*position));
                let same = made[number as usize..].iter().take_while(|other| *other == position).count();
                prop_assert_eq!(marks.run(number, made.len() as u64 - number), same as u64);
            }
        }
    }

    #[test]
    fn beyond_the_bound_the_place_is_not_known() {
        let accesses = AccessCount::default();
        let mut marks = OutputMarks::new(accesses.clone());
        for number in 1..=MAX_EVENTS as u64 + 1 {
            accesses.set(number);
            marks.before_output(number);
        }
        assert_eq!(marks.position(MAX_EVENTS as u64 - 1, 0), Some(MAX_EVENTS as u64));
        assert_eq!(marks.position(MAX_EVENTS as u64, 0), None);
    }
}
