// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The observations of one case in one guest, from the report of the run.

use engine::case::Step;
use engine::judge::Verdict;
use engine::observation::{Answer, DeathKind, Deaths, KernelFacts, SHOWN, StepObservation};
use engine::report::{self, Report};
use model::class::{Class, Classes};
use types::AccessEvent;

/// The observations of one guest.
#[derive(Debug)]
pub struct Observed {
    report: Report,
    /// The index of the case in the report.
    index: usize,
}

impl Observed {
    /// Takes the case out of a report; `None` if it was not run.
    pub fn of(report: Report, case: &str) -> Option<Self> {
        let ran = |result: &report::CaseResult| result.case.name == case && !result.verdict.steps.is_empty();
        let index = report.cases.iter().position(ran)?;
        Some(Self { report, index })
    }

    fn steps(&self) -> impl Iterator<Item = (&Step, Option<&StepObservation>, &Verdict)> {
        self.report.cases.get(self.index).into_iter().flat_map(report::CaseResult::steps)
    }

    fn step(&self, id: &str) -> Option<&StepObservation> {
        self.steps().find(|(step, ..)| step.id == id).and_then(|(_, observed, _)| observed)
    }

    /// The kernel.
    pub const fn kernel(&self) -> &KernelFacts {
        &self.report.kernel
    }

    /// Forbidden accesses while the guest booted.
    pub const fn boot_events(&self) -> u64 {
        self.report.counters.boot_events
    }

    /// The result of a step: `ok`, an errno, a signal, `not reached`.
    pub fn answer(&self, id: &str) -> String {
        let Some(observed) = self.step(id) else { return "not in the case".to_owned() };
        match &observed.answer {
            Answer::Returned { .. } => "ok".to_owned(),
            Answer::Failed { errno } => errno.to_string(),
            Answer::Signalled { signal } => signal.to_string(),
            Answer::GuestDied => death(observed.end),
            Answer::TimedOut => "timed out".to_owned(),
            Answer::NotReached { .. } => "not reached".to_owned(),
            Answer::NotRun { .. } => "not run".to_owned(),
        }
    }

    /// The bytes a step gave, as many as reports show.
    pub fn bytes(&self, id: &str) -> &[u8] {
        let bytes = self.step(id).map(|observed| observed.bytes.as_slice()).unwrap_or_default();
        bytes.get(..SHOWN).unwrap_or(bytes)
    }

    /// The classes of the bytes.
    pub fn classes(&self, id: &str) -> Classes {
        self.step(id).map(|observed| observed.class).unwrap_or_default()
    }

    /// The names of the bytes' classes; empty for a step that gave no bytes.
    pub fn class_names(&self, id: &str) -> String {
        self.classes(id).iter().map(Class::name).collect::<Vec<_>>().join(" and ")
    }

    /// Whether the step's bytes are of guest memory.
    pub fn is_of_memory(&self, id: &str) -> bool {
        self.step(id).is_some_and(|observed| observed.gpa.is_some())
    }

    /// The guest physical address of the step.
    pub fn gpa(&self, id: &str) -> u64 {
        self.step(id).and_then(|observed| observed.gpa).map_or(0, |range| range.start)
    }

    /// The forbidden accesses during a step, in lines.
    pub fn events(&self, id: &str) -> Vec<String> {
        self.step(id).into_iter().flat_map(|observed| &observed.events).flat_map(lines).collect()
    }

    /// Every step with what it does.
    pub fn calls(&self) -> Vec<(String, String)> {
        self.steps().map(|(step, ..)| (step.id.clone(), step.action.to_string())).collect()
    }

    /// How guests ended, with the last lines of their consoles.
    pub fn deaths(&self) -> impl Iterator<Item = (String, &[String])> {
        self.report.deaths.iter().map(|death| {
            let kinds: Vec<&str> = death.kind.iter().map(DeathKind::name).collect();
            (format!("{}: {}", kinds.join(" or "), death.text), death.console.as_slice())
        })
    }

    /// Rewritten instructions, counted by kind; empty if there is none.
    pub fn rewritten(&self) -> String {
        let platform = &self.report.platform;
        if platform.rewritten.is_empty() { String::new() } else { report::rewritten(platform) }
    }

    /// Why a step was not run, if one was not: a host failure or a deadline.
    pub fn not_run(&self) -> Option<String> {
        self.steps().find_map(|(step, _, verdict)| match verdict {
            Verdict::NotRun { reason } => Some(format!("`{}`: {reason}", step.id)),
            _ => None,
        })
    }

    /// Whether the step's verdict is as the policy documents it, known holes included.
    pub fn is_as_documented(&self, id: &str) -> bool {
        self.steps().find(|(step, ..)| step.id == id).is_some_and(|(_, _, verdict)| {
            matches!(verdict, Verdict::AsSpecified | Verdict::KnownHole { .. } | Verdict::NotReached)
        })
    }
}

/// How the guest ended in a step.
fn death(end: Deaths) -> String {
    let deaths: Vec<&str> = end.iter().map(DeathKind::sentence).collect();
    if deaths.is_empty() { "the guest died".to_owned() } else { deaths.join(", or ") }
}

/// A forbidden access, and where it was called from.
fn lines(event: &AccessEvent) -> Vec<String> {
    let AccessEvent { kind, gpa, state, cpl, .. } = event;
    let at = event.symbol.clone().unwrap_or_else(|| format!("{:#x}", event.rip));
    let task = event.task.as_ref().map(|task| format!(", task {task}")).unwrap_or_default();
    let first =
        format!("forbidden: {kind} of GPA {gpa:#x}, a page that is {state}, at {at} (CPL {cpl}{task})");
    let callers = event.backtrace.get(1..).filter(|frames| !frames.is_empty());
    std::iter::once(first)
        .chain(callers.map(|frames| format!("  called by {}", frames.join(" < "))))
        .collect()
}
