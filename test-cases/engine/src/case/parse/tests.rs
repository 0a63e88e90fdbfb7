// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Valid case files, and the errors of invalid ones.

use crate::case::ViewChoice;
use proptest::prelude::*;
use types::{Policy, Region};

use super::*;
use crate::case::{Action, Direction, Share};
use crate::library;

const HEAD: &str = "title = \"t\"\nwhy = \"w\"\n";

fn case(rest: &str) -> Case {
    parse(&format!("{HEAD}{rest}"), "test").unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(rest: &str) -> Vec<String> {
    let errors = parse(&format!("{HEAD}{rest}"), "test").unwrap_err();
    errors.to_string().lines().map(str::to_owned).collect()
}

/// A step that reads, with `more` keys.
fn read(more: &str) -> String {
    format!(
        "[[step]]\nid = \"open\"\ndo = \"open\"\npath = \"/dev/mem\"\nflags = \"O_RDONLY\"\nas = \"mem\"\n\
         [[step]]\nid = \"read\"\ndo = \"pread\"\nfd = \"mem\"\nat = \"rom\"\nlen = 64\n{more}"
    )
}

#[test]
fn every_kind_of_step_can_be_written() {
    let text = include_str!("every-step.toml");
    let case = parse(text, "test").unwrap_or_else(|errors| panic!("{errors}"));
    let names: std::collections::BTreeSet<_> = case.steps.iter().map(|step| step.action.name()).collect();
    assert_eq!(names.len(), action_parse::NAMES.len());
    assert!(action_parse::NAMES.iter().all(|name| names.contains(name)));
    let shown: Vec<String> = case.steps.iter().map(|step| step.action.to_string()).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn the_documented_example_is_a_case_and_every_step_is_documented() {
    let guide = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cases.md"));
    let example = guide.split("```").nth(1).unwrap().trim_start_matches("toml");
    assert_eq!(parse(example, "docs").map(|case| case.steps.len()), Ok(2));
    for name in action_parse::NAMES {
        assert!(guide.contains(&format!("`{name}`")), "docs/cases.md says nothing of `{name}`");
    }
}

#[test]
fn keys_that_may_be_left_out_have_sensible_values() {
    let case = case(
        "[[step]]\nid='o'\ndo='open'\npath='p'\nflags='O_RDWR'\nas='m'\n\
         [[step]]\nid='l'\ndo='lseek'\nfd='m'\nto=0\n\
         [[step]]\nid='m'\ndo='mmap'\nfd='m'\nat=0x1000\nprot='r'\nshare='private'\nas='p'\n\
         [[step]]\nid='k'\ndo='memory'\nat='rom'\nlen=1\n",
    );
    assert_eq!(case.platforms, Platform::ALL);
    assert!(matches!(case.steps[1].action, Action::Lseek { whence: Direction::Set, .. }));
    assert!(matches!(case.steps[2].action, Action::Mmap { len: 4096, share: Share::Private, .. }));
    assert!(matches!(case.steps[3].action, Action::Memory { view: ViewChoice::Owner, .. }));
    let expected = |step: usize| {
        let expect = &case.steps[step].expect;
        expect.resolve(Policy::Upstream, Platform::Sev, None).unwrap().to_string()
    };
    assert_eq!((expected(0).as_str(), expected(3).as_str()), ("ok", "unchanged"));
    assert_eq!(case.regions(), [Region::Rom]);
}

#[test]
fn conversions_that_fail_are_read_and_written_and_are_of_the_cases_platforms() {
    let top = |platforms: &str, fail: &str| {
        format!("platforms = {platforms}\nguest = {{ fail = {fail} }}\n{}", read("expect = 'zeros'"))
    };
    let rules = r#"["map-gpa:nth=3,error=retry,done=2", "accept:every=9"]"#;
    let case = case(&top("['tdx']", rules));
    assert_eq!(case.guest.fail.map(|fail| fail.iter().count()), Some(2));
    let written = crate::case::write(&case);
    assert!(written.contains(rules), "{written}");
    assert_eq!(parse(&written, "test").unwrap(), case);
    assert_eq!(
        errors(&top("['tdx', 'snp']", "['map-gpa']")),
        [
            "test:1:1: the rule map-gpa is for platform tdx, and this is a snp guest: use psc, msr-psc, pvalidate"
        ]
    );
    assert!(errors(&top("['tdx']", "['map-gpa:nht=1']"))[0].contains("did you mean `nth`"));
}

#[test]
fn expectations_can_be_written_in_three_ways() {
    let expected = |expect: &str, policy, platform| {
        let case = case(&read(&format!("expect = {expect}")));
        case.steps[1].expect.resolve(policy, platform, None).unwrap().clone()
    };
    let (upstream, sev) = (Policy::Upstream, Platform::Sev);
    assert_eq!(expected("'zeros'", upstream, sev).to_string(), "zeros");
    let single = expected("{ is = 'plain | zeros', hole = 'h', events = ['shared-read'] }", upstream, sev);
    assert_eq!(single.to_string(), "plain | zeros with shared-read");
    assert_eq!(single.hole.as_deref(), Some("h"));
    for dotted in ["open-eperm.sev", "'open-eperm.sev'"] {
        let table = format!("{{ any = 'plain', {dotted} = {{ is = 'EPERM' }} }}");
        assert_eq!(expected(&table, Policy::OpenEperm, sev).to_string(), "EPERM");
        assert_eq!(expected(&table, Policy::OpenEperm, Platform::Tdx).to_string(), "plain");
    }
}

#[test]
fn a_problem_has_line_and_column_and_says_what_is_allowed() {
    assert_eq!(
        errors(&read("lenn = 3\nexpect = \"zeroes\"\n")),
        [
            "test:15:1: unknown key `lenn` in step `read` (did you mean `len`?); \
             allowed: id, do, fd, at, len, buffer, note, expect",
            "test:16:10: unknown expectation `zeroes` (did you mean `zeros`?); known: ok, short, \
             terminated, panic, triple-fault, reset, power-off, hang, plain, ciphertext, shared, device, zeros, other, unchanged, written, zeroed, corrupted, \
             dead, = N, contains, lacks, matches, an errno, a signal",
        ]
    );
}

#[test]
fn several_problems_are_told_at_once_in_the_order_of_the_file() {
    let all = errors(
        "platforms = [\"sew\"]\nneeds = { config = [\"DEVPORT\"], kernel = [\"6.12\"] }\n\
         [[step]]\nid = \"a b\"\ndo = \"open\"\npath = 7\nflags = \"O_RDRW\"\n",
    );
    let starts: Vec<&str> = all.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        starts,
        ["test:3:14", "test:4:21", "test:4:43", "test:5:1", "test:6:6", "test:8:8", "test:9:9"]
    );
    assert!(all[0].contains("unknown platform `sew` (did you mean `sev`?)"), "{}", all[0]);
    assert!(all[1].contains("write it as in `DEVPORT=y`"), "{}", all[1]);
    assert!(all[3].contains("step 1 lacks the key `as`"), "{}", all[3]);
    assert!(all[5].contains("`path` is an integer, it must be a path in quotes"), "{}", all[5]);
}

#[test]
fn each_mistake_is_named() {
    let mistakes = [
        ("[[step]]\nid='a'\ndo='opne'\n", "unknown step `opne` (did you mean `open`?)"),
        ("[[step]]\ndo='reboot'\n", "step 1 lacks the key `id`"),
        ("[[step]]\nid='a'\n", "step `a` lacks the key `do`"),
        ("step = []\n", "a case has between 1 and 256 steps"),
        ("platforms = []\n", "`platforms` is an empty list, it must be a list of texts"),
        ("tags = []\n", "`tags` is an empty list"),
        ("needs = { config = [] }\n", "`config` is an empty list"),
        ("needs = { kernel = [] }\n", "`kernel` is an empty list"),
        ("[[step]]\nid='a'\ndo='drop-caps'\ncaps=['CAP_SYS_RAW']\n", "(did you mean `CAP_SYS_RAWIO`?)"),
        ("[[step]]\nid='a'\ndo='keep-caps'\n", "step `a` lacks the key `caps`"),
        ("[[step]]\nid='a'\ndo='mprotect'\nmap='m'\nprot='wr'\n", "unknown protection `wr`"),
        ("[[step]]\nid='a'\ndo='mremap'\nmap='m'\nlen=1\n", "step `a` uses mapping `m`"),
        ("step = 3\n", "`step` is an integer, it must be at least one [[step]]"),
        (
            "[[step]]\nid='a'\ndo='reboot'\n[[step]]\nid='a'\ndo='reboot'\n",
            "step `a` is there twice; the first one is on line 3",
        ),
        ("[[step]]\nid='a'\ndo='close'\nfd='x'\n", "step `a` uses file `x`, which no earlier step opens"),
        ("[[step]]\nid='a'\ndo='memory'\nat=0\nlen=1\nwrote='b'\n", "step `a` uses step `b`"),
        ("[[step]]\nid='a'\ndo='iopl'\nlevel=4\n", "`level` is 4, it must be between 0 and 3"),
        ("[[step]]\nid='a'\ndo='iopl'\nlevel=-1\n", "`level` is -1, it must be between 0 and 3"),
        ("[[step]]\nid='a'\ndo='write-file'\npath='p'\nhex='5'\n", "write pairs of hexadecimal digits"),
        ("[[step]]\nid='a'\ndo='write-file'\npath='p'\n", "give either `hex` or `text`"),
        ("[[step]]\nid='a'\ndo='run'\nprogram='/bin/busybx'\n", "(did you mean `/bin/busybox`?)"),
        ("[[step]]\nid='a'\ndo='run'\nprogram='/bin/busybox'\nargs=[\"a\\u0000\"]\n", "NUL"),
        (
            "[[step]]\nid='a'\ndo='run'\nprogram='/bin/busybox'\nargs=['','','','','','','','','','','','','','','']\n",
            "there are more than 14 arguments",
        ),
        ("[[step]]\nid='a'\ndo='port-in'\nport=1\nwidth=3\n", "`width` is 3, it must be 1, 2 or 4"),
        (
            "[[step]]\nid='a'\ndo='reboot'\nexpect={ sev='ok' }\n",
            "expects nothing for policy upstream on platform none: add a key `any`",
        ),
        (
            "[[step]]\nid='a'\ndo='reboot'\nexpect={ any='ok', svm='ok' }\n",
            "unknown policy or platform `svm`",
        ),
        ("[[step]]\nid='a'\ndo='reboot'\nexpect={ any='ok', 'sev@6'='ok' }\n", "`6` is no kernel release"),
        ("[[step]]\nid='a'\ndo='reboot'\nexpect={ any='plain' }\n", "never gives `plain`"),
        (
            "[[step]]\nid='a'\ndo='reboot'\nexpect={ is='ok', hol='x' }\n",
            "unknown key `hol` in an expectation (did you mean `hole`?)",
        ),
        ("[[step]]\nid='a'\ndo='reboot'\nexpect=3\n", "`expect` is an integer"),
        (
            "[[step]]\nid='a'\ndo='memory'\nat='high-rom'\nlen=1\n",
            "unknown region `high-rom` (did you mean `high-ram`?)",
        ),
        ("x = [\n", "not valid TOML"),
        ("title = 'again'\n", "not valid TOML: duplicate key"),
    ];
    for (text, message) in mistakes {
        let all = errors(text).join("\n");
        assert!(all.contains(message), "{text}\n{all}");
    }
}

#[test]
fn a_file_of_very_many_steps_is_refused_at_once() {
    let many: String = (0..100_000).fold(HEAD.to_owned(), |mut text, step| {
        use std::fmt::Write as _;
        let _ = write!(text, "[[step]]\nid = 's{step}'\ndo = 'reboot'\n");
        text
    });
    let begun = std::time::Instant::now();
    let errors = parse(&many, "many").unwrap_err().to_string();
    assert!(errors.contains("between 1 and 256 steps"), "{errors}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(3), "{:?}", begun.elapsed());
    let long = format!("{HEAD}# {}\n", "x".repeat(MOST_TEXT));
    assert!(parse(&long, "long").unwrap_err().to_string().contains("split it"));
}

#[test]
fn one_key_given_in_two_ways_is_a_conflict() {
    let all = errors(&read("expect = { any = 'ok', open-eperm.sev = 'ok', 'open-eperm.sev' = 'ok' }\n"));
    assert!(all[0].contains("key `open-eperm.sev` is there twice"), "{all:?}");
}

#[test]
fn a_mapping_is_no_file() {
    let all = errors(&read("[[step]]\nid='p'\ndo='peek'\nmap='mem'\nlen=1\n"));
    assert!(all[0].contains("step `p` uses mapping `mem`"), "{all:?}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = parse(&text, "any");
    }

    /// A case file with one piece cut out or put elsewhere is read or refused with a place inside the file.
    #[test]
    fn a_damaged_case_is_refused_with_a_place(
        index in 0usize..1000,
        from in any::<prop::sample::Index>(),
        len in 0usize..40,
        put in "[\\[\\]{}=\"'a-z0-9. \n|@]{0,12}",
    ) {
        let cases = library::all().unwrap();
        let text = library::source(&cases[index % cases.len()].name).unwrap();
        let start = from.index(text.len());
        let end = (start + len).min(text.len());
        prop_assume!(text.is_char_boundary(start) && text.is_char_boundary(end));
        let damaged = format!("{}{put}{}", &text[..start], &text[end..]);
        if let Err(errors) = parse(&damaged, "damaged") {
            prop_assert!(!errors.problems.is_empty());
            let lines = damaged.lines().count() + 1;
            prop_assert!(errors.problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
        }
    }
}
