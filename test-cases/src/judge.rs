//! Compares what happened with what was specified. No input but its arguments, no effect but its result.

mod rigour;

use serde::Serialize;

use crate::case::{Case, Expected, ExpectedEvent, Step, Term};
use crate::class::{Class, Classes, MemoryState};
use crate::observation::{AccessEvent, Answer, CaseObservation, DeathKind, NotRun, StepObservation};
use crate::platform::Platform;
use crate::policy::Policy;
use crate::region::Base;
use crate::release::Release;

pub use self::rigour::{Rigour, Weakening};

/// What the expectations depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The policy the kernel is held to.
    pub policy: Policy,
    /// The guest's platform.
    pub platform: Platform,
    /// The kernel's release, where known.
    pub release: Option<Release>,
}

/// What is to be said of a step or a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// What was specified, and nothing wrong with it.
    AsSpecified,
    /// What was specified, and it is a hole that is known.
    KnownHole {
        /// What leaks or breaks.
        hole: String,
    },
    /// Something was to be refused or hidden, and was not.
    DenialMissing {
        /// What was specified.
        expected: String,
        /// What came back.
        got: String,
    },
    /// Something else than specified.
    Unexpected {
        /// What was specified.
        expected: String,
        /// What came back.
        got: String,
    },
    /// What the step would have given was shut off by an earlier refusal that did not come: not judged.
    Evidence {
        /// What came back.
        got: String,
    },
    /// A step that could not be tried because an earlier one was refused.
    NotReached,
    /// A case that does not apply to this guest.
    Skipped {
        /// Why.
        reason: String,
    },
    /// A case or step that could not be run.
    NotRun {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// Whether the kernel under test is at fault.
    pub const fn is_finding(&self) -> bool {
        matches!(self, Self::DenialMissing { .. } | Self::Unexpected { .. })
    }

    /// The verdict in one or two words.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::AsSpecified => "as specified",
            Self::KnownHole { .. } => "known hole",
            Self::DenialMissing { .. } => "denial missing",
            Self::Unexpected { .. } => "unexpected",
            Self::Evidence { .. } => "evidence",
            Self::NotReached => "not reached",
            Self::Skipped { .. } => "skipped",
            Self::NotRun { .. } => "not run",
        }
    }

    /// How much a step's verdict weighs in the verdict on its case.
    pub(crate) const fn weight(&self) -> u8 {
        match self {
            Self::Evidence { .. } | Self::NotReached | Self::Skipped { .. } => 0,
            Self::AsSpecified => 1,
            Self::KnownHole { .. } => 2,
            Self::NotRun { .. } => 3,
            Self::Unexpected { .. } => 4,
            Self::DenialMissing { .. } => 5,
        }
    }
}

/// The verdict on a case and on each of its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseVerdict {
    /// The weightiest of the steps' verdicts.
    pub verdict: Verdict,
    /// The verdicts on the steps, in the case's order; empty if the case did not run.
    pub steps: Vec<Verdict>,
}

impl CaseVerdict {
    /// The known holes that were shown.
    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|verdict| match verdict {
            Verdict::KnownHole { hole } => Some(hole.as_str()),
            _ => None,
        })
    }
}

/// Judges one case.
pub fn judge(case: &Case, context: Context, observed: &CaseObservation) -> CaseVerdict {
    match &observed.not_run {
        Some(NotRun::Skipped(reason)) => {
            return CaseVerdict { verdict: Verdict::Skipped { reason: reason.clone() }, steps: Vec::new() };
        }
        Some(NotRun::Failed(reason)) => {
            return CaseVerdict { verdict: Verdict::NotRun { reason: reason.clone() }, steps: Vec::new() };
        }
        None => {}
    }
    let verdict_on = |step: &Step| match (observed.step(&step.id), expected(step, context)) {
        _ if never_wrote(step, observed) || died_before(step, observed) => Verdict::NotReached,
        (Some(observation), Some(expected)) => {
            judge_step(step, expected, is_open(case, step, context), observation)
        }
        (None, _) => Verdict::NotRun { reason: "the run ended before this step".to_owned() },
        (_, None) => Verdict::NotRun { reason: format!("nothing is specified for {}", context.policy) },
    };
    let steps: Vec<Verdict> = case.steps.iter().map(verdict_on).collect();
    let heaviest = steps.iter().rev().max_by_key(|verdict| verdict.weight());
    let verdict = match heaviest {
        Some(verdict) if verdict.weight() > 0 => verdict.clone(),
        _ => Verdict::AsSpecified,
    };
    CaseVerdict { verdict, steps }
}

/// Whether a step looks for the work of a step that was never tried.
fn never_wrote(step: &Step, observed: &CaseObservation) -> bool {
    let writer = step.action.looks_for().and_then(|id| observed.step(id));
    writer.is_some_and(|writer| matches!(writer.answer, Answer::NotReached { .. }))
}

/// Whether the step was not tried because an earlier one took the guest with it.
fn died_before(step: &Step, observed: &CaseObservation) -> bool {
    let tried = observed.step(&step.id).is_some_and(|step| !matches!(step.answer, Answer::NotRun { .. }));
    !tried && observed.steps.iter().any(|step| step.answer == Answer::GuestDied)
}

fn expected(step: &Step, context: Context) -> Option<&Expected> {
    step.expect.resolve(context.policy, context.platform, context.release)
}

/// Whether, by what is specified, the step can be tried at all: nothing it builds on is to be refused.
fn is_open(case: &Case, step: &Step, context: Context) -> bool {
    if let Some(writer) = step.action.looks_for().and_then(|id| case.step(id)) {
        return is_open(case, writer, context);
    }
    let Some(name) = step.action.uses() else { return true };
    let Some(source) = case.steps.iter().find(|other| other.action.obtains() == Some(name)) else {
        return true;
    };
    expected(source, context).is_none_or(Expected::can_succeed) && is_open(case, source, context)
}

fn judge_step(step: &Step, expected: &Expected, open: bool, observed: &StepObservation) -> Verdict {
    match &observed.answer {
        Answer::NotReached { .. } => return Verdict::NotReached,
        Answer::NotRun { reason } => return Verdict::NotRun { reason: reason.clone() },
        _ => {}
    }
    let got = describe(step, observed);
    if !open {
        return Verdict::Evidence { got };
    }
    let fits = expected.alternatives.iter().any(|term| matches(term, step, observed));
    if fits && events_fit(expected, observed) {
        return expected
            .hole
            .as_ref()
            .map_or(Verdict::AsSpecified, |hole| Verdict::KnownHole { hole: hole.clone() });
    }
    let missing = expected.is_denial() && is_granted(observed);
    let expected = expected.to_string();
    if missing { Verdict::DenialMissing { expected, got } } else { Verdict::Unexpected { expected, got } }
}

/// Whether what came back is neither refused nor hidden.
fn is_granted(observed: &StepObservation) -> bool {
    if let Some(state) = observed.state {
        return state != MemoryState::Unchanged;
    }
    let hidden = observed.class == Classes::of([Class::Zeros]);
    matches!(observed.answer, Answer::Returned { .. }) && !hidden
}

fn events_fit(expected: &Expected, observed: &StepObservation) -> bool {
    let Some(wanted) = &expected.events else { return true };
    let seen = |wanted: &ExpectedEvent| observed.events.iter().any(|event| event_fits(*wanted, event));
    let meant = |event: &AccessEvent| wanted.iter().any(|wanted| event_fits(*wanted, event));
    wanted.iter().all(seen) && observed.events.iter().all(meant)
}

fn event_fits(wanted: ExpectedEvent, event: &AccessEvent) -> bool {
    let there = match wanted.at {
        None => true,
        Some(Base::Region(region)) => event.region == Some(region),
        Some(Base::Address(address)) => event.gpa == address,
    };
    there && event.kind == wanted.kind
}

fn matches(term: &Term, step: &Step, observed: &StepObservation) -> bool {
    if let Term::State(state) = term {
        return observed.state == Some(*state);
    }
    let whole = |count: u64| step.action.asks().is_none_or(|asked| asked == count);
    match (term, &observed.answer) {
        (Term::Errno(wanted), Answer::Failed { errno }) => wanted == errno,
        (Term::Signal(wanted), Answer::Signalled { signal }) => wanted == signal,
        (Term::Killed, Answer::Signalled { .. }) => true,
        (Term::Dead, Answer::GuestDied) => !has_reset(observed),
        (Term::Reset, Answer::GuestDied) => has_reset(observed),
        (term, Answer::Returned { value }) => match term {
            // A program says by its exit status whether it did its work.
            Term::Ok if matches!(step.action, crate::case::Action::Run { .. }) => *value == 0,
            Term::Ok => whole(*value),
            Term::Number(wanted) => wanted == value,
            Term::Short => *value > 0 && !whole(*value),
            Term::Class(class) => whole(*value) && observed.class.contains(*class),
            Term::Contains(text) => contains(&observed.bytes, text),
            Term::Lacks(text) => !contains(&observed.bytes, text),
            Term::Matches(pattern) => {
                let text = String::from_utf8_lossy(&observed.bytes);
                glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text.trim_end()))
            }
            _ => false,
        },
        _ => false,
    }
}

/// The guest ended, and by its own will.
fn has_reset(observed: &StepObservation) -> bool {
    observed.end == Some(DeathKind::Reset)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text.as_bytes())
}

/// What came back, in the words of expectations.
pub fn describe(step: &Step, observed: &StepObservation) -> String {
    if let Some(state) = observed.state {
        return state.to_string();
    }
    let events = if observed.events.is_empty() { String::new() } else { with_events(observed) };
    let answer = match &observed.answer {
        Answer::Failed { errno } => errno.to_string(),
        Answer::Signalled { signal } => signal.to_string(),
        Answer::TimedOut => "no answer in time".to_owned(),
        Answer::GuestDied if has_reset(observed) => "reset".to_owned(),
        Answer::GuestDied => "dead".to_owned(),
        Answer::NotReached { needs } => format!("not reached: there is no `{needs}`"),
        Answer::NotRun { reason } => format!("not run: {reason}"),
        Answer::Returned { value } => match step.action.asks() {
            Some(asked) if asked != *value => format!("= {value:#x} (of {asked:#x})"),
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
