// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ways to change a page: one case per region and way, made here, and what they show together.

use types::{AccessEvent, Region};
use vmm::layout::PAGE_SIZE;

use super::finding::{Finding, Invariant, Weight};
use super::invariant::{gpa, innermost, is_write, line, violation};
use super::place::Pages;
use super::probe::{self, Spot, of_audit};
use super::{Probed, Subject};
use crate::case::{Action, Case, Expected, Protection, Share, Step, Term, UserBuffer, ViewChoice};
use crate::observation::Answer;
use model::class::MemoryState;

/// Memory that can be restored after any change.
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
/// What is written: a block of the memory cipher.
pub(super) const DATA: [u8; 16] = [0x5a; 16];

/// A way to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// pwrite(2).
    Pwrite,
    /// A store by the processor.
    Store,
    /// A write of /proc/self/mem.
    SelfMem,
}

impl Way {
    /// Every way, in the order they are tried.
    pub const ALL: [Self; 3] = [Self::Pwrite, Self::Store, Self::SelfMem];

    /// The id of its step.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Pwrite => "pwrite",
            Self::Store => "poke",
            Self::SelfMem => "self-mem-write",
        }
    }

    /// For people.
    const fn name(self) -> &'static str {
        match self {
            Self::Pwrite => "pwrite(2)",
            Self::Store => "a store to a shared mapping",
            Self::SelfMem => "a write of /proc/self/mem over a mapping",
        }
    }
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// They were changed, to what was written or to something else.
    Taken,
    /// The call succeeded, and nothing changed.
    Dropped,
    /// The call failed.
    Refused,
    /// Something else, or not tried.
    Neither,
}

/// The regions that are written to, each in every way.
pub fn regions() -> impl Iterator<Item = (Spot, Way)> {
    REGIONS.iter().flat_map(|region| Way::ALL.map(|way| (Spot::of(*region), way)))
}

/// The name of the case that writes to a spot.
pub(super) fn name(spot: &Spot, way: Way) -> String {
    format!("{PREFIX}{spot}/{}", way.id())
}

/// The case that writes to a spot.
pub fn case(spot: &Spot, way: Way) -> Case {
    let Spot { at, page, offset, .. } = *spot;
    let id = way.id();
    let (mem, map, data) = ("mem".to_owned(), "page".to_owned(), DATA.to_vec());
    let mut steps = vec![Step::open("open", "/dev/mem", libc::O_RDWR, &mem)];
    if way != Way::Pwrite {
        let prot = Protection((libc::PROT_READ | libc::PROT_WRITE).cast_unsigned());
        let (fd, handle) = (mem.clone(), map.clone());
        let share = Share::Shared;
        let mapped = Action::Mmap { fd, at: page, len: PAGE_SIZE, prot, share, over: None, handle };
        steps.push(Step::new("map", mapped));
    }
    steps.push(Step::new(
        id,
        match way {
            Way::Pwrite => Action::Pwrite { fd: mem, at, data, buffer: UserBuffer::Good },
            Way::Store => Action::Poke { map, offset, data },
            Way::SelfMem => Action::SelfMemWrite { map, offset, data },
        },
    ));
    let (len, wrote) = (DATA.len() as u64, Some(id.to_owned()));
    steps.push(Step::new("memory", Action::Memory { at, len, wrote, view: ViewChoice::Owner }));
    Case { steps, ..of_audit(&name(spot, way), &format!("{}: {spot}", way.name())) }
}

/// Every finding of the writes to one spot.
pub fn findings(spot: &Spot, results: &[Probed]) -> Vec<Finding> {
    let of = |way| results.iter().find(|result| result.subject == Subject::Write(*spot, way));
    let tried: Vec<(Way, &Probed)> = Way::ALL.into_iter().filter_map(|way| Some((way, of(way)?))).collect();
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

fn came(way: Way, result: &Probed) -> Came {
    let refused = ["open", "map", way.id()]
        .iter()
        .filter_map(|id| result.observed.step(id))
        .any(|step| matches!(step.answer, Answer::Failed { errno } if errno.is_refusal()));
    let Some(step) = result.observed.step(way.id()) else { return Came::Neither };
    match (state(result), &step.answer) {
        _ if refused => Came::Refused,
        (Some(MemoryState::Written | MemoryState::Zeroed | MemoryState::Corrupted), _) => Came::Taken,
        // What went to the other view is another finding.
        (Some(MemoryState::Unchanged), Answer::Returned { .. }) if step.events.is_empty() => Came::Dropped,
        _ => Came::Neither,
    }
}

/// Bytes that one way leaves alone no other way changes.
fn one_answer(spot: &Spot, tried: &[(Way, &Probed)]) -> Option<Finding> {
    let by = |kind: Came| tried.iter().find(|(way, result)| came(*way, result) == kind);
    let (taken, result) = by(Came::Taken)?;
    let (kept, how) = match (by(Came::Refused), by(Came::Dropped)) {
        (Some(kept), _) => (kept, "refuses to change"),
        (None, Some(kept)) => (kept, "only claims to change"),
        (None, None) => return None,
    };
    let sentence = format!("{} changes bytes of {{}} that {} {how}", taken.name(), kept.0.name());
    let evidence = [(kept.1, kept.0.id()), (kept.1, "memory"), (*result, taken.id()), (*result, "memory")];
    let gpa = gpa(result);
    Some(Finding {
        pages: Pages::of(gpa),
        gpa,
        evidence: evidence.into_iter().filter_map(|(result, id)| line(result, id)).collect(),
        case: Some(
            case(spot, *taken).expecting("memory", &Expected::only(Term::State(MemoryState::Unchanged))),
        ),
        paths: vec![taken.id().to_owned()],
        ..Finding::new(Invariant::OneAnswer, Weight::Hole, sentence)
    })
}

/// No write uses a view that the page's state forbids. Each access of the step counts.
fn views(spot: &Spot, way: Way, result: &Probed) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let events = result.observed.step(way.id()).map(|step| step.events.as_slice()).unwrap_or_default();
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
            evidence: line(result, way.id()).into_iter().chain(seen).chain(line(result, "memory")).collect(),
            code_path,
            case: Some(case(spot, way).expecting(way.id(), &probe::nothing_forbidden())),
            paths: vec![way.id().to_owned()],
            ..Finding::new(invariant, Weight::Hole, sentence)
        });
    }
    found
}

fn named(event: &AccessEvent, way: Way, state: Option<MemoryState>) -> (Invariant, String) {
    let (invariant, what, view) = violation(event);
    if !is_write(event) {
        return (invariant, format!("{} reads {what} through the {view} view: {{}}", way.name()));
    }
    let consequence = match state {
        Some(MemoryState::Corrupted | MemoryState::Zeroed) => "which garbles them",
        Some(MemoryState::Unchanged) => "where it is lost",
        _ => "and goes through",
    };
    (invariant, format!("{} writes {what} through the {view} view, {consequence}: {{}}", way.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{parse, write};

    #[test]
    fn every_case_can_be_written() {
        let at_address = Way::ALL.map(|way| (Spot::at(0xf_fff0, 16), way));
        for (spot, way) in regions().chain(at_address) {
            let case = case(&spot, way).expecting(way.id(), &probe::nothing_forbidden());
            assert_eq!(parse(&write(&case), &case.name).unwrap(), case);
        }
        assert_eq!(name(&at_address[0].0, Way::Pwrite), "audit/write/0xffff0/pwrite");
    }
}
