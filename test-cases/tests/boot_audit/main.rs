// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra boot-audit`: a stock kernel in every layout, the simplest layout of a finding, and layouts at random.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// What was printed, and the report.
struct Run {
    report: Value,
    output: Output,
}

impl Run {
    fn of(options: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let json = folder.path().join("report.json");
        let mut copra = Command::new(env!("CARGO_BIN_EXE_copra"));
        copra
            .args(["boot-audit", "--quiet", "--timeout", "240", "--json", json.to_str().unwrap()])
            .args(options);
        let output = copra.stdin(Stdio::null()).output().unwrap();
        let report = std::fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { report: report.unwrap_or_default(), output }
    }

    fn text(&self) -> String {
        [&self.output.stdout, &self.output.stderr]
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .concat()
    }

    /// Each finding as its function, and the platform and layout that it needs.
    fn findings(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings = self.report["audit"]["findings"].as_array().map_or(&[][..], Vec::as_slice).iter();
        let all = findings.map(|finding| {
            let least = &finding["least"];
            (
                text(&finding["signature"]["place"]),
                format!("{}: {}", text(&least["platform"]), text(&least["layout"]["differs"])),
            )
        });
        all.collect()
    }

    /// Boots that gave no result, with the reason.
    fn without_result(&self) -> Vec<&Value> {
        let boots = self.report["audit"]["boots"].as_array().map_or(&[][..], Vec::as_slice).iter();
        boots.map(|boot| &boot["inconclusive"]).filter(|why| !why.is_null()).collect()
    }
}

fn finding(place: &str, needs: &str) -> (String, String) {
    (place.to_owned(), needs.to_owned())
}

/// Of all layouts, three show what 6.12 does wrong; the others are silent.
#[test]
fn a_stock_kernel_in_every_layout_shows_three_layouts_that_it_gets_wrong() {
    let run = Run::of(&["-p", "snp", "-p", "tdx", "--no-shrink"]);
    assert_eq!(run.output.status.code(), Some(1), "{}", run.text());
    assert_eq!(run.without_result(), Vec::<&Value>::new());
    let places: Vec<String> = run.findings().into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, ["dmi_decode_table", "reserve_ibft_region"], "{}", run.text());
}

/// The layout that is written shows the finding again.
#[test]
fn a_finding_is_shrunk_to_the_facts_that_it_needs_and_replays() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = folder.path().to_str().unwrap();
    // Of three facts, stage0's, the kernel minds one.
    let run = Run::of(&["-p", "snp", "--layout", "stage0", "--out", out]);
    assert_eq!(run.findings(), [finding("reserve_ibft_region", "snp: no EFI tables")], "{}", run.text());
    let file = folder.path().join("1-snp.toml");
    let again = Run::of(&["-p", "snp", "--layout", file.to_str().unwrap(), "--no-shrink"]);
    assert_eq!(again.findings(), run.findings(), "{}", again.text());
}

#[test]
fn layouts_at_random_are_the_same_for_the_same_seed_and_boot() {
    let options = ["-p", "tdx", "--fuzz", "6", "--seed", "3", "--no-shrink"];
    let runs = [Run::of(&options), Run::of(&options)];
    let layouts = |run: &Run| {
        let boots =
            run.report["audit"]["boots"].as_array().unwrap_or_else(|| panic!("{}", run.text())).clone();
        boots.into_iter().map(|boot| boot["plan"]["layout"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(layouts(&runs[0]), layouts(&runs[1]));
    assert_eq!(layouts(&runs[0]).len(), 6);
    assert_eq!(runs[0].without_result(), Vec::<&Value>::new(), "{}", runs[0].text());
}

#[test]
fn what_cannot_be_booted_is_refused_before_anything_starts() {
    for (options, words) in [
        (&["--layout", "stage1"][..], &["unknown layout `stage1`", "stage0", "./FILE.toml"][..]),
        (&["--layout", "stage0", "-p", "tdx"], &["layout stage0 is for snp, not for tdx"]),
        (&["--layout", "./none.toml"], &["cannot read ./none.toml as a layout"]),
        (&["--seed", "3"], &["--fuzz"]),
    ] {
        let run = Run::of(options);
        assert_eq!(run.output.status.code(), Some(2), "{}", run.text());
        for word in words {
            assert!(run.text().contains(word), "{}", run.text());
        }
    }
}
