// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes side by side with what memory holds, and the forbidden accesses, as lines for people.

use std::fmt::Write as _;

use super::document::StepRecord;
use crate::judge::Verdict;
use crate::observation::{SHOWN, StepObservation, TruthTaken};
use model::class::Class;
use types::{AccessEvent, SimilarAccesses, UnwindMethod};

/// Bytes in a row of a dump.
const ROW: usize = 8;

/// One row per eight bytes: address, returned bytes, and the contents of `memory` there, if known.
pub fn side_by_side(gpa: u64, came_back: &[u8], memory: Option<&[u8]>) -> Vec<String> {
    let shown = &came_back[..came_back.len().min(SHOWN)];
    let rows = shown.chunks(ROW).enumerate().map(|(index, row)| {
        let start = index * ROW;
        let mut line = format!("{:010x}  {}", gpa.wrapping_add(start as u64), row_of(row));
        let known = memory.and_then(|memory| memory.get(start..memory.len().min(start + ROW)));
        if let Some(known) = known.filter(|known| !known.is_empty()) {
            let sign = if known == row { "=" } else { "≠" };
            let _ = write!(line, "  {sign}  {}", row_of(known));
        }
        line.trim_end().to_owned()
    });
    rows.collect()
}

/// Rows of sixteen bytes as hexdump(1) prints them, with guest physical addresses.
pub fn hexdump(gpa: u64, bytes: &[u8]) -> Vec<String> {
    let row = |(index, row): (usize, &[u8])| {
        let half = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
        let (left, right) = row.split_at(row.len().min(ROW));
        let text: String =
            row.iter().map(|&b| if (0x20..0x7f).contains(&b) { char::from(b) } else { '.' }).collect();
        let width = 3 * ROW - 1;
        format!(
            "{:08x}  {:width$}  {:width$}  |{text}|",
            gpa.wrapping_add(16 * index as u64),
            half(left),
            half(right)
        )
    };
    bytes.chunks(2 * ROW).enumerate().map(row).collect()
}

/// Hexadecimal digits and printable characters of up to eight bytes, always of the same width.
fn row_of(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let printable = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' };
    let text: String = bytes.iter().map(printable).collect();
    let width = ROW * 3 - 1;
    format!("{:width$}  |{text}|", digits.join(" "))
}

/// The text of one step: a line with the call, its result and the verdict, then its evidence.
pub fn of_step(step: &StepRecord) -> Vec<String> {
    let StepRecord { id, call, judged: verdict, .. } = step;
    let (Some(observed), Some(result)) = (&step.observed, &step.result) else {
        return vec![format!("{id}  {call}  {}", verdict.label())];
    };
    let mut lines = vec![format!("{id}  {call}  → {result}  [{}]", verdict.label())];
    match verdict {
        Verdict::DenialMissing { expected, .. } | Verdict::Unexpected { expected, .. } => {
            lines.push(format!("  expected {expected}"));
        }
        Verdict::Inconclusive { expected, reason, .. } => {
            lines.push(format!("  expected {expected}"));
            lines.push(format!("  inconclusive: {reason}"));
        }
        Verdict::KnownHole { hole } => lines.push(format!("  hole: {hole}")),
        _ => {}
    }
    if let Some(note) = &step.note {
        lines.push(format!("  note: {note}"));
    }
    lines.extend(of_bytes(observed).into_iter().map(|line| format!("  {line}")));
    lines.extend(of_events(&observed.events).into_iter().map(|line| format!("  {line}")));
    if observed.events_dropped > 0 {
        lines.push(format!("  {} more forbidden accesses, which were not kept", observed.events_dropped));
    }
    lines
}

/// Forbidden accesses: what was accessed in which state, by whom, and who called; neighbours that differ in their address
/// alone are put together.
pub fn of_events(events: &[AccessEvent]) -> Vec<String> {
    SimilarAccesses::fold(events).flat_map(|group| with_callers(group.to_string(), group.first())).collect()
}

/// One forbidden access.
pub fn of_event(event: &AccessEvent) -> Vec<String> {
    with_callers(event.to_string(), event)
}

fn with_callers(line: String, event: &AccessEvent) -> Vec<String> {
    let mut lines = vec![line];
    // The first frame is the instruction itself.
    if event.backtrace.len() > 1 {
        let how = match event.unwound_by {
            Some(UnwindMethod::Orc) => "",
            Some(UnwindMethod::OrcThenScan) => " (? = found on the stack)",
            _ => " (found on the stack)",
        };
        lines.push(format!("  called by{how}: {}", event.backtrace[1..].join(" < ")));
    }
    lines
}

fn of_bytes(observed: &StepObservation) -> Vec<String> {
    let Some(gpa) = observed.gpa.filter(|_| !observed.bytes.is_empty()) else { return Vec::new() };
    let plain = observed.truth.plain.as_deref().or(observed.truth.device.as_deref());
    let mut lines = side_by_side(gpa.start, &observed.bytes, plain);
    let title = if plain.is_some() { "came back" } else { "came back (what memory holds is not known)" };
    let width = 12 + ROW * 4 + 6;
    let heading = format!("{:12}{title}", "address");
    lines.insert(
        0,
        match plain {
            // The step, or what ran meanwhile, has changed it.
            Some(_) if observed.truth_taken == Some(TruthTaken::Before) => {
                format!("{heading:width$}memory as its owner saw it before the step")
            }
            Some(_) => format!("{heading:width$}memory as its owner sees it"),
            None => heading,
        },
    );
    if observed.bytes.len() > SHOWN {
        lines.push(format!("… and {} bytes more", observed.bytes.len() - SHOWN));
    }
    if observed.class.is_ambiguous() && observed.class.contains(Class::Zeros) {
        lines.push("memory itself holds zeros here, so zeros prove nothing".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_side_by_side() {
        insta::assert_snapshot!(
            side_by_side(0x20000, b"\0\0\0\0\0\0\0\0\0\0\0", Some(b"\0\0\0\0\0\0\0\0abc")).join("\n"),
            @r"
        0000020000  00 00 00 00 00 00 00 00  |........|  =  00 00 00 00 00 00 00 00  |........|
        0000020008  00 00 00                 |...|  ≠  61 62 63                 |abc|
        "
        );
    }

    #[test]
    fn unknown_memory_leaves_its_side_empty() {
        assert_eq!(side_by_side(0, b"\x01", None), ["0000000000  01                       |.|"]);
    }
}
