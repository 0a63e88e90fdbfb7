//! The invariants, checked on what one probe saw.

use super::finding::{Finding, Invariant, Weight};
use super::probe::{self, PATHS, Path};
use crate::class::Class;
use crate::observation::{AccessEvent, Answer, StepObservation};
use crate::platform::Platform;
use crate::region::Region;
use crate::report::{CaseResult, Report};

/// What a path did with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Showed them.
    Shown,
    /// Refused them.
    Refused,
    /// Gave zeros where there are none.
    Zeroed,
    /// Neither: it could not be tried, failed for another reason, or met another view.
    Neither,
}

/// Every finding in one probe.
pub fn check(report: &Report, result: &CaseResult) -> Vec<Finding> {
    let name = result.case.name.as_str();
    match name.strip_prefix("audit/").and_then(|name| name.parse::<Region>().ok()) {
        Some(region) => {
            let mut found = Vec::new();
            found.extend(one_answer(result, region));
            found.extend(views(result, region));
            found
        }
        None => doors(report, result),
    }
}

fn seen(result: &CaseResult, path: &Path) -> Seen {
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

pub(super) fn line(result: &CaseResult, id: &str) -> Option<String> {
    let step = result.case.step(id)?;
    let observed = result.observed.step(id)?;
    Some(format!("{}  → {}", step.action, crate::judge::describe(step, observed)))
}

pub(super) fn gpa(result: &CaseResult) -> u64 {
    result.observed.steps.iter().find_map(|step| step.gpa).map_or(0, |range| range.start)
}

/// Bytes that one path hides no other path shows.
fn one_answer(result: &CaseResult, region: Region) -> Option<Finding> {
    let by = |wanted: &[Seen]| -> Vec<&Path> {
        PATHS.iter().filter(|path| wanted.contains(&seen(result, path))).collect()
    };
    let (shown, hidden) = (by(&[Seen::Shown]), by(&[Seen::Refused, Seen::Zeroed]));
    let (first, hides) = (shown.first()?, hidden.first()?);
    let (how, expected) = if by(&[Seen::Zeroed]).is_empty() {
        ("refuses", "\"EPERM\"")
    } else {
        ("gives zeros for", "\"zeros\"")
    };
    let sentence = format!("{} shows bytes of {{}} that {} {how}", first.name, hides.name);
    let evidence =
        hidden.iter().chain(&shown).filter_map(|path| line(result, path.id)).collect::<Vec<String>>();
    Some(Finding {
        invariant: Invariant::OneAnswer,
        weight: Weight::Hole,
        regions: vec![region],
        gpa: gpa(result),
        case: probe::minimal(
            region,
            &[hides.id, first.id],
            &sentence.replace("{}", region.name()),
            Some(expected),
        ),
        sentence,
        name: String::new(),
        evidence,
        code_path: Vec::new(),
        closed_by: Vec::new(),
        paths: shown.iter().map(|path| path.id.to_owned()).collect(),
    })
}

/// Functions that tell one way to a page from another; those that called them are system calls' entries. Of what was only
/// found lying on the stack the first is enough to go by.
pub(super) fn innermost(event: &AccessEvent) -> usize {
    if event.unwound_by == Some("orc") { 3 } else { 1 }
}

/// No access through a view the page's state forbids, none to memory never accepted. Paths that meet the same page in the
/// same way through the same function are one finding.
fn views(result: &CaseResult, region: Region) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for path in PATHS {
        let Some(event) = result.observed.step(path.id).and_then(|step| step.events.first()) else {
            continue;
        };
        let same = |finding: &&mut Finding| {
            let (one, other) = (&finding.code_path, &event.backtrace);
            let len = innermost(event);
            !one.is_empty() && one.iter().take(len).eq(other.iter().take(len))
        };
        let evidence = line(result, path.id).into_iter().chain(crate::report::evidence::of_event(event));
        if let Some(finding) = found.iter_mut().find(same) {
            finding.paths.push(path.id.to_owned());
            finding.evidence.extend(evidence.take(1));
            continue;
        }
        let (invariant, sentence) = named(event, path);
        found.push(Finding {
            invariant,
            weight: Weight::Hole,
            regions: vec![region],
            gpa: event.gpa,
            case: probe::minimal(
                region,
                &[path.id],
                &sentence.replace("{}", region.name()),
                Some(probe::NOTHING_FORBIDDEN),
            ),
            sentence,
            name: String::new(),
            evidence: evidence.collect(),
            code_path: event.backtrace.clone(),
            closed_by: Vec::new(),
            paths: vec![path.id.to_owned()],
        });
    }
    found
}

/// What a forbidden access breaks, the kind of memory it met, and the view it used.
pub(super) fn met(event: &AccessEvent) -> (Invariant, String, &'static str) {
    let view = if event.kind.name().starts_with("shared") { "shared" } else { "private" };
    match event.state.as_str() {
        "unaccepted" => (Invariant::AcceptedOnly, "memory never accepted".to_owned(), view),
        "device" => (Invariant::OneView, "devices".to_owned(), view),
        state => (Invariant::OneView, format!("{state} pages"), view),
    }
}

fn named(event: &AccessEvent, path: &Path) -> (Invariant, String) {
    let (invariant, what, view) = met(event);
    let comma = if invariant == Invariant::AcceptedOnly { "," } else { "" };
    (invariant, format!("{} touches {what}{comma} through the {view} view: {{}}", path.name))
}

/// Memory that is refused at one address and shown at another: the address with the encryption bit in it.
pub fn alias(report: &Report) -> Option<Finding> {
    let probe = |region: Region| {
        let name = format!("audit/{region}");
        report.cases.iter().find(|result| result.case.name == name && result.observed.not_run.is_none())
    };
    let (plain, alias) = (probe(Region::Ram)?, probe(Region::CbitAliasRam)?);
    let shown: Vec<&Path> = PATHS.iter().filter(|path| seen(alias, path) == Seen::Shown).collect();
    let refused: Vec<&Path> = PATHS.iter().filter(|path| seen(plain, path) == Seen::Refused).collect();
    let (first, denial) = (shown.first()?, refused.first()?);
    let sentence = format!("{} shows bytes of {{}} that are refused at their plain address", first.name);
    Some(Finding {
        invariant: Invariant::OneAnswer,
        weight: Weight::Hole,
        regions: vec![Region::CbitAliasRam],
        gpa: gpa(alias),
        case: probe::minimal(
            Region::CbitAliasRam,
            &[first.id],
            &sentence.replace("{}", "ram"),
            Some("\"EPERM\""),
        ),
        sentence,
        name: String::new(),
        evidence: line(plain, denial.id).into_iter().chain(line(alias, first.id)).collect(),
        code_path: Vec::new(),
        closed_by: Vec::new(),
        paths: shown.iter().map(|path| path.id.to_owned()).collect(),
    })
}

/// What is refused on /dev/mem and granted elsewhere, and what was lost.
fn doors(report: &Report, result: &CaseResult) -> Vec<Finding> {
    let platform = report.platform.platform;
    let answer = |id: &str| result.observed.step(id).map(|step| &step.answer);
    let granted = |id: &str| matches!(answer(id), Some(Answer::Returned { .. }));
    let refused = |id: &str| matches!(answer(id), Some(Answer::Failed { errno }) if errno.is_refusal());
    let finding = |invariant, weight, id: &str, sentence: String| Finding {
        invariant,
        weight,
        regions: Vec::new(),
        gpa: 0,
        sentence,
        name: String::new(),
        evidence: ["mem", id].into_iter().filter_map(|id| line(result, id)).collect(),
        code_path: Vec::new(),
        closed_by: Vec::new(),
        case: String::new(),
        paths: vec![id.to_owned()],
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
        found.push(finding(Invariant::NothingLost, Weight::Note, "mem", name));
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
