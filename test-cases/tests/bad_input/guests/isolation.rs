// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The effects of one case are not visible to the next: pairs of cases whose order must not matter.

use std::fs;
use std::io;
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::Value;

use super::{outcome, report};
use crate::common::job::Job;
use crate::common::trouble::{Checked, trial};

/// A job's name, platform, and its cases in order, each with the verdict it must get.
type Isolation = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The jobs.
const JOBS: &[Isolation] = &[
    (
        "isolated-none",
        "none",
        &[
            ("store-far", "as-specified"),
            ("look-far", "as-specified"),
            ("setting", "as-specified"),
            ("setting-again", "as-specified"),
        ],
    ),
    (
        "isolated-sev",
        "sev",
        &[
            ("self-mem", "as-specified"),
            ("self-mem-no-event", "unexpected"),
            ("self-mem-again", "as-specified"),
        ],
    ),
    ("isolated-snp", "snp", &[("shared-rom", "as-specified"), ("shared-rom-look", "as-specified")]),
    ("notification-none", "none", &[("clears-out1", "as-specified")]),
    ("converted-snp", "snp", &[("converted", "as-specified")]),
    ("converted-tdx", "tdx", &[("converted", "as-specified")]),
    ("isolated-tdx", "tdx", &[("eats-memory", "as-specified"), ("unaccepted/kcore", "as-specified")]),
];

/// The step that opens /dev/mem.
const OPEN: &str = r#"
[[step]]
id = "open"
do = "open"
path = "/dev/mem"
flags = "O_RDWR"
as = "mem"
expect = "ok"
"#;

/// Opens /dev/mem and maps a part of it.
fn map(at: &str, len: &str, prot: &str) -> String {
    format!(
        r#"{OPEN}
[[step]]
id = "map"
do = "mmap"
fd = "mem"
at = "{at}"
len = {len}
prot = "{prot}"
share = "shared"
as = "map"
expect = "ok"
"#
    )
}

/// Every case's text but for its title.
fn texts() -> Vec<(&'static str, String)> {
    let far = map("0x30000", "0x50000", "rw")
        + "\n[[step]]\nid = \"poke\"\ndo = \"poke\"\nmap = \"map\"\noffset = 0x45000\ntext = \"RESIDUE1\"\nexpect = \"ok\"\n";
    let look = map("0x75000", "0x1000", "r")
        + "\n[[step]]\nid = \"peek\"\ndo = \"peek\"\nmap = \"map\"\nlen = 16\nexpect = 'lacks \"RESIDUE1\"'\n";
    let setting = r#"
[[step]]
id = "read"
do = "read-file"
path = "/proc/sys/kernel/randomize_va_space"
len = 16
expect = 'contains "2"'

[[step]]
id = "write"
do = "write-file"
path = "/proc/sys/kernel/randomize_va_space"
text = "0"
expect = "ok"
"#;
    let self_mem = |events: &str| {
        map("0x76000", "0x1000", "r")
            + &format!(
                "\n[[step]]\nid = \"read\"\ndo = \"self-mem-read\"\nmap = \"map\"\nlen = 16\nexpect = {{ is = \"ciphertext\", events = [{events}] }}\n"
            )
    };
    let rom = |step: &str| {
        format!(
            r#"
platforms = ["snp", "tdx", "vbs"]
guest = {{ rom = "shared" }}
{OPEN}
[[step]]
id = "access"
{step}
fd = "mem"
at = "rom + 0x300"
"#
        )
    };
    // More than the memory that is accepted when the agent starts.
    let eats = r#"
platforms = ["snp", "tdx"]
guest = { mode = "faithful" }

[[step]]
id = "eat"
do = "run"
program = "/bin/busybox"
args = ["sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1M count=230; true"]
expect = "ok"
"#;
    // 0x413 holds the size of base memory, 639 KiB. Before 6.15 read(2) accesses it through the shared view, and the
    // conversion that follows destroys it: a program that acts on it gets zeros, as a host gives it, and no marker.
    let converted = format!(
        r#"
platforms = ["snp", "tdx"]
guest = {{ mode = "faithful" }}
{OPEN}
[[step]]
id = "base-memory"
do = "pread"
fd = "mem"
at = "0x413"
len = 2
expect = {{ is = "shared | zeros", events = ["shared-read at 0x413"] }}

[[step]]
id = "program"
do = "run"
program = "/bin/busybox"
args = ["sh", "-c", "dd if=/dev/mem bs=1 skip=1043 count=2 2>/dev/null | hexdump -e '2/1 \"%02x\" \"\\n\"'"]
expect = 'matches "0000"'
"#
    );
    vec![
        ("converted", converted),
        ("clears-out1", clears_out1()),
        ("store-far", far),
        ("look-far", look),
        ("setting", setting.into()),
        ("setting-again", setting.into()),
        ("self-mem", self_mem("\"shared-read\"")),
        ("self-mem-no-event", self_mem("")),
        ("self-mem-again", self_mem("\"shared-read\"")),
        ("shared-rom", rom("do = \"pwrite\"\ntext = \"RESIDUE7\"\nexpect = \"ok\"")),
        ("shared-rom-look", rom("do = \"pread\"\nlen = 16\nexpect = 'lacks \"RESIDUE7\"'")),
        ("eats-memory", eats.into()),
    ]
}

/// A program that clears OUT1 of the agent's port through the driver and ends with the errno, as `printf` takes it: it opens
/// /dev/ttyS1 and calls `TIOCMBIC` with `TIOCM_OUT1`.
const CLEARS_OUT1: &str = concat!(
    r"\177\105\114\106\2\1\1\0\0\0\0\0\0\0\0\0", // ELF header
    r"\2\0\76\0\1\0\0\0\170\0\100\0\0\0\0\0\100\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\100\0\070\0\1\0\100\0\0\0\0\0",
    r"\1\0\0\0\5\0\0\0\0\0\0\0\0\0\0\0\0\0\100\0\0\0\0\0\0\0\100\0\0\0\0\0\266\0\0\0\0\0\0\0\266\0\0\0\0\0\0\0\0\20\0\0\0\0\0\0", // program header: one segment at 4 MiB
    r"\270\2\0\0\0",                             // mov eax, open
    r"\277\247\0\100\0",                         // mov edi, path
    r"\276\2\11\0\0",                            // mov esi, O_RDWR | O_NOCTTY | O_NONBLOCK
    r"\17\5",                                    // syscall
    r"\211\307",                                 // mov edi, eax
    r"\270\20\0\0\0",                            // mov eax, ioctl
    r"\276\27\124\0\0",                          // mov esi, TIOCMBIC
    r"\272\262\0\100\0",                         // mov edx, line
    r"\17\5",                                    // syscall
    r"\211\307",                                 // mov edi, eax
    r"\367\337",                                 // neg edi
    r"\270\74\0\0\0",                            // mov eax, exit
    r"\17\5",                                    // syscall
    r"\57\144\145\166\57\164\164\171\123\061\0", // path: "/dev/ttyS1"
    r"\0\40\0\0",                                // line: TIOCM_OUT1
);

/// The agent sets OUT1 and clears it in turn, which is its notification line: every second time the line is already as it is to be.
fn clears_out1() -> String {
    let step = |number| {
        format!(
            r#"
[[step]]
id = "clear-{number}"
do = "run"
program = "/bin/busybox"
args = ["sh", "-c", 'printf "{CLEARS_OUT1}" >/out1; busybox chmod +x /out1; /out1; echo "ended with $?"']
expect = 'contains "ended with 0"'

[[step]]
id = "look-{number}"
do = "stat"
path = "/"
expect = "ok"
"#
        )
    };
    (0..3).map(step).collect()
}

/// The jobs, for a kernel without a policy of its own.
pub fn jobs(folder: &Path, kernel: &str) -> io::Result<Vec<Job>> {
    for (name, text) in texts() {
        let head = format!("title = \"{name}\"\nwhy = \"What a case leaves behind.\"\n");
        fs::write(folder.join(format!("{name}.toml")), head + &text)?;
    }
    let job = |(name, platform, cases): &Isolation| {
        let files = cases
            .iter()
            .map(|(case, _)| if case.contains('/') { (*case).to_owned() } else { format!("./{case}.toml") });
        super::jobs::job(
            folder,
            name,
            kernel,
            &files.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>(),
            &["--platform", platform, "--mode", "record"],
        )
    };
    for (name, guest) in SETUP_CASES {
        fs::write(folder.join(name), setup_case(guest))?;
    }
    let cases = SETUP_CASES.map(|(name, _)| name);
    let setups = super::jobs::job(folder, SETUPS, kernel, &cases, &["-p", "tdx", "--mode", "faithful"]);
    Ok(JOBS.iter().map(job).chain([setups]).collect())
}

/// The tests.
pub fn trials() -> Vec<Trial> {
    let setups = trial("guests::a_setup_that_does_not_come_up_ends_no_other", one_setup_did_not_come_up);
    JOBS.iter().map(|job| trial(&format!("guests::{}", job.0), || judged(job))).chain([setups]).collect()
}

/// The job with a case for a guest that does not come up.
const SETUPS: &str = "setups";

/// Its cases, each with the setup of its guest. The first guest does not come up: Linux reads the ROM area while booting
/// (`arch/x86/kernel/probe_roms.c:probe_roms`), which ends a TD that has not accepted it.
const SETUP_CASES: [(&str, &str); 2] =
    [("unaccepted-rom.toml", "rom = \"unaccepted\""), ("locked-down.toml", "lockdown = \"integrity\"")];

/// A case that needs a guest of its own.
fn setup_case(guest: &str) -> String {
    format!(
        r#"
title = "A guest with {}"
why = "A guest that does not come up is no evidence about the case."
platforms = ["tdx"]
guest = {{ {guest} }}

[[step]]
id = "look"
do = "stat"
path = "/"
expect = "ok"
"#,
        guest.replace('"', "")
    )
}

/// The case whose guest does not come up is not run; the other one is.
fn one_setup_did_not_come_up() -> Checked {
    let (outcome, report) = (outcome(SETUPS)?, report(SETUPS)?);
    // The boot ended by a forbidden access, which is a finding.
    outcome.ended(1)?;
    let [unaccepted, other] = report["cases"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(outcome.complain(&format!("cases: {}", report["cases"])));
    };
    let reason = unaccepted["judged"]["reason"].as_str().unwrap_or_default();
    if unaccepted["judged"]["verdict"] != "not-run" || !reason.contains("did not come up") {
        return Err(outcome.complain(&format!("{}", unaccepted["judged"])));
    }
    if other["judged"]["verdict"] != "as-specified" || report["ended"]["how"] != "complete" {
        return Err(outcome.complain(&format!("{}, {}", other["judged"], report["ended"])));
    }
    // What is reported of the kernel is the other guest's.
    if report["platform"]["guest_type"].is_null() || report["summary"]["not_run"] != 1 {
        return Err(outcome.complain(&format!("{}, {}", report["platform"], report["summary"])));
    }
    Ok(())
}

fn judged((name, _, cases): &Isolation) -> Checked {
    let outcome = outcome(name)?;
    let report = report(name)?;
    let ran = report["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (case, expected) in *cases {
        let is_it =
            |ran: &&Value| ran["name"].as_str().unwrap_or_default().trim_end_matches(".toml").ends_with(case);
        let Some(found) = ran.iter().find(is_it) else {
            return Err(outcome.complain(&format!("{case} did not run")));
        };
        if found["judged"]["verdict"] != *expected {
            return Err(outcome.complain(&format!("{case} is not {expected}: {found:#}")));
        }
    }
    let listed = |value: &Value| value.as_array().map(Vec::as_slice).unwrap_or_default().to_vec();
    let shown: usize = ran
        .iter()
        .flat_map(|case| listed(&case["steps"]))
        .map(|step| listed(&step["observed"]["events"]).len())
        .sum();
    let counters = &report["counters"];
    let counted = counters["mismatches"].as_u64().zip(counters["boot_events"].as_u64());
    if counted.map(|(all, boot)| all - boot) != Some(shown as u64) {
        return Err(outcome.complain(&format!("{shown} forbidden accesses shown, counted: {counters}")));
    }
    Ok(())
}
