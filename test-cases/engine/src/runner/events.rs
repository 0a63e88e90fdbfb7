// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VMM's events, in the words of observations: with names of code and places.

use types::{AccessEvent, EventKind, PageChange, PlacedRegion, RefusedConversion};
use vmm::platform::failure::Conversion;
use vmm::trace::RecordedChange;
use vmm::trace::conversion::RecordedConversion;
use vmm::trace::event_log::{EventCursor, Since};
use vmm::trace::log::Cursor;
use vmm::trace::output::OutputMarks;

use crate::session::Session;

/// What was recorded after a cursor.
#[derive(Debug)]
pub struct Recorded {
    /// The events that were not withdrawn meanwhile.
    pub events: Vec<AccessEvent>,
    /// Events that were not kept: with any, the absence of an event shows nothing.
    pub dropped: u64,
}

/// What was recorded after `cursor`.
pub fn since(session: &Session, cursor: EventCursor, regions: &[PlacedRegion]) -> Recorded {
    let Since { events, dropped, .. } = session.machine().events().since(cursor);
    Recorded { events: events.iter().map(|event| of(event, session, regions)).collect(), dropped }
}

/// Everything that was recorded of a guest.
pub fn all(session: &Session, regions: &[PlacedRegion]) -> Recorded {
    let log = session.machine().events();
    let events = log.all().iter().map(|event| of(event, session, regions)).collect();
    Recorded { events, dropped: log.dropped() }
}

/// What was recorded, with its places in an output.
#[derive(Debug)]
pub struct Placed {
    /// The events that were not withdrawn meanwhile.
    pub events: Vec<PlacedEvent>,
    /// Events that were not kept.
    pub dropped: u64,
}

/// An event with its place in an output.
#[derive(Debug)]
pub struct PlacedEvent {
    /// It.
    pub event: AccessEvent,
    /// The length that the output had then, where that is known.
    pub position: Option<u64>,
    /// Lines in the kernel's log that its console had not printed then, where that is known.
    pub open_log_lines: Option<u64>,
}

/// What was recorded after `cursor`, or everything, with its places in an output that has these marks and now this length.
pub fn by_place(
    session: &Session,
    cursor: Option<EventCursor>,
    marks: &OutputMarks,
    len: u64,
    regions: &[PlacedRegion],
) -> Placed {
    let log = session.machine().events();
    let (recorded, dropped) = match cursor.map(|cursor| log.since(cursor)) {
        Some(Since { events, dropped, .. }) => (events, dropped),
        None => (log.all(), log.dropped()),
    };
    let mut events = Vec::new();
    for event in recorded {
        let named = of(&event, session, regions);
        let open_log_lines = event.at.as_ref().and_then(|at| at.open_log_lines);
        // Repetitions of one access are one event, unless something was written in between.
        let (mut number, end) = (event.number, event.number + event.count);
        while number < end {
            let position = marks.position(number, len);
            events.push(PlacedEvent { event: named.clone(), position, open_log_lines });
            number += marks.run(number, end - number).max(1);
        }
    }
    Placed { events, dropped }
}

/// The changes of one of the watched pages after `cursor`.
pub fn changes_of(session: &Session, cursor: Cursor, page: u64) -> Vec<PageChange> {
    let (changes, _) = session.machine().history().since(cursor);
    changes.iter().filter(|change| change.gpa == page).map(|change| change_of(change, session)).collect()
}

/// The changes of the watched page after `cursor`, or all of them.
pub fn changes_since(session: &Session, cursor: Option<Cursor>) -> Vec<PageChange> {
    let history = session.machine().history();
    let (changes, dropped) = match cursor {
        Some(cursor) => history.since(cursor),
        None => (history.all(), history.dropped()),
    };
    let mut changes: Vec<PageChange> = changes.iter().map(|change| change_of(change, session)).collect();
    if dropped > 0 {
        let what = format!("{dropped} more changes, which were not kept");
        changes.push(PageChange { what, symbol: None, task: None, backtrace: Vec::new() });
    }
    changes
}

/// The conversions that were refused, among those recorded from this one on.
pub fn refused_since(session: &Session, first: usize) -> Vec<RefusedConversion> {
    let conversions = session.machine().conversions().all().get(first..).unwrap_or_default();
    conversions.iter().filter_map(|conversion| refused(conversion, session)).collect()
}

fn refused(recorded: &RecordedConversion, session: &Session) -> Option<RefusedConversion> {
    let refusal = recorded.refusal?;
    let Conversion { call, to, gpa, pages } = recorded.conversion;
    let names = session.names();
    Some(RefusedConversion {
        call: call.abi().to_owned(),
        number: recorded.number,
        to,
        gpa,
        pages,
        done: refusal.done,
        error: refusal.error.abi.to_owned(),
        symbol: session.place(&recorded.at),
        backtrace: recorded
            .at
            .backtrace
            .as_ref()
            .zip(names)
            .map(|(trace, names)| names.frames(trace))
            .unwrap_or_default(),
    })
}

/// One change.
fn change_of(change: &RecordedChange, session: &Session) -> PageChange {
    let at = change.at.as_ref();
    let trace = at.and_then(|at| at.backtrace.as_ref());
    let names = session.names();
    PageChange {
        what: change.change.to_string(),
        symbol: at.map(|at| session.place(at).unwrap_or_else(|| format!("{:#x}, CPL {}", at.rip, at.cpl))),
        task: at.and_then(|at| at.task.clone()),
        backtrace: trace.zip(names).map(|(trace, names)| names.frames(trace)).unwrap_or_default(),
    }
}

/// One event.
fn of(event: &vmm::trace::RecordedAccess, session: &Session, regions: &[PlacedRegion]) -> AccessEvent {
    let kind = EventKind::of(event.view, event.kind);
    let gpa = event.gpa + event.operand.map_or(0, |operand| operand.offset);
    let trace = event.at.as_ref().and_then(|at| at.backtrace.as_ref());
    AccessEvent {
        kind,
        gpa,
        len: event.operand.map(|operand| operand.len as u64).filter(|len| *len > 0),
        region: region(gpa, regions),
        state: event.state,
        device: event.device,
        rip: event.at.as_ref().map_or(0, |at| at.rip),
        symbol: event.at.as_ref().and_then(|at| session.place(at)),
        cpl: event.at.as_ref().map_or(0, |at| at.cpl),
        task: event.at.as_ref().and_then(|at| at.task.clone()),
        backtrace: trace.zip(session.names()).map(|(trace, names)| names.frames(trace)).unwrap_or_default(),
        unwound_by: trace.map(|trace| trace.method),
    }
}

/// The smallest region around an address.
fn region(gpa: u64, regions: &[PlacedRegion]) -> Option<types::Region> {
    regions
        .iter()
        .filter(|placed| gpa.checked_sub(placed.gpa).is_some_and(|offset| offset < placed.len))
        .min_by_key(|placed| placed.len)
        .map(|placed| placed.region)
}
