// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must be reported of each guest.

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{folder, outcome, report};
use crate::common::outcome::Outcome;
use crate::common::trouble::{Checked, Trouble, trial};

/// Memory allowed beyond that of an idle guest: a few copies of both ends of the console.
const FLOOD_KIB: u64 = 24 << 10;
/// The longest a report of a flooded run may be.
const FLOOD_REPORT: u64 = 256 << 10;

/// The kinds of death that a halted kernel without symbols may be reported with.
const FLOODED: [&str; 3] = ["panic", "power-off", "hang"];

/// The tests.
pub fn trials() -> Vec<Trial> {
    vec![
        trial("guests::a_deadline", || aborted("hang", &["did not answer in time", "--timeout"])),
        // Kernels without symbols: whether they panicked cannot be determined.
        trial("guests::a_triple_fault", || {
            died("triple-fault", &["panic", "triple-fault"], &["triple-faulted", "no symbol"])
        }),
        trial("guests::a_reset_at_once", || died("reset", &["panic", "reset"], &["reset itself", "0x64"])),
        trial("guests::an_agent_gone_silent", || aborted("mute", &["did not answer in time"])),
        trial("guests::an_agent_that_babbles", || aborted("babble", &["did not answer in time"])),
        trial("guests::a_console_flood", a_console_flood),
        trial("guests::last_words_after_a_flood", || {
            died("small-flood", &FLOODED, &["Kernel panic - not syncing: flooded"])
        }),
        trial("guests::no_room_for_the_kernel", || {
            failed("no-room-for-kernel", &["the kernel needs RAM up to 348 MiB", "--memory"])
        }),
        trial("guests::no_room_for_the_initramfs", || {
            failed("no-room-for-initramfs", &["the initramfs of 1 MiB does not fit", "--memory"])
        }),
        trial("guests::a_command_line_too_long", || {
            failed("long-command-line", &["the kernel command line has", "shorten it"])
        }),
        trial("guests::a_full_disk_under_the_report", a_full_disk_under_the_report),
        trial("guests::no_userfaultfd", || {
            failed("no-userfaultfd", &["userfaultfd", "vm.unprivileged_userfaultfd=1", "/dev/userfaultfd"])
        }),
        trial("guests::no_userfaultfd_where_none_is_needed", || {
            died("no-userfaultfd-needed", &["panic", "reset"], &["reset itself"])
        }),
        trial("guests::a_kernel_panic", || died("panic", &["panic"], &["Kernel panic - not syncing"])),
        trial("guests::a_panic_without_a_word", || {
            died("silent-panic", &["panic"], &["the kernel panicked, without a line of it on the console"])
        }),
        trial("guests::no_evidence_is_no_verdict", no_evidence_is_no_verdict),
        trial("guests::a_frozen_agent_is_not_run", a_frozen_agent_is_not_run),
        trial("guests::other_cases_still_run", other_cases_still_run),
        trial("guests::ctrl_c_while_booting", || interrupted("interrupted-boot").map(drop)),
        trial("guests::ctrl_c_between_cases", ctrl_c_between_cases),
    ]
}

/// No case could run, the reason is reported once, and is in the JSON report.
fn failure(name: &str, words: &[&str]) -> Result<(Outcome, Value), Trouble> {
    let outcome = outcome(name)?;
    outcome.ended(2)?;
    if outcome.stdout.matches("cut short: ").count() != 1 {
        return Err(outcome.complain("the reason why it was cut short is not reported once"));
    }
    outcome.shows(words)?;
    let report = report(name)?;
    let reason = report["ended"]["reason"].as_str().unwrap_or_default();
    if report["ended"]["how"] != "failed" || words.iter().any(|word| !reason.contains(word)) {
        return Err(outcome.complain(&format!("`ended` in the report is {}", report["ended"])));
    }
    if report["remaining"] != json!(["dmi/sysfs"]) || report["summary"]["not_run"] != 1 {
        return Err(outcome.complain(&format!("what did not run: {}", report["remaining"])));
    }
    Ok((outcome, report))
}

fn failed(name: &str, words: &[&str]) -> Checked {
    failure(name, words).map(drop)
}

/// As [`failure`], because the guest died in this manner, or in one of several that cannot be distinguished.
fn died(name: &str, kind: &[&str], words: &[&str]) -> Checked {
    let (outcome, report) = failure(name, words)?;
    if report["deaths"][0]["kind"] != json!(kind) || report["deaths"].as_array().map(Vec::len) != Some(1) {
        return Err(outcome.complain(&format!("deaths: {}", report["deaths"])));
    }
    Ok(())
}

/// As [`failure`], for a reason that is not a behaviour of the guest.
fn aborted(name: &str, words: &[&str]) -> Checked {
    let (outcome, report) = failure(name, words)?;
    if report["deaths"] != json!([]) || report["aborted"].as_array().map(Vec::len) != Some(1) {
        return Err(outcome.complain(&format!("deaths: {}", report["deaths"])));
    }
    Ok(())
}

/// Events that must not satisfy a case: the debug exit of test guests, a deadline, a line on the console with the form of
/// a panic, a mapping at another place than the case's.
fn no_evidence_is_no_verdict() -> Checked {
    let outcome = outcome("no-evidence")?;
    outcome.ended(1)?;
    let report = report("no-evidence")?;
    let judged = |name: &str| {
        let cases = report["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
        let case = cases.iter().find(|case| case["name"].as_str().is_some_and(|it| it.ends_with(name)));
        case.map_or(Value::Null, |case| case["judged"].clone())
    };
    let right = judged("debug-exit")["got"] == "ok"
        && judged("blocked")["verdict"] == "not-run"
        && judged("fake-panic")["got"] == "reset"
        && judged("unaligned")["verdict"] == "as-specified";
    if right { Ok(()) } else { Err(outcome.complain(&format!("verdicts: {}", report["cases"]))) }
}

/// A case whose program stops the agent is not run, whichever death it expects.
fn a_frozen_agent_is_not_run() -> Checked {
    let outcome = outcome("frozen")?;
    outcome.ended(2)?;
    outcome.shows(&["1 not run", "did not answer in time"])?;
    let report = report("frozen")?;
    let verdict = &report["cases"][0]["judged"]["verdict"];
    let aborted = report["aborted"].as_array().map(Vec::len);
    if verdict == "not-run" && report["deaths"] == json!([]) && aborted == Some(1) {
        return Ok(());
    }
    Err(outcome.complain(&format!("{verdict}, deaths: {}", report["deaths"])))
}

/// Memory use is bounded, and so does the report. How much of the 100 MB comes through before the deadline depends on
/// the machine; that the bound holds for all of it is tested where the console is kept (vmm, device/serial.rs).
fn a_console_flood() -> Checked {
    let (outcome, report) = failure("flood", &["the guest "])?;
    let (deaths, aborted) = (&report["deaths"], &report["aborted"]);
    if deaths[0]["kind"] != json!(FLOODED) && aborted[0].is_null() {
        return Err(outcome.complain(&format!("deaths: {deaths}, aborted: {aborted}")));
    }
    let quiet = self::outcome("hang")?;
    if outcome.peak_kib > quiet.peak_kib + FLOOD_KIB {
        let (with, without) = (outcome.peak_kib, quiet.peak_kib);
        return Err(outcome.complain(&format!("{with} KiB of memory, {without} KiB without a flood")));
    }
    let len = fs::metadata(folder()?.join("flood.json"))?.len();
    if len > FLOOD_REPORT {
        return Err(outcome.complain(&format!("its report has {len} bytes")));
    }
    Ok(())
}

/// A report that cannot be written is refused before a guest is started.
fn a_full_disk_under_the_report() -> Checked {
    let outcome = outcome("full")?;
    outcome.refused(&["the report /dev/full cannot be written", "No space left", "another place"])
}

fn other_cases_still_run() -> Checked {
    let outcome = outcome("survivors")?;
    let report = report("survivors")?;
    let verdicts: Vec<&str> = report["cases"]
        .as_array()
        .map(|cases| cases.iter().filter_map(|case| case["judged"]["verdict"].as_str()).collect())
        .unwrap_or_default();
    let last = verdicts.last().copied();
    if verdicts.len() != 3 || verdicts[0] != "skipped" || last != Some("as-specified") {
        return Err(outcome.complain(&format!("verdicts: {verdicts:?}")));
    }
    if report["ended"]["how"] != "complete" || report["counters"]["boots"] != 1 {
        return Err(outcome.complain(&format!("{}, {}", report["ended"], report["counters"])));
    }
    let death = &report["deaths"][0];
    if death["kind"] != json!(["reset"]) || !death["during"].as_str().unwrap_or_default().ends_with("#reboot")
    {
        return Err(outcome.complain(&format!("deaths: {}", report["deaths"])));
    }
    outcome.shows(&["this guest has no region `cbit-alias-ram`", "the guest died during"])
}

/// Ctrl-C ended the run, and the reports were written.
fn interrupted(name: &str) -> Result<Value, Trouble> {
    let outcome = outcome(name)?;
    outcome.ended(130)?;
    outcome.shows(&["cut short: the run was interrupted"])?;
    let report = report(name)?;
    if report["ended"]["how"] != "interrupted" || report["remaining"][0].is_null() {
        return Err(outcome.complain(&format!("{}, {}", report["ended"], report["remaining"])));
    }
    Ok(report)
}

fn ctrl_c_between_cases() -> Checked {
    let report = interrupted("interrupted")?;
    if report["cases"][0]["name"] == "dmi/sysfs" { Ok(()) } else { Err("the case that ran is lost".into()) }
}
