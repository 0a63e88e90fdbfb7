// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Today's part of the tests that take too long for one day.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Days since 1970 in UTC: the same on every machine and in every run of a day.
pub fn day() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / (24 * 60 * 60))
}

/// Some of `count` things, the next ones each day, beginning anew at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    first: usize,
    len: usize,
    count: usize,
}

impl Part {
    /// `len` of `count`.
    pub fn of_today(count: usize, len: usize) -> Self {
        let len = len.min(count);
        let day = usize::try_from(day()).unwrap_or(0);
        Self { first: (day * len).checked_rem(count).unwrap_or(0), len, count }
    }

    /// Whether thing number `index` is among them.
    pub fn has(self, index: usize) -> bool {
        (index + self.count - self.first) % self.count < self.len
    }
}

impl fmt::Display for Part {
    /// Counted from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = (self.first + self.len - 1) % self.count;
        write!(f, "{} to {}", self.first + 1, last + 1)
    }
}
