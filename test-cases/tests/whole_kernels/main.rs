//! Every case on whole kernels: Debian's, unmodified, and one built with the patch, each as an ordinary guest and as
//! a SEV guest. One guest runs all cases of a combination; each case is a test of its own here.

mod combination;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use test_cases::library;

use combination::{Combination, Verdict};

/// Kernels and platforms, in the order in which two of them run at a time.
const COMBINATIONS: [(&str, &str); 4] = [
    ("debian:6.12", "sev"),
    ("debian:6.12", "none"),
    ("build:open-eperm", "sev"),
    ("build:open-eperm", "none"),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // More guests at a time than processors only slow each other down, and two share what they wait for.
    arguments.test_threads.get_or_insert(2);
    let cases = match library::all() {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut trials = Vec::new();
    let mut combinations = Vec::new();
    for pair in COMBINATIONS.chunks(2) {
        let pair: Vec<Arc<Combination>> = pair
            .iter()
            .map(|&(kernel, platform)| Arc::new(Combination::new(kernel, platform, None)))
            .collect();
        for combination in &pair {
            let it = Arc::clone(combination);
            trials.push(Trial::test(format!("{}::boot", it.name()), move || boot(&it)));
        }
        for case in &cases {
            for combination in &pair {
                let (it, case) = (Arc::clone(combination), case.name.clone());
                trials.push(Trial::test(format!("{}::{case}", it.name()), move || outcome(it.case(&case)?)));
            }
        }
        combinations.extend(pair);
    }
    // A denial that is missing must be told: the stock kernel does not follow the patch's policy.
    let unpatched = Arc::new(Combination::new("debian:6.12", "sev", Some("open-eperm")));
    trials.push(Trial::test("a_missing_denial_is_found", move || missing_denial(&unpatched)));

    let conclusion = libtest_mimic::run(&arguments, trials);
    for combination in combinations {
        for (reason, count) in combination.skips() {
            println!("skipped: {count} × on {}: {reason}", combination.name());
        }
    }
    conclusion.exit_code()
}

fn outcome(verdict: Verdict) -> Result<(), Failed> {
    match verdict {
        Verdict::Good | Verdict::Skipped => Ok(()),
        Verdict::Bad(why) => Err(why.into()),
    }
}

/// The guest came up as what it is meant to be, and touched nothing it must not.
fn boot(combination: &Combination) -> Result<(), Failed> {
    let report = combination.report()?;
    let log = report["kernel"]["log"].to_string();
    if combination.platform() == "sev" && !log.contains("Memory Encryption Features active: AMD SEV") {
        return Err(format!("the kernel does not take itself for a SEV guest: {log}").into());
    }
    if combination.platform() == "none" && log.contains("Memory Encryption Features") {
        return Err(format!("an ordinary guest takes itself for an encrypted one: {log}").into());
    }
    let events = &report["platform"]["boot_events"];
    if report["counters"]["boot_events"] != 0 {
        return Err(format!("forbidden accesses during boot: {events:#}").into());
    }
    if report["counters"]["boots"] != 1 {
        return Err(format!("a guest died: {:#}", report["deaths"]).into());
    }
    Ok(())
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
