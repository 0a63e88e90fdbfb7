// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a mutant is killed: the named check fails as named, and passes without the mistake.

use guest_kernel::Mutant;
use serde_json::{Value, json};

use crate::batch::Reports;
use crate::group::{self, Killer};

/// Returns why a mutant counts as survived.
pub fn check(mutant: &Mutant, reports: &Reports) -> Result<(), String> {
    let group = group::job_name(&mutant.policy, &mutant.platform);
    let done = match Killer::of(mutant)? {
        Killer::Case(case, step) => {
            let report = reports.json(&group)?;
            passes(&report, &group::control(case)).and_then(|()| fails(&report, mutant, step))
        }
        Killer::Boot => {
            let control = reports.json(&group)?;
            let events = boot_events(&control);
            if !events.is_empty() {
                return Err(format!("forbidden accesses of a boot without a mistake: {events:#?}"));
            }
            passes(&control, &group::control("open/zero"))?;
            at_boot(mutant, reports)
        }
        Killer::BootAudit(layout) => {
            ended(reports, &group::in_layout(&group, layout), 0)?;
            ended(reports, &mutant.name, 1)?;
            has_finding(&reports.json(&mutant.name)?, &expected(mutant))
        }
        Killer::Explore => {
            ended(reports, &format!("{group}-explore"), 0)?;
            ended(reports, &mutant.name, 1)?;
            disagrees(&reports.outcome(&mutant.name)?.stdout, &expected(mutant))
        }
        Killer::Exec => {
            ended(reports, &format!("{group}-exec"), 0)?;
            ended(reports, &mutant.name, 1)?;
            is_of_device(&reports.json(&mutant.name)?, &expected(mutant))
        }
        Killer::Suite(test) => {
            let control = test.control(&group);
            ended(reports, &control, 0)?;
            ended(reports, &mutant.name, 1)?;
            let test = expected(mutant);
            passes(&reports.json(&control)?, &test)?;
            let report = reports.json(&mutant.name)?;
            match case(&report, &test)?["judged"]["verdict"].as_str() {
                Some("unexpected") => Ok(()),
                other => Err(format!("{test} is {other:?}")),
            }
        }
        Killer::Audit => {
            // The findings of an audit without a result for every place are incomplete.
            let has = |job: &str| {
                let outcome = reports.outcome(job)?;
                if !matches!(outcome.code, Some(0 | 1)) {
                    return Err(format!("{job}: exit code {:?}\n{}", outcome.code, outcome.stderr));
                }
                Ok::<bool, String>(findings(&reports.json(job)?).contains(&expected(mutant)))
            };
            match (has(&format!("{group}-audit"))?, has(&mutant.name)?) {
                (false, true) => Ok(()),
                (true, _) => Err(format!("the audit finds it without a mistake, too: {}", expected(mutant))),
                (false, false) => {
                    Err(format!("the audit finds only {:?}", findings(&reports.json(&mutant.name)?)))
                }
            }
        }
        Killer::Nothing => ended(reports, &mutant.name, 0),
    };
    done.map_err(|why| format!("{}: {}\n{why}", mutant.name, mutant.wrong))
}

fn expected(mutant: &Mutant) -> String {
    mutant.got.clone().unwrap_or_default()
}

fn case<'a>(report: &'a Value, name: &str) -> Result<&'a Value, String> {
    let found = report["cases"].as_array().and_then(|cases| cases.iter().find(|case| case["name"] == name));
    found.ok_or_else(|| format!("{name} did not run: {}, {}", report["ended"], report["deaths"]))
}

/// The case gave the stated results.
fn passes(report: &Value, name: &str) -> Result<(), String> {
    let case = case(report, name)?;
    match case["judged"]["verdict"].as_str() {
        Some("as-specified" | "known-hole") => Ok(()),
        _ => Err(format!("without the mistake it fails as well: {}", findings_of(case))),
    }
}

/// The mutant's case fails in the step and for the reason named.
fn fails(report: &Value, mutant: &Mutant, step: &str) -> Result<(), String> {
    let case = case(report, &group::mutated(mutant))?;
    let steps = case["steps"].as_array().ok_or("the case has no steps")?;
    let found = steps.iter().find(|found| found["id"] == step).ok_or_else(|| format!("no step {step}"))?;
    let judged = &found["judged"];
    let is_finding = matches!(judged["verdict"].as_str(), Some("denial-missing" | "unexpected"));
    if !is_finding {
        return Err(format!("survived: {step} is {judged}; findings: {}", findings_of(case)));
    }
    if judged["got"] != expected(mutant) {
        return Err(format!(
            "{step} fails for another reason: expected {}, got {}",
            expected(mutant),
            judged["got"]
        ));
    }
    Ok(())
}

/// `copra explore` printed a disagreement that came again, and what is named is in the operations it was shrunk to, or in what
/// came of them. (Which sequence meets a mistake first changes with whatever explore chooses from.)
fn disagrees(printed: &str, expected: &str) -> Result<(), String> {
    let Some((_, found)) = printed.split_once("\ndisagreement: ") else {
        return Err(format!("survived:\n{printed}"));
    };
    if found.contains("(did not repeat") {
        return Err(format!("the disagreement did not repeat:\n{printed}"));
    }
    let found = found.split("\nreplay: ").next().unwrap_or_default();
    if !expected.is_empty() && found.contains(expected) {
        return Ok(());
    }
    Err(format!("another disagreement than {expected}: {found}"))
}

/// A boot audit has the named finding.
fn has_finding(report: &Value, expected: &str) -> Result<(), String> {
    let findings = report["audit"]["findings"].as_array().ok_or("the audit has no list of findings")?;
    let places: Vec<&str> = findings.iter().filter_map(|it| it["signature"]["place"].as_str()).collect();
    if places.contains(&expected) { Ok(()) } else { Err(format!("the boot audit finds only {places:?}")) }
}

/// The boot is a finding, for what is named: an access that is not known, from a function that is on the stack for certain,
/// or a manner of death.
fn at_boot(mutant: &Mutant, reports: &Reports) -> Result<(), String> {
    ended(reports, &mutant.name, 1)?;
    is_boot_finding(&reports.json(&mutant.name)?, &expected(mutant))
}

fn is_boot_finding(report: &Value, expected: &str) -> Result<(), String> {
    let boot = &report["boot"]["guests"][0];
    if boot["judged"]["verdict"] != "unexpected" {
        return Err(format!("survived: the boot is {}", boot["judged"]));
    }
    let (events, known) = (&boot["observed"]["events"], &boot["known"]);
    let (Some(events), Some(known)) = (events.as_array(), known.as_array()) else {
        return Err(format!("the boot has no list of accesses: {boot:#}"));
    };
    let unknown = events.iter().zip(known).filter(|(_, known)| known.is_null()).map(|(event, _)| event);
    let death = &boot["observed"]["death"]["kind"];
    if unknown.flat_map(functions).any(|name| name == expected) || *death == json!([expected]) {
        return Ok(());
    }
    Err(format!("the boot fails for another reason than {expected}: {events:#?}, death {death}"))
}

/// The first forbidden access is a device's, and the one named: its kind, and whether it is of rings or of a buffer.
fn is_of_device(report: &Value, expected: &str) -> Result<(), String> {
    let boot = report["boot"]["observed"]["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let later = report["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let first = boot.iter().chain(later).next().ok_or("survived: no forbidden access")?;
    let device = first["device"]["kind"].as_str().ok_or_else(|| format!("no device made {first}"))?;
    let what = if first["device"]["chain"].is_null() { "rings" } else { "a buffer" };
    let got = format!("{} of {what} by {device}", first["kind"].as_str().unwrap_or("?"));
    if got == expected && !functions(first).is_empty() {
        return Ok(());
    }
    Err(format!("another access than {expected}: {got}, {first}"))
}

/// The functions that are on the stack for certain, without what the compiler adds to a name (`.isra.0`).
fn functions(event: &Value) -> Vec<&str> {
    let trace = event["backtrace"].as_array().map(Vec::as_slice).unwrap_or_default();
    let frames = std::iter::once(&event["symbol"]).chain(trace).filter_map(Value::as_str);
    let certain = frames.filter(|frame| !frame.starts_with("? "));
    let names = certain.filter_map(|frame| frame.split_once("+0x")).map(|(name, _)| name);
    names.filter_map(|name| name.split('.').next()).collect()
}

/// What counts as a disagreement, on output made here.
pub fn check_disagreements() -> Result<(), String> {
    let printed = |more: &str| format!("seed 1: 9 steps\n{more}\n");
    let good = [
        printed("disagreement: lseek gave 1\n  lseek(0)"),
        printed("disagreement: byte 0\n  lseek gave 1\nreplay: copra run"),
    ];
    let bad = [
        printed("disagreements: none"),
        printed("once: lseek gave 1"),
        printed("disagreement: read gave 1\n  read(0)\nreplay: copra run lseek gave"),
        printed("disagreement: lseek gave 1\n  lseek(0)\n  (did not repeat when these were executed again)"),
    ];
    let is_killed = |text: &&String| disagrees(text, "lseek gave").is_ok();
    let wrong: Vec<_> = good.iter().filter(|it| !is_killed(it)).chain(bad.iter().filter(is_killed)).collect();
    let without_a_reason = disagrees(&good[0], "").is_ok();
    if wrong.is_empty() && !without_a_reason {
        Ok(())
    } else {
        Err(format!("taken for its contrary: {wrong:?}"))
    }
}

/// What counts as a boot's finding, on reports made here.
pub fn self_check() -> Result<(), String> {
    let report = |verdict: &str, known: Value, frame: &str, death: Value| {
        let event = json!({ "symbol": "memcpy+0x1/0x2", "backtrace": [frame] });
        let observed = json!({ "events": [event], "death": { "kind": death } });
        let boot = json!({ "judged": { "verdict": verdict }, "known": [known], "observed": observed });
        json!({ "boot": { "guests": [boot] } })
    };
    let (hole, none) = (json!("a hole"), Value::Null);
    let frame = "dmi_setup+0x1/0x2";
    let good = [
        report("unexpected", none.clone(), frame, none.clone()),
        report("unexpected", none.clone(), "dmi_setup.isra.0+0x1/0x2", none.clone()),
        report("unexpected", hole.clone(), "f+0x1/0x2", json!(["dmi_setup"])),
    ];
    let bad = [
        report("known-hole", none.clone(), frame, none.clone()),
        report("unexpected", hole, frame, none.clone()),
        report("unexpected", none.clone(), "? dmi_setup+0x1/0x2", none.clone()),
        report("unexpected", none.clone(), "dmi_setup_more+0x1/0x2", none.clone()),
        report("unexpected", none, "f+0x1/0x2", json!(["dmi_setup", "panic"])),
        json!({}),
    ];
    let is_finding = |report: &Value| is_boot_finding(report, "dmi_setup").is_ok();
    let wrong = good.iter().filter(|it| !is_finding(it)).chain(bad.iter().filter(|it| is_finding(it)));
    let wrong: Vec<String> = wrong.map(|report| format!("{report}")).collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("judged wrongly: {}", wrong.join("\n"))) }
}

/// Forbidden accesses of the boot: kind and function.
fn boot_events(report: &Value) -> Vec<String> {
    let events = report["platform"]["boot_events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or("?").to_owned();
    let trace = |event: &Value| event["backtrace"].to_string();
    events.iter().map(|e| format!("{} at {} < {}", text(e, "kind"), text(e, "symbol"), trace(e))).collect()
}

fn ended(reports: &Reports, job: &str, code: i32) -> Result<(), String> {
    let outcome = reports.outcome(job)?;
    if outcome.code == Some(code) {
        return Ok(());
    }
    Err(format!(
        "{job}: exit code {:?} instead of {code}\n{}\n{}",
        outcome.code, outcome.stdout, outcome.stderr
    ))
}

/// Findings of an audit.
fn findings(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or("?").to_owned();
    findings.iter().map(|it| format!("{}: {}", text(it, "invariant"), text(it, "name"))).collect()
}

/// Every step of a case that did not give its stated result.
fn findings_of(case: &Value) -> String {
    let good = |step: &&Value| {
        !matches!(
            step["judged"]["verdict"].as_str(),
            Some("as-specified" | "known-hole" | "not-reached" | "evidence")
        )
    };
    let steps = case["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines = steps.iter().filter(good).map(|step| format!("{}: {}", step["id"], step["judged"]));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { case["judged"].to_string() } else { lines.join("; ") }
}
