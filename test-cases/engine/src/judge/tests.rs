// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The judge's verdicts.

mod doubt;
mod properties;

use super::*;
use crate::case::{self};
use crate::observation::{DeathKind, Deaths};
use model::class::{States, Truth};
use types::{AccessEvent, Errno, EventKind, Region, Signal};

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

fn failed(step: &str, errno: Errno) -> StepObservation {
    StepObservation::new(step, Answer::Failed { errno })
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
    std::iter::once(failed("open", Errno::EPERM)).chain(rest).collect()
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
        state: types::AccessTarget::Page(types::PageState::Private),
        rip: 0,
        symbol: None,
        cpl: 0,
        task: None,
        backtrace: Vec::new(),
        device: None,
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
    steps[0] = failed("open", Errno::EACCES);
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
    let signal = Answer::Signalled { signal: Signal::SIGSEGV };
    assert_eq!(verdict("'SIGSEGV'", signal, b""), Verdict::AsSpecified);
}
