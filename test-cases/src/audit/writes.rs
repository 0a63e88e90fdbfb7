//! The ways to change a page: one case per region and way, made here, and what they show together.

use super::finding::{Finding, Invariant, Weight};
use super::invariant::{gpa, innermost, line, met};
use super::probe::{self, Spot, head};
use crate::case::{Case, parse};
use crate::class::MemoryState;
use crate::observation::{AccessEvent, Answer};
use crate::region::Region;
use crate::report::{CaseResult, Report};

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
const PREFIX: &str = "audit/write";
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

/// Every case.
pub fn cases() -> Vec<Case> {
    // The texts are made here; one that does not parse is caught by a test.
    let all = REGIONS.iter().flat_map(|region| WAYS.iter().map(move |way| (*region, way)));
    all.filter_map(|(region, way)| parse(&text(region, way, None), &name(region, way)).ok()).collect()
}

fn name(region: Region, way: &Way) -> String {
    format!("{PREFIX}/{region}-{}", way.id)
}

fn text(region: Region, way: &Way, expected: Option<&str>) -> String {
    let Spot { at, page, offset } = probe::spot(region);
    let id = way.id;
    let expected = expected.map(|expected| format!("\nexpect = {expected}")).unwrap_or_default();
    let data = format!("hex = \"5a\"\nrepeat = {LEN}{expected}");
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
    steps.push(format!("id = \"memory\"\ndo = \"memory\"\nat = \"{at}\"\nlen = {LEN}\nwrote = \"{id}\""));
    let steps = steps.iter().flat_map(|step| ["\n[[step]]\n", step, "\n"]);
    head(&format!("{}: {region}", way.name)) + &steps.collect::<String>()
}

/// How many ways there are.
pub fn ways() -> usize {
    WAYS.len()
}

/// Whether a case is one of these.
pub fn has(case: &Case) -> bool {
    case.name.starts_with(PREFIX)
}

/// Every finding.
pub fn findings(report: &Report) -> Vec<Finding> {
    let mut found = Vec::new();
    for region in REGIONS {
        let tried: Vec<(&Way, &CaseResult)> =
            WAYS.iter().filter_map(|way| Some((way, result(report, region, way)?))).collect();
        found.extend(one_answer(region, &tried));
        for (way, result) in tried {
            found.extend(view(region, way, result));
        }
    }
    found
}

fn result<'a>(report: &'a Report, region: Region, way: &Way) -> Option<&'a CaseResult> {
    let name = name(region, way);
    report.cases.iter().find(|result| result.case.name == name && result.observed.not_run.is_none())
}

fn state(result: &CaseResult) -> Option<MemoryState> {
    result.observed.step("memory")?.state
}

fn came(way: &Way, result: &CaseResult) -> Came {
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
fn one_answer(region: Region, tried: &[(&Way, &CaseResult)]) -> Option<Finding> {
    let by = |wanted: Came| tried.iter().find(|(way, result)| came(way, result) == wanted);
    let (taken, result) = by(Came::Taken)?;
    let (kept, how) = match (by(Came::Refused), by(Came::Dropped)) {
        (Some(kept), _) => (kept, "refuses to change"),
        (None, Some(kept)) => (kept, "only claims to change"),
        (None, None) => return None,
    };
    let sentence = format!("{} changes bytes of {{}} that {} {how}", taken.name, kept.0.name);
    let evidence = [(kept.1, kept.0.id), (kept.1, "memory"), (*result, taken.id), (*result, "memory")];
    Some(Finding {
        invariant: Invariant::OneAnswer,
        weight: Weight::Hole,
        regions: vec![region],
        gpa: gpa(result),
        sentence,
        name: String::new(),
        evidence: evidence.into_iter().filter_map(|(result, id)| line(result, id)).collect(),
        code_path: Vec::new(),
        closed_by: Vec::new(),
        case: text(region, taken, None),
        paths: vec![taken.id.to_owned()],
    })
}

/// No write goes through a view the page's state forbids.
fn view(region: Region, way: &Way, result: &CaseResult) -> Option<Finding> {
    let event = result.observed.step(way.id)?.events.first()?;
    let (invariant, sentence) = named(event, way, state(result));
    let told = crate::report::evidence::of_event(event);
    Some(Finding {
        invariant,
        weight: Weight::Hole,
        regions: vec![region],
        gpa: event.gpa,
        sentence,
        name: String::new(),
        evidence: line(result, way.id).into_iter().chain(told).chain(line(result, "memory")).collect(),
        code_path: event.backtrace.iter().take(innermost(event).max(1)).cloned().collect(),
        closed_by: Vec::new(),
        case: text(region, way, Some(probe::NOTHING_FORBIDDEN)),
        paths: vec![way.id.to_owned()],
    })
}

fn named(event: &AccessEvent, way: &Way, state: Option<MemoryState>) -> (Invariant, String) {
    let (invariant, what, view) = met(event);
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
            for way in &WAYS {
                let text = text(region, way, Some(probe::NOTHING_FORBIDDEN));
                assert!(parse(&text, "audit/x").is_ok(), "{text}");
            }
        }
        let cases = cases();
        assert_eq!(cases.len(), REGIONS.len() * WAYS.len());
        assert!(cases.iter().all(has));
    }
}
