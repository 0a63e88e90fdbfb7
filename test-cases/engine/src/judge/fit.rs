// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether an observation fits an expectation. An observation is the set of situations that could have caused it: bytes of
//! two classes, memory in two states, a death of two manners. An expectation fits if it fits each of them.

use super::rigour::{Rigour, Weakening};
use crate::case::{Action, Expected, ExpectedEvent, OUTPUT, Step, Term, Yield};
use crate::observation::{Answer, DeathKind, Deaths, StepObservation};
use crate::place::Base;
use model::class::{Class, MemoryState};
use types::AccessEvent;
use types::candidates::{Candidates, Listed};

/// How an observation compares with an expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is what is expected.
    Yes,
    /// It is not.
    No,
    /// It may be either; why the observation does not show which.
    Unknown(String),
}

/// One thing that may have happened.
#[derive(Debug, Clone, Copy, Default)]
struct World {
    class: Option<Class>,
    state: Option<MemoryState>,
    death: Option<DeathKind>,
    /// The text went on beyond what was kept, with what makes the difference.
    beyond: bool,
}

/// Compares answer, bytes and events.
pub(super) fn fit(expected: &Expected, step: &Step, observed: &StepObservation) -> Fit {
    match (answer_fits(expected, step, observed), events_fit(expected, observed)) {
        (Fit::No, _) | (_, Fit::No) => Fit::No,
        (Fit::Unknown(why), _) | (_, Fit::Unknown(why)) => Fit::Unknown(why),
        (Fit::Yes, Fit::Yes) => Fit::Yes,
    }
}

fn answer_fits(expected: &Expected, step: &Step, observed: &StepObservation) -> Fit {
    let worlds = worlds(step, observed);
    let fits = |world: &World| expected.alternatives.iter().any(|term| matches(term, *world, step, observed));
    match worlds.iter().filter(|world| fits(world)).count() {
        0 => Fit::No,
        count if count == worlds.len() => Fit::Yes,
        _ => Fit::Unknown(why_ambiguous(step, observed)),
    }
}

fn worlds(step: &Step, observed: &StepObservation) -> Vec<World> {
    fn each<T: Listed>(candidates: Candidates<T>) -> Vec<Option<T>> {
        if candidates.is_empty() { vec![None] } else { candidates.iter().map(Some).collect() }
    }
    // A death without a name can be any.
    let unnamed = observed.answer == Answer::GuestDied && observed.end.is_empty();
    let deaths = if unnamed { Deaths::of(DeathKind::ALL.iter().copied()) } else { observed.end };
    let mut worlds = Vec::new();
    for class in each(observed.class) {
        for state in each(observed.state) {
            for death in each(deaths) {
                worlds.push(World { class, state, death, beyond: false });
                if is_cut(step, observed) {
                    worlds.push(World { class, state, death, beyond: true });
                }
            }
        }
    }
    worlds
}

/// The text may go on beyond what was kept: it is as long as the most that is kept of it.
fn is_cut(step: &Step, observed: &StepObservation) -> bool {
    most_kept(&step.action).is_some_and(|most| observed.bytes.len() as u64 >= most)
}

/// How many bytes are kept of a text whose length is known only at its end. The length of all other answers is known.
fn most_kept(action: &Action) -> Option<u64> {
    match action {
        Action::Run { .. } => Some(OUTPUT.into()),
        Action::ReadFile { len, .. } => Some(*len),
        _ => None,
    }
}

fn why_ambiguous(step: &Step, observed: &StepObservation) -> String {
    if observed.answer == Answer::GuestDied {
        format!("copra could not determine which death it was: {}", observed.end)
    } else if is_cut(step, observed) {
        let len = observed.bytes.len();
        format!("the text has {len} bytes or more, of which no more are kept: what may follow is unknown")
    } else if observed.state.is_ambiguous() {
        format!(
            "memory is {}: what was there, or what was written, does not distinguish them",
            observed.state
        )
    } else {
        format!("the bytes are {}: what memory holds does not distinguish them", observed.class)
    }
}

fn matches(term: &Term, world: World, step: &Step, observed: &StepObservation) -> bool {
    if let Term::State(state) = term {
        return world.state == Some(*state);
    }
    let whole = |count: u64| step.action.requested_len().is_none_or(|requested| requested == count);
    // Of memory, every requested byte.
    let all_is_there = |count: u64| {
        step.action.yields() != Yield::Memory || whole(count) && observed.bytes.len() as u64 == count
    };
    match (term, &observed.answer) {
        (Term::Errno(specified), Answer::Failed { errno }) => specified == errno,
        (Term::Signal(specified), Answer::Signalled { signal }) => {
            specified == signal && gave_nothing(step, observed)
        }
        (Term::Death(specified), Answer::GuestDied) => world.death == Some(*specified),
        (term, Answer::Returned { value }) => match term {
            // The exit status of a program is its result.
            Term::Ok if matches!(step.action, Action::Run { .. }) => *value == 0,
            Term::Ok => whole(*value),
            Term::Number(specified) => specified == value,
            Term::Short => *value > 0 && !whole(*value),
            Term::Class(class) => whole(*value) && world.class == Some(*class),
            Term::Contains(_) | Term::Lacks(_) | Term::Matches(_) if !all_is_there(*value) => false,
            Term::Contains(text) => contains(&observed.bytes, text) || world.beyond,
            Term::Lacks(text) => !contains(&observed.bytes, text) && !world.beyond,
            // What follows can make a text that fits one that does not, and the reverse.
            Term::Matches(pattern) => {
                let text = String::from_utf8_lossy(&observed.bytes);
                let fits = glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text.trim_end()));
                fits != world.beyond
            }
            _ => false,
        },
        _ => false,
    }
}

/// No byte of memory was returned before the signal.
fn gave_nothing(step: &Step, observed: &StepObservation) -> bool {
    step.action.yields() != Yield::Memory || observed.bytes.is_empty()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text.as_bytes())
}

fn events_fit(expected: &Expected, observed: &StepObservation) -> Fit {
    let Some(events) = &expected.events else { return Fit::Yes };
    let seen = |expected: &ExpectedEvent| observed.events.iter().any(|event| event_fits(*expected, event));
    let meant = |event: &AccessEvent| events.iter().any(|expected| event_fits(*expected, event));
    if !observed.events.iter().all(meant) {
        return Fit::No;
    }
    // Among those that were not kept may be one that is expected, and one that is not.
    match observed.events_dropped {
        0 if events.iter().all(seen) => Fit::Yes,
        0 => Fit::No,
        dropped => Fit::Unknown(format!("{dropped} forbidden accesses were counted and not kept")),
    }
}

fn event_fits(expected: ExpectedEvent, event: &AccessEvent) -> bool {
    let there = match expected.at {
        None => true,
        Some(Base::Region(region)) => event.region == Some(region),
        Some(Base::Address(address)) => event.gpa == address,
    };
    there && event.kind == expected.kind
}

/// How strict the comparison of one step is. What is compared: the answer; the bytes, where there are any; and the
/// forbidden accesses of a step that reached guest memory, where the platform has any.
pub(super) fn rigour(
    expected: &Expected,
    step: &Step,
    observed: &StepObservation,
    has_events: bool,
) -> Rigour {
    let mut rigour = Rigour::default();
    let term = &expected.alternatives;
    if term.len() > 1 {
        rigour.weakened(Weakening::Alternatives, 1);
    } else {
        rigour.exact(1);
    }
    let returned = matches!(observed.answer, Answer::Returned { .. });
    let yields = step.action.yields();
    if returned && !matches!(yields, Yield::Nothing | Yield::Count) {
        let compares = term.iter().any(|term| !matches!(term, Term::Ok | Term::Short));
        if !compares {
            rigour.weakened(Weakening::OkOnly, 1);
        } else if observed.class.is_ambiguous() || observed.state.is_ambiguous() {
            rigour.weakened(Weakening::AmbiguousClass, 1);
        } else if yields == Yield::Memory && !observed.truth.is_known() {
            rigour.weakened(Weakening::UnknownTruth, 1);
        } else {
            rigour.exact(1);
        }
    }
    let reached_memory = observed.gpa.is_some() && yields != Yield::State;
    if has_events && (reached_memory || !observed.events.is_empty()) {
        match expected.events {
            Some(_) => rigour.exact(1),
            None => rigour.weakened(Weakening::EventsNotStated, 1),
        }
    }
    rigour
}
