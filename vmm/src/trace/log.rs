// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records of one guest in the order they came: nothing is removed or renumbered, and what does not fit is counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which log a cursor is of, so that a cursor of an earlier guest hides nothing of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogId(u64);

impl LogId {
    /// One that no other log of this process has.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A position in a [`Log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    log: LogId,
    next: usize,
    dropped: u64,
}

/// Records up to a bound, and how many came beyond it.
#[derive(Debug)]
pub struct Log<T> {
    id: LogId,
    records: Vec<T>,
    bound: usize,
    dropped: u64,
}

impl<T> Log<T> {
    /// A log that keeps `bound` records.
    pub fn new(bound: usize) -> Self {
        Self { id: LogId::new(), records: Vec::new(), bound, dropped: 0 }
    }

    /// Adds a record, or counts it where no more are kept.
    pub fn push(&mut self, record: T) {
        if self.records.len() < self.bound {
            self.records.push(record);
        } else {
            self.dropped += 1;
        }
    }

    /// Counts records that were not kept where they came from.
    pub fn count_dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    /// Every record kept.
    pub fn all(&self) -> &[T] {
        &self.records
    }

    /// Records that came and were not kept.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Now.
    pub fn cursor(&self) -> Cursor {
        Cursor { log: self.id, next: self.records.len(), dropped: self.dropped }
    }

    /// The records after `cursor`, and how many came after it and were not kept. All, if it is another log's.
    pub fn since(&self, cursor: Cursor) -> (&[T], u64) {
        if cursor.log != self.id {
            return (&self.records, self.dropped);
        }
        (self.records.get(cursor.next..).unwrap_or_default(), self.dropped.saturating_sub(cursor.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_beyond_the_bound_is_counted_and_nothing_kept_is_lost() {
        let mut log = Log::new(2);
        log.push('a');
        let cursor = log.cursor();
        for record in ['b', 'c', 'd'] {
            log.push(record);
        }
        assert_eq!(log.since(cursor), (&['b'][..], 2));
        assert_eq!((log.all(), log.dropped()), (&['a', 'b'][..], 2));
        assert_eq!(log.since(log.cursor()), (&[][..], 0));
    }

    #[test]
    fn a_cursor_of_another_guest_hides_nothing() {
        let mut old = Log::new(8);
        old.push(1);
        let mut new = Log::new(8);
        new.push(2);
        assert_eq!(new.since(old.cursor()), (&[2][..], 0));
    }
}
