// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel that makes a forbidden access while it boots: "x86/tdx: Fix crash on kexec with `CONFIG_EISA`"
//! (20240822095122.736522-1). `eisa_bus_probe()` reads 0xfffd9 through the shared view, and the scan for a PCI interrupt routing
//! table, which a kernel makes that does not route interrupts by ACPI, reads that page through the private one.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// Kept in the cache for the next run, under a name of this test.
const NAME: &str = "test-eisa";
/// `eisa_bus_probe()` reads "EISA" there (`drivers/eisa/eisa-bus.c`).
const SIGNATURE: &str = "0xfffd9";

#[test]
fn a_forbidden_access_in_boot_is_a_finding_with_all_its_evidence_whether_the_guest_lives_or_not() {
    let place = |file: &str| format!("{}/tests/boot_accesses/{file}", env!("CARGO_MANIFEST_DIR"));
    let (patch, config) = (place("eisa.patch"), place("eisa.config"));
    let built = copra(&["kernel", "build", "--patch", &patch, "--config", &config, "--name", NAME]);
    assert!(built.status.success(), "copra kernel build: {}", built.status);

    // Mode `record`: the guest continues; the access is the boot's verdict, and printed first.
    let (recorded, text) = run("record");
    let boot = &recorded["boot"]["guests"][0];
    assert_eq!(boot["judged"]["verdict"], "unexpected", "{boot:#}");
    assert!(boot["observed"]["death"].is_null(), "{boot:#}");
    is_explained(&boot["observed"]["events"][0]);
    let shown = text.find("eisa_bus_probe+0x").unwrap_or(usize::MAX);
    assert!(shown < text.find("open/zero").unwrap(), "{text}");

    // Mode `faithful`: the guest ends; the same, and how it ended.
    let (faithful, text) = run("faithful");
    let boot = &faithful["boot"]["guests"][0];
    assert_eq!(boot["judged"]["verdict"], "unexpected", "{boot:#}");
    assert_eq!(boot["observed"]["death"]["kind"], json!(["terminated"]), "{boot:#}");
    // Its serial port is set up later, so the lines are from the log buffer in its memory.
    let console = boot["observed"]["death"]["console"].as_array().unwrap();
    let lines: Vec<&str> = console.iter().filter_map(Value::as_str).collect();
    assert!(lines[0].contains("from the kernel's log buffer"), "{lines:#?}");
    assert!(lines.iter().skip(1).all(|line| line.starts_with('[')), "{lines:#?}");
    assert!(lines.len() > 5, "{lines:#?}");
    let events = boot["observed"]["events"].as_array().unwrap();
    is_explained(&events[0]);
    let last = events.last().unwrap();
    assert_eq!(last["kind"], "private-read", "{last:#}");
    assert!(last["symbol"].is_string(), "{last:#}");
    assert!(text.contains("eisa_bus_probe+0x"), "{text}");
    let rewritten = faithful["platform"]["rewritten"].as_array().unwrap();
    assert!(rewritten.iter().any(|site| site["was"] == "TDCALL"), "{rewritten:#?}");
    assert_ne!(faithful["counters"]["exits"], 0);
}

/// The report and the text of a run of one case. Its exit code means a bad commit to `git bisect run`.
fn run(mode: &str) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let kernel = format!("build:{NAME}");
    let json = report.to_string_lossy();
    let arguments =
        ["run", "--boot", "--bisect", "-k", &kernel, "-p", "tdx", "--mode", mode, "--timeout", "240"];
    let options = ["--cmdline-append", "pci=noacpi", "--json", &json, "open/zero"];
    let output = copra(&[&arguments[..], &options].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{mode}: {text}");
    (serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap(), text)
}

/// The access that starts it, with where it came from.
fn is_explained(event: &Value) {
    assert_eq!(event["kind"], "shared-read", "{event:#}");
    assert_eq!(event["gpa"], SIGNATURE, "{event:#}");
    let frames = event["backtrace"].as_array().unwrap();
    let called = frames.iter().filter_map(Value::as_str).any(|frame| frame.starts_with("eisa_bus_probe+0x"));
    assert!(
        called || event["symbol"].as_str().is_some_and(|it| it.starts_with("eisa_bus_probe+0x")),
        "{event:#}"
    );
}

fn copra(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_copra"));
    command.args(arguments).env("COPRA_QUIET", "1").stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.output().unwrap()
}
