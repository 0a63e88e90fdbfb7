// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra trace`: the file of a boot follows the format, and has what the machine counted.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

use serde_json::Value;

/// A trace of a guest.
fn trace(platform: &str, rest: &[&str]) -> Value {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("trace.json");
    let output = Command::new(env!("CARGO_BIN_EXE_copra"))
        .args([&["trace", "-p", platform, "--timeout", "240", "-o", file.to_str().unwrap()], rest].concat())
        .env("COPRA_QUIET", "1")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = std::fs::read(&file).unwrap();
    let trace: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{error}: {errors}"));
    check_format(&trace);
    trace
}

fn events(trace: &Value) -> &[Value] {
    trace["traceEvents"].as_array().unwrap()
}

/// The rules of Chrome's trace event format for the events used here, and those of a timeline: times ascend, slices are nested, and an
/// exit is between two times in which the guest runs.
fn check_format(trace: &Value) {
    let mut open: Vec<&str> = Vec::new();
    let mut last = 0.0;
    for event in events(trace) {
        let phase = event["ph"].as_str().unwrap();
        assert!(event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
        if phase == "M" {
            assert!(["process_name", "thread_name"].contains(&event["name"].as_str().unwrap()));
            assert!(event["args"]["name"].is_string(), "{event}");
            continue;
        }
        let time = event["ts"].as_f64().unwrap();
        assert!(time >= last, "{event} after {last}");
        last = time;
        match phase {
            "B" => {
                let name = event["name"].as_str().unwrap();
                assert!(name != "guest" || open.is_empty(), "{event} in {open:?}");
                open.push(name);
                assert!(open.len() <= 2, "{open:?}");
            }
            "E" => assert!(open.pop().is_some(), "{event} ends nothing"),
            "i" => assert_eq!(event["s"], "t", "{event}"),
            other => panic!("phase {other}"),
        }
    }
    assert!(open.is_empty(), "{open:?} do not end");
}

/// Sum over instants of this name.
fn sum(trace: &Value, name: &str, argument: &str) -> u64 {
    let named = events(trace).iter().filter(|event| event["name"] == name);
    named.map(|event| event["args"][argument].as_u64().unwrap_or(0)).sum()
}

fn slices<'a>(trace: &'a Value, wanted: impl Fn(&str) -> bool + 'a) -> u64 {
    let begins = events(trace).iter().filter(|event| event["ph"] == "B");
    begins.filter(|event| wanted(event["name"].as_str().unwrap())).count() as u64
}

const CALLS: [&str; 5] = ["TDCALL", "VMGEXIT", "PVALIDATE", "RMPADJUST", "hypercall page"];

#[test]
fn a_boot_is_recorded_as_the_machine_counted_it() {
    for (platform, calls, conversions) in [("tdx", 40, 100), ("sev", 0, 100)] {
        let trace = trace(platform, &[]);
        let counted = |name: &str| trace["otherData"]["counted"][name].as_u64().unwrap();
        let of_guest = slices(&trace, |name| name == "guest");
        let of_calls = slices(&trace, |name| CALLS.contains(&name));
        let of_exits = slices(&trace, |name| name != "guest" && !CALLS.contains(&name));
        assert!(of_exits > 1000, "{platform}: {of_exits}");
        assert_eq!((of_exits, of_guest), (counted("exits"), counted("exits")), "{platform}");
        assert_eq!(of_calls, counted("calls"), "{platform}");
        assert!(of_calls >= calls, "{platform}: {of_calls}");
        let converted = sum(&trace, "memory", "conversions");
        assert_eq!(converted, counted("conversions"), "{platform}");
        assert!(converted >= conversions, "{platform}: {converted}");
        assert!(sum(&trace, "interrupts injected", "count") > 0, "{platform}");
    }
}

#[test]
fn a_forbidden_access_of_a_command_is_in_its_trace_at_its_function() {
    let read = ["--", "dd", "if=/dev/mem", "of=/dev/null", "bs=64", "skip=15360", "count=1", "status=none"];
    let trace = trace("snp", &read);
    let accesses: Vec<_> =
        events(&trace).iter().filter(|event| event["name"] == "forbidden access").collect();
    assert_eq!(accesses.len() as u64, trace["otherData"]["counted"]["accesses"].as_u64().unwrap());
    let text = accesses[0]["args"]["access"].as_str().unwrap();
    assert!(text.starts_with("GPA 0xf0000: read through the shared view"), "{text}");
    assert!(accesses[0]["args"]["place"].as_str().unwrap().starts_with("copy_from_kernel_nofault+"));
}

#[test]
fn a_case_is_recorded_with_its_restores() {
    let trace = trace("sev", &["mmap/low-ram"]);
    let stops = events(&trace).iter().filter(|event| event["name"] == "stopped").count();
    assert!(stops > 3, "{stops}");
    assert!(events(&trace).iter().any(|event| event["name"] == "forbidden access"));
}
