// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is no evidence, or evidence of several things, does not pass.

use super::super::*;
use super::{context, died, host_failure, ok, refused, shared_read, stock, verdicts};
use crate::case;
use crate::observation::DeathKind;
use model::class::{States, Truth};
use types::Signal;

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
    // After the expected event, and where death was expected.
    let event = StepObservation { events: vec![shared_read()], ..host_failure("a") };
    let expect = "{ is = 'dead', events = ['shared-read'] }";
    assert_eq!(label_of("do = 'reboot'", expect, event), "not run");
    // After a missing refusal, and where no step was to be reached.
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
fn a_signal_after_bytes_is_no_denial() {
    let read = "do = 'kcore-read'\nat = 'low-ram'\nlen = 4";
    let signal = || StepObservation::new("a", Answer::Signalled { signal: Signal::SIGBUS });
    let truth = || Truth { plain: Some(vec![7; 2]), ..Truth::default() };
    for expect in ["'SIGBUS'", "'killed SIGBUS'"] {
        assert_eq!(label_of(read, expect, signal()), "as specified");
        assert_eq!(label_of(read, expect, signal().with_bytes(vec![7; 2], truth())), "denial missing");
        assert_eq!(label_of(read, expect, signal().with_bytes(vec![0; 2], truth())), "unexpected");
    }
    let program = "do = 'run'\nprogram = '/bin/busybox'";
    let said = StepObservation { bytes: b"said".to_vec(), ..signal() };
    assert_eq!(label_of(program, "'SIGBUS'", said), "as specified");
}

#[test]
fn what_is_in_memory_is_told_by_all_bytes_that_were_asked_for() {
    let read = "do = 'kcore-read'\nat = 'low-ram'\nlen = 4";
    let seen = |value, bytes: &[u8]| StepObservation { bytes: bytes.to_vec(), ..ok("a", value) };
    for expect in ["'lacks \"x\"'", "'contains \"a\"'", "'matches \"a*\"'"] {
        assert_eq!(label_of(read, expect, seen(4, b"abcd")), "as specified", "{expect}");
        for (value, bytes) in [(0, b"".as_slice()), (2, b"ab"), (4, b"ab"), (4, b"")] {
            assert_eq!(
                label_of(read, expect, seen(value, bytes)),
                "unexpected",
                "{expect} {value} {bytes:?}"
            );
        }
    }
}

#[test]
fn what_a_program_said_beyond_what_is_kept_is_unknown() {
    let run = "do = 'run'\nprogram = '/bin/busybox'";
    let said = |len: u32| {
        let mut bytes = vec![b'.'; len as usize];
        bytes[0] = b'a';
        StepObservation { bytes, ..ok("a", 1) }
    };
    let label = |expect: &str, len| label_of(run, expect, said(len));
    let (whole, cut) = (case::OUTPUT - 1, case::OUTPUT);
    assert_eq!(label("'lacks \"x\"'", whole), "as specified");
    assert_eq!(label("'lacks \"x\"'", cut), "inconclusive");
    assert_eq!(label("'lacks \"a\"'", cut), "unexpected");
    assert_eq!(label("'contains \"a\"'", cut), "as specified");
    assert_eq!(label("'contains \"x\"'", cut), "inconclusive");
    assert_eq!(label("'contains \"x\"'", whole), "unexpected");
    assert_eq!(label("'matches \"a*\"'", whole), "as specified");
    assert_eq!(label("'matches \"a*.\"'", cut), "inconclusive");
    assert_eq!(label("'= 1'", cut), "as specified");
}

#[test]
fn what_a_file_holds_beyond_the_length_that_was_read_is_unknown() {
    let read = "do = 'read-file'\npath = '/x'\nlen = 4";
    let label = |expect: &str, text: &str| {
        label_of(read, expect, StepObservation { bytes: text.into(), ..ok("a", text.len() as u64) })
    };
    assert_eq!(label("'lacks \"x\"'", "abc"), "as specified");
    assert_eq!(label("'lacks \"x\"'", "abcd"), "inconclusive");
    assert_eq!(label("'lacks \"a\"'", "abcd"), "unexpected");
    assert_eq!(label("'contains \"a\"'", "abcd"), "as specified");
    assert_eq!(label("'contains \"x\"'", "abcd"), "inconclusive");
    assert_eq!(label("'contains \"x\"'", "abc"), "unexpected");
    assert_eq!(label("'matches \"abcd\"'", "abcd"), "inconclusive");
    assert_eq!(label("'= 4'", "abcd"), "as specified");
}
