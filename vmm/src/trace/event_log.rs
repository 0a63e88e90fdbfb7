// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The forbidden accesses of one guest: events are appended, marked as withdrawn, and never removed or renumbered.

use std::collections::HashSet;

use types::{AccessKind, AccessTarget, DmaOrigin, View};

use super::RecordedAccess;
use super::log::LogId;
use super::output::AccessCount;

/// Events kept of one guest, so that a guest cannot fill the host's memory.
pub const MAX_EVENTS: usize = 1 << 16;

/// A position in an [`EventLog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventCursor {
    log: LogId,
    /// Number of the next access.
    next: u64,
    withdrawn: u64,
    dropped: u64,
}

/// What was recorded after a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The events that are not withdrawn, oldest first.
    pub events: Vec<RecordedAccess>,
    /// Accesses withdrawn since, whenever they were recorded.
    pub withdrawn: u64,
    /// Accesses that came since and were not kept: with any, the absence of an event is no evidence.
    pub dropped: u64,
}

#[derive(Debug)]
struct Entry {
    event: RecordedAccess,
    /// Of its accesses the last ones, that turned out to be legal.
    withdrawn: u64,
}

impl Entry {
    /// Number of the access after the last one that is not withdrawn.
    fn end(&self) -> u64 {
        self.event.number + self.event.count - self.withdrawn
    }

    /// The access with this number can be counted with it.
    fn is_open(&self, number: u64) -> bool {
        self.withdrawn == 0 && self.end() == number
    }

    /// The event with those of its accesses that came from `next` on and are not withdrawn.
    fn from(&self, next: u64) -> Option<RecordedAccess> {
        let number = self.event.number.max(next);
        let count = self.end().checked_sub(number).filter(|count| *count > 0)?;
        Some(RecordedAccess { number, count, ..self.event.clone() })
    }
}

/// Every forbidden access of one guest.
#[derive(Debug)]
pub struct EventLog {
    id: LogId,
    entries: Vec<Entry>,
    bound: usize,
    /// Number of the next access.
    next: u64,
    withdrawn: u64,
    dropped: u64,
    /// The next access is an event of its own.
    sealed: bool,
    /// The number of the next access, for those who receive the guest's output.
    count: AccessCount,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new(MAX_EVENTS)
    }
}

impl EventLog {
    /// A log that keeps `bound` events.
    pub fn new(bound: usize) -> Self {
        let id = LogId::new();
        let count = AccessCount::default();
        Self { id, entries: Vec::new(), bound, next: 0, withdrawn: 0, dropped: 0, sealed: true, count }
    }

    /// Appends an access, whose number and count are given here. One that repeats the last one (the same instruction,
    /// page, view and kind) is counted with it: a copy that an interrupt cut in two is one event.
    pub fn push(&mut self, event: RecordedAccess) {
        let number = self.next;
        self.advance();
        let sealed = std::mem::replace(&mut self.sealed, false);
        let last = self.entries.last_mut().filter(|last| !sealed && last.is_open(number));
        if let Some(last) = last.filter(|last| repeats(&last.event, &event)) {
            last.event.count += 1;
        } else if self.entries.len() < self.bound {
            self.entries.push(Entry { event: RecordedAccess { number, count: 1, ..event }, withdrawn: 0 });
        } else {
            self.dropped += 1;
        }
    }

    /// Counts accesses that were not kept before they came here.
    pub fn count_dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    /// Counts a device access if it repeats the last event, so that its instruction need not be looked at again: of a
    /// store KVM does not report it anyway. Returns whether it was one.
    pub fn repeat_device(&mut self, gpa: u64, view: View, kind: AccessKind) -> bool {
        let what = (gpa, view, AccessTarget::Device, kind, None);
        let last = self.entries.last_mut().filter(|last| !self.sealed && last.is_open(self.next));
        let Some(last) = last.filter(|last| last.event.what() == what) else { return false };
        last.event.count += 1;
        self.advance();
        true
    }

    fn advance(&mut self) {
        self.next += 1;
        self.count.set(self.next);
    }

    /// The number of the next access, as it goes on.
    pub fn count(&self) -> AccessCount {
        self.count.clone()
    }

    /// The next access is an event of its own, whatever it repeats: something else is executed from here on.
    pub fn seal(&mut self) {
        self.sealed = true;
    }

    /// Withdraws, of each of these pages, the last write: it began a conversion that the guest has now declared.
    pub fn withdraw_last_writes(&mut self, pages: impl IntoIterator<Item = u64>) {
        let mut pages: HashSet<u64> = pages.into_iter().collect();
        for entry in self.entries.iter_mut().rev() {
            if pages.is_empty() {
                break;
            }
            let is_live = entry.withdrawn < entry.event.count;
            if is_live && entry.event.kind == AccessKind::Write && pages.remove(&entry.event.gpa) {
                entry.withdrawn += 1;
                self.withdrawn += 1;
            }
        }
    }

    /// Now.
    pub fn cursor(&self) -> EventCursor {
        EventCursor { log: self.id, next: self.next, withdrawn: self.withdrawn, dropped: self.dropped }
    }

    /// What was recorded after `cursor`; everything, if it is another log's.
    pub fn since(&self, cursor: EventCursor) -> Since {
        let start = EventCursor { log: self.id, next: 0, withdrawn: 0, dropped: 0 };
        let EventCursor { next, withdrawn, dropped, .. } = if cursor.log == self.id { cursor } else { start };
        let first = self.entries.partition_point(|entry| entry.event.number + entry.event.count <= next);
        let entries = self.entries.get(first..).unwrap_or_default();
        Since {
            events: entries.iter().filter_map(|entry| entry.from(next)).collect(),
            withdrawn: self.withdrawn.saturating_sub(withdrawn),
            dropped: self.dropped.saturating_sub(dropped),
        }
    }

    /// Every event that is not withdrawn.
    pub fn all(&self) -> Vec<RecordedAccess> {
        self.entries.iter().filter_map(|entry| entry.from(0)).collect()
    }

    /// The number of the first event that is not withdrawn.
    pub fn first(&self) -> Option<u64> {
        self.entries.iter().find_map(|entry| entry.from(0)).map(|event| event.number)
    }

    /// Events that are not withdrawn.
    pub fn len(&self) -> usize {
        self.entries.iter().filter(|entry| entry.withdrawn < entry.event.count).count()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All accesses that came here, also those that were withdrawn or not kept.
    pub fn numbered(&self) -> u64 {
        self.next
    }

    /// Accesses that were not kept.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl RecordedAccess {
    fn what(&self) -> (u64, View, AccessTarget, AccessKind, Option<DmaOrigin>) {
        (self.gpa, self.view, self.state, self.kind, self.device)
    }
}

/// The same instruction did the same to the same page.
fn repeats(last: &RecordedAccess, event: &RecordedAccess) -> bool {
    let instruction =
        |event: &RecordedAccess| event.at.as_ref().map(|at| (at.rip, at.cr3, at.open_log_lines));
    last.what() == event.what() && instruction(last) == instruction(event)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::Instruction;

    fn event(page: u8, write: bool, rip: u64) -> RecordedAccess {
        RecordedAccess {
            number: 0,
            count: 1,
            gpa: u64::from(page) << 12,
            view: View::Shared,
            state: AccessTarget::Page(types::PageState::Private),
            kind: if write { AccessKind::Write } else { AccessKind::Read },
            operand: None,
            device: None,
            at: Some(Instruction {
                vcpu: types::VcpuId::BOOT,
                rip,
                cpl: 0,
                cr3: 0,
                rsp: 0,
                exact: true,
                task: None,
                backtrace: None,
                open_log_lines: None,
                user_code: None,
            }),
        }
    }

    #[derive(Debug, Clone)]
    enum Act {
        Push(u8, bool, u64),
        Withdraw(Vec<u8>),
        Seal,
        Mark,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0u8..3, any::<bool>(), 0u64..2).prop_map(|(page, write, rip)| Act::Push(page, write, rip)),
            1 => prop::collection::vec(0u8..3, 0..3).prop_map(Act::Withdraw),
            1 => Just(Act::Seal),
            2 => Just(Act::Mark),
        ]
    }

    /// One access as a list without any folding has it.
    #[derive(Debug, Clone)]
    struct Access {
        number: u64,
        event: RecordedAccess,
        withdrawn: bool,
        kept: bool,
    }

    proptest! {
        #[test]
        fn no_access_is_missed_repeated_or_renumbered(
            acts in prop::collection::vec(act(), 0..60),
            bound in 1usize..40,
        ) {
            let mut log = EventLog::new(bound);
            let mut plain: Vec<Access> = Vec::new();
            let mut marks = vec![(log.cursor(), 0, 0, 0)];
            let (mut withdrawn, mut dropped) = (0, 0);
            for act in acts {
                match act {
                    Act::Push(page, write, rip) => {
                        let before = log.dropped();
                        log.push(event(page, write, rip));
                        let kept = log.dropped() == before;
                        dropped += u64::from(!kept);
                        let number = plain.len() as u64;
                        plain.push(Access { number, event: event(page, write, rip), withdrawn: false, kept });
                    }
                    Act::Withdraw(pages) => {
                        let pages: HashSet<u64> = pages.iter().map(|page| u64::from(*page) << 12).collect();
                        log.withdraw_last_writes(pages.iter().copied());
                        for page in pages {
                            let last = plain.iter_mut().rev().find(|access| {
                                access.kept && !access.withdrawn
                                    && (access.event.gpa, access.event.kind) == (page, AccessKind::Write)
                            });
                            if let Some(access) = last {
                                access.withdrawn = true;
                                withdrawn += 1;
                            }
                        }
                    }
                    Act::Seal => log.seal(),
                    Act::Mark => marks.push((log.cursor(), plain.len(), withdrawn, dropped)),
                }
            }
            for (cursor, from, withdrawn_before, dropped_before) in marks {
                let since = log.since(cursor);
                // Each event represents `count` accesses from its number on.
                let reported: Vec<(u64, u64)> = since
                    .events
                    .iter()
                    .flat_map(|event| (event.number..event.number + event.count).map(|n| (n, event.gpa)))
                    .collect();
                let happened: Vec<(u64, u64)> = plain[from..]
                    .iter()
                    .filter(|access| access.kept && !access.withdrawn)
                    .map(|access| (access.number, access.event.gpa))
                    .collect();
                prop_assert_eq!(reported, happened);
                prop_assert_eq!(since.withdrawn, withdrawn - withdrawn_before);
                prop_assert_eq!(since.dropped, dropped - dropped_before);
            }
            prop_assert_eq!(log.len(), log.all().len());
        }
    }

    #[test]
    fn a_repeated_access_is_one_event_until_something_else_is_executed() {
        let mut log = EventLog::new(8);
        log.push(event(1, false, 7));
        let between = log.cursor();
        log.push(event(1, false, 7));
        log.push(event(1, false, 8));
        log.seal();
        log.push(event(1, false, 8));
        let counts =
            |events: &[RecordedAccess]| events.iter().map(|e| (e.number, e.count)).collect::<Vec<_>>();
        assert_eq!(counts(&log.all()), [(0, 2), (2, 1), (3, 1)]);
        // A cursor in the middle of one sees the part after it.
        assert_eq!(counts(&log.since(between).events), [(1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn a_cursor_of_another_guest_hides_nothing() {
        let mut old = EventLog::new(8);
        old.push(event(1, false, 7));
        let mut new = EventLog::new(8);
        new.push(event(2, false, 7));
        assert_eq!(new.since(old.cursor()).events.len(), 1);
    }

    #[test]
    fn beyond_the_bound_absence_shows_nothing() {
        let mut log = EventLog::new(1);
        log.push(event(1, false, 7));
        let cursor = log.cursor();
        assert_eq!(log.since(cursor).dropped, 0);
        log.push(event(2, false, 7));
        let since = log.since(cursor);
        assert_eq!((since.events.len(), since.dropped), (0, 1));
        assert_eq!(log.since(log.cursor()).dropped, 0);
    }
}
