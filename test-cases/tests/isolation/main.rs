// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Verdicts depend neither on the order of the cases, nor on the number of guests, nor on whether the guest was booted or
//! kept by an earlier run. `COPRA_ORDERS` sets how many orders are tried on each platform.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Orders tried on each platform unless `COPRA_ORDERS` says otherwise.
const ORDERS: u64 = 2;

/// The JSON report of `copra run` with these arguments, all of whose cases must be as specified.
#[track_caller]
fn report(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_copra"))
        .args(["run", "--quiet", "-k", "debian:6.12", "--json"])
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap();
    let text =
        || String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "copra run {arguments:?}:\n{}", text());
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
}

/// Of each case its verdict, and of each step verdict, kind of answer, and forbidden accesses.
fn results(report: &Value) -> BTreeMap<String, Vec<String>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let step = |step: &Value| {
        let events = list(&step["observed"]["events"]);
        let events: Vec<String> =
            events.iter().map(|event| format!("{} {}", event["kind"], event["gpa"])).collect();
        format!(
            "{} {} {} {events:?}",
            step["id"], step["judged"]["verdict"], step["observed"]["answer"]["how"]
        )
    };
    let case = |case: &Value| {
        let verdict = case["judged"]["verdict"].to_string();
        let steps = list(&case["steps"]);
        (case["name"].to_string(), std::iter::once(verdict).chain(steps.iter().map(step)).collect())
    };
    list(&report["cases"]).iter().map(case).collect()
}

fn any_order_and_any_number_of_guests(platform: &str) {
    let orders = std::env::var("COPRA_ORDERS").ok().and_then(|text| text.parse().ok()).unwrap_or(ORDERS);
    let booted = report(&["-p", platform, "--boot", "--guests", "1"]);
    assert!(booted["counters"]["boots"].as_u64().unwrap() > 0);
    let expected = results(&booted);
    assert!(expected.len() > 90, "{}", expected.len());
    for order in 0..orders {
        let guests = if order % 2 == 0 { "4" } else { "1" };
        let shuffled = report(&["-p", platform, "--shuffle", &order.to_string(), "--guests", guests]);
        assert_eq!(results(&shuffled), expected, "order {order}, {guests} guests");
        let names = |report: &Value| {
            report["cases"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&shuffled), names(&booted), "the report's order");
    }
}

#[test]
fn verdicts_do_not_depend_on_order_or_guests_on_none() {
    any_order_and_any_number_of_guests("none");
}

#[test]
fn verdicts_do_not_depend_on_order_or_guests_on_snp() {
    any_order_and_any_number_of_guests("snp");
}

#[test]
fn a_kept_guest_is_used_for_the_same_boot_and_no_other() {
    let run = |more: &[&str]| report(&[&["repro/mmap-hole", "-p", "sev"], more].concat());
    let boots = |report: &Value| report["counters"]["boots"].as_u64().unwrap();
    let booted = run(&["--boot"]);
    assert_eq!((boots(&booted), booted["platform"].get("booted_at")), (1, None));
    run(&[]);
    let kept = run(&[]);
    assert_eq!(boots(&kept), 0);
    assert!(kept["platform"]["booted_at"].as_u64().is_some());
    assert_eq!(results(&kept), results(&booted));
    for what in ["regions", "guest_type", "boot_events", "rewritten", "view_bit"] {
        assert_eq!(kept["platform"].get(what), booted["platform"].get(what), "{what}");
    }
    // Another command line, which no run has had before.
    let unique = format!("copra.test={}", std::process::id());
    assert_eq!(boots(&run(&["--cmdline-append", &unique])), 1);
    assert_eq!(boots(&run(&["--memory", "320", "--boot"])), 1);
}
