// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra audit --kexec`: what stock 6.12 leaves to the next kernel, and the jump.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Stdio};

use serde_json::Value;

/// What was found by each way, kexec first, and the exit code.
fn audit(options: &[&str]) -> ([Value; 2], Option<i32>) {
    let mut copra = Command::new(env!("CARGO_BIN_EXE_copra"));
    copra.args(["audit", "--kexec", "--quiet", "--json", "-"]).args(options);
    let output = copra.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {errors}"));
    let ways: [Value; 2] = report["ways"].as_array().unwrap().clone().try_into().unwrap();
    assert_eq!((&ways[0]["way"], &ways[1]["way"]), (&"kexec".into(), &"panic".into()));
    for way in &ways {
        assert_eq!(way["no_result"], Value::Null, "{way:#}");
        assert_eq!(way["not_rewritten"], Value::Null, "{way:#}");
    }
    (ways, output.status.code())
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map_or(&[], Vec::as_slice)
}

/// Something of this state was left by code with this function.
fn leaves(way: &Value, state: &str, function: &str) -> bool {
    let is_by = |frame: &Value| {
        frame.as_str().is_some_and(|frame| frame.trim_start_matches("? ").starts_with(function))
    };
    list(way, "left").iter().any(|left| left["state"] == state && list(left, "frames").iter().any(is_by))
}

/// Kinds and functions of the forbidden accesses, each once.
fn accesses(way: &Value, name: &str) -> Vec<(String, String)> {
    let mut found: Vec<_> = list(way, name)
        .iter()
        .map(|event| {
            let symbol = event["symbol"].as_str().unwrap_or("?");
            (event["kind"].as_str().unwrap().to_owned(), symbol.split('+').next().unwrap().to_owned())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// `arch/x86/coco/tdx/tdx.c:tdx_kexec_finish` converts what is shared; the next kernel boots, by both ways.
#[test]
fn a_td_leaves_nothing_shared_and_the_next_kernel_comes_up() {
    let (ways, exit) = audit(&["-p", "tdx"]);
    for way in &ways {
        assert_eq!(way["came_up"], true, "{way:#}");
        assert!(!leaves(way, "shared", ""), "{way:#}");
        assert_eq!(list(way, "events"), list(way, "next_events"), "{way:#}");
        // Firmware without runtime services: the next kernel gets no EFI tables.
        assert_eq!(way["knows_unaccepted_table"], false);
        assert!(list(way, "left").iter().any(|left| left["state"] == "unaccepted"), "{way:#}");
    }
    assert_eq!(exit, Some(1));
}

/// 6.12 converts nothing back as SEV guest: the pool for bounce buffers is shared when the next kernel takes it for private. What the
/// jump does with page tables is not an access of the guest's.
#[test]
fn a_sev_guest_leaves_its_bounce_buffers_shared() {
    let (ways, exit) = audit(&["-p", "sev"]);
    for way in &ways {
        assert_eq!(way["came_up"], true, "{way:#}");
        assert!(leaves(way, "shared", "mem_encrypt_init"), "{way:#}");
        assert!(leaves(way, "shared", "atomic_pool_expand"), "{way:#}");
        let jump = accesses(way, "events");
        assert!(jump.iter().all(|(kind, _)| kind == "private-read"), "{jump:?}");
        assert_eq!(accesses(way, "next_events"), [], "{way:#}");
    }
    assert_eq!(exit, Some(1));
}

/// An ordinary guest has nothing to leave.
#[test]
fn an_ordinary_guest_shows_nothing() {
    let (ways, exit) = audit(&["-p", "none"]);
    for way in &ways {
        assert_eq!(way["came_up"], true, "{way:#}");
        assert_eq!(
            (list(way, "left").len(), list(way, "events").len(), list(way, "next_events").len()),
            (0, 0, 0)
        );
    }
    assert_eq!(exit, Some(0));
}

/// "`kexec_core`: Accept unaccepted kexec segments' destination addresses", 2025-03, is not in 6.12.117.
#[test]
fn a_td_puts_the_next_kernel_into_memory_that_it_did_not_accept() {
    let mut copra = Command::new(env!("CARGO_BIN_EXE_copra"));
    let output = copra.args(["repro", "kexec-unaccepted"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.matches("✓").count(), 3, "{text}");
    let access = "which is unaccepted, by kernel 0x";
    assert!(text.lines().any(|line| line.contains(access) && line.contains(" relocate_kernel+0x")), "{text}");
    assert!(text.contains("SEPT violation"), "{text}");
}
