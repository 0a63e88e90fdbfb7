// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares the results with the model's predictions.

use std::fmt::Write as _;

use types::{AccessKind, AccessTarget, Signal};
use vmm::layout::PAGE_SIZE;
use vmm::trace::RecordedAccess;

use crate::judge::{Rigour, Weakening};
use model::Outcome;
use model::events::Event;

/// Bytes shown on each side of a difference.
const SHOWN: usize = 16;

/// What differs between prediction and answer, or nothing. `bytes`: what the pieces of the prediction hold.
pub fn answer(predicted: &Outcome, bytes: &[Option<u8>], got: &protocol::Outcome) -> Option<String> {
    let same = match (predicted, got) {
        (Outcome::Value(value), protocol::Outcome::Value(got)) => *value == got.cast_unsigned(),
        (Outcome::Bytes { value, .. }, protocol::Outcome::Data { value: got, data }) => {
            if *value == got.cast_unsigned() && data.len() == bytes.len() {
                return contents(bytes, &data.bytes);
            }
            false
        }
        (Outcome::Failed { errno, call }, protocol::Outcome::Failed { errno: got, call: by }) => {
            errno.0 == got.0 && call == by
        }
        (
            Outcome::Signal { signal, code, address, .. },
            protocol::Outcome::Signal { signal: got, code: why, address: at, data },
        ) => {
            if signal.0 == *got && code == why && address == at && data.len() == bytes.len() {
                return contents(bytes, &data.bytes);
            }
            // A store that faults does not report how much it wrote before.
            signal.0 == *got && code == why && address == at && bytes.is_empty()
        }
        (Outcome::Oops { signal }, protocol::Outcome::Killed { signal: got }) => signal.0 == *got,
        (Outcome::Refused(refusal), protocol::Outcome::Refused(got)) => refusal == got,
        _ => false,
    };
    (!same).then(|| format!("predicted {}, got {}", of_model(predicted), of_guest(got)))
}

fn contents(predicted: &[Option<u8>], got: &[u8]) -> Option<String> {
    let at = predicted.iter().zip(got).position(|(predicted, got)| predicted.is_some_and(|p| p != *got))?;
    let end = predicted.len().min(at + SHOWN);
    let mut text = format!("byte {at} of {} differs: predicted", predicted.len());
    for byte in &predicted[at..end] {
        let _ = match byte {
            Some(byte) => write!(text, " {byte:02x}"),
            None => write!(text, " .."),
        };
    }
    text.push_str(", got");
    for byte in &got[at..end] {
        let _ = write!(text, " {byte:02x}");
    }
    Some(text)
}

/// The first difference between predicted and recorded events, if any.
///
/// `temporary`: a page accessed against its state stays mapped until the next `KVM_RUN`, which any interrupt causes.
/// So an event recorded once may be missing later, and that of an interrupted copy is recorded twice. An access across the
/// end of a mapped page ends that page's mapping with the event of the second page, and is an event of the first again.
pub fn events(
    predicted: &[Event],
    got: &[RecordedAccess],
    temporary: bool,
    rigour: &mut Rigour,
) -> Option<String> {
    let mut optional = 0;
    // An event stands for accesses in a row. The model predicts each, but for those of devices: consecutive accesses to one
    // page are one event, as `EventLog::repeat_device()` does, since KVM decides into how many it cuts them.
    let each = |event: &RecordedAccess| match event.state {
        AccessTarget::Device => 1,
        AccessTarget::Page(_) | AccessTarget::Refused => usize::try_from(event.count).unwrap_or(usize::MAX),
    };
    let mut rest = got.iter().flat_map(|event| std::iter::repeat_n(event, each(event))).peekable();
    let mut seen: Vec<&RecordedAccess> = Vec::new();
    let mut before: Option<&Event> = None;
    for event in predicted {
        let before = before.replace(event);
        if temporary {
            while rest.next_if(|got| is_repeated(&seen, got) && !matches(event, got)).is_some() {
                optional += 1;
            }
        }
        if rest.peek().is_some_and(|got| matches(event, got)) {
            seen.extend(rest.next());
            if event.optional {
                optional += 1;
            } else {
                rigour.exact(1);
            }
            continue;
        }
        let is_there = seen.iter().any(|seen| (seen.gpa, seen.view) == (event.gpa, event.view));
        if !event.optional && (!temporary || !is_there) {
            let instead = rest.next().map_or_else(|| "no event".to_owned(), ToString::to_string);
            return Some(format!("predicted {}, got {instead}", describe(event)));
        }
        // An access in elements to a page that is temporarily mapped is one comparison: no element but the first is an
        // event.
        optional += u64::from(event.optional || before.is_none_or(|before| !consecutive(before, event)));
    }
    let (again, others): (Vec<_>, Vec<_>) = rest.partition(|got| temporary && is_repeated(&seen, got));
    rigour.weakened(Weakening::OptionalEvent, optional + again.len() as u64);
    others.first().map(|got| format!("predicted no event, got {got}"))
}

fn matches(event: &Event, got: &RecordedAccess) -> bool {
    (event.gpa, event.view, event.write) == (got.gpa, got.view, got.kind == AccessKind::Write)
}

fn consecutive(one: &Event, other: &Event) -> bool {
    (one.gpa, one.view, one.write) == (other.gpa, other.view, other.write)
}

fn same(one: &RecordedAccess, other: &RecordedAccess) -> bool {
    (one.gpa, one.view, one.kind) == (other.gpa, other.view, other.kind)
}

/// Whether an event is that of the last access once more, or of the page before it, which the same access may begin in.
fn is_repeated(seen: &[&RecordedAccess], got: &RecordedAccess) -> bool {
    let Some((last, earlier)) = seen.split_last() else { return false };
    let before = earlier.iter().rev().find(|one| !same(one, last));
    same(last, got) || before.is_some_and(|one| same(one, got) && one.gpa + PAGE_SIZE == last.gpa)
}

fn describe(event: &Event) -> String {
    let kind = if event.write { "write" } else { "read" };
    format!("GPA {:#x}: {kind} through the {} view", event.gpa, event.view)
}

/// The model's outcome in a few words.
pub fn of_model(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Value(value) => format!("{value:#x}"),
        Outcome::Bytes { value, pieces } => {
            format!("{value} bytes ({} seen)", pieces.iter().map(|piece| piece.len).sum::<u64>())
        }
        Outcome::Failed { errno, call } => format!("{errno} of {call:?}"),
        Outcome::Signal { signal, code, address, pieces } => {
            let before: u64 = pieces.iter().map(|piece| piece.len).sum();
            format!("{signal} code {code} at {address:#x} after {before} bytes")
        }
        Outcome::Oops { signal } => format!("an oops of the kernel, {signal}"),
        Outcome::Refused(why) => format!("refused ({why:?})"),
    }
}

/// The agent's in the same words.
pub fn of_guest(outcome: &protocol::Outcome) -> String {
    match outcome {
        protocol::Outcome::Value(value) => format!("{value:#x}"),
        protocol::Outcome::Data { value, data } => format!("{value} bytes ({} seen)", data.len()),
        protocol::Outcome::Failed { errno, call } => format!("{} of {call:?}", *errno),
        protocol::Outcome::Signal { signal, code, address, data } => {
            let signal = Signal(*signal);
            format!("{signal} code {code} at {address:#x} after {} bytes", data.len())
        }
        protocol::Outcome::Refused(why) => format!("refused ({why:?})"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(gpa: u64, optional: bool) -> Event {
        Event { gpa, view: types::View::Shared, write: false, optional }
    }

    fn read(gpa: u64, state: AccessTarget, count: u64) -> RecordedAccess {
        let (view, kind) = (types::View::Shared, AccessKind::Read);
        RecordedAccess { number: 0, count, gpa, view, state, kind, operand: None, device: None, at: None }
    }

    const UNACCEPTED: AccessTarget = AccessTarget::Page(types::PageState::Unaccepted);

    #[test]
    fn a_forbidden_access_that_need_not_come_is_counted_whether_it_comes_or_not() {
        let mut rigour = Rigour::default();
        assert_eq!(events(&[event(0x1000, true)], &[], false, &mut rigour), None);
        assert_eq!((rigour.total(), rigour.count(Weakening::OptionalEvent)), (1, 1));
        assert!(events(&[event(0x1000, false)], &[], false, &mut rigour).is_some());
    }

    #[test]
    fn accesses_in_a_row_count_once_for_a_device_and_each_for_memory() {
        let compared =
            |state| events(&[event(0x1000, false)], &[read(0x1000, state, 7)], false, &mut Rigour::default());
        assert_eq!(compared(AccessTarget::Device), None);
        assert!(compared(UNACCEPTED).is_some());
    }

    #[test]
    fn an_access_across_two_pages_is_an_event_of_the_first_once_more() {
        let elements = [0x1000, 0x1000, 0x2000, 0x2000].map(|gpa| event(gpa, false));
        let compared = |got: &[u64]| {
            let got: Vec<_> = got.iter().map(|gpa| read(*gpa, UNACCEPTED, 1)).collect();
            events(&elements, &got, true, &mut Rigour::default())
        };
        assert_eq!(compared(&[0x1000, 0x2000]), None);
        assert_eq!(compared(&[0x1000, 0x2000, 0x1000]), None);
        assert_eq!(compared(&[0x1000, 0x2000, 0x1000, 0x2000]), None);
        assert!(compared(&[0x1000, 0x2000, 0x3000]).is_some());
        assert!(compared(&[0x1000]).is_some(), "the second page has to come");
    }

    #[test]
    fn an_access_in_elements_to_a_page_that_is_temporarily_mapped_is_one_comparison() {
        let seen = read(0x1000, UNACCEPTED, 1);
        let elements = [0x1000, 0x1000, 0x1000].map(|gpa| event(gpa, false));
        let mut rigour = Rigour::default();
        assert_eq!(events(&elements, &[seen], true, &mut rigour), None);
        assert_eq!((rigour.total(), rigour.count(Weakening::OptionalEvent)), (1, 0));
        assert!(events(&elements, &[], true, &mut Rigour::default()).is_some(), "the first has to come");
    }

    #[test]
    fn bytes_not_predicted_match_and_others_must_be_equal() {
        assert_eq!(contents(&[Some(1), None, Some(3)], &[1, 2, 3]), None);
        assert!(contents(&[Some(1), None, Some(3)], &[1, 2, 4]).is_some());
    }
}
