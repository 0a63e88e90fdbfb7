// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra suite`: KUnit of `build:kunit` on each platform, and programs that print KTAP, with the forbidden accesses of each test.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PLATFORMS: [&str; 5] = ["none", "sev", "snp", "tdx", "vbs"];

/// A suite's report, and what was printed.
struct Run {
    report: Value,
    output: Output,
}

impl Run {
    fn of(options: &[&str], suite: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let json = folder.path().join("report.json");
        let mut copra = Command::new(env!("CARGO_BIN_EXE_copra"));
        copra.args(["suite", "--timeout", "240", "--json", json.to_str().unwrap()]).args(options).args(suite);
        copra.env("COPRA_QUIET", "1").stdin(Stdio::null());
        let output = copra.output().unwrap();
        let report = std::fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { report: report.unwrap_or_default(), output }
    }

    fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    fn text(&self) -> String {
        [&self.output.stdout, &self.output.stderr]
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .concat()
    }

    /// Each case with its verdict.
    fn verdicts(&self) -> BTreeMap<&str, &str> {
        let cases = self.report["cases"].as_array().map_or(&[][..], Vec::as_slice);
        cases
            .iter()
            .map(|case| (case["name"].as_str().unwrap(), case["judged"]["verdict"].as_str().unwrap()))
            .collect()
    }

    /// The forbidden accesses of each case that made any: kind and address.
    fn accesses(&self) -> BTreeMap<&str, Vec<(&str, &str)>> {
        let mut all = BTreeMap::new();
        for case in self.report["cases"].as_array().map_or(&[][..], Vec::as_slice) {
            let steps = case["steps"].as_array().unwrap().iter();
            let events = steps.flat_map(|step| step["observed"]["events"].as_array().unwrap());
            let events: Vec<_> = events
                .map(|event| (event["kind"].as_str().unwrap(), event["gpa"].as_str().unwrap()))
                .collect();
            if !events.is_empty() {
                all.insert(case["name"].as_str().unwrap(), events);
            }
        }
        all
    }
}

/// A program of this test, in a folder.
fn program(folder: &Path, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join("test.sh");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    file.display().to_string()
}

fn run_program(platform: &str, text: &str) -> Run {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = program(folder.path(), text);
    Run::of(&["-p", platform], &["--", &file])
}

#[test]
fn kunit_suites_run_on_every_platform_and_each_test_has_its_own_accesses() {
    for platform in PLATFORMS {
        let run = Run::of(&["-k", "build:kunit", "-p", platform], &["--kunit"]);
        let text = run.text();
        let verdicts = run.verdicts();
        // The kernel's own suites give the same everywhere.
        for test in [
            "list-kunit-test/list_test_list_del",
            "string/string_test_strscpy",
            "example/example_simple_test",
        ] {
            assert_eq!(verdicts.get(test), Some(&"as-specified"), "{platform}: {text}");
        }
        // Firmware leaves memory unaccepted on these.
        let right = if ["snp", "tdx"].contains(&platform) { "as-specified" } else { "skipped" };
        for test in ["accept_read_over_the_end", "accept_when_allocated"] {
            let case = format!("unaccepted_memory/{test}");
            assert_eq!(verdicts.get(case.as_str()), Some(&right), "{platform}: {text}");
        }
        assert_eq!(verdicts.get("example/example_skip_test"), Some(&"skipped"), "{platform}: {text}");
        assert!(verdicts.len() > 100, "{platform}: {} cases: {text}", verdicts.len());
        assert_eq!(run.report["boot"]["judged"]["verdict"], "as-specified", "{platform}: {text}");
        // What they state of /dev/mem holds, but for the view that a page is read through.
        let accesses = run.accesses();
        for (test, verdict) in &verdicts {
            let right = if accesses.contains_key(test) { "unexpected" } else { "as-specified" };
            assert!(*verdict == right || *verdict == "skipped", "{platform}: {test}: {text}");
        }
        let expected = kunit_accesses(platform);
        assert_eq!(accesses, expected.iter().cloned().collect(), "{platform}: {text}");
        assert_eq!(run.code(), Some(i32::from(!expected.is_empty())), "{platform}: {text}");
        // The kernel's own stack names the test that a read was made by.
        for test in expected.iter().filter_map(|(name, _)| name.strip_prefix("devmem/devmem_read_")) {
            assert!(text.contains(&format!("< devmem_read_{test}+0x")), "{platform}: {test}: {text}");
        }
    }
}

/// Paths of the DMA API that must be among the tests.
const DMA_PATHS: [&str; 6] = [
    "map_sg_from_device",
    "map_vmalloc",
    "alloc_coherent",
    "alloc_pages_atomic",
    "pool_of_small_blocks",
    "32_bit_device",
];

#[test]
fn the_dma_api_gives_a_device_shared_memory_on_every_platform() {
    for platform in PLATFORMS {
        let run = Run::of(&["-k", "build:kunit", "-p", platform], &["--kunit", "dma_probe"]);
        let text = run.text();
        let verdicts = run.verdicts();
        for path in DMA_PATHS {
            let case = format!("dma_probe/probe_{path}");
            assert_eq!(verdicts.get(case.as_str()), Some(&"as-specified"), "{platform}: {text}");
        }
        // Without encryption nothing is bounced; no conversion is refused here.
        let skipped: Vec<_> = verdicts.iter().filter(|(_, verdict)| **verdict == "skipped").collect();
        assert_eq!(skipped.len(), if platform == "none" { 3 } else { 1 }, "{platform}: {text}");
        assert!(verdicts.len() >= 24, "{platform}: {text}");
        assert_eq!(run.accesses(), BTreeMap::new(), "{platform}: {text}");
        assert_eq!(run.code(), Some(0), "{platform}: {text}");
    }
}

#[test]
fn an_access_by_a_device_belongs_to_the_test_that_submitted_it() {
    // Drivers then give the device addresses of private memory; what is allocated for devices is shared all the same.
    let options = ["-k", "build:kunit", "-p", "tdx", "--cmdline-append", "swiotlb=noforce"];
    let run = Run::of(&options, &["--kunit", "dma_probe.*map_single*device"]);
    let text = run.text();
    let single = run.accesses();
    for (direction, kind) in [("to", "shared-read"), ("from", "shared-write")] {
        let case = format!("dma_probe/probe_map_single_{direction}_device");
        assert_eq!(run.verdicts().get(case.as_str()), Some(&"unexpected"), "{text}");
        let kinds: Vec<_> = single.get(case.as_str()).into_iter().flatten().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [kind], "{case}: {text}");
        assert!(text.contains("by dma-probe"), "{text}");
    }
    assert_eq!((single.len(), run.code()), (2, Some(1)), "{text}");

    let run = Run::of(&options, &["--kunit", "dma_probe.probe_alloc_*"]);
    assert_eq!((run.accesses().len(), run.code()), (0, Some(0)), "{}", run.text());
}

/// Accesses of the tests of /dev/mem: `read()` takes the shared view of what is no System RAM, and no path accepts the ROM.
fn kunit_accesses(platform: &str) -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let zero_page = ("devmem/devmem_read_zero_page", vec![("shared-read", "0x0")]);
    let rom = ("devmem/devmem_read_rom", vec![("shared-read", "0xf0000")]);
    let mapped_rom = ("devmem/devmem_mmap_rom", vec![("private-read", "0xf0000")]);
    match platform {
        "none" => vec![],
        "snp" => vec![zero_page, rom, mapped_rom],
        _ => vec![zero_page, rom],
    }
}

/// In the form of the kernel's selftests.
const KSELFTEST: &str = "#!/bin/sh
echo TAP version 13
echo 1..4
dd if=/dev/mem of=/dev/null bs=4096 skip=1 count=1 status=none && echo ok 1 low_ram || echo not ok 1 low_ram
dd if=/dev/mem of=/dev/null bs=64 skip=15360 count=1 status=none && echo ok 2 rom || echo not ok 2 rom
dd if=/dev/mem of=/dev/null bs=4096 skip=2 count=1 status=none && echo ok 3 low_ram_again || echo not ok 3 low_ram_again
echo '# no device'
echo ok 4 device '# SKIP no device'
";

#[test]
fn an_access_belongs_to_the_subtest_of_a_program_that_made_it() {
    let run = run_program("sev", KSELFTEST);
    let text = run.text();
    let verdicts = [
        ("device", "skipped"),
        ("low_ram", "as-specified"),
        ("low_ram_again", "as-specified"),
        ("rom", "unexpected"),
    ];
    assert_eq!(run.verdicts(), BTreeMap::from(verdicts), "{text}");
    assert_eq!(run.accesses(), BTreeMap::from([("rom", vec![("shared-read", "0xf0000")])]), "{text}");
    assert_eq!(run.code(), Some(1), "{text}");
    assert!(text.contains("read_mem+0x"), "{text}");

    let run = run_program("none", KSELFTEST);
    assert_eq!((run.code(), run.verdicts()["rom"]), (Some(0), "as-specified"), "{}", run.text());
}

#[test]
fn what_does_not_come_to_its_end_does_not_pass() {
    let run = run_program("none", "#!/bin/sh\necho 1..3\necho ok 1 a\n");
    let expected = BTreeMap::from([("a", "as-specified"), ("test 2..3", "not-run")]);
    assert_eq!((run.code(), run.verdicts()), (Some(2), expected), "{}", run.text());

    let run = run_program(
        "none",
        "#!/bin/sh\necho 1..2\necho ok 1 a\necho 1 >/proc/sys/kernel/sysrq\necho c >/proc/sysrq-trigger\n",
    );
    let expected = BTreeMap::from([("a", "as-specified"), ("test 2", "unexpected")]);
    assert_eq!((run.code(), run.verdicts()), (Some(1), expected), "{}", run.text());
    assert!(run.text().contains("sysrq triggered crash"), "{}", run.text());
}

#[test]
fn a_kernel_without_kunit_is_refused_before_it_boots() {
    let run = Run::of(&["-k", "debian:6.12", "-p", "none"], &["--kunit"]);
    assert_eq!(run.code(), Some(2), "{}", run.text());
    assert!(run.text().contains("CONFIG_KUNIT=n, which must be y; try -k build:kunit"), "{}", run.text());
}
