// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every case on whole kernels: Debian's and one built with the patch, each as a guest of every platform. One run does
//! all cases of a combination; each case is a test of its own here. Where a single test is named (`NAME --exact`, as cargo-nextest
//! does for each), only its case is run. Kernels of other series are ignored, and run with
//! `--include-ignored` (scripts/nightly).

mod boot;
mod combination;

use std::process::ExitCode;
use std::sync::Arc;

use engine::library;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};

use combination::{Combination, Verdict};

/// Kernels and platforms, in the order in which two of them run at a time.
const COMBINATIONS: [(&str, &str); 10] = [
    ("debian:6.12", "tdx"),
    ("debian:6.12", "snp"),
    ("debian:6.12", "vbs"),
    ("debian:6.12", "sev"),
    ("debian:6.12", "none"),
    ("build:open-eperm", "tdx"),
    ("build:open-eperm", "snp"),
    ("build:open-eperm", "vbs"),
    ("build:open-eperm", "sev"),
    ("build:open-eperm", "none"),
];

/// Kernels of other series: what is allowed and which view a mapping takes have changed over the years.
const OTHER_SERIES: [(&str, &str); 8] = [
    ("debian:7.3", "tdx"),
    ("debian:7.3", "snp"),
    ("debian:7.3", "vbs"),
    ("debian:7.3", "sev"),
    ("debian:7.3", "none"),
    ("debian:6.1", "snp"),
    ("debian:6.1", "sev"),
    ("debian:6.1", "none"),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // More guests at a time than processors only slow each other down.
    arguments.test_threads.get_or_insert(2);
    let alone = arguments.exact && arguments.filter.is_some();
    let cases = match library::all() {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut trials = Vec::new();
    let mut combinations = Vec::new();
    let ordinary = COMBINATIONS.chunks(2).map(|pair| (pair, false));
    for (pair, ignored) in ordinary.chain(OTHER_SERIES.chunks(2).map(|pair| (pair, true))) {
        let pair: Vec<Arc<Combination>> = pair
            .iter()
            .map(|&(kernel, platform)| Arc::new(Combination::new(kernel, platform, None)))
            .collect();
        for combination in &pair {
            // The log lines and rewritten instructions of other series are not listed.
            if !ignored {
                let it = Arc::clone(combination);
                trials.push(Trial::test(format!("{}::boot", it.name()), move || boot(&it)));
                let it = Arc::clone(combination);
                trials.push(Trial::test(format!("{}::evidence", it.name()), move || evidence(&it)));
                let it = Arc::clone(combination);
                trials.push(Trial::test(format!("{}::user_code", it.name()), move || user_code(&it)));
                let it = Arc::clone(combination);
                trials.push(Trial::test(format!("{}::rigour", it.name()), move || rigour(&it)));
            }
            let it = Arc::clone(combination);
            let trial = Trial::test(format!("{}::whole", it.name()), move || whole(&it));
            trials.push(trial.with_ignored_flag(ignored));
        }
        for case in &cases {
            for combination in &pair {
                let (it, case) = (Arc::clone(combination), case.name.clone());
                let name = format!("{}::{case}", it.name());
                let trial = Trial::ignorable_test(name, move || {
                    outcome(if alone { it.only(&case).case(&case)? } else { it.case(&case)? })
                });
                trials.push(trial.with_ignored_flag(ignored));
            }
        }
        combinations.extend(pair);
    }
    // A missing denial must be reported: the stock kernel does not follow the patch's policy.
    let unpatched = Arc::new(Combination::new("debian:6.12", "sev", Some("open-eperm")));
    trials.push(Trial::test("a_missing_denial_is_found", move || missing_denial(&unpatched)));

    let names: Vec<String> = trials.iter().map(|trial| trial.name().to_owned()).collect();
    trials.push(Trial::test("the_list_of_tests_is_quick_and_complete", move || quick_list(&names)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.num_ignored > 0 {
        println!(
            "ignored: {}, skipped for the reason beside each, or on kernels of other series (--include-ignored runs those)",
            conclusion.num_ignored
        );
    }
    for combination in combinations {
        for (reason, count) in combination.skips() {
            println!("skipped: {count} × on {}: {reason}", combination.name());
        }
    }
    conclusion.exit_code()
}

/// What cargo-nextest calls before a run: every test has a line, and nothing is started for it.
fn quick_list(names: &[String]) -> Result<(), Failed> {
    let started = std::time::Instant::now();
    let program = std::env::current_exe()?;
    let output = std::process::Command::new(program).args(["--list", "--format", "terse"]).output()?;
    let seconds = started.elapsed().as_secs_f64();
    let text = String::from_utf8(output.stdout)?;
    let listed: std::collections::BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    if let Some(missing) = names.iter().find(|name| !listed.contains(name.as_str())) {
        return Err(format!("--list does not have {missing}").into());
    }
    if seconds > LIST_SECONDS {
        return Err(format!("--list took {seconds:.1} s, and may take {LIST_SECONDS}").into());
    }
    Ok(())
}

/// How long a list of all tests may take on a busy machine.
const LIST_SECONDS: f64 = 5.0;

/// A case that was skipped is an ignored test, not one that passed.
fn outcome(verdict: Verdict) -> Result<Completion, Failed> {
    match verdict {
        Verdict::Good => Ok(Completion::Completed),
        Verdict::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        Verdict::Bad(why) => Err(why.into()),
    }
}

/// The guest booted as the intended guest type, and its boot made no forbidden access.
fn boot(combination: &Combination) -> Result<(), Failed> {
    let complaint = boot::complaint(combination.report()?, combination.platform(), combination.is_debian());
    complaint.map_or(Ok(()), |complaint| Err(complaint.into()))
}

/// The run as a whole was good: what concerns no single case fails here, such as a guest that was aborted or a later boot.
fn whole(combination: &Combination) -> Result<(), Failed> {
    let report = combination.report()?;
    let mut wrong = Vec::new();
    if combination.exit_code() != Some(0) {
        wrong.push(format!("exit code {:?} instead of 0", combination.exit_code()));
    }
    if report["ended"]["how"] != "complete" {
        wrong.push(format!("it ended: {}", report["ended"]));
    }
    if report["aborted"] != json!([]) {
        wrong.push(format!("guests were aborted: {:#}", report["aborted"]));
    }
    match report["boot"]["guests"].as_array().map(Vec::as_slice) {
        None | Some([]) => wrong.push("the report has no boot".to_owned()),
        Some(boots) => {
            let bad = |boot: &&Value| {
                !matches!(boot["judged"]["verdict"].as_str(), Some("as-specified" | "known-hole"))
            };
            wrong.extend(boots.iter().filter(bad).map(|boot| format!("a boot is {:#}", boot["judged"])));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// A forbidden access is reported with the code that made it: read(2) of page 0, where nothing refuses it.
fn evidence(combination: &Combination) -> Result<(), Failed> {
    let report = combination.report()?;
    let cases = report["cases"].as_array().ok_or("the report has no cases")?;
    let case = cases.iter().find(|case| case["name"] == "mmap/page0").ok_or("mmap/page0 did not run")?;
    let steps = case["steps"].as_array().ok_or("mmap/page0 has no steps")?;
    let read = steps.iter().find(|step| step["id"] == "read").ok_or("mmap/page0 reads nothing")?;
    let observed = &read["observed"];
    let events = observed["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    if observed["answer"]["how"] == "not-reached" || combination.platform() == "none" {
        return if events.is_empty() {
            Ok(())
        } else {
            Err(format!("unexpected events: {events:#?}").into())
        };
    }
    let starts = |value: &Value, text: &str| value.as_str().is_some_and(|value| value.starts_with(text));
    let reported = events.iter().any(|event| {
        let trace = event["backtrace"].as_array().map(Vec::as_slice).unwrap_or_default();
        (&event["gpa"], &event["len"], &event["cpl"]) == (&json!("0x400"), &json!(8), &json!(0))
            && starts(&event["symbol"], "copy_from_kernel_nofault+")
            && trace.iter().any(|frame| starts(frame, "read_mem+"))
            && event["unwound_by"] == "orc"
            && event["task"] == "init"
    });
    if reported { Ok(()) } else { Err(format!("read(2) of page 0 is not reported: {events:#?}").into()) }
}

/// A forbidden access of a program is reported with the program's file. In these cases all are made by the agent; loads
/// from a shared ROM area through /dev/mem are among them.
fn user_code(combination: &Combination) -> Result<(), Failed> {
    let report = combination.report()?;
    let mut count = 0;
    for case in report["cases"].as_array().ok_or("the report has no cases")? {
        let steps = case["steps"].as_array().into_iter().flatten();
        let events = steps.filter_map(|step| step["observed"]["events"].as_array()).flatten();
        for event in events.filter(|event| event["cpl"] == 3) {
            count += 1;
            if !event["symbol"].as_str().is_some_and(|symbol| symbol.starts_with("agent+0x")) {
                return Err(format!("{}: an access without a file: {event:#}", case["name"]).into());
            }
        }
    }
    if count == 0 && combination.is_debian() && ["snp", "tdx", "vbs"].contains(&combination.platform()) {
        return Err("no case reports an access of a program".into());
    }
    Ok(())
}

/// Comparisons by class, and comparisons that were not made, of all: no more than today.
const BY_CLASS: f64 = 0.05;
const NOT_AT_ALL: f64 = 0.19;

/// How strictly the cases were judged does not get worse.
fn rigour(combination: &Combination) -> Result<(), Failed> {
    let rigour = &combination.report()?["rigour"];
    let count = |name: &str| rigour[name].as_f64().unwrap_or(f64::NAN);
    let (by_class, not_at_all) = (count("by_class"), count("not_at_all"));
    let total = count("exactly") + by_class + not_at_all;
    // NaN must not pass.
    if by_class / total <= BY_CLASS && not_at_all / total <= NOT_AT_ALL {
        return Ok(());
    }
    Err(format!("comparisons are weaker than they were: {rigour}").into())
}

fn missing_denial(combination: &Combination) -> Result<(), Failed> {
    match combination.case("open/modes")? {
        Verdict::Bad(why) if why.contains("denial missing") && combination.exit_code() == Some(1) => Ok(()),
        other => Err(format!(
            "expected a missing denial and exit code 1, got {other:?} and {:?}",
            combination.exit_code()
        )
        .into()),
    }
}
