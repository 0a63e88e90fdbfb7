// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The last results of `scripts/bench` in docs/benchmarks.md, and the check that compares new ones with them.

use std::process::Command;

/// Each ratio by instructions, and the most that SPECIFICATION.md promises.
const PROMISED: [(&str, f64); 7] = [
    ("none/qemu-microvm", 0.33),
    ("sev/none", 1.07),
    ("snp/none", 1.10),
    ("tdx/none", 1.05),
    ("vbs/none", 1.02),
    ("one-case/qemu-microvm", 0.10),
    ("one-more-case/sev", 0.03),
];

fn ratio(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("ratio {name}: "))).unwrap();
    line.parse().unwrap()
}

/// Runs `scripts/check-bench` on these results.
fn check(earlier: &str, now: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = [("old", earlier), ("new", now)].map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let output = Command::new(super::top().join("scripts/check-bench")).args([old, new]).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_last_results_keep_what_the_specification_promises() {
    let results = std::fs::read_to_string(super::top().join("docs/benchmarks.md")).unwrap();
    for (name, most) in PROMISED {
        let measured = ratio(&results, name);
        assert!(measured <= most, "{name} is {measured}, promised is {most}");
    }
}

#[test]
fn a_ratio_that_rises_by_more_than_two_percent_or_is_missing_fails() {
    let earlier = "text\n```text\nratio a/b: 1.000\nratio c/b: 2.000\n```\n```text\nratio a/b: 0.100\n```\n";
    assert_eq!(check(earlier, "ratio a/b: 1.019\nratio c/b: 1.500\n"), (true, String::new()));
    let (passed, text) = check(earlier, "ratio a/b: 1.021\nratio c/b: 2.000\n");
    assert!(!passed && text.contains("a/b is 1.021") && !text.contains("c/b"), "{text}");
    let (passed, text) = check(earlier, "ratio a/b: 1.000\n");
    assert!(!passed && text.contains("c/b was 2.000 before and was not measured"), "{text}");
    assert!(!check("", "ratio a/b: 1.000\n").0);
    let throughput = "```text\nratio throughput-a/b: 0.900\n";
    assert_eq!(check(throughput, "ratio throughput-a/b: 1.500\n"), (true, String::new()));
    let (passed, text) = check(throughput, "ratio throughput-a/b: 0.880\n");
    assert!(!passed && text.contains("throughput-a/b is 0.880, more than 2 % below"), "{text}");
    let earlier = "```text\nratio small/b: 0.00100\n";
    assert_eq!(check(earlier, "ratio small/b: 0.00109\n"), (true, String::new()));
    let (passed, text) = check(earlier, "ratio small/b: 0.00111\n");
    assert!(!passed && text.contains("more than 10 % above"), "{text}");
}
