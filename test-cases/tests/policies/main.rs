// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernels that copra builds, one for each policy of the thread.
//!
//! A policy's kernel must be identified, give the stated result in every case, agree with the model, and leave open exactly
//! what docs/policies.md lists. The kernel of mutants, when it follows the policy and makes no mistake,
//! must give the stated results, too.

mod copra;
mod gaps;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use guest_kernel::POLICIES;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

/// Steps compared with the model, on each platform.
const STEPS: &str = "5000";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // More guests at a time than processors only slow each other down.
    arguments.test_threads.get_or_insert(2);
    let mut trials = Vec::new();
    for policy in POLICIES {
        let mut add = |what: String, test: Box<dyn FnOnce() -> Result<(), Failed> + Send>| {
            trials.push(Trial::test(format!("{}::{what}", policy.name), test));
        };
        let name = policy.name;
        add("is_identified".to_owned(), Box::new(move || identified(name)));
        for platform in ["none", "sev", "tdx"] {
            add(format!("{platform}::cases"), Box::new(move || silent(&format!("build:{name}"), platform)));
        }
        // No DEVMEM is no code that could be chosen while a kernel runs.
        if name != "no-devmem" {
            for platform in ["none", "sev", "snp", "tdx", "vbs"] {
                let kernel = format!("mutant:{name}");
                add(
                    format!("{platform}::cases_without_mistake"),
                    Box::new(move || silent(&kernel, platform)),
                );
            }
        }
        for platform in ["sev", "snp"] {
            add(format!("{platform}::model"), Box::new(move || modelled(name, platform)));
        }
        for platform in gaps::PLATFORMS {
            add(format!("{platform}::gaps"), Box::new(move || gaps::check(name, platform)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Days since 1970 in UTC: the same on every machine and in every run of a day.
fn day() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / (24 * 60 * 60))
}

/// `copra identify` names the policy.
fn identified(policy: &str) -> Result<(), Failed> {
    let kernel = format!("build:{policy}");
    let (text, code) = copra::run(&["identify", "--quiet", "--json", "-k", &kernel])?;
    let value: Value = serde_json::from_str(&text)?;
    let found = &value["identity"]["policy"];
    if code == Some(0) && found == policy { Ok(()) } else { Err(format!("{code:?}: {value:#}").into()) }
}

/// Every case gives its stated result.
fn silent(kernel: &str, platform: &str) -> Result<(), Failed> {
    let (text, code) = copra::run(&["run", "--quiet", "-k", kernel, "-p", platform, "--timeout", "240"])?;
    if code == Some(0) { Ok(()) } else { Err(format!("{code:?}:\n{text}").into()) }
}

/// Random steps give the results of the model.
fn modelled(policy: &str, platform: &str) -> Result<(), Failed> {
    let kernel = format!("build:{policy}");
    let found = tempfile::NamedTempFile::new()?;
    let out = found.path().to_string_lossy();
    let seed = day().to_string();
    let arguments = ["explore", "--quiet", "-k", &kernel, "-p", platform, "--steps", STEPS, "--seed", &seed];
    let (text, code) = copra::run(&[&arguments[..], &["--out", &out]].concat())?;
    if code == Some(0) {
        return judged(&text);
    }
    let case = std::fs::read_to_string(found.path()).unwrap_or_default();
    Err(format!("{code:?}:\n{text}\n{case}").into())
}

/// Most percent of the comparisons that may be weaker than exact, and most that may not be made at all.
const MOST_WEAKENED: [f64; 2] = [8.0, 4.0];

/// Nearly all comparisons were exact.
fn judged(text: &str) -> Result<(), Failed> {
    let line = text.lines().find(|line| line.starts_with("judged exactly "));
    let line = line.ok_or("no line reports how strictly results were judged")?;
    let percent = |before: &str| {
        let rest = line.split_once(before).map(|(_, rest)| rest.trim_start());
        rest.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok())
    };
    match (percent("exactly"), percent("not at all")) {
        (Some(exactly), Some(none)) if 100.0 - exactly <= MOST_WEAKENED[0] && none <= MOST_WEAKENED[1] => {
            Ok(())
        }
        _ => Err(format!("too much was not judged exactly: {line}").into()),
    }
}
