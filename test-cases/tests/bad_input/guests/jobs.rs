// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernels and cases of the guests.

use std::fs;
use std::io;
use std::path::Path;

use vmm::memory::ram::Ram;

use crate::common::elf;
use crate::common::job::Job;

/// Guest memory in MiB where a kernel is to be too large for it.
const TIGHT_MIB: u64 = 192;
/// Memory that a kernel must find free beyond its image.
const HEADROOM: u64 = 32 << 20;
/// Pages of 100 MB of console output.
const FLOOD_PAGES: u32 = 100_000_000 / 4096;

/// A case that resets the guest. It expects something else, or it would be run last.
const REBOOT: &str = r#"
title = "The guest resets itself in the middle of a case"
why = "A guest that ends itself takes its case along, and no other."

[[step]]
id = "reboot"
do = "reboot"
expect = "ok"

[[step]]
id = "after"
do = "stat"
path = "/"
expect = "ok"
"#;

/// A case about a region that only guests with an encryption bit have.
const LACKING: &str = r#"
title = "A region this guest lacks"
why = "Only guests with an encryption bit have addresses with that bit."

[[step]]
id = "open"
do = "open"
path = "/dev/mem"
flags = "O_RDONLY"
as = "mem"

[[step]]
id = "read"
do = "pread"
fd = "mem"
at = "cbit-alias-ram"
len = 16
"#;

/// Cases in which another event than the expected death happens, and one with an unaligned mapping.
const NO_EVIDENCE: [(&str, &str); 4] = [
    (
        "debug-exit.toml",
        r#"
title = "The debug-exit port of the VMM's test guests"
why = "Other guests do not have it: a write to it has no effect."
[[step]]
id = "allow"
do = "ioperm"
port = 0x501
count = 1
on = true
[[step]]
id = "out"
do = "port-out"
port = 0x501
value = 7
expect = "dead"
"#,
    ),
    (
        "blocked.toml",
        r#"
title = "A step that does not return while the guest runs"
why = "/proc/kmsg blocks when all of it was read. A deadline is no death."
[[step]]
id = "all"
do = "read-file"
path = "/proc/kmsg"
expect = "dead"
[[step]]
id = "none"
do = "read-file"
path = "/proc/kmsg"
expect = "dead"
"#,
    ),
    (
        "fake-panic.toml",
        r#"
title = "A console line with the form of a panic, and then a reboot"
why = "Text on the console is not a death."
[[step]]
id = "line"
do = "write-file"
path = "/dev/kmsg"
text = "<0>Kernel panic - not syncing: fake"
[[step]]
id = "reboot"
do = "reboot"
expect = "dead"
"#,
    ),
    (
        "unaligned.toml",
        r#"
title = "mmap(2) at an offset inside a page"
why = "The guest gets exactly the arguments of the case."
[[step]]
id = "open"
do = "open"
path = "/dev/mem"
flags = "O_RDWR"
as = "mem"
[[step]]
id = "map"
do = "mmap"
fd = "mem"
at = "rom + 0x100"
len = 0x1000
prot = "r"
share = "shared"
as = "page"
expect = "EINVAL"
[[step]]
id = "peek"
do = "peek"
map = "page"
len = 16
expect = "plain"
"#,
    ),
];

/// A case that stops PID 1, which is the agent: its expectation is never met.
const FROZEN: &str = r#"
title = "A program freezes the control group of PID 1"
why = "The guest lives, and its agent answers no more: a deadline shows nothing about the guest, and is no death."
[[step]]
id = "freeze"
do = "run"
program = "/bin/busybox"
args = ["sh", "-c", "mkdir -p /groups; busybox mount -t cgroup2 none /groups && mkdir /groups/frozen && echo 1 > /groups/frozen/cgroup.procs && echo 1 > /groups/frozen/cgroup.freeze; sleep 1"]
expect = "terminated | panic | triple-fault | reset | power-off | hang"
[[step]]
id = "after"
do = "stat"
path = "/"
expect = "ok"
"#;

/// All jobs; those that need a real kernel only if there is one.
pub fn all(folder: &Path, kernel: Option<&str>) -> io::Result<Vec<Job>> {
    let tight = Ram::new(TIGHT_MIB << 20).map_err(io::Error::other)?;
    let almost_all = tight.efi() - HEADROOM - elf::BASE - 4096;
    let tight = TIGHT_MIB.to_string();
    let long = "x".repeat(4000);
    let make = |name: &str, code: &[u8], memory: u64, arguments: &[&str]| {
        let file = folder.join(format!("{name}.vmlinux"));
        fs::write(&file, elf::elf(elf::X86_64, code, memory))?;
        Ok::<Job, io::Error>(job(
            folder,
            name,
            &format!("path:{}", file.display()),
            &["dmi/sysfs"],
            arguments,
        ))
    };
    let tiny = |name: &str, code: &[u8], arguments: &[&str]| make(name, code, 1 << 20, arguments);
    let junit = folder.join("full.junit").display().to_string();
    let mut jobs = vec![
        tiny("hang", elf::HANG, &["--timeout", "2"])?,
        tiny("triple-fault", elf::TRIPLE_FAULT, &["--timeout", "20"])?,
        tiny("reset", elf::RESET, &["--timeout", "20"])?,
        tiny("mute", elf::MUTE, &["--timeout", "2"])?,
        tiny("babble", elf::BABBLE, &["--timeout", "2"])?,
        tiny("flood", &elf::flood(FLOOD_PAGES), &["--timeout", "6"])?,
        tiny("small-flood", &elf::flood(8), &["--timeout", "20"])?,
        make("no-room-for-kernel", elf::HANG, 300 << 20, &["--memory", &tight, "--timeout", "2"])?,
        make("no-room-for-initramfs", elf::HANG, almost_all, &["--memory", &tight, "--timeout", "2"])?,
        tiny("long-command-line", elf::HANG, &["--cmdline-append", &long, "--timeout", "2"])?,
        tiny("full", elf::RESET, &["--json", "/dev/full", "--junit", &junit, "--timeout", "20"])?,
        Job {
            without_userfaultfd: true,
            ..tiny("no-userfaultfd", elf::RESET, &["--platform", "sev", "--timeout", "2"])?
        },
        Job {
            without_userfaultfd: true,
            ..tiny("no-userfaultfd-needed", elf::RESET, &["--platform", "none", "--timeout", "20"])?
        },
        Job { interrupt_after: Some(4.0), ..tiny("interrupted-boot", elf::HANG, &["--timeout", "60"])? },
    ];
    let Some(kernel) = kernel else { return Ok(jobs) };
    let written = [("reboot.toml", REBOOT), ("lacking.toml", LACKING)];
    for (name, text) in written.into_iter().chain(NO_EVIDENCE) {
        fs::write(folder.join(name), text)?;
    }
    let ordinary = &["--platform", "none"];
    jobs.extend([
        job(
            folder,
            "panic",
            kernel,
            &["dmi/sysfs"],
            &["--platform", "none", "--cmdline-append", "rdinit=/nope"],
        ),
        job(
            folder,
            "silent-panic",
            kernel,
            &["dmi/sysfs"],
            // With a console level of 0 even a panic is silent (`include/linux/printk.h:console_verbose`).
            &["--platform", "none", "--cmdline-append", "rdinit=/nope loglevel=0"],
        ),
        job(
            folder,
            "no-evidence",
            kernel,
            &NO_EVIDENCE.map(|(name, _)| name),
            &[ordinary[0], ordinary[1], "--timeout", "20"],
        ),
        job(folder, "survivors", kernel, &["lacking.toml", "reboot.toml", "dmi/sysfs"], ordinary),
        Job {
            interrupt_at: Some("dmi/".into()),
            ..job(folder, "interrupted", kernel, &["dmi/sysfs", "read", "mmap", "write"], ordinary)
        },
    ]);
    Ok(jobs)
}

/// The case that stops the agent, for a kernel with control groups.
pub fn frozen(folder: &Path, kernel: &str) -> io::Result<Job> {
    fs::write(folder.join("frozen.toml"), FROZEN)?;
    Ok(job(folder, "frozen", kernel, &["frozen.toml"], &["--platform", "none", "--timeout", "20"]))
}

/// A run of cases on a kernel, which is booted and not restored, that writes its report; the options in `more` come last and override.
pub fn job(folder: &Path, name: &str, kernel: &str, cases: &[&str], more: &[&str]) -> Job {
    let json = folder.join(format!("{name}.json")).display().to_string();
    let mut arguments = vec!["run", "--quiet", "--boot", "--kernel", kernel];
    if !more.contains(&"--json") {
        arguments.extend(["--json", &json]);
    }
    arguments.extend(more);
    arguments.extend(cases);
    Job { name: name.into(), arguments: arguments.into_iter().map(str::to_owned).collect(), ..Job::default() }
}
