// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ways to change a page: one case per region and way, made here, and what they show together.

use types::Region;

use super::Probed;
use super::finding::{Finding, Invariant, Weight};
use super::invariant::{gpa, innermost, is_write, line, met};
use super::place::Pages;
use super::probe::{self, Spot, head};
use crate::case::{Case, parse};
use crate::observation::{AccessEvent, Answer};
use model::class::MemoryState;

/// Memory that can be put back, whatever became of it.
const REGIONS: [Region; 8] = [
    Region::Page0,
    Region::Bda,
    Region::Ebda,
    Region::LowRam,
    Region::OptionRom,
    Region::Rom,
    Region::Reserved,
    Region::AcpiData,
];
/// What every name of a case here begins with.
const PREFIX: &str = "audit/write/";
/// Bytes written, a block of the memory cipher.
const LEN: u64 = 16;

/// A way to write: the step's id, what it is called, and whether it goes by a mapping.
struct Way {
    id: &'static str,
    name: &'static str,
    mapped: bool,
}

const WAYS: [Way; 3] = [
    Way { id: "pwrite", name: "pwrite(2)", mapped: false },
    Way { id: "poke", name: "a store to a shared mapping", mapped: true },
    Way { id: "self-mem-write", name: "a write of /proc/self/mem over a mapping", mapped: true },
];

/// What became of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// They were changed, to what was written or to something else.
    Taken,
    /// The caller was told of success, and nothing changed.
    Dropped,
    /// The caller was told.
    Refused,
    /// Something else, or not tried.
    Neither,
}

/// The cases that write to regions.
pub fn cases() -> Vec<Case> {
    REGIONS.iter().flat_map(|region| cases_at(&Spot::of(*region))).collect()
}

/// The cases that write to a spot, one for each way.
pub fn cases_at(spot: &Spot) -> Vec<Case> {
    // The texts are made here; one that does not parse is caught by a test.
    WAYS.iter().filter_map(|way| parse(&text(spot, way, None), &name(spot, way)).ok()).collect()
}

fn name(spot: &Spot, way: &Way) -> String {
    format!("{PREFIX}{}/{}", spot.label, way.id)
}

/// The case with its expectation, if any: the id of the step, and what is expected of it in the words of a case.
fn text(spot: &Spot, way: &Way, expected: Option<(&str, &str)>) -> String {
    let Spot { at, page, offset, label, .. } = spot;
    let id = way.id;
    let of = |id: &str| match expected {
        Some((step, expected)) if step == id => format!("\nexpect = {expected}"),
        _ => String::new(),
    };
    let data = format!("hex = \"5a\"\nrepeat = {LEN}{}", of(id));
    let open =
        "id = \"open\"\ndo = \"open\"\npath = \"/dev/mem\"\nflags = \"O_RDWR\"\nas = \"mem\"".to_owned();
    let mut steps = vec![open];
    if way.mapped {
        steps.push(format!(
            "id = \"map\"\ndo = \"mmap\"\nfd = \"mem\"\nat = \"{page}\"\nlen = 4096\nprot = \"rw\"\nshare = \"shared\"\nas = \"page\""
        ));
        steps.push(format!("id = \"{id}\"\ndo = \"{id}\"\nmap = \"page\"\noffset = {offset}\n{data}"));
    } else {
        steps.push(format!("id = \"{id}\"\ndo = \"{id}\"\nfd = \"mem\"\nat = \"{at}\"\n{data}"));
    }
    steps.push(format!(
        "id = \"memory\"\ndo = \"memory\"\nat = \"{at}\"\nlen = {LEN}\nwrote = \"{id}\"{}",
        of("memory")
    ));
    let steps = steps.iter().flat_map(|step| ["\n[[step]]\n", step, "\n"]);
    head(&format!("{}: {label}", way.name)) + &steps.collect::<String>()
}

/// The spot a case here writes to, by its label.
pub fn label(case: &Case) -> Option<&str> {
    case.name.strip_prefix(PREFIX)?.rsplit_once('/').map(|(label, _)| label)
}

/// Every finding of the writes to one spot.
pub fn findings(spot: &Spot, results: &[Probed]) -> Vec<Finding> {
    let of = |way| results.iter().find(|result| result.case.name == name(spot, way));
    let tried: Vec<(&Way, &Probed)> = WAYS.iter().filter_map(|way| Some((way, of(way)?))).collect();
    let mut found: Vec<Finding> = one_answer(spot, &tried).into_iter().collect();
    for (way, result) in tried {
        found.extend(views(spot, way, result));
    }
    found
}

fn state(result: &Probed) -> Option<MemoryState> {
    let states = result.observed.step("memory")?.state;
    // What is written is not zeros: memory that is as it was took none of it, also where it held zeros.
    let first =
        [MemoryState::Unchanged, MemoryState::Written].into_iter().find(|state| states.contains(*state));
    first.or_else(|| states.only())
}

fn came(way: &Way, result: &Probed) -> Came {
    let refused = ["open", "map", way.id]
        .iter()
        .filter_map(|id| result.observed.step(id))
        .any(|step| matches!(step.answer, Answer::Failed { errno } if errno.is_refusal()));
    let Some(step) = result.observed.step(way.id) else { return Came::Neither };
    match (state(result), &step.answer) {
        _ if refused => Came::Refused,
        (Some(MemoryState::Written | MemoryState::Zeroed | MemoryState::Corrupted), _) => Came::Taken,
        // What went to the other view is another finding.
        (Some(MemoryState::Unchanged), Answer::Returned { .. }) if step.events.is_empty() => Came::Dropped,
        _ => Came::Neither,
    }
}

/// Bytes that one way leaves alone no other way changes.
fn one_answer(spot: &Spot, tried: &[(&Way, &Probed)]) -> Option<Finding> {
    let by = |wanted: Came| tried.iter().find(|(way, result)| came(way, result) == wanted);
    let (taken, result) = by(Came::Taken)?;
    let (kept, how) = match (by(Came::Refused), by(Came::Dropped)) {
        (Some(kept), _) => (kept, "refuses to change"),
        (None, Some(kept)) => (kept, "only claims to change"),
        (None, None) => return None,
    };
    let sentence = format!("{} changes bytes of {{}} that {} {how}", taken.name, kept.0.name);
    let evidence = [(kept.1, kept.0.id), (kept.1, "memory"), (*result, taken.id), (*result, "memory")];
    let gpa = gpa(result);
    Some(Finding {
        pages: Pages::of(gpa),
        gpa,
        evidence: evidence.into_iter().filter_map(|(result, id)| line(result, id)).collect(),
        case: text(spot, taken, Some(("memory", "\"unchanged\""))),
        paths: vec![taken.id.to_owned()],
        ..Finding::new(Invariant::OneAnswer, Weight::Hole, sentence)
    })
}

/// No write goes through a view the page's state forbids. Each access of the step counts.
fn views(spot: &Spot, way: &Way, result: &Probed) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let events = result.observed.step(way.id).map(|step| step.events.as_slice()).unwrap_or_default();
    for event in events {
        let (invariant, sentence) = named(event, way, state(result));
        let code_path: Vec<String> = event.backtrace.iter().take(innermost(event).max(1)).cloned().collect();
        let pages = Pages::of(event.gpa);
        let is_known = |known: &Finding| {
            (&known.sentence, &known.code_path, &known.pages) == (&sentence, &code_path, &pages)
        };
        if found.iter().any(is_known) {
            continue;
        }
        let seen = crate::report::evidence::of_event(event);
        found.push(Finding {
            pages,
            gpa: event.gpa,
            evidence: line(result, way.id).into_iter().chain(seen).chain(line(result, "memory")).collect(),
            code_path,
            case: text(spot, way, Some((way.id, probe::NOTHING_FORBIDDEN))),
            paths: vec![way.id.to_owned()],
            ..Finding::new(invariant, Weight::Hole, sentence)
        });
    }
    found
}

fn named(event: &AccessEvent, way: &Way, state: Option<MemoryState>) -> (Invariant, String) {
    let (invariant, what, view) = met(event);
    if !is_write(event) {
        return (invariant, format!("{} reads {what} through the {view} view: {{}}", way.name));
    }
    let consequence = match state {
        Some(MemoryState::Corrupted | MemoryState::Zeroed) => "which garbles them",
        Some(MemoryState::Unchanged) => "where it is lost",
        _ => "and goes through",
    };
    (invariant, format!("{} writes {what} through the {view} view, {consequence}: {{}}", way.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_parses() {
        for region in REGIONS {
            let spot = Spot::of(region);
            for way in &WAYS {
                let text = text(&spot, way, Some((way.id, probe::NOTHING_FORBIDDEN)));
                assert!(parse(&text, "audit/x").is_ok(), "{text}");
            }
        }
        let cases = cases();
        assert_eq!(cases.len(), REGIONS.len() * WAYS.len());
        assert!(cases.iter().all(|case| label(case).is_some()));
        assert_eq!(label(&cases_at(&Spot::at(0xf_fff0, 16))[0]), Some("0xffff0"));
    }
}
