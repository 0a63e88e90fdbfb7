//! What the judge must say.

use proptest::prelude::*;

use super::*;
use crate::case::{self, EventKind};
use crate::class::{States, Truth};
use crate::codes::{Errno, Signal};
use crate::library;
use crate::observation::{AccessEvent, DeathKind, Deaths};
use crate::region::Region;

const CASE: &str = r#"
title = "t"
why = "w"
[[step]]
id = "open"
do = "open"
path = "/dev/mem"
flags = "O_RDWR"
as = "mem"
expect = { any = "ok", open-eperm.confidential = "EPERM" }
[[step]]
id = "read"
do = "pread"
fd = "mem"
at = "low-ram"
len = 4
expect = "zeros"
[[step]]
id = "map"
do = "mmap"
fd = "mem"
at = "low-ram"
prot = "rw"
share = "shared"
as = "page"
[[step]]
id = "peek"
do = "peek"
map = "page"
len = 4
expect = { any = { is = "plain", hole = "seen" }, mmap-zeros = "zeros" }
[[step]]
id = "poke"
do = "poke"
map = "page"
hex = "5a5a5a5a"
[[step]]
id = "memory"
do = "memory"
at = "low-ram"
len = 4
wrote = "poke"
expect = { any = "written", mmap-zeros = "unchanged" }
"#;

const SECRET: [u8; 4] = *b"init";

fn the_case() -> Case {
    case::parse(CASE, "test").unwrap()
}

fn context(policy: Policy, platform: Platform) -> Context {
    Context { policy, platform, release: "6.12".parse().ok() }
}

fn ok(step: &str, value: u64) -> StepObservation {
    StepObservation::new(step, Answer::Returned { value })
}

fn bytes(step: &str, bytes: [u8; 4]) -> StepObservation {
    ok(step, 4).with_bytes(bytes.to_vec(), Truth { plain: Some(SECRET.to_vec()), ..Truth::default() })
}

fn failed(step: &str, errno: i32) -> StepObservation {
    StepObservation::new(step, Answer::Failed { errno: Errno(errno) })
}

fn not_reached(step: &str) -> StepObservation {
    StepObservation::new(step, Answer::NotReached { needs: "it".to_owned() })
}

fn memory(state: MemoryState) -> StepObservation {
    StepObservation { state: States::of([state]), ..ok("memory", 4) }
}

/// What a stock kernel gives.
fn stock() -> Vec<StepObservation> {
    vec![
        ok("open", 0),
        bytes("read", [0; 4]),
        ok("map", 0x1000),
        bytes("peek", SECRET),
        ok("poke", 4),
        memory(MemoryState::Written),
    ]
}

/// What a kernel gives that refuses open(2).
fn refused() -> Vec<StepObservation> {
    let rest = ["read", "map", "peek", "poke", "memory"].map(not_reached);
    std::iter::once(failed("open", libc::EPERM)).chain(rest).collect()
}

fn died(step: &str, kinds: &[DeathKind]) -> StepObservation {
    let end = Deaths::of(kinds.iter().copied());
    StepObservation { end, ..StepObservation::new(step, Answer::GuestDied) }
}

fn shared_read() -> AccessEvent {
    AccessEvent {
        kind: EventKind::SharedRead,
        gpa: 0x472,
        len: None,
        region: Some(Region::Bda),
        state: "private".to_owned(),
        rip: 0,
        symbol: None,
        cpl: 0,
        task: None,
        backtrace: Vec::new(),
        unwound_by: None,
    }
}

fn host_failure(step: &str) -> StepObservation {
    StepObservation::new(step, Answer::NotRun { reason: "KVM exit reason 99".to_owned() })
}

fn verdicts(context: Context, steps: Vec<StepObservation>) -> (String, Vec<&'static str>) {
    let observed = CaseObservation { steps, ..CaseObservation::default() };
    let verdict = judge(&the_case(), context, &observed);
    let labels = verdict.steps.iter().map(Verdict::label).collect();
    (verdict.verdict.label().to_owned(), labels)
}

#[test]
fn a_stock_kernel_shows_the_known_hole() {
    let (case, steps) = verdicts(context(Policy::Upstream, Platform::Sev), stock());
    assert_eq!(case, "known hole");
    let fine = "as specified";
    assert_eq!(steps, [fine, fine, fine, "known hole", fine, fine]);
}

#[test]
fn an_expected_refusal_leaves_the_rest_unreached_and_silent() {
    let (case, steps) = verdicts(context(Policy::OpenEperm, Platform::Sev), refused());
    assert_eq!(case, "as specified");
    assert_eq!(steps[1..], ["not reached"; 5]);
}

#[test]
fn a_refusal_that_does_not_come_is_the_finding_and_the_rest_is_evidence() {
    let (case, steps) = verdicts(context(Policy::OpenEperm, Platform::Sev), stock());
    assert_eq!(case, "denial missing");
    assert_eq!(steps[0], "denial missing");
    assert_eq!(steps[1..], ["evidence"; 5]);
}

#[test]
fn a_policy_for_confidential_guests_leaves_others_alone() {
    assert_eq!(verdicts(context(Policy::OpenEperm, Platform::None), stock()).0, "known hole");
    let (case, steps) = verdicts(context(Policy::OpenEperm, Platform::None), refused());
    assert_eq!((case.as_str(), steps[0]), ("unexpected", "unexpected"));
    assert_eq!(steps[1..], ["not reached"; 5]);
}

#[test]
fn bytes_where_zeros_were_promised_are_a_missing_denial() {
    let mut steps = stock();
    steps[1] = bytes("read", SECRET);
    let (case, labels) = verdicts(context(Policy::Upstream, Platform::Sev), steps);
    assert_eq!((case.as_str(), labels[1]), ("denial missing", "denial missing"));
}

#[test]
fn a_store_that_was_to_be_without_effect_is_a_missing_denial() {
    let mut steps = stock();
    steps[3] = bytes("peek", [0; 4]);
    let (_, labels) = verdicts(context(Policy::MmapZeros, Platform::Sev), steps);
    assert_eq!(labels[3..], ["as specified", "as specified", "denial missing"]);
}

#[test]
fn another_error_than_the_expected_one_is_unexpected() {
    let mut steps = refused();
    steps[0] = failed("open", libc::EACCES);
    assert_eq!(verdicts(context(Policy::OpenEperm, Platform::Sev), steps).0, "unexpected");
}

#[test]
fn half_an_answer_is_not_the_answer() {
    let mut steps = stock();
    steps[1] = StepObservation { answer: Answer::Returned { value: 2 }, ..bytes("read", [0; 4]) };
    let observed = CaseObservation { steps, ..CaseObservation::default() };
    let verdict = judge(&the_case(), context(Policy::Upstream, Platform::Sev), &observed);
    let got = "= 0x2 (of 0x4)".to_owned();
    assert_eq!(verdict.steps[1], Verdict::Unexpected { expected: "zeros".to_owned(), got });
}

#[test]
fn a_run_that_ends_early_is_not_a_pass() {
    let (case, steps) = verdicts(context(Policy::Upstream, Platform::Sev), stock()[..2].to_vec());
    assert_eq!(case, "not run");
    assert_eq!(steps[2..], ["not run"; 4]);
}

#[test]
fn an_unexpected_death_is_the_finding_and_nothing_follows() {
    let mut steps = stock()[..1].to_vec();
    steps.push(died("read", &[DeathKind::Terminated]));
    steps.push(not_reached("map"));
    let (case, labels) = verdicts(context(Policy::Upstream, Platform::Sev), steps);
    assert_eq!(case, "unexpected");
    assert_eq!(labels[1..], ["unexpected", "not reached", "not reached", "not reached", "not reached"]);
}

#[test]
fn events_are_judged_only_where_they_are_specified() {
    let one = |expect: &str| {
        let text = format!(
            "title = 't'\nwhy = 'w'\n[[step]]\nid = 'a'\ndo = 'read-file'\npath = '/x'\nexpect = {expect}"
        );
        case::parse(&text, "test").unwrap()
    };
    let seen = StepObservation { events: vec![shared_read()], ..ok("a", 1) };
    let label = |expect: &str, observed: &StepObservation| {
        let observed = CaseObservation { steps: vec![observed.clone()], ..CaseObservation::default() };
        judge(&one(expect), context(Policy::Upstream, Platform::Sev), &observed).verdict.label()
    };
    assert_eq!(label("'ok'", &seen), "as specified");
    assert_eq!(label("{ is = 'ok', events = ['shared-read'] }", &seen), "as specified");
    assert_eq!(label("{ is = 'ok', events = ['shared-read'] }", &ok("a", 1)), "unexpected");
    assert_eq!(label("{ is = 'ok', events = [] }", &seen), "unexpected");
    assert_eq!(label("{ is = 'ok', events = ['shared-write'] }", &seen), "unexpected");
    for (at, fits) in [("bda", true), ("0x472", true), ("page0", false), ("0x400", false)] {
        let expect = format!("{{ is = 'ok', events = ['shared-read at {at}'] }}");
        assert_eq!(label(&expect, &seen) == "as specified", fits, "{at}");
    }
}

/// The verdict on one step, which did `action` and is expected to give this.
fn label_of(action: &str, expect: &str, observed: StepObservation) -> &'static str {
    let text = format!("title = 't'\nwhy = 'w'\n[[step]]\nid = 'a'\n{action}\nexpect = {expect}");
    let observed = CaseObservation { steps: vec![observed], ..CaseObservation::default() };
    let case = case::parse(&text, "test").unwrap();
    judge(&case, context(Policy::Upstream, Platform::Tdx), &observed).verdict.label()
}

#[test]
fn a_death_has_an_exact_name() {
    let label = |expect: &str, kinds: &[DeathKind]| label_of("do = 'reboot'", expect, died("a", kinds));
    for kind in DeathKind::ALL {
        for wanted in DeathKind::ALL {
            let expect = format!("'{wanted}'");
            assert_eq!(label(&expect, &[*kind]) == "as specified", kind == wanted, "{wanted}, got {kind}");
        }
        assert_eq!(label("'dead'", &[*kind]) == "as specified", DeathKind::DEAD.contains(kind), "{kind}");
    }
}

#[test]
fn a_death_that_cannot_be_told_is_inconclusive_where_the_difference_matters() {
    let unclear = [DeathKind::Reset, DeathKind::Panic];
    let label = |expect: &str| label_of("do = 'reboot'", expect, died("a", &unclear));
    assert_eq!(label("'reset'"), "inconclusive");
    assert_eq!(label("'panic'"), "inconclusive");
    assert_eq!(label("'dead'"), "inconclusive");
    assert_eq!(label("'reset | panic'"), "as specified");
    assert_eq!(label("'terminated'"), "unexpected");
    assert_eq!(label_of("do = 'reboot'", "'reset'", died("a", &[])), "inconclusive");
}

#[test]
fn a_reboot_without_expectation_must_reset_the_guest() {
    let case = case::parse("title = 't'\nwhy = 'w'\n[[step]]\nid = 'a'\ndo = 'reboot'", "test").unwrap();
    let verdict = |observed| {
        let observed = CaseObservation { steps: vec![observed], ..CaseObservation::default() };
        judge(&case, context(Policy::Upstream, Platform::None), &observed).verdict.label()
    };
    assert_eq!(verdict(died("a", &[DeathKind::Reset])), "as specified");
    assert_eq!(verdict(died("a", &[DeathKind::Panic])), "unexpected");
    assert_eq!(verdict(ok("a", 0)), "unexpected");
}

#[test]
fn a_failure_outside_the_guest_is_not_run_wherever_it_happens() {
    for at in 0..stock().len() {
        let mut steps = stock();
        let failed = host_failure(&steps[at].step);
        steps[at] = failed;
        let (case, labels) = verdicts(context(Policy::Upstream, Platform::Sev), steps);
        assert_eq!((case.as_str(), labels[at]), ("not run", "not run"), "{at}");
    }
    // After the expected event has come, and where death was expected.
    let event = StepObservation { events: vec![shared_read()], ..host_failure("a") };
    let expect = "{ is = 'dead', events = ['shared-read'] }";
    assert_eq!(label_of("do = 'reboot'", expect, event), "not run");
    // Behind a refusal that did not come, and where nothing was to be reached.
    let mut steps = refused();
    steps[2] = host_failure("map");
    assert_eq!(verdicts(context(Policy::OpenEperm, Platform::Sev), steps).0, "not run");
}

#[test]
fn bytes_of_several_classes_are_inconclusive_where_the_difference_matters() {
    let read = "do = 'kcore-read'\nat = 'low-ram'\nlen = 4";
    let zeros = |truth| ok("a", 4).with_bytes(vec![0; 4], truth);
    let plain = || Truth { plain: Some(vec![0; 4]), ..Truth::default() };
    assert_eq!(label_of(read, "'zeros'", zeros(plain())), "inconclusive");
    assert_eq!(label_of(read, "'plain'", zeros(plain())), "inconclusive");
    assert_eq!(label_of(read, "'plain | zeros'", zeros(plain())), "as specified");
    assert_eq!(label_of(read, "'shared'", zeros(plain())), "unexpected");
    assert_eq!(label_of(read, "'zeros'", zeros(Truth::default())), "as specified");
    // Equal views.
    let equal = || Truth { plain: Some(vec![7; 4]), shared: Some(vec![7; 4]), ..Truth::default() };
    let seen = || ok("a", 4).with_bytes(vec![7; 4], equal());
    assert_eq!(label_of(read, "'plain'", seen()), "inconclusive");
    assert_eq!(label_of(read, "'plain | shared'", seen()), "as specified");
    assert_eq!(label_of(read, "'ok'", seen()), "as specified");
}

#[test]
fn memory_in_several_states_is_inconclusive_where_the_difference_matters() {
    let look = "do = 'memory'\nat = 'low-ram'\nlen = 4";
    let seen =
        |states: &[MemoryState]| StepObservation { state: States::of(states.iter().copied()), ..ok("a", 4) };
    let both = [MemoryState::Unchanged, MemoryState::Written];
    assert_eq!(label_of(look, "'unchanged'", seen(&both)), "inconclusive");
    assert_eq!(label_of(look, "'unchanged | written'", seen(&both)), "as specified");
    assert_eq!(label_of(look, "'zeroed'", seen(&both)), "unexpected");
    assert_eq!(label_of(look, "'unchanged'", seen(&[MemoryState::Unchanged])), "as specified");
}

#[test]
fn events_that_were_not_kept_make_their_absence_inconclusive() {
    let read = "do = 'read-file'\npath = '/x'";
    let seen = |events| StepObservation { events, events_dropped: 1, ..ok("a", 1) };
    assert_eq!(label_of(read, "{ is = 'ok', events = [] }", seen(vec![])), "inconclusive");
    assert_eq!(label_of(read, "{ is = 'ok', events = ['shared-read'] }", seen(vec![])), "inconclusive");
    assert_eq!(
        label_of(read, "{ is = 'ok', events = ['shared-read'] }", seen(vec![shared_read()])),
        "inconclusive"
    );
    assert_eq!(label_of(read, "{ is = 'ok', events = [] }", seen(vec![shared_read()])), "unexpected");
    assert_eq!(label_of(read, "{ is = 'EPERM', events = [] }", seen(vec![])), "denial missing");
    assert_eq!(label_of(read, "'ok'", seen(vec![])), "as specified");
}

#[test]
fn weakened_comparisons_are_counted() {
    let rigour = |platform, steps| {
        let observed = CaseObservation { steps, ..CaseObservation::default() };
        judge(&the_case(), context(Policy::Upstream, platform), &observed).rigour
    };
    // Six answers, two of them with bytes, and a state; no step has guest physical addresses.
    let whole = rigour(Platform::Sev, stock());
    assert_eq!((whole.total(), whole.weakened_share()), (9, 0.0), "{whole}");
    let placed = || {
        let mut steps = stock();
        steps[1].gpa = Some(crate::observation::GpaRange { start: 0x1000, len: 4 });
        steps
    };
    assert_eq!(rigour(Platform::Sev, placed()).count(Weakening::EventsNotStated), 1);
    assert_eq!(rigour(Platform::None, placed()).count(Weakening::EventsNotStated), 0);
    let mut unknown = stock();
    unknown[1].truth = Truth::default();
    assert_eq!(rigour(Platform::None, unknown).count(Weakening::UnknownTruth), 1);
}

#[test]
fn texts_are_searched_and_matched() {
    let text = |expect: &str, content: &str| {
        let text = format!(
            "title = 't'\nwhy = 'w'\n[[step]]\nid = 'a'\ndo = 'read-file'\npath = '/x'\nexpect = '{expect}'"
        );
        let case = case::parse(&text, "test").unwrap();
        let seen = StepObservation { bytes: content.as_bytes().to_vec(), ..ok("a", content.len() as u64) };
        let observed = CaseObservation { steps: vec![seen], ..CaseObservation::default() };
        judge(&case, context(Policy::Upstream, Platform::Sev), &observed).verdict.label() == "as specified"
    };
    assert!(text("contains \"b\"", "abc") && !text("contains \"d\"", "abc"));
    assert!(text("lacks \"d\"", "abc") && !text("lacks \"b\"", "abc"));
    assert!(text("matches \"a*c\"", "abc\n") && !text("matches \"a?\"", "abc\n"));
    assert!(text("= 0", "") && !text("= 0", "x"));
}

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
        (1..50).prop_map(|errno| Answer::Failed { errno: Errno(errno) }),
        (1..20).prop_map(|signal| Answer::Signalled { signal: Signal(signal) }),
        Just(Answer::TimedOut),
        Just(Answer::GuestDied),
        Just(Answer::NotReached { needs: String::new() }),
    ]
}

proptest! {
    /// Whatever comes back from whichever case, there is a verdict for every step, and it is never lighter
    /// than that of any step.
    #[test]
    fn there_is_always_a_verdict(
        index in 0usize..1000,
        answers in prop::collection::vec((any_answer(), prop::collection::vec(any::<u8>(), 0..8)), 0..20),
        policy in prop::sample::select(Policy::ALL),
        platform in prop::sample::select(Platform::ALL),
    ) {
        let cases = library::all().unwrap();
        let case = &cases[index % cases.len()];
        let steps = case.steps.iter().zip(answers).map(|(step, (answer, bytes))| {
            StepObservation::new(&step.id, answer).with_bytes(bytes, Truth::default())
        });
        let observed = CaseObservation { steps: steps.collect(), ..CaseObservation::default() };
        let verdict = judge(case, context(policy, platform), &observed);
        prop_assert_eq!(verdict.steps.len(), case.steps.len());
        prop_assert!(verdict.steps.iter().all(|step| step.weight() <= verdict.verdict.weight().max(1)));
    }

    /// Whatever is expected and whatever else came back: no failure outside the guest, and no doubt, becomes a pass.
    #[test]
    fn no_doubt_turns_into_a_pass(
        index in 0usize..1000,
        answers in prop::collection::vec(any_observation(), 1..20),
        policy in prop::sample::select(Policy::ALL),
        platform in prop::sample::select(Platform::ALL),
    ) {
        let cases = library::all().unwrap();
        let case = &cases[index % cases.len()];
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

    /// A kernel that refuses everything is never said to miss a denial.
    #[test]
    fn refusing_everything_misses_no_denial(
        index in 0usize..1000,
        policy in prop::sample::select(Policy::ALL),
        platform in prop::sample::select(Platform::ALL),
    ) {
        let cases = library::all().unwrap();
        let case = &cases[index % cases.len()];
        let steps = case.steps.iter().map(|step| match step.action.uses() {
            Some(_) => not_reached(&step.id),
            None if step.action.looks_for().is_some() => not_reached(&step.id),
            None => failed(&step.id, libc::EPERM),
        });
        let observed = CaseObservation { steps: steps.collect(), ..CaseObservation::default() };
        let verdict = judge(case, context(policy, platform), &observed);
        prop_assert!(!matches!(verdict.verdict, Verdict::DenialMissing { .. }), "{:?}", verdict);
    }
}

#[test]
fn a_program_is_ok_if_it_exits_with_zero_whatever_it_says() {
    let text =
        "title = 't'\nwhy = 'w'\n[[step]]\nid = 'run'\ndo = 'run'\nprogram = '/bin/busybox'\nexpect = ";
    let verdict = |expect: &str, answer: Answer, said: &[u8]| {
        let case = case::parse(&format!("{text}{expect}"), "test").unwrap();
        let mut observed = StepObservation::new("run", answer);
        observed.bytes = said.to_vec();
        let observed = CaseObservation { steps: vec![observed], ..CaseObservation::default() };
        judge(&case, context(Policy::Upstream, Platform::None), &observed).verdict
    };
    let exit = |value| Answer::Returned { value };
    assert_eq!(verdict("'ok'", exit(0), b""), Verdict::AsSpecified);
    assert_eq!(verdict("'ok'", exit(0), b"said"), Verdict::AsSpecified);
    assert!(matches!(verdict("'ok'", exit(4), b"said"), Verdict::Unexpected { .. }));
    assert_eq!(verdict("'= 1'", exit(1), b""), Verdict::AsSpecified);
    assert_eq!(verdict("'contains \"ai\"'", exit(1), b"said"), Verdict::AsSpecified);
    assert!(matches!(verdict("'ok'", Answer::TimedOut, b""), Verdict::NotRun { .. }));
    let signal = Answer::Signalled { signal: Signal(libc::SIGSEGV) };
    assert_eq!(verdict("'SIGSEGV'", signal, b""), Verdict::AsSpecified);
}
