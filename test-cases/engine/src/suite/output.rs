// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A suite's output, and which of its tests made which forbidden access.

use std::collections::BTreeMap;

use types::{AccessEvent, PlacedRegion};
use vmm::trace::event_log::EventCursor;
use vmm::trace::output::OutputMarks;

use crate::ktap::{Ktap, TestId};
use crate::runner::{self, PlacedEvent};
use crate::session::Session;

/// What a suite wrote.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Its beginning, as far as it was kept.
    pub(super) text: Vec<u8>,
    /// Its length.
    pub(super) len: u64,
    /// Bytes that are not in the text.
    pub(super) missing: u64,
    pub(super) marks: OutputMarks,
    /// It is the console, which lines of the log reach later.
    pub(super) is_console: bool,
}

/// Forbidden accesses by the test that made them.
#[derive(Debug, Default)]
pub(super) struct Accesses {
    pub(super) by_test: BTreeMap<TestId, Vec<AccessEvent>>,
    /// While no test ran.
    pub(super) outside: Vec<AccessEvent>,
    /// After the last line of a test, while no other had begun.
    pub(super) after_last: Vec<AccessEvent>,
    /// Accesses that were not kept, or whose place in the output is not known.
    pub(super) not_kept: u64,
    /// Bytes of the output that were not kept.
    pub(super) missing: u64,
}

impl Output {
    /// The accesses after `cursor`, or all of them, by test.
    pub(super) fn accesses(
        &self,
        session: &Session,
        cursor: Option<EventCursor>,
        regions: &[PlacedRegion],
        ktap: &Ktap,
    ) -> Accesses {
        let recorded = runner::events_by_place(session, cursor, &self.marks, self.len, regions);
        let mut sorted =
            Accesses { not_kept: recorded.dropped, missing: self.missing, ..Accesses::default() };
        for placed in recorded.events {
            let position = if self.is_console { self.in_log(&placed) } else { placed.position };
            let event = placed.event;
            match position.map(|position| (ktap.test_at(position), ktap.is_after_last(position))) {
                Some((Some(test), _)) => sorted.by_test.entry(test).or_default().push(event),
                Some((None, true)) => sorted.after_last.push(event),
                Some((None, false)) => sorted.outside.push(event),
                None => sorted.not_kept += 1,
            }
        }
        sorted
    }

    /// The length that the console would have had if all lines of the log had been printed.
    fn in_log(&self, placed: &PlacedEvent) -> Option<u64> {
        Some(after_lines(&self.text, placed.position?, placed.open_log_lines?))
    }
}

/// The end of the line that is this many lines after `position`, which is the end of a line.
fn after_lines(text: &[u8], position: u64, lines: u64) -> u64 {
    let Some(rest) = usize::try_from(position).ok().and_then(|at| text.get(at..)) else { return position };
    let passed: usize =
        rest.split_inclusive(|byte| *byte == b'\n').take(lines as usize).map(<[u8]>::len).sum();
    position + passed as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_printed_later_are_before_the_access() {
        let text = b"1..2\r\nok 1 a\r\nok 2 b\r\n";
        assert_eq!(after_lines(text, 6, 0), 6);
        assert_eq!(after_lines(text, 6, 1), 14);
        assert_eq!(after_lines(text, 6, 9), text.len() as u64);
        assert_eq!(after_lines(text, 99, 1), 99);
    }
}
