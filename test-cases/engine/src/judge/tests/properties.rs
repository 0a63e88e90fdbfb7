// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Properties that hold for every case and every result.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::*;
use super::{context, died, failed, host_failure, not_reached, ok, shared_read};
use crate::library;
use crate::observation::DeathKind;
use model::class::Truth;
use types::{Errno, Signal};

/// Parsed once: the property tests take one each time.
static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| library::all().unwrap());

/// Why an observation is no evidence, or only half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    Outside,
    Dropped,
    Ambiguous,
}

fn any_observation() -> impl Strategy<Value = (Doubt, StepObservation)> {
    let events = || prop::collection::vec(Just(shared_read()), 0..2);
    let seen = || {
        (any_answer(), prop::collection::vec(any::<u8>(), 0..8), events()).prop_map(
            |(answer, bytes, events)| {
                let truth = Truth { plain: Some(vec![7; bytes.len()]), ..Truth::default() };
                StepObservation { events, ..StepObservation::new("", answer).with_bytes(bytes, truth) }
            },
        )
    };
    let dead = || {
        (prop::collection::vec(prop::sample::select(DeathKind::ALL), 1..3), events())
            .prop_map(|(kinds, events)| StepObservation { events, ..died("", &kinds) })
    };
    let certain = || prop_oneof![3 => seen(), 1 => dead()];
    let outside = (any::<bool>(), events()).prop_map(|(deadline, events)| {
        let answer = if deadline { Answer::TimedOut } else { host_failure("").answer };
        StepObservation { events, ..StepObservation::new("", answer) }
    });
    let zeros = (1usize..70, events()).prop_map(|(len, events)| {
        let truth = Truth { plain: Some(vec![0; len]), ..Truth::default() };
        StepObservation { events, ..ok("", len as u64).with_bytes(vec![0; len], truth) }
    });
    prop_oneof![
        4 => certain().prop_map(|seen| (Doubt::None, seen)),
        1 => outside.prop_map(|seen| (Doubt::Outside, seen)),
        1 => certain().prop_map(|seen| (Doubt::Dropped, StepObservation { events_dropped: 1, ..seen })),
        1 => zeros.prop_map(|seen| (Doubt::Ambiguous, seen)),
    ]
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        any::<u64>().prop_map(|value| Answer::Returned { value }),
        (1u16..50).prop_map(|errno| Answer::Failed { errno: Errno(errno) }),
        (1u8..20).prop_map(|signal| Answer::Signalled { signal: Signal(signal) }),
        Just(Answer::TimedOut),
        Just(Answer::GuestDied),
        Just(Answer::NotReached { needs: String::new() }),
    ]
}

proptest! {
    /// For every case and every result there is a verdict for every step, and it is never lighter
    /// than that of any step.
    #[test]
    fn there_is_always_a_verdict(
        index in 0usize..1000,
        answers in prop::collection::vec((any_answer(), prop::collection::vec(any::<u8>(), 0..8)), 0..20),
        policy in prop::sample::select(Policy::ALL),
        platform in prop::sample::select(Platform::ALL),
    ) {
        let case = &CASES[index % CASES.len()];
        let steps = case.steps.iter().zip(answers).map(|(step, (answer, bytes))| {
            StepObservation::new(&step.id, answer).with_bytes(bytes, Truth::default())
        });
        let observed = CaseObservation { steps: steps.collect(), ..CaseObservation::default() };
        let verdict = judge(case, context(policy, platform), &observed);
        prop_assert_eq!(verdict.steps.len(), case.steps.len());
        prop_assert!(verdict.steps.iter().all(|step| step.weight() <= verdict.verdict.weight().max(1)));
    }

    /// With every expectation and every other result: no failure outside the guest, and no doubt, becomes a pass.
    #[test]
    fn no_doubt_turns_into_a_pass(
        index in 0usize..1000,
        answers in prop::collection::vec(any_observation(), 1..20),
        policy in prop::sample::select(Policy::ALL),
        platform in prop::sample::select(Platform::ALL),
    ) {
        let case = &CASES[index % CASES.len()];
        let steps: Vec<_> = case.steps.iter().zip(&answers).map(|(step, (_, observed))| {
            StepObservation { step: step.id.clone(), ..observed.clone() }
        }).collect();
        let observed = CaseObservation { steps, ..CaseObservation::default() };
        let verdict = judge(case, context(policy, platform), &observed);
        let passes = |verdict: &Verdict| matches!(verdict, Verdict::AsSpecified | Verdict::KnownHole { .. });
        for ((step, (doubt, seen)), verdict) in case.steps.iter().zip(&answers).zip(&verdict.steps) {
            let needed = step.expect.resolve(policy, platform, "6.12".parse().ok());
            match doubt {
                Doubt::None => {}
                Doubt::Outside => prop_assert!(matches!(verdict, Verdict::NotRun { .. }), "{verdict:?}"),
                Doubt::Dropped => {
                    let stated = needed.is_some_and(|expected| expected.events.is_some());
                    prop_assert!(!(stated && passes(verdict)), "{} {verdict:?}", step.id);
                }
                // Passes only where every candidate is allowed, or none of them matters.
                Doubt::Ambiguous => {
                    let certain = |class| {
                        let mut one = seen.clone();
                        one.class = Classes::of([class]);
                        needed.is_some_and(|expected| fit::fit(expected, step, &one) == Fit::Yes)
                    };
                    prop_assert!(!passes(verdict) || seen.class.iter().all(certain), "{verdict:?}");
                }
            }
        }
        if answers.iter().take(case.steps.len()).any(|(doubt, _)| *doubt == Doubt::Outside) {
            prop_assert!(!passes(&verdict.verdict), "{:?}", verdict.verdict);
        }
    }

    /// A kernel that refuses everything has no missing denial.
    #[test]
    fn refusing_everything_misses_no_denial(
        index in 0usize..1000,
        policy in prop::sample::select(Policy::ALL),
        platform in prop::sample::select(Platform::ALL),
    ) {
        let case = &CASES[index % CASES.len()];
        let steps = case.steps.iter().map(|step| match step.action.uses() {
            Some(_) => not_reached(&step.id),
            None if step.action.checks_write_of().is_some() => not_reached(&step.id),
            None => failed(&step.id, Errno::EPERM),
        });
        let observed = CaseObservation { steps: steps.collect(), ..CaseObservation::default() };
        let verdict = judge(case, context(policy, platform), &observed);
        prop_assert!(!matches!(verdict.verdict, Verdict::DenialMissing { .. }), "{:?}", verdict);
    }
}
