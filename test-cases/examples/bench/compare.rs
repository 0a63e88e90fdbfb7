// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guests of every platform against QEMU's microvm.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use guest_kernel::initramfs::Initramfs;
use vmm::boot::image;

use crate::figures::{median, print_ratio};
use crate::throughput::{self, Tools};
use crate::{MEMORY, Outcome, cases, in_memory};

/// What the agent prints on the console where it has no port of its own.
const MARKER: &str = "copra: agent ready";
/// What is compared with all others.
const QEMU: &str = "qemu-system-x86_64";

/// The case of the row "one case": its guest boots with a forbidden access, whose functions get names.
const CASE: &str = "repro/mmap-hole";
/// Its platform.
const CASE_PLATFORM: &str = "sev";

/// One measured run of each kind, in turn, `rounds` times after a warm-up.
pub fn compare(kernel: &str, rounds: usize, spec: &str, initramfs: &str) -> Outcome<()> {
    let (itself, qemu_path) = (std::env::current_exe()?, in_memory::find(QEMU)?);
    let tools = Tools::find(&qemu_path, initramfs)?;
    let one_case = OneCase::find(&itself, kernel.as_ref(), spec)?;
    let elf = image::into_vmlinux(image::read(kernel.as_ref())?)?.elf;
    let programs = [&itself, &one_case.copra, &qemu_path, &tools.virtiofsd];
    let folders = [one_case.folders.as_slice(), &[tools.folder()?]].concat();
    in_memory::enter(&programs.map(PathBuf::as_path), &qemu_path, &folders)?;
    let folder = tempfile::tempdir()?;
    let (initrd, vmlinux) = (folder.path().join("initramfs.cpio"), folder.path().join("vmlinux"));
    std::fs::write(&initrd, Initramfs::new().build()?)?;
    std::fs::write(&vmlinux, &elf)?;
    drop(elf);
    one_case.warm_up()?;
    let kinds = ["none", "sev", "snp", "tdx", "vbs", "case", "qemu"];
    let mut times = vec![Vec::new(); kinds.len()];
    let mut costs = vec![String::new(); kinds.len()];
    for round in 0..=rounds {
        for (index, kind) in kinds.iter().enumerate() {
            let (seconds, cost) = match *kind {
                "qemu" => (until(&mut qemu(&qemu_path, &vmlinux, &initrd), MARKER)?.0, String::new()),
                "case" => (until(&mut one_case.command(), CASE)?.0, String::new()),
                _ => until(Command::new(&itself).args(["boot", kind]).arg(&vmlinux), "ready")?,
            };
            if round > 0 {
                times[index].push(seconds);
                costs[index] = cost;
            }
        }
    }
    for (index, kind) in kinds.iter().enumerate() {
        let (name, what) = match *kind {
            "qemu" => ("qemu microvm".to_owned(), "agent ready"),
            "case" => (format!("copra run {CASE} -p {CASE_PLATFORM}, no boot"), "its verdict"),
            _ => (format!("copra {kind}"), "agent ready"),
        };
        let (low, high) = times[index].iter().fold((f64::MAX, 0f64), |(l, h), &t| (l.min(t), h.max(t)));
        println!(
            "{name}: {:.3} s to {what} ({low:.3}–{high:.3}, {rounds} runs) {}",
            median(&times[index]),
            costs[index]
        );
    }
    let medians: Vec<f64> = times.iter().map(|times| median(times)).collect();
    let [none, .., qemu] = medians.as_slice() else { return Err("nothing measured".into()) };
    print_ratio("none/qemu-microvm", none / qemu);
    for (_, seconds) in kinds.iter().zip(&medians).filter(|(kind, _)| **kind == "case") {
        print_ratio("one-case/qemu-microvm", seconds / qemu);
    }
    let is_guest = |kind: &str| !["none", "case", "qemu"].contains(&kind);
    for (kind, seconds) in kinds.iter().zip(&medians).filter(|(kind, _)| is_guest(kind)) {
        print_ratio(&format!("{kind}/none"), seconds / none);
    }
    let children: [&[&str]; 5] = [
        &["channel"],
        &["restore", "none"],
        &["restore", CASE_PLATFORM],
        &["restore", "snp"],
        &["guests", CASE_PLATFORM],
    ];
    for child in children {
        if !Command::new(&itself).args(child).arg(&vmlinux).status()?.success() {
            return Err(format!("measuring {} failed", child.join(" ")).into());
        }
    }
    let boot =
        kinds.iter().zip(&medians).find(|(kind, _)| **kind == CASE_PLATFORM).map_or(f64::NAN, |(_, s)| *s);
    cases::cases(folder.path(), CASE_PLATFORM, boot, || one_case.run())?;
    throughput::throughput(&tools, &vmlinux, folder.path(), rounds)
}

/// The throughput of devices only.
pub fn devices(kernel: &str, rounds: usize, initramfs: &str) -> Outcome<()> {
    let (itself, qemu_path) = (std::env::current_exe()?, in_memory::find(QEMU)?);
    let tools = Tools::find(&qemu_path, initramfs)?;
    let elf = image::into_vmlinux(image::read(kernel.as_ref())?)?.elf;
    in_memory::enter(&[&itself, &qemu_path, &tools.virtiofsd], &qemu_path, &[tools.folder()?])?;
    let folder = tempfile::tempdir()?;
    let vmlinux = folder.path().join("vmlinux");
    std::fs::write(&vmlinux, &elf)?;
    throughput::throughput(&tools, &vmlinux, folder.path(), rounds)
}

/// `copra run` of one case, on a kernel that it has run before.
struct OneCase {
    copra: PathBuf,
    spec: String,
    /// The folders of the cache that it needs.
    folders: Vec<PathBuf>,
}

impl OneCase {
    /// With the program beside this one's folder; `kernel` is the image of `spec` in copra's cache.
    fn find(itself: &Path, kernel: &Path, spec: &str) -> Outcome<Self> {
        let copra =
            itself.parent().and_then(Path::parent).ok_or("this program is in no folder")?.join("copra");
        let folder = kernel.parent().ok_or("the kernel is in no folder")?;
        let cache = folder.parent().and_then(Path::parent).ok_or("the kernel is not in copra's cache")?;
        Ok(Self { copra, spec: spec.to_owned(), folders: vec![folder.to_owned(), cache.join("names")] })
    }

    /// `copra run` without its cases.
    fn run(&self) -> Command {
        let mut command = Command::new(&self.copra);
        command.args(["--quiet", "run", "-p", CASE_PLATFORM, "-k", &self.spec]);
        command
    }

    fn command(&self) -> Command {
        let mut command = self.run();
        command.arg(CASE);
        command
    }

    /// Has it boot, and keep, the guest; the second run does not boot.
    fn warm_up(&self) -> Outcome<()> {
        self.command().output()?;
        let output = self.command().output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("an earlier run that kept the guest") {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("{:?} did not use the guest of the first run: {text}\n{errors}", self.command()).into())
    }
}

fn qemu(qemu: &Path, vmlinux: &Path, initrd: &Path) -> Command {
    let mut command = Command::new(qemu);
    command.args(["-M", "microvm,accel=kvm", "-cpu", "host", "-m", &MEMORY.to_string(), "-nodefaults"]);
    command.args(["-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    command.arg("-kernel").arg(vmlinux).arg("-initrd").arg(initrd);
    command.args(["-append", "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t copra.marker=1"]);
    command
}

/// Seconds from starting a command to the line that contains `marker`, and the line after it.
fn until(command: &mut Command, marker: &str) -> Outcome<(f64, String)> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).split(b'\n');
    let mut text =
        || lines.next().and_then(Result::ok).map(|line| String::from_utf8_lossy(&line).trim().to_owned());
    let mut seen = Vec::new();
    while let Some(line) = text() {
        if line.contains(marker) {
            let seconds = started.elapsed().as_secs_f64();
            let cost = text().unwrap_or_default();
            let _ = child.kill();
            child.wait()?;
            return Ok((seconds, cost));
        }
        seen.push(line);
    }
    child.wait()?;
    Err(format!("{command:?} ended without \"{marker}\": {}", seen.join("\n")).into())
}
