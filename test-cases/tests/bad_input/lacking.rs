// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a machine may lack: KVM, QEMU, a network, room on its disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::common::elf;
use crate::common::outcome::{Outcome, report};
use crate::common::trouble::{Checked, Trouble, trial};
use crate::copra;

/// The tests.
pub fn trials() -> Vec<Trial> {
    vec![
        trial("lacking::no_dev_kvm", no_dev_kvm),
        trial("lacking::a_dev_kvm_that_is_none", a_dev_kvm_that_is_none),
        trial("lacking::no_qemu", no_qemu),
        trial("lacking::no_network_and_an_empty_cache", no_network_and_an_empty_cache),
        trial("lacking::no_network_and_no_programs", no_network_and_no_programs),
        trial("lacking::no_room_in_the_cache", no_room_in_the_cache),
        trial("lacking::no_place_for_a_cache", no_place_for_a_cache),
    ]
}

/// A folder with a kernel that only waits.
fn with_kernel() -> Result<(tempfile::TempDir, String), Trouble> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmlinux");
    fs::write(&file, elf::vmlinux(elf::HANG))?;
    let kernel = format!("path:{}", file.display());
    Ok((folder, kernel))
}

/// The error is in the report, too, and so is what did not run.
fn no_dev_kvm() -> Checked {
    let (folder, kernel) = with_kernel()?;
    let json = folder.path().join("report.json");
    let file = json.display().to_string();
    let inner = copra(&["run", "dmi/sysfs", "--kernel", &kernel, "--json", &file, "--timeout", "3"]);
    // An empty /dev.
    let mut command = namespaced("--mount", "mount -t tmpfs none /dev", &inner)?;
    let outcome = Outcome::of(command.env("COPRA_KVM_HOST", "here").env_remove("COPRA_IN_KVM_HOST"))?;
    outcome.ended(2)?;
    outcome.shows(&["/dev/kvm does not open", "No such file", "kvm_amd"])?;
    let report = report(&json)?;
    let reason = report["ended"]["reason"].as_str().unwrap_or_default();
    if report["ended"]["how"] != "failed" || !reason.contains("/dev/kvm") {
        return Err(format!("`ended` in the report lacks the reason: {}", report["ended"]).into());
    }
    if report["remaining"] != serde_json::json!(["dmi/sysfs"]) {
        return Err(format!("what did not run: {}", report["remaining"]).into());
    }
    Ok(())
}

fn a_dev_kvm_that_is_none() -> Checked {
    let (_folder, kernel) = with_kernel()?;
    if !Path::new("/dev/kvm").exists() {
        return Err(Trouble::Skip("there is no /dev/kvm to be replaced by something else".into()));
    }
    let inner = copra(&["run", "dmi/sysfs", "--kernel", &kernel, "--timeout", "3"]);
    let mut command = namespaced("--mount", "mount --bind /dev/null /dev/kvm", &inner)?;
    let outcome = Outcome::of(command.env("COPRA_KVM_HOST", "here").env_remove("COPRA_IN_KVM_HOST"))?;
    outcome.ended(2)?;
    outcome.shows(&["KVM answered", "copra doctor"])
}

/// Neither QEMU nor the means to fetch it.
fn no_qemu() -> Checked {
    let (folder, kernel) = with_kernel()?;
    let programs = folder.path().join("programs");
    fs::create_dir(&programs)?;
    for entry in ["/usr/bin", "/bin"].iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with("qemu-") && !text.starts_with("apt") {
            let _ = symlink(entry.path(), programs.join(&name));
        }
    }
    let mut command = copra(&["run", "dmi/sysfs", "--kernel", &kernel]);
    command.env("COPRA_KVM_HOST", "qemu").env_remove("COPRA_IN_KVM_HOST").env("PATH", &programs);
    // The user's cache may have a QEMU.
    command.env("XDG_CACHE_HOME", folder.path().join("cache"));
    Outcome::of(&mut command)?.refused(&["qemu-system-x86_64 is missing", "install"])
}

fn no_network_and_an_empty_cache() -> Checked {
    apt()?;
    let cache = tempfile::tempdir()?;
    let inner = copra(&["run", "dmi/sysfs", "--kernel", "debian:6.12"]);
    let mut command = namespaced("--net", "true", &inner)?;
    let outcome = Outcome::of(command.env("XDG_CACHE_HOME", cache.path()))?;
    outcome.refused(&["6.12", "network", "path:FILE"])
}

/// A matrix continues without programs, and reports this. Its guests fail here, so that it needs no KVM.
fn no_network_and_no_programs() -> Checked {
    apt()?;
    let (folder, kernel) = with_kernel()?;
    let inner = copra(&["matrix", "-k", &kernel, "-p", "none"]);
    let no_kvm = "if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi";
    let mut command = namespaced("--net --mount", no_kvm, &inner)?;
    command.env("XDG_CACHE_HOME", folder.path());
    let outcome = Outcome::of(command.env("COPRA_KVM_HOST", "here").env_remove("COPRA_IN_KVM_HOST"))?;
    outcome.ended(2)?;
    if !outcome.stderr.contains("without programs") || !outcome.stderr.contains("is there a network?") {
        return Err(format!("missing programs are not reported: {}", outcome.stderr).into());
    }
    if outcome.stdout.contains("works") {
        return Err(format!("something works: {}", outcome.stdout).into());
    }
    Ok(())
}

fn no_room_in_the_cache() -> Checked {
    apt()?;
    let cache = tempfile::tempdir()?;
    let folder = cache.path().display().to_string();
    let inner = copra(&["run", "dmi/sysfs", "--kernel", "debian:6.12"]);
    let mount = format!("mount -t tmpfs -o size=1m none '{folder}'");
    let mut command = namespaced("--mount", &mount, &inner)?;
    let outcome = Outcome::of(command.env("XDG_CACHE_HOME", cache.path()))?;
    if outcome.stderr.contains("is there a network?") {
        return Err(Trouble::Skip("there is no network to fill the cache from".into()));
    }
    outcome.refused(&["no space", &folder, "XDG_CACHE_HOME"])
}

fn no_place_for_a_cache() -> Checked {
    let (_folder, kernel) = with_kernel()?;
    let mut command = copra(&["run", "dmi/sysfs", "--kernel", &kernel]);
    command.env_remove("HOME").env_remove("XDG_CACHE_HOME");
    Outcome::of(&mut command)?.refused(&["cache", "XDG_CACHE_HOME", "HOME"])
}

fn apt() -> Checked {
    if Path::new("/usr/bin/apt-get").exists() {
        return Ok(());
    }
    Err(Trouble::Skip("there is no apt here".into()))
}

/// `inner` in namespaces of its own, made ready by a shell command.
fn namespaced(kind: &str, prepare: &str, inner: &Command) -> Result<Command, Trouble> {
    // SAFETY: geteuid takes nothing and cannot fail.
    let user = if unsafe { libc::geteuid() } == 0 { &[][..] } else { &["--map-root-user"][..] };
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(user).args(kind.split(' ')).args(["sh", "-c", script, "sh"]);
        command
    };
    let tried = unshare(&format!("{prepare} && true")).output();
    if !tried.as_ref().is_ok_and(|output| output.status.success()) {
        return Err(Trouble::Skip(format!("`unshare {kind}` and `{prepare}` are not allowed here")));
    }
    let mut command = unshare(&format!("{prepare} && exec \"$@\""));
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ok(command)
}
