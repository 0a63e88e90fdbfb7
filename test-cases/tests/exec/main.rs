// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra exec`: programs of this machine in guests of each platform, with its files, standard files and exit status.

#![allow(clippy::unwrap_used, clippy::panic)]

mod terminal;

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PLATFORMS: [&str; 5] = ["none", "sev", "snp", "tdx", "vbs"];

/// Runs it on Debian's kernel, with this standard input.
fn exec(platform: &str, options: &[&str], command: &[&str], input: &[u8]) -> Output {
    copra(&[&["exec", "--platform", platform, "--timeout", "240"], options, &["--"], command].concat(), input)
}

fn copra(arguments: &[&str], input: &[u8]) -> Output {
    let mut copra = Command::new(env!("CARGO_BIN_EXE_copra"));
    copra.args(arguments).env("COPRA_QUIET", "1");
    copra.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = copra.spawn().unwrap();
    let mut standard_input = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that ends early leaves some of it unread.
    let writer = std::thread::spawn(move || _ = standard_input.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// More than one request of any device takes, and no two parts are equal.
fn numbers() -> Vec<u8> {
    (0..300_000u32).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

#[test]
fn a_command_has_this_machines_files_and_standard_files_on_every_platform() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("numbers");
    let result = folder.path().join("result");
    std::fs::write(&file, numbers()).unwrap();
    let script = format!(
        "cmp - {file} && echo same; echo to stderr >&2; touch {file}x || echo refused; cp {file} {result}/copy; \
         cat /proc/self/mounts >/tmp/mounts; test -s /tmp/mounts; exit 7",
        file = file.display(),
        result = result.display()
    );
    for platform in PLATFORMS {
        std::fs::create_dir(&result).unwrap();
        let options = ["--writable", result.to_str().unwrap()];
        let output = exec(platform, &options, &["/bin/sh", "-c", &script], &numbers());
        let errors = text(&output.stderr);
        assert_eq!(text(&output.stdout), "same\nrefused\n", "{platform}: {errors}");
        assert_eq!(output.status.code(), Some(7), "{platform}: {errors}");
        assert!(errors.contains("to stderr\n"), "{platform}: {errors}");
        assert!(errors.contains(": 0 forbidden accesses\n"), "{platform}: {errors}");
        assert_eq!(std::fs::read(result.join("copy")).unwrap(), numbers(), "{platform}");
        std::fs::remove_dir_all(&result).unwrap();
    }
}

#[test]
fn the_end_of_a_command_is_the_end_of_copra() {
    let of = |command: &[&str]| exec("none", &[], command, b"").status.code();
    assert_eq!(of(&["sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(of(&["no-such-program"]), Some(127));
    assert_eq!(of(&["/etc/passwd"]), Some(126));
    assert_eq!(of(&["sh", "-c", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger"]), Some(2));
}

#[test]
fn a_guest_has_acpi_without_complaints_and_switches_off_through_it_on_every_platform() {
    let script = "dmesg | grep -c 'ACPI: Interpreter enabled'; \
        dmesg | grep -E 'ACPI( BIOS)? (Error|Warning|Exception)|no compatible bridge window|failed to assign'; \
        grep -oE 'ECAM|MMCONFIG|IOAPIC 0' /proc/iomem | sort -u | wc -l; \
        echo 1 >/proc/sys/kernel/sysrq; echo o >/proc/sysrq-trigger; sleep 60";
    for platform in PLATFORMS {
        let output = exec(platform, &[], &["sh", "-c", script], b"");
        let errors = text(&output.stderr);
        assert_eq!(text(&output.stdout), "1\n2\n", "{platform}: {errors}");
        assert_eq!(output.status.code(), Some(2), "{platform}: {errors}");
        assert!(errors.contains("switched itself off (ACPI sleep state S5)"), "{platform}: {errors}");
        assert!(errors.contains(": 0 forbidden accesses\n"), "{platform}: {errors}");
    }
}

#[test]
fn a_forbidden_access_of_a_command_is_listed_with_the_kernel_path() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let report = folder.path().join("report.json");
    let read = ["dd", "if=/dev/mem", "bs=64", "skip=15360", "count=1", "status=none"];
    let output = exec("sev", &["--strict", "--json", report.to_str().unwrap()], &read, b"");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(output.stdout.len(), 64, "{errors}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["ended"]["exited"], 0);
    let confined = report["confined"].as_str().unwrap();
    assert!(confined.ends_with("system calls"), "{confined}");
    let event = &report["events"][0];
    assert_eq!((event["kind"].as_str(), event["gpa"].as_str()), (Some("shared-read"), Some("0xf0000")));
    assert_eq!((event["task"].as_str(), event["region"].as_str()), (Some("dd"), Some("rom")));
    let backtrace = event["backtrace"].as_array().unwrap();
    assert!(backtrace.iter().any(|frame| frame.as_str().unwrap().starts_with("read_mem+")), "{backtrace:?}");
}

#[test]
fn ctrl_c_ends_a_command_and_what_was_found_until_then_is_listed() {
    let script = "dd if=/dev/mem bs=64 skip=15360 count=1 status=none >/dev/null; echo read; sleep 1000";
    let mut child = Command::new(env!("CARGO_BIN_EXE_copra"))
        .args(["exec", "-p", "sev", "--timeout", "240", "--", "sh", "-c", script])
        .env("COPRA_QUIET", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"read\n");
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("shared-read of 0xf0000"), "{errors}");
}

/// Mebibytes copied; `COPRA_COPY_MIB` copies more.
const COPIED: u64 = 8;

/// One zone. With the usual 64 MiB above 4 GiB, a guest whose page cache fills its memory may hang by a weakness of the kernel's
/// reclaim, which docs/field.md describes: where the only zone is above its high watermark, no task is throttled.
const ONE_ZONE: &str = "title = \"No RAM above 4 GiB\"\nwhy = \"docs/field.md\"\n\n[layout]\nhigh-mib = 0\n";

/// A kernel with the drivers built in mounts a file system on a disk and copies a file in it, and nothing but what is shared is
/// accessed by a device.
#[test]
fn a_disk_is_mounted_written_and_read_on_every_platform() {
    let mib = std::env::var("COPRA_COPY_MIB").map_or(COPIED, |text| text.parse().unwrap());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (disk, content) = (folder.path().join("disk"), folder.path().join("content"));
    std::fs::create_dir(&content).unwrap();
    let bytes: Vec<u8> =
        (0..mib << 17).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    std::fs::write(content.join("big"), bytes).unwrap();
    // Three files of that size, and what ext4 has beside them: journal, inodes, reserved blocks.
    std::fs::File::create(&disk).unwrap().set_len((4 * mib + 64) << 20).unwrap();
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let made = Command::new("mke2fs")
        .env("PATH", path)
        .args(["-q", "-t", "ext4", "-d"])
        .arg(&content)
        .arg(&disk)
        .status();
    assert!(made.expect("mke2fs, of Debian's e2fsprogs, which scripts/setup --develop installs").success());
    let script = format!(
        "set -e; mkdir /run/d; mount -t ext4 /dev/vda /run/d; cp {big} /run/d/from-host; cp /run/d/big /run/d/copy; sync; \
         echo 3 >/proc/sys/vm/drop_caches; cmp /run/d/big /run/d/copy; cmp /run/d/big /run/d/from-host; umount /run/d; echo same",
        big = content.join("big").display()
    );
    let memory = (512 + mib).to_string();
    let layout = folder.path().join("one-zone.toml");
    std::fs::write(&layout, ONE_ZONE).unwrap();
    for platform in PLATFORMS {
        let options = [
            "-k",
            "mutant:upstream",
            "--strict",
            "--memory",
            &memory,
            "--layout",
            layout.to_str().unwrap(),
            "--writable-disk",
            disk.to_str().unwrap(),
        ];
        let output = exec(platform, &options, &["sh", "-c", &script], b"");
        let errors = text(&output.stderr);
        assert_eq!(text(&output.stdout), "same\n", "{platform}: {errors}");
        assert!(errors.contains(": 0 forbidden accesses\n"), "{platform}: {errors}");
    }
}

/// Without swiotlb, drivers give devices addresses of private memory; on SEV they have the encryption bit in them.
#[test]
fn what_a_driver_gives_a_device_in_private_memory_is_listed_with_the_kernel_path() {
    for (platform, kind) in [("sev", "private-read"), ("snp", "private-read"), ("tdx", "shared-read")] {
        let options = ["--cmdline-append", "swiotlb=noforce", "-v"];
        let output = exec(platform, &options, &["true"], b"");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{platform}: {errors}");
        assert!(errors.contains(&format!("copra: while booting: {kind} of 0x")), "{platform}: {errors}");
        assert!(
            errors.contains("by virtio-console (queue 3, descriptor chain 0), notified by"),
            "{platform}: {errors}"
        );
        assert!(errors.contains("__send_control_msg"), "{platform}: {errors}");
    }
}

#[test]
fn a_guest_that_may_not_have_devices_reports_what_its_kernel_logged() {
    let output = exec("tdx", &["--virtio-legacy-dma"], &["true"], b"");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("device must provide VIRTIO_F_ACCESS_PLATFORM"), "{errors}");
}

/// A package that is not in any archive, which needs one that is.
fn package_of_our_own(at: &std::path::Path) -> std::path::PathBuf {
    let tree = at.join("tree");
    let control = "Package: copra-test\nVersion: 1\nArchitecture: all\nDepends: dmidecode\nMaintainer: x <x@x>\nDescription: x\n";
    for (path, content) in [("DEBIAN/control", control), ("usr/lib/copra-test/word", "from the package\n")] {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let file = at.join("copra-test_1_all.deb");
    let made =
        Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&tree).arg(&file).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    file
}

#[test]
fn packages_are_seen_above_this_machines_files_with_what_they_depend_on() {
    let at = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let own = package_of_our_own(at.path());
    let here = std::fs::read_dir("/usr/sbin").unwrap().count();
    let script = "x86info --help >/dev/null 2>&1; echo $?; dmidecode -s bios-vendor; cat /usr/lib/copra-test/word; \
                  test -e /usr/lib/os-release && ls /usr/sbin | wc -l; date +%s";
    let options = ["--package", own.to_str().unwrap(), "--package", "x86info"];
    let output = exec("tdx", &options, &["sh", "-c", script], b"");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let all = text(&output.stdout);
    let lines: Vec<&str> = all.lines().collect();
    let [started, vendor, word, programs, time] = lines[..] else { panic!("{all}{errors}") };
    assert_ne!(started, "127", "{errors}");
    assert_eq!((vendor, word), ("copra", "from the package"), "{errors}");
    assert!(programs.parse::<usize>().unwrap() >= here, "{programs} programs, {here} here");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(time.parse().unwrap()) < 600, "the guest's clock is at {time}, and it is {now}");
}

#[test]
fn a_package_that_no_archive_has_is_reported_before_a_guest_is_started() {
    let output = exec("none", &["--package", "no-such-package-anywhere"], &["true"], b"");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("Unable to locate package no-such-package-anywhere"), "{errors}");
}

#[test]
fn modules_of_debians_kernel_can_be_loaded() {
    let script = "find /lib/modules/$(uname -r)/ -name '*.ko*' | wc -l; modprobe -v dm-mod && grep -c ^dm_mod /proc/modules";
    let output = exec("snp", &["--package", "kmod"], &["sh", "-c", script], b"");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let all = text(&output.stdout);
    let lines: Vec<&str> = all.lines().collect();
    let [count, loaded, "1"] = lines[..] else { panic!("{all}{errors}") };
    assert!(count.parse::<usize>().unwrap() > 500 && loaded.starts_with("insmod /lib/modules/"), "{all}");
    assert!(errors.contains(": 0 forbidden accesses\n"), "{errors}");
}

#[test]
fn a_copied_file_or_folder_may_be_changed_and_the_changes_are_lost() {
    let at = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (file, folder) = (at.path().join("file"), at.path().join("folder"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&file, "as it was\n").unwrap();
    std::fs::write(folder.join("inner"), "as it was\n").unwrap();
    let script = format!(
        "cat {file} {folder}/inner; echo changed | tee {file} {folder}/new >/dev/null; rm {folder}/inner; cat {file}; ls {folder}; \
         touch {file}x || echo refused",
        file = file.display(),
        folder = folder.display()
    );
    let options = ["--copy", file.to_str().unwrap(), "--copy", folder.to_str().unwrap()];
    let output = exec("sev", &options, &["sh", "-c", &script], b"");
    let errors = text(&output.stderr);
    assert_eq!(text(&output.stdout), "as it was\nas it was\nchanged\nnew\nrefused\n", "{errors}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "as it was\n");
    assert_eq!(std::fs::read_to_string(folder.join("inner")).unwrap(), "as it was\n");
    assert!(!folder.join("new").exists());
}
