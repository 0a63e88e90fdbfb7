// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run as JSON. `schema` names the version of the format; it changes when a field changes its meaning or goes away, not
//! when one is added. All fields are described in docs/report-json.md.

use std::io;

use engine::report::{CaseResult, Report};
use serde::Serialize;
use serde_json::{Value, json};

use super::plain;
use engine::boot::BootResult;
use engine::case::Case;

/// The version of the format.
pub const SCHEMA: &str = "copra-run/2";

/// Writes the run, whole or cut short.
pub fn write(report: &Report, mut out: impl io::Write) -> io::Result<()> {
    writeln!(out, "{}", plain::in_json(&format!("{:#}", value(report))))
}

/// The run as a JSON value.
pub fn value(report: &Report) -> Value {
    let remaining: Vec<&str> = report.remaining().collect();
    json!({
        "schema": SCHEMA,
        "copra": env!("CARGO_PKG_VERSION"),
        "policy": report.policy,
        "policy_in_force": report.policy_in_force,
        "kernel": report.kernel,
        "platform": report.platform,
        "ended": report.ended,
        "modes": report.modes(),
        "seconds": report.duration.as_secs_f64(),
        "summary": report.summary(),
        "boot": {
            "judged": report.boot_verdict(),
            "guests": report.boots.iter().map(boot_value).collect::<Vec<_>>(),
        },
        "cases": report.cases.iter().map(case_value).collect::<Vec<_>>(),
        "remaining": remaining,
        "deaths": report.deaths,
        "aborted": report.aborted,
        "rigour": report.rigour(),
        "counters": report.counters,
    })
}

fn boot_value(result: &BootResult) -> Value {
    json!({ "judged": result.verdict, "observed": result.observed, "known": result.known })
}

fn case_value(result: &CaseResult) -> Value {
    let steps: Vec<Value> = result
        .steps()
        .map(|(step, observed, verdict)| {
            json!({
                "id": step.id,
                "do": step.action.name(),
                "call": step.action.to_string(),
                "judged": verdict,
                "observed": observed,
            })
        })
        .collect();
    json!({
        "name": result.case.name,
        "title": result.case.title,
        "tags": result.case.tags,
        "judged": result.verdict.verdict,
        "seconds": result.observed.duration.as_secs_f64(),
        "steps": steps,
    })
}

/// One line of `copra list --cases --json`.
pub fn case_line(case: &Case) -> Value {
    #[derive(Serialize)]
    struct Line<'a> {
        kind: &'static str,
        name: &'a str,
        title: &'a str,
        tags: &'a [String],
        platforms: &'a [types::Platform],
        regions: Vec<types::Region>,
        steps: usize,
    }
    let line = Line {
        kind: "case",
        name: &case.name,
        title: &case.title,
        tags: &case.tags,
        platforms: &case.platforms,
        regions: case.regions(),
        steps: case.steps.len(),
    };
    json!(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::report::fixture;

    #[test]
    fn a_whole_run() {
        insta::assert_snapshot!(format!("{:#}", value(&fixture::whole())));
    }

    #[test]
    fn no_control_character_of_a_guest_is_written() {
        let text = {
            let mut out = Vec::new();
            write(&fixture::hostile(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(text.contains("FAIL"));
        assert!(!text.chars().any(|c| c != '\n' && c != '\t' && c.is_control()), "{text:?}");
    }

    #[test]
    fn boots_and_their_verdicts() {
        insta::assert_snapshot!(format!("{:#}", value(&fixture::died_in_boot())["boot"]));
    }

    #[test]
    fn a_run_cut_short_says_what_remains() {
        let value = value(&fixture::cut_short());
        assert_eq!(value["remaining"], json!(["mmap/rom", "open/port"]));
        assert_eq!(value["ended"]["how"], "failed");
    }
}
