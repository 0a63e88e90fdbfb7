// SPDX-License-Identifier: Apache-2.0 OR MIT

use types::{AccessTarget, EventKind, PageState};

use super::*;
use crate::ktap::Origin;

fn access() -> AccessEvent {
    AccessEvent {
        kind: EventKind::SharedRead,
        gpa: 0xf0000,
        len: Some(8),
        region: None,
        state: AccessTarget::Page(PageState::Private),
        device: None,
        rip: 0xffff_ffff_8100_0000,
        symbol: Some("read_mem+0x10/0x200".to_owned()),
        cpl: 0,
        task: None,
        backtrace: Vec::new(),
        unwound_by: None,
    }
}

/// Verdicts of a program's output, with an access where the mark `@` is.
fn verdicts(text: &str, ending: &Ending) -> Vec<String> {
    let at = text.find('@');
    let output = text.replace('@', "");
    let ktap = Ktap::read(output.as_bytes(), Origin::Program, matches!(ending, Ending::Exited(_)));
    let mut accesses = Accesses::default();
    if let Some(position) = at.map(|at| at as u64) {
        match ktap.test_at(position) {
            Some(owner) => drop(accesses.by_test.insert(owner, vec![access()])),
            None if ktap.is_after_last(position) => accesses.after_last.push(access()),
            None => accesses.outside.push(access()),
        }
    }
    let suite = Suite::program(&[b"./test".to_vec()]);
    let results = suite.judge(&ktap, accesses, ending);
    let line = |result: &CaseResult| {
        let reason = match &result.verdict.verdict {
            Verdict::Unexpected { got, .. } => format!(" {got}"),
            Verdict::Skipped { reason } | Verdict::NotRun { reason } => format!(" {reason}"),
            _ => String::new(),
        };
        let count = result.observed.steps.iter().map(|step| step.events.len()).sum::<usize>();
        let count = if count > 0 { format!(" ({count})") } else { String::new() };
        format!("{}: {}{reason}{count}", result.case.name, result.verdict.verdict.label())
    };
    results.iter().map(line).collect()
}

fn done(text: &str) -> Vec<String> {
    verdicts(text, &Ending::Exited(0))
}

#[test]
fn a_test_that_passed_and_made_an_access_fails() {
    insta::assert_snapshot!(done("TAP version 13\n1..3\nok 1 a\n@ok 2 b\nok 3 c\n").join("\n"), @r#"
    a: as specified
    b: unexpected "ok 2 b" with shared-read (1)
    c: as specified
    "#);
    insta::assert_snapshot!(done("1..1\nok 1 a # SKIP no device\n").join("\n"), @"a: skipped no device");
    insta::assert_snapshot!(done("1..1\n@ok 1 a # SKIP no device\n").join("\n"), @r##"a: unexpected "ok 1 a # SKIP no device" with shared-read (1)"##);
}

#[test]
fn accesses_outside_of_tests_are_a_case_of_their_own() {
    insta::assert_snapshot!(done("@1..1\nok 1 a\n").join("\n"), @r#"
    a: as specified
    outside any test: unexpected "ok" with shared-read (1)
    "#);
    insta::assert_snapshot!(done("1..1\nok 1 a\n@").join("\n"), @r#"
    a: as specified
    outside any test: unexpected "ok" with shared-read (1)
    "#);
}

#[test]
fn a_plan_that_is_not_fulfilled_is_no_pass() {
    insta::assert_snapshot!(done("1..3\nok 1 a\n").join("\n"), @r"
    a: as specified
    test 2..3: not run planned, and has no result: the program exited with 0
    ");
    insta::assert_snapshot!(done("ok 1 a\n").join("\n"), @r"
    a: as specified
    plan: not run the output has no plan (1..N), so that a test that is missing is not noticed
    ");
    insta::assert_snapshot!(done("hello\n").join("\n"), @"output: not run its output has no KTAP or TAP, and the program exited with 0");
    insta::assert_snapshot!(done("1..2\nok 1 a\nBail out! no memory\n").join("\n"), @r"
    bail out: not run the suite bailed out: no memory; what follows was not read
    a: as specified
    test 2: not run planned, and has no result: the suite bailed out: no memory
    ");
    insta::assert_snapshot!(done("1..1\nok 1 a\nBail out! x\nTAP version 13\n1..1\nnot ok 1 b\n").join("\n"), @r"
    bail out: not run the suite bailed out: x; what follows was not read
    a: as specified
    ");
    insta::assert_snapshot!(done("1..1\nok 1 a\nok 2 b\n").join("\n"), @r"
    a: as specified
    b: as specified
    plan: unexpected 2 tests where 1 were planned
    ");
}

#[test]
fn a_guest_that_died_is_no_pass() {
    let died = Ending::Died("panic: Kernel panic - not syncing: x".to_owned());
    insta::assert_snapshot!(verdicts("1..2\nok 1 a\n@", &died).join("\n"), @r"
    a: as specified
    test 2: unexpected planned, and has no result: the guest ended, panic: Kernel panic - not syncing: x (1)
    ");
    insta::assert_snapshot!(verdicts("1..1\nok 1 a\n", &died).join("\n"), @r"
    a: as specified
    exit: unexpected the guest ended, panic: Kernel panic - not syncing: x
    ");
    let nested = "KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: s\n  1..2\n  ok 1 a\n  @";
    insta::assert_snapshot!(verdicts(nested, &died).join("\n"), @r"
    s/a: as specified
    s/test 2: unexpected planned, and has no result: the guest ended, panic: Kernel panic - not syncing: x
    s: unexpected its subtests were not followed by its result: the guest ended, panic: Kernel panic - not syncing: x (1)
    ");
    let aborted = Ending::Aborted("deadline".to_owned());
    insta::assert_snapshot!(verdicts("1..2\nok 1 a\n", &aborted).join("\n"), @r"
    a: as specified
    test 2: not run planned, and has no result: the guest was aborted: deadline
    ");
}

#[test]
fn a_suite_is_a_case_where_its_tests_do_not_explain_it() {
    let suite = |inner: &str, result: &str| {
        done(&format!("KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: s\n  1..1\n{inner}{result}"))
            .join("\n")
    };
    insta::assert_snapshot!(suite("  not ok 1 a\n", "not ok 1 s\n"), @r#"s/a: unexpected "not ok 1 a""#);
    insta::assert_snapshot!(suite("  ok 1 a\n", "not ok 1 s\n"), @r#"
    s/a: as specified
    s: unexpected "not ok 1 s"
    "#);
    insta::assert_snapshot!(suite("  ok 1 a\n@", "ok 1 s\n"), @r#"
    s/a: as specified
    s: unexpected "ok 1 s" with shared-read (1)
    "#);
}

#[test]
fn directives() {
    insta::assert_snapshot!(
        done("1..6\nnot ok 1 a # TODO later\nok 2 b # TODO\nok 3 # XFAIL known\nnot ok 4 d # TIMEOUT 45 s\nok 5 e # ERROR x\nok 5 e\n").join("\n"),
        @r##"
    a: skipped it is not expected to work yet, marked TODO: later
    b: as specified
    3: skipped it is expected to fail, marked XFAIL: known
    d: unexpected "not ok 4 d # TIMEOUT 45 s"
    e: unexpected "ok 5 e # ERROR x"
    e~2: as specified
    plan: unexpected test 5 where test 6 was to come: e
    "##
    );
}

#[test]
fn an_exit_status_that_no_test_explains() {
    insta::assert_snapshot!(verdicts("1..1\nok 1 a\n", &Ending::Exited(3)).join("\n"), @r"
    a: as specified
    exit: unexpected the program exited with 3
    ");
    insta::assert_snapshot!(verdicts("1..1\nnot ok 1 a\n", &Ending::Exited(1)).join("\n"), @r#"a: unexpected "not ok 1 a""#);
    insta::assert_snapshot!(verdicts("1..0 # SKIP no device\n", &Ending::Exited(4)).join("\n"), @"all: skipped no device");
    insta::assert_snapshot!(verdicts("1..1\nok 1 a\n", &Ending::Signal(11)).join("\n"), @r"
    a: as specified
    exit: unexpected signal 11 ended the program
    ");
}

#[test]
fn what_a_test_logged_is_shown_where_it_failed() {
    let suite = Suite::kunit();
    let text = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..1\n    # a: EXPECTATION FAILED at x.c:1\n    not ok 1 a\nnot ok 1 s\n";
    let ktap = Ktap::read(text.as_bytes(), Origin::KernelLog, true);
    let results = suite.judge(&ktap, Accesses::default(), &Ending::CameUp);
    let step = &results[0].case.steps[0];
    assert_eq!(step.note.as_deref(), Some("# a: EXPECTATION FAILED at x.c:1"));
    assert_eq!(step.action.to_string(), "kunit s.a");
}
