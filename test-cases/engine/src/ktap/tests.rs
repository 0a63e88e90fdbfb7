// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;

use super::line::{Line, classify, without_printk_prefix};
use super::*;

fn log(text: &str) -> Ktap {
    Ktap::read(text.as_bytes(), Origin::KernelLog, true)
}

fn program(text: &str) -> Ktap {
    Ktap::read(text.as_bytes(), Origin::Program, true)
}

/// Names with results, subtests in brackets.
fn shape(level: &Level) -> String {
    let one = |test: &Test| {
        let sign = match test.ok {
            Some(true) => "+",
            Some(false) => "-",
            None => "?",
        };
        let inner = test.subtests.as_ref().map(|level| format!("[{}]", shape(level))).unwrap_or_default();
        format!("{sign}{}{inner}", test.name)
    };
    let tests: Vec<String> = level.tests.iter().map(one).collect();
    let plan = level.plan.as_ref().map_or("no plan".to_owned(), |plan| format!("1..{}", plan.count));
    format!("{plan}: {}", tests.join(" "))
}

fn shapes(ktap: &Ktap) -> Vec<String> {
    ktap.levels.iter().map(shape).collect()
}

/// As KUnit of 6.12 prints it, with the lines of others between.
const KUNIT: &str = "\
[    0.510000] Linux version 6.12\r
[    0.512345] ok 1 this is no test\r
[    0.600000] KTAP version 1\r
[    0.600001] 1..2\r
[    0.600002]     KTAP version 1\r
[    0.600003]     # Subtest: example\r
[    0.600004]     # module: kunit_example_test\r
[    0.600005]     1..3\r
[    0.600006]     ok 1 simple\r
[    0.600007]     # skipped: a reason\r
[    0.600008]     ok 2 skipped # SKIP a reason\r
[    0.600009]         KTAP version 1\r
[    0.600010]         # Subtest: params\r
[    0.600011]         ok 1 value 3\r
[    0.600012]         ok 2 value 2\r
[    0.600013]     # params: pass:2 fail:0 skip:0 total:2\r
[    0.600014]     ok 3 params\r
[    0.600015] # Totals: pass:3 fail:0 skip:1 total:4\r
[    0.600016] ok 1 example\r
[    0.600017]     KTAP version 1\r
[    0.600018]     # Subtest: devmem\r
[    0.600019]     1..1\r
[    0.600020] random: crng init done\r
[    0.600021]     # read: EXPECTATION FAILED at mem_kunit.c:7\r
[    0.600022]     Expected a == b, but\r
[    0.600023]     not ok 1 read\r
[    0.600024] not ok 2 devmem\r
[    0.600025] Freeing unused kernel image memory\r
";

#[test]
fn kunit_in_a_kernel_log() {
    let ktap = log(KUNIT);
    assert_eq!(
        shapes(&ktap),
        ["1..2: +example[1..3: +simple +skipped +params[no plan: +value 3 +value 2]] -devmem[1..1: -read]"]
    );
    let [example, devmem] = &ktap.levels[0].tests[..] else { panic!() };
    let skipped = &example.subtests.as_ref().unwrap().tests[1];
    assert_eq!(skipped.directive, Some((Directive::Skip, "a reason".to_owned())));
    let read = &devmem.subtests.as_ref().unwrap().tests[0];
    assert_eq!(
        read.log,
        [
            "random: crng init done",
            "    # read: EXPECTATION FAILED at mem_kunit.c:7",
            "    Expected a == b, but"
        ]
    );
    assert!(ktap.levels.iter().all(|level| level.problems.is_empty()));
}

/// The names of the tests under way at the beginning of each line.
fn under_way(text: &str, ktap: &Ktap) -> Vec<String> {
    fn names(level: &Level, into: &mut Vec<(TestId, String)>) {
        for test in &level.tests {
            into.push((test.id, test.name.clone()));
            test.subtests.iter().for_each(|level| names(level, into));
        }
    }
    let mut known = Vec::new();
    ktap.levels.iter().for_each(|level| names(level, &mut known));
    let mut at = 0;
    let starts = text.split_inclusive('\n').map(|line| {
        let start = at;
        at += line.len();
        start
    });
    let name = |position: usize| {
        let id = ktap.test_at(position as u64)?;
        known.iter().find(|(other, _)| *other == id).map(|(_, name)| name.clone())
    };
    starts.map(|start| name(start).unwrap_or_else(|| "-".to_owned())).collect()
}

#[test]
fn an_access_belongs_to_the_test_whose_result_comes_next() {
    let ktap = log(KUNIT);
    let example = "example";
    let expected = [
        vec!["-"; 4],
        vec![example; 4],
        vec!["simple", "skipped", "skipped", "params", "params", "value 3", "value 2", "params", "params"],
        vec![example; 2],
        vec!["devmem"; 3],
        vec!["read"; 4],
        vec!["devmem", "-"],
    ];
    assert_eq!(under_way(KUNIT, &ktap), expected.concat());
    assert!(!ktap.is_after_last(KUNIT.find("not ok 2").unwrap() as u64));
    assert!(ktap.is_after_last(KUNIT.len() as u64));
}

#[test]
fn run_kselftest_shows_a_programs_output_behind_hashes() {
    let ktap = program(
        "TAP version 13\n1..2\n# timeout set to 45\n# selftests: size: get_size\n# TAP version 13\n# 1..2\n# # a remark\n\
         # ok 1 get_size\n# not ok 2 # SKIP no memory\n# ok 7 - no more than a remark\nok 1 selftests: size: get_size\n\
         # ok 9 only a remark\nok 2 selftests: devmem: read # SKIP\n",
    );
    assert_eq!(
        shapes(&ktap),
        [
            "1..2: +selftests: size: get_size[1..2: +get_size -2 +no more than a remark] +selftests: devmem: read"
        ]
    );
}

#[test]
fn a_programs_output_may_lack_its_version() {
    assert_eq!(shapes(&program("hello\n1..2\nok 1 - a\nnot ok 2 - b\n")), ["1..2: +a -b"]);
    assert_eq!(shapes(&program("ok\nok\nnot ok # TODO later\n")), ["no plan: +1 +2 -3"]);
    assert_eq!(
        shapes(&log("1..2\nok 1 - a\n")),
        [""; 0],
        "nothing of a kernel log is a test without a version"
    );
}

#[test]
fn what_is_wrong_is_a_problem() {
    let problems =
        |text: &str| program(text).levels.iter().flat_map(|level| level.problems.clone()).collect::<Vec<_>>();
    assert_eq!(problems("1..1\nok 1 a\nok 2 b\n"), ["2 tests where 1 were planned"]);
    assert_eq!(problems("1..2\nok 1 a\nok 3 b\n"), ["test 3 where test 2 was to come: b"]);
    assert_eq!(problems("1..1\n1..2\nok 1 a\n"), ["a second plan, 1..2"]);
    assert_eq!(program("1..5\nok 1 a\n").levels[0].missing(), 4);
}

#[test]
fn an_output_that_stops() {
    let cut = &KUNIT[..KUNIT.find("    not ok 1 read").unwrap() + 6];
    let ktap = Ktap::read(cut.as_bytes(), Origin::KernelLog, false);
    assert!(shapes(&ktap)[0].ends_with(" ?devmem[1..1: ]"), "{:?}", shapes(&ktap));
    let devmem = &ktap.levels[0].tests[1];
    assert_eq!(
        ktap.test_at(cut.len() as u64),
        Some(devmem.id),
        "what follows belongs to the suite under way"
    );
    assert_eq!(shapes(&Ktap::read(b"1..1\nok 1 a", Origin::Program, false)), ["1..1: "]);
    assert_eq!(shapes(&Ktap::read(b"1..1\nok 1 a", Origin::Program, true)), ["1..1: +a"]);
    let ktap = program("1..3\nok 1 a\nBail out! no memory\nok 2 b\n");
    assert_eq!((shapes(&ktap), ktap.bail_out.as_deref()), (vec!["1..3: +a".to_owned()], Some("no memory")));
}

#[test]
fn several_outputs_one_after_another() {
    let text = "KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..1\n  KTAP version 1\n  1..2\n  ok 1 x\nKTAP version 1\n1..1\nok 1 c\n";
    assert_eq!(shapes(&log(text)), ["1..1: +a", "1..1: ?1[1..2: +x]", "1..1: +c"]);
}

#[test]
fn subtests_of_tap_14() {
    let text = "TAP version 14\n1..2\n# Subtest: one\n    1..2\n    ok 1 - a\n    ok 2 - b\nok 1 - one\nok 2 - two\n";
    let ktap = program(text);
    assert_eq!(shapes(&ktap), ["1..2: +one[1..2: +a +b] +two"]);
    assert_eq!(under_way(text, &ktap), ["-", "-", "one", "one", "a", "b", "one", "two"]);
}

#[test]
fn lines() {
    let result = |text: &str| match classify(text) {
        Line::Result { ok, number, name, directive } => (ok, number, name, directive),
        other => panic!("{text}: {other:?}"),
    };
    let plain = |ok, number, name: &str| (ok, number, name.to_owned(), None);
    assert_eq!(result("ok 1 - a b"), plain(true, Some(1), "a b"));
    assert_eq!(result("not ok 12 a#b"), plain(false, Some(12), "a#b"));
    assert_eq!(result("ok 1 - a \\# b"), plain(true, Some(1), "a # b"));
    assert_eq!(result("ok 3rd"), plain(true, None, "3rd"));
    assert_eq!(result("ok 1 a # 5 ms"), plain(true, Some(1), "a"));
    assert_eq!(result("ok 1 # skip: none").3, Some((Directive::Skip, "none".to_owned())));
    assert_eq!(
        result("not ok 1 x # TIMEOUT 45 seconds").3,
        Some((Directive::Timeout, "45 seconds".to_owned()))
    );
    assert_eq!(result("ok 1 x # skipping").3, None);
    let skipped = Some((Directive::Skip, "no hw".to_owned()));
    assert_eq!(result("ok 3 Test #3 # SKIP no hw"), (true, Some(3), "Test #3".to_owned(), skipped));
    assert_eq!(result("ok 3 fd #3 # TIMEOUT").3, Some((Directive::Timeout, String::new())));
    for other in ["okay 1 a", "ok1", "notok 1", "1..", "1..x", "1..2 tests", "TAP version x", "# ok 1 a", ""]
    {
        assert_eq!(classify(other), Line::Other, "{other}");
    }
    assert_eq!(
        classify("1..0 # SKIP no device"),
        Line::Plan { count: 0, skip: Some("no device".to_owned()) }
    );
    for (text, bare) in [
        ("<6>[    1.234567] ok 1 a", "ok 1 a"),
        ("[   12.000001][    T1]     ok 1 a", "    ok 1 a"),
        ("[drm] ready", "[drm] ready"),
        ("<a> [b]", "<a> [b]"),
    ] {
        assert_eq!(without_printk_prefix(text), bare);
    }
}

/// The lines of a level as KUnit prints it.
fn written(level: &Level, column: usize) -> Vec<String> {
    let indent = " ".repeat(column);
    let mut lines = vec![format!("{indent}KTAP version 1")];
    lines.extend(level.name.iter().map(|name| format!("{indent}# Subtest: {name}")));
    lines.extend(level.plan.iter().map(|plan| format!("{indent}1..{}", plan.count)));
    for (number, test) in (1..).zip(&level.tests) {
        lines.extend(test.subtests.iter().flat_map(|level| written(level, column + 4)));
        lines.extend(test.log.iter().cloned());
        let sign = if test.ok == Some(true) { "ok" } else { "not ok" };
        let directive =
            test.directive.as_ref().map(|(kind, why)| format!(" # {kind} {why}")).unwrap_or_default();
        let name = test.name.replace('\\', "\\\\").replace('#', "\\#");
        lines.push(format!("{indent}{sign} {number} {name}{directive}"));
    }
    lines
}

fn test(depth: u32) -> BoxedStrategy<Test> {
    let directive = prop::option::of((prop::sample::select(Directive::ALL), "[a-z]{1,8}"));
    let own =
        ("[a-z][a-z_#]{0,8}[a-z]", any::<bool>(), directive, prop::collection::vec("# [a-z]{1,9}", 0..2));
    let subtests = if depth == 0 { Just(None).boxed() } else { prop::option::of(level(depth - 1)).boxed() };
    (own, subtests)
        .prop_map(|((name, ok, directive, log), subtests)| {
            let subtests = subtests.map(|level| Level { name: Some(name.clone()), ..level });
            // The lines before a result with subtests belong to their level.
            let log = if subtests.is_some() { Vec::new() } else { log };
            Test { id: TestId(0), name, ok: Some(ok), directive, line: String::new(), log, subtests }
        })
        .boxed()
}

fn level(depth: u32) -> BoxedStrategy<Level> {
    (prop::collection::vec(test(depth), 1..4), any::<bool>())
        .prop_map(|(tests, planned)| {
            let plan = planned.then_some(Plan { count: tests.len() as u64, skip: None });
            Level { plan, tests, ..Level::default() }
        })
        .boxed()
}

/// Without what only reading gives.
fn stripped(level: &Level) -> Level {
    let tests = level.tests.iter().map(|test| Test {
        id: TestId(0),
        line: String::new(),
        subtests: test.subtests.as_ref().map(stripped),
        ..test.clone()
    });
    Level { tests: tests.collect(), ..level.clone() }
}

/// A part of a line that can mean something.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "ok",
        "not ok",
        " ",
        "  ",
        "    ",
        "1",
        "2",
        "..",
        "#",
        "# ",
        "# SKIP",
        "KTAP version 1",
        "TAP version 13",
        "1..2",
        "Bail out!",
        "# Subtest: x",
        "\n",
        "\n",
        "\r\n",
        "[    1.5] ",
        "<6>",
        "-",
        "\\",
        "\u{fffd}",
        "99999999999999999999",
    ])
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(level in level(3), origin in prop::sample::select(vec![Origin::KernelLog, Origin::Program])) {
        let text = written(&level, 0).join("\n") + "\n";
        let ktap = Ktap::read(text.as_bytes(), origin, false);
        prop_assert_eq!(ktap.levels.len(), 1);
        prop_assert_eq!(stripped(&ktap.levels[0]), level, "{}", text);
    }

    #[test]
    fn no_text_passes_without_ok_and_each_place_has_one_test(pieces in prop::collection::vec(piece(), 0..80), complete: bool) {
        let text = pieces.concat();
        for origin in [Origin::KernelLog, Origin::Program] {
            let ktap = Ktap::read(text.as_bytes(), origin, complete);
            let passed = passed(&ktap.levels);
            let lines = text.split('\n').filter(|line| line.contains("ok")).count();
            prop_assert!(passed <= lines, "{:?}", ktap);
            for position in 0..=text.len() as u64 {
                let _ = ktap.test_at(position);
            }
        }
    }
}

fn passed(levels: &[Level]) -> usize {
    let tests = levels.iter().flat_map(|level| &level.tests);
    tests.map(|test| usize::from(test.ok == Some(true)) + passed(test.subtests.as_slice())).sum()
}
