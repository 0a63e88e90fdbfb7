// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares what happened with what was specified. No input but its arguments, no effect but its result.

mod fit;
mod rigour;
mod verdict;

use types::{Platform, Policy};

use self::fit::Fit;
use crate::case::{Case, Expected, Step};
use crate::observation::{Answer, CaseObservation, NotRun, StepObservation};
use model::class::{Class, Classes, MemoryState};
use model::release::Release;

pub use self::rigour::{Rigour, Weakening};
pub use self::verdict::{CaseVerdict, Verdict};

/// What the expectations depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The policy the kernel is judged by.
    pub policy: Policy,
    /// The guest's platform.
    pub platform: Platform,
    /// The kernel's release, where known.
    pub release: Option<Release>,
}

/// Judges one case.
pub fn judge(case: &Case, context: Context, observed: &CaseObservation) -> CaseVerdict {
    match &observed.not_run {
        Some(NotRun::Skipped(reason)) => {
            return CaseVerdict::bare(Verdict::Skipped { reason: reason.clone() });
        }
        Some(NotRun::Failed(reason)) => {
            return CaseVerdict::bare(Verdict::NotRun { reason: reason.clone() });
        }
        None => {}
    }
    let mut rigour = Rigour::default();
    let steps: Vec<Verdict> =
        case.steps.iter().map(|step| verdict_on(case, step, context, observed, &mut rigour)).collect();
    let heaviest = steps.iter().rev().max_by_key(|verdict| verdict.weight());
    let verdict = match heaviest {
        Some(verdict) if verdict.weight() > 0 => verdict.clone(),
        _ => Verdict::AsSpecified,
    };
    CaseVerdict { verdict, steps, rigour }
}

fn verdict_on(
    case: &Case,
    step: &Step,
    context: Context,
    observed: &CaseObservation,
    rigour: &mut Rigour,
) -> Verdict {
    let seen = observed.step(&step.id);
    // First: a failure outside the guest is no evidence, whatever else was observed.
    if let Some(reason) = seen.and_then(failed_outside) {
        return Verdict::NotRun { reason };
    }
    if never_wrote(step, observed) || died_before(step, observed) {
        return Verdict::NotReached;
    }
    match (seen, expected(step, context)) {
        (Some(seen), Some(expected)) => {
            let verdict = judge_step(step, expected, is_open(case, step, context), seen);
            if !matches!(verdict, Verdict::Evidence { .. } | Verdict::NotReached) {
                rigour.add(&fit::rigour(expected, step, seen, context.platform.is_confidential()));
            }
            verdict
        }
        (None, _) => Verdict::NotRun { reason: "the run ended before this step".to_owned() },
        (_, None) => Verdict::NotRun { reason: format!("nothing is specified for {}", context.policy) },
    }
}

/// Why the step's observation is no evidence about the guest, if so.
fn failed_outside(seen: &StepObservation) -> Option<String> {
    match &seen.answer {
        Answer::NotRun { reason } => Some(reason.clone()),
        Answer::TimedOut => Some("the step did not come to its end in time, which shows nothing".to_owned()),
        _ => None,
    }
}

/// Whether a step checks the write of a step that was never tried.
fn never_wrote(step: &Step, observed: &CaseObservation) -> bool {
    let writer = step.action.checks_write_of().and_then(|id| observed.step(id));
    writer.is_some_and(|writer| matches!(writer.answer, Answer::NotReached { .. }))
}

/// Whether the step was not tried because the guest died in an earlier one.
fn died_before(step: &Step, observed: &CaseObservation) -> bool {
    observed.step(&step.id).is_none() && observed.steps.iter().any(|step| step.answer == Answer::GuestDied)
}

fn expected(step: &Step, context: Context) -> Option<&Expected> {
    step.expect.resolve(context.policy, context.platform, context.release)
}

/// Whether, by what is specified, the step can be tried at all: no step it depends on is expected to be refused.
fn is_open(case: &Case, step: &Step, context: Context) -> bool {
    if let Some(writer) = step.action.checks_write_of().and_then(|id| case.step(id)) {
        return is_open(case, writer, context);
    }
    let Some(name) = step.action.uses() else { return true };
    let Some(source) = case.steps.iter().find(|other| other.action.obtains() == Some(name)) else {
        return true;
    };
    expected(source, context).is_none_or(Expected::can_succeed) && is_open(case, source, context)
}

fn judge_step(step: &Step, expected: &Expected, open: bool, observed: &StepObservation) -> Verdict {
    if matches!(observed.answer, Answer::NotReached { .. }) {
        return Verdict::NotReached;
    }
    let got = describe(step, observed);
    if !open {
        return Verdict::Evidence { got };
    }
    match fit::fit(expected, step, observed) {
        Fit::Yes => expected
            .hole
            .as_ref()
            .map_or(Verdict::AsSpecified, |hole| Verdict::KnownHole { hole: hole.clone() }),
        Fit::Unknown(reason) => Verdict::Inconclusive { expected: expected.to_string(), got, reason },
        Fit::No => {
            let missing = expected.is_denial() && is_granted(observed);
            let expected = expected.to_string();
            if missing {
                Verdict::DenialMissing { expected, got }
            } else {
                Verdict::Unexpected { expected, got }
            }
        }
    }
}

/// Whether the result is neither refused nor hidden.
fn is_granted(observed: &StepObservation) -> bool {
    if !observed.state.is_empty() {
        return !observed.state.contains(MemoryState::Unchanged);
    }
    let hidden = observed.class == Classes::of([Class::Zeros]);
    match observed.answer {
        Answer::Returned { .. } => !hidden,
        Answer::Signalled { .. } => !hidden && !observed.bytes.is_empty(),
        _ => false,
    }
}

/// The result, as a text in the terms of expectations.
pub fn describe(step: &Step, observed: &StepObservation) -> String {
    if !observed.state.is_empty() {
        return observed.state.to_string();
    }
    let events = if observed.events.is_empty() { String::new() } else { with_events(observed) };
    let answer = match &observed.answer {
        Answer::Failed { errno } => errno.to_string(),
        Answer::Signalled { signal } if observed.class.is_empty() => signal.to_string(),
        Answer::Signalled { signal } => {
            format!("{signal} after {:#x} bytes ({})", observed.bytes.len(), observed.class)
        }
        Answer::TimedOut => "no answer in time".to_owned(),
        Answer::GuestDied if observed.end.is_empty() => "a death that copra cannot name".to_owned(),
        Answer::GuestDied => observed.end.to_string(),
        Answer::NotReached { needs } => format!("not reached: there is no `{needs}`"),
        Answer::NotRun { reason } => format!("not run: {reason}"),
        Answer::Returned { value } => match step.action.requested_len() {
            Some(requested) if requested != *value => format!("= {value:#x} (of {requested:#x})"),
            Some(_) if !observed.class.is_empty() => observed.class.to_string(),
            None if !observed.bytes.is_empty() => {
                let text = String::from_utf8_lossy(&observed.bytes);
                let line: String = text.trim().chars().take(60).collect();
                format!("{line:?}")
            }
            None if step.action.yields() == crate::case::Yield::Number => format!("= {value:#x}"),
            _ => "ok".to_owned(),
        },
    };
    answer + &events
}

fn with_events(observed: &StepObservation) -> String {
    let mut names: Vec<_> = observed.events.iter().map(|event| event.kind.name()).collect();
    names.dedup();
    format!(" with {}", names.join(", "))
}

#[cfg(test)]
mod tests;
