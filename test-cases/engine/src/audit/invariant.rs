// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The invariants, checked on what one probe saw.

use types::{AccessEvent, AccessKind, AccessTarget, Errno, PageState, Platform, Region, UnwindMethod, View};

use super::finding::{DISTINGUISHING_FRAMES, Finding, Invariant, Weight};
use super::place::Pages;
use super::probe::{self, PATHS, Path, Spot};
use super::{Facts, Probed, doors};
use crate::case::{Expected, Term};
use crate::observation::{Answer, StepObservation};
use model::class::Class;

/// What a path did with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Showed them.
    Shown,
    /// Refused them.
    Refused,
    /// Gave zeros where there are none.
    Zeroed,
    /// Neither: it could not be tried, failed for another reason, or used another view.
    Neither,
}

/// Every finding of the reads of one spot.
pub fn check_reads(result: &Probed, spot: &Spot) -> Vec<Finding> {
    one_answer(result, spot).into_iter().chain(views(result, spot)).collect()
}

fn seen(result: &Probed, path: &Path) -> Seen {
    let denied =
        |step: &StepObservation| matches!(step.answer, Answer::Failed { errno } if errno.is_refusal());
    let Some(step) = result.observed.step(path.id) else { return Seen::Neither };
    if denied(step) {
        return Seen::Refused;
    }
    if let Answer::NotReached { needs } = &step.answer {
        let before = result.case.steps.iter().find(|step| step.action.obtains() == Some(needs));
        let refused = before.and_then(|step| result.observed.step(&step.id)).is_some_and(denied);
        return if refused { Seen::Refused } else { Seen::Neither };
    }
    let truth = step.truth.plain.as_deref().or(step.truth.device.as_deref()).unwrap_or_default();
    if truth.iter().all(|byte| *byte == 0) {
        // Zeros prove nothing where there is nothing else.
        return Seen::Neither;
    }
    if step.class.contains(Class::Plain) || step.class.contains(Class::Device) {
        Seen::Shown
    } else if step.class.contains(Class::Zeros) {
        Seen::Zeroed
    } else {
        Seen::Neither
    }
}

pub(super) fn line(result: &Probed, id: &str) -> Option<String> {
    let step = result.case.step(id)?;
    let observed = result.observed.step(id)?;
    Some(format!("{}  → {}", step.action, crate::judge::describe(step, observed)))
}

pub(super) fn gpa(result: &Probed) -> u64 {
    result.observed.steps.iter().find_map(|step| step.gpa).map_or(0, |range| range.start)
}

/// Bytes that one path hides no other path shows.
fn one_answer(result: &Probed, spot: &Spot) -> Option<Finding> {
    let by = |kinds: &[Seen]| -> Vec<&Path> {
        PATHS.iter().filter(|path| kinds.contains(&seen(result, path))).collect()
    };
    let (shown, hidden) = (by(&[Seen::Shown]), by(&[Seen::Refused, Seen::Zeroed]));
    let (first, hides) = (shown.first()?, hidden.first()?);
    let (how, expected) = if by(&[Seen::Zeroed]).is_empty() {
        ("refuses", Term::Errno(Errno::EPERM))
    } else {
        ("gives zeros for", Term::Class(Class::Zeros))
    };
    let sentence = format!("{} shows bytes of {{}} that {} {how}", first.name, hides.name);
    let title = sentence.replace("{}", &spot.to_string());
    let gpa = gpa(result);
    Some(Finding {
        pages: Pages::of(gpa),
        gpa,
        case: Some(probe::read_case(spot, &[hides.id, first.id], &title, Some(Expected::only(expected)))),
        evidence: hidden.iter().chain(&shown).filter_map(|path| line(result, path.id)).collect(),
        paths: shown.iter().map(|path| path.id.to_owned()).collect(),
        ..Finding::new(Invariant::OneAnswer, Weight::Hole, sentence)
    })
}

/// How many innermost functions distinguish two paths to a page; their callers are system call entries. Of a stack scan
/// without ORC data only the first is certain.
pub(super) fn innermost(event: &AccessEvent) -> usize {
    if event.unwound_by == Some(UnwindMethod::Orc) { DISTINGUISHING_FRAMES } else { 1 }
}

/// No access through a view the page's state forbids, none to memory never accepted. Each access of each path counts;
/// those of one page in the same way through the same functions are one finding.
fn views(result: &Probed, spot: &Spot) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for path in PATHS {
        let events = result.observed.step(path.id).map(|step| step.events.as_slice()).unwrap_or_default();
        for event in events {
            let (invariant, sentence) = named(event, path);
            let pages = Pages::of(event.gpa);
            let same = |finding: &&mut Finding| {
                let (one, other) = (&finding.code_path, &event.backtrace);
                let len = innermost(event);
                let code = if one.is_empty() && other.is_empty() {
                    finding.paths.iter().any(|known| known == path.id)
                } else {
                    one.iter().take(len).eq(other.iter().take(len))
                };
                code && finding.pages == pages && finding.invariant == invariant
            };
            let evidence = line(result, path.id).into_iter().chain(crate::report::evidence::of_event(event));
            if let Some(finding) = found.iter_mut().find(same) {
                if !finding.paths.iter().any(|known| known == path.id) {
                    finding.paths.push(path.id.to_owned());
                    finding.evidence.extend(evidence.take(1));
                }
                continue;
            }
            let title = sentence.replace("{}", &spot.to_string());
            found.push(Finding {
                pages,
                gpa: event.gpa,
                case: Some(probe::read_case(spot, &[path.id], &title, Some(probe::nothing_forbidden()))),
                evidence: evidence.collect(),
                code_path: event.backtrace.clone(),
                paths: vec![path.id.to_owned()],
                ..Finding::new(invariant, Weight::Hole, sentence)
            });
        }
    }
    found
}

/// The invariant that a forbidden access breaks, the kind of memory, and the view it used.
pub(super) fn violation(event: &AccessEvent) -> (Invariant, String, View) {
    let view = event.kind.view();
    match event.state {
        AccessTarget::Page(PageState::Unaccepted) => {
            (Invariant::AcceptedOnly, "memory never accepted".to_owned(), view)
        }
        AccessTarget::Refused => {
            (Invariant::OneView, "shared pages whose conversion to private was refused".to_owned(), view)
        }
        AccessTarget::Device => (Invariant::OneView, "devices".to_owned(), view),
        AccessTarget::Page(state) => (Invariant::OneView, format!("{state} pages"), view),
    }
}

/// The expectation that a step is refused.
fn refusal() -> Expected {
    Expected::only(Term::Errno(Errno::EPERM))
}

fn named(event: &AccessEvent, path: &Path) -> (Invariant, String) {
    let (invariant, what, view) = violation(event);
    let comma = if invariant == Invariant::AcceptedOnly { "," } else { "" };
    let verb = if is_write(event) { "writes" } else { "reads" };
    (invariant, format!("{} {verb} {what}{comma} through the {view} view: {{}}", path.name))
}

/// Whether an access is a store.
pub(super) fn is_write(event: &AccessEvent) -> bool {
    event.kind.access() == AccessKind::Write
}

/// Memory that is refused at one address and returned at another, the one with the encryption bit. `plain` is the read
/// of the first, `alias` of the second.
pub fn alias(plain: &Probed, alias: &Probed) -> Option<Finding> {
    let shown: Vec<&Path> = PATHS.iter().filter(|path| seen(alias, path) == Seen::Shown).collect();
    let refused: Vec<&Path> = PATHS.iter().filter(|path| seen(plain, path) == Seen::Refused).collect();
    let (first, denial) = (shown.first()?, refused.first()?);
    let sentence = format!("{} shows bytes of {{}} that are refused at their plain address", first.name);
    let title = sentence.replace("{}", "ram");
    let (spot, gpa) = (Spot::of(Region::CbitAliasRam), gpa(alias));
    Some(Finding {
        pages: Pages::of(gpa),
        gpa,
        case: Some(probe::read_case(&spot, &[first.id], &title, Some(refusal()))),
        evidence: line(plain, denial.id).into_iter().chain(line(alias, first.id)).collect(),
        paths: shown.iter().map(|path| path.id.to_owned()).collect(),
        ..Finding::new(Invariant::OneAnswer, Weight::Hole, sentence)
    })
}

/// What is refused on /dev/mem and granted elsewhere, and what was lost.
pub fn side_doors(facts: &Facts<'_>, result: &Probed) -> Vec<Finding> {
    let platform = facts.platform;
    let answer = |id: &str| result.observed.step(id).map(|step| &step.answer);
    let granted = |id: &str| matches!(answer(id), Some(Answer::Returned { .. }));
    let refused = |id: &str| matches!(answer(id), Some(Answer::Failed { errno }) if errno.is_refusal());
    let finding = |invariant, weight, id: &str, sentence: String| {
        let steps: Vec<&str> = match id {
            "map-resource" => vec!["resource", id],
            _ => vec![id],
        };
        let expected = if invariant == Invariant::NothingLost { Expected::only(Term::Ok) } else { refusal() };
        Finding {
            evidence: ["mem", id].into_iter().filter_map(|id| line(result, id)).collect(),
            case: Some(doors::some(&steps, &sentence, &expected)),
            paths: vec![id.to_owned()],
            ..Finding::new(invariant, weight, sentence)
        }
    };
    let mut found = Vec::new();
    for (id, what) in [("dmi", "SMBIOS structure table"), ("dmi-entry", "SMBIOS entry point")] {
        if !granted(id) {
            let name = format!("the {what} is not readable below /sys/firmware/dmi");
            found.push(finding(Invariant::NothingLost, Weight::Hole, id, name));
        }
    }
    let absent = matches!(answer("mem"), Some(Answer::Failed { errno }) if !errno.is_refusal());
    let closed = if refused("mem") {
        Some("/dev/mem is refused")
    } else if absent {
        Some("there is no /dev/mem")
    } else if refused("look") {
        Some("/dev/mem opens and every page of it is refused")
    } else {
        None
    };
    if let Some(closed) = closed.filter(|_| platform == Platform::None) {
        let name = format!("{closed}, in an ordinary guest too");
        let mut lost = finding(Invariant::NothingLost, Weight::Note, "mem", name);
        if granted("mem") {
            lost.case = Some(doors::some(&["mem", "look"], &lost.sentence, &Expected::only(Term::Ok)));
        }
        found.push(lost);
    }
    if let Some(closed) = closed.filter(|_| platform.is_confidential()) {
        let doors = [
            ("port", "/dev/port opens", Weight::Hole),
            ("kcore", "/proc/kcore opens", Weight::Note),
            ("msr", "/dev/cpu/0/msr opens", Weight::Note),
            ("map-resource", "a PCI BAR can be mapped from its resource file", Weight::Note),
            ("ioperm", "ioperm(2) is granted", Weight::Note),
            ("iopl", "iopl(2) is granted", Weight::Note),
        ];
        for (id, what, weight) in doors.into_iter().filter(|(id, ..)| granted(id)) {
            let name = format!("{closed}, and {what}");
            found.push(finding(Invariant::NoSideDoors, weight, id, name));
        }
    }
    found
}
