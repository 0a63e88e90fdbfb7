// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures copra against QEMU's microvm with the same kernel and initramfs, and the agent's channel: `scripts/bench`.
//!
//! `bench VMLINUX ROUNDS`; the other forms are the children it starts.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use engine::session::{GuestFiles, Plan, Session};
use guest_kernel::initramfs::Initramfs;
use protocol::{Batch, Buffer, Step};
use vmm::boot::image;
use vmm::boot::linux::base_command_line;
use vmm::machine::MachineConfig;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// RAM of every guest here, MiB.
const MEMORY: u64 = 256;
/// Bytes of a MiB, for figures.
const MIB: f64 = 1_048_576.0;
/// What the agent prints on the console where it has no port of its own.
const MARKER: &str = "copra: agent ready";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts[..] {
        ["boot", platform, vmlinux] => boot(platform, vmlinux),
        ["channel", vmlinux] => channel(vmlinux),
        [vmlinux, rounds] => compare(vmlinux, rounds.parse()?),
        _ => Err("usage: bench VMLINUX ROUNDS".into()),
    }
}

/// Boots to the agent and says what it cost.
fn boot(platform: &str, vmlinux: &str) -> Outcome<()> {
    let session = session(platform, vmlinux)?;
    // The parent stops its watch at this line.
    println!("ready");
    let stats = session.machine().stats();
    let resident = session.machine().memory().resident()?;
    println!(
        "exits {} calls {} msr {} faults {} moves {} vmm_mib {:.1} guest_mib {:.1}",
        stats.exits,
        stats.calls + stats.hypercalls,
        stats.msr,
        stats.memory.faults,
        stats.memory.declared_moves + stats.memory.implicit_moves + stats.memory.conversions,
        (own_resident()?.saturating_sub(resident)) as f64 / MIB,
        resident as f64 / MIB
    );
    std::io::stdout().flush()?;
    Ok(())
}

fn session(platform: &str, vmlinux: &str) -> Outcome<Session> {
    let file = image::read(vmlinux.as_ref())?;
    let kernel = image::extract_vmlinux(&file)?;
    let command_line = format!("{} quiet loglevel=3", base_command_line(platform.parse()?));
    let plan = Plan {
        machine: MachineConfig { ram: MEMORY << 20, ..MachineConfig::new(platform.parse()?) },
        kernel: &kernel,
        sites: None,
        names: None,
        files: Arc::new(GuestFiles::new(Initramfs::new().build()?)),
        command_line: &command_line,
        boot_limit: Duration::from_secs(120),
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    Ok(Session::boot(&plan)?)
}

/// Resident bytes of this process.
fn own_resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<u64>()? << 10)
}

/// Steps and bytes per second over the agent's channel.
fn channel(vmlinux: &str) -> Outcome<()> {
    const STEPS: u64 = 1000;
    const LIMIT: Duration = Duration::from_secs(60);
    let mut session = session("sev", vmlinux)?;
    let mut batch = Batch::new().new_worker();
    batch.push(&Step::Open { file: 0, path: b"/dev/mem", flags: 0, mode: 0 });
    batch.push(&Step::Open { file: 1, path: b"/dev/urandom", flags: 0, mode: 0 });
    session.execute(&batch, LIMIT)?;
    let mut rate =
        |what: &str, per_batch: u64, unit: &str, batches: u32, fill: &dyn Fn(&mut Batch)| -> Outcome<()> {
            let started = Instant::now();
            let exits = session.machine().stats().exits;
            for _ in 0..batches {
                let mut batch = Batch::new();
                fill(&mut batch);
                session.execute(&batch, LIMIT)?;
            }
            let seconds = started.elapsed().as_secs_f64();
            let total = per_batch * u64::from(batches);
            let exits = session.machine().stats().exits - exits;
            println!(
                "channel {what}: {:.0} {unit}/s ({total} {unit} in {seconds:.2} s, {exits} exits)",
                total as f64 / seconds
            );
            Ok(())
        };
    let small = |i: u64| Step::Pread { file: 0, offset: 0x20000 + i % 4096, len: 16, buffer: Buffer::Good };
    rate("single steps, one to a frame", 1, "steps", 200, &|batch| batch.push(&small(0)))?;
    rate("small steps, 1000 to a frame", STEPS, "steps", 10, &|batch| {
        (0..STEPS).for_each(|i| batch.push(&small(i)));
    })?;
    rate("swept steps, 4096 by one", 4096, "steps", 5, &|batch| {
        let _ = batch.repeat(4096, 16, 1, 16, &[small(0)]);
    })?;
    rate("bytes from the guest", 48 << 10, "bytes", 20, &|batch| {
        batch.push(&Step::Read { file: 1, len: 48 << 10, buffer: Buffer::Good });
    })?;
    Ok(())
}

/// One measured run of each kind, in turn, `rounds` times after a warm-up.
fn compare(vmlinux: &str, rounds: usize) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let initrd = folder.path().join("initramfs.cpio");
    std::fs::write(&initrd, Initramfs::new().build()?)?;
    let kinds = ["none", "sev", "snp", "tdx", "vbs", "qemu"];
    let mut times = vec![Vec::new(); kinds.len()];
    let mut costs = vec![String::new(); kinds.len()];
    for round in 0..=rounds {
        for (index, kind) in kinds.iter().enumerate() {
            let (seconds, cost) = if *kind == "qemu" {
                until(&mut qemu(vmlinux, &initrd), MARKER)?
            } else {
                until(Command::new(std::env::current_exe()?).args(["boot", kind, vmlinux]), "ready")?
            };
            if round > 0 {
                times[index].push(seconds);
                costs[index] = cost;
            }
        }
    }
    for (index, kind) in kinds.iter().enumerate() {
        let name = if *kind == "qemu" { "qemu microvm".to_owned() } else { format!("copra {kind}") };
        let (low, high) = times[index].iter().fold((f64::MAX, 0f64), |(l, h), &t| (l.min(t), h.max(t)));
        println!(
            "{name}: {:.2} s to agent ready ({low:.2}–{high:.2}, {rounds} runs) {}",
            median(&times[index]),
            costs[index]
        );
    }
    let medians: Vec<f64> = times.iter().map(|times| median(times)).collect();
    let [none, .., qemu] = medians.as_slice() else { return Err("nothing measured".into()) };
    println!("ratio none/qemu-microvm: {:.2}", none / qemu);
    for (kind, seconds) in kinds.iter().zip(&medians).filter(|(kind, _)| !["none", "qemu"].contains(kind)) {
        println!("ratio {kind}/none: {:.2}", seconds / none);
    }
    let status = Command::new(std::env::current_exe()?).args(["channel", vmlinux]).status()?;
    if status.success() { Ok(()) } else { Err("measuring the channel failed".into()) }
}

fn qemu(vmlinux: &str, initrd: &std::path::Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-M", "microvm,accel=kvm", "-cpu", "host", "-m", &MEMORY.to_string(), "-nodefaults"]);
    command.args([
        "-no-user-config",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-no-reboot",
        "-kernel",
        vmlinux,
    ]);
    command.arg("-initrd").arg(initrd);
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

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
