// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Throughput of a disk and of a shared folder: copra's guests against QEMU's with the same kernel, script and files.
//!
//! Without encryption neither's buffers are copied by the guest's kernel; the disk of copra's encrypted guests is compared with one of
//! QEMU's whose kernel copies them through its pool of shared memory as well (`swiotlb=force`, `iommu_platform=on`). virtiofsd has
//! no such thing: the shared folder of an encrypted guest is compared with one that does not copy.

mod files;
mod qemu;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use vmm::boot::image;
use vmm::boot::linux::{LinuxBoot, base_command_line};
use vmm::device::virtio::{VirtioConfig, VirtioKind};
use vmm::machine::{Machine, MachineConfig, Stop};

pub use self::files::write_files;
use crate::figures::{median, print_ratio};
use crate::{Outcome, guest};

/// MiB that each row copies.
const MIB: usize = 64;
/// RAM of these guests, MiB.
const RAM: u64 = 512;
/// Room for a guest with all its rows.
const LIMIT: Duration = Duration::from_secs(1200);
/// What the guest's script prints at its end.
const COMPLETE: &str = "rows complete";
/// The name of the shared folder for the guest.
const TAG: &str = "share";
/// copra's guests, and that of QEMU's which each is compared with.
const GUESTS: [(&str, Pool); 3] = [("none", Pool::Unused), ("sev", Pool::Forced), ("snp", Pool::Forced)];

/// Whether the guest's kernel copies what devices access through its pool of shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pool {
    Unused,
    Forced,
}

/// The programs that are compared with copra, and what all guests have.
#[derive(Debug)]
pub struct Tools {
    /// This program, found before its root directory is another.
    pub itself: PathBuf,
    /// QEMU.
    pub qemu: PathBuf,
    /// Its program that serves a shared folder.
    pub virtiofsd: PathBuf,
    /// The initramfs of these guests, which [`write_files`] wrote.
    pub initramfs: PathBuf,
}

impl Tools {
    /// With the program of Debian's package qemu-system-common.
    pub fn find(qemu: &Path, initramfs: &str) -> Outcome<Self> {
        const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";
        let virtiofsd = PathBuf::from(VIRTIOFSD);
        if !virtiofsd.is_file() {
            return Err(format!(
                "there is no {VIRTIOFSD}; Debian 12 has it in the package qemu-system-common"
            )
            .into());
        }
        let itself = std::env::current_exe()?;
        Ok(Self { itself, qemu: qemu.to_owned(), virtiofsd, initramfs: initramfs.into() })
    }

    /// The folder that the initramfs is in, and nothing else.
    pub fn folder(&self) -> Outcome<PathBuf> {
        Ok(self.initramfs.parent().ok_or("the initramfs is in no folder")?.to_owned())
    }
}

/// What a guest has, all in memory.
struct Given {
    vmlinux: PathBuf,
    initramfs: PathBuf,
    disk: PathBuf,
    share: PathBuf,
    /// Of QEMU's channel to virtiofsd.
    socket: PathBuf,
}

/// Seconds of each row.
type Rows = BTreeMap<String, f64>;

/// Measures all guests in turn, `rounds` times.
pub fn throughput(tools: &Tools, vmlinux: &Path, folder: &Path, rounds: usize) -> Outcome<()> {
    let given = Given::write(tools, vmlinux, folder)?;
    let mut seconds: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        let mut guests: Vec<(String, Rows)> = Vec::new();
        for pool in [Pool::Unused, Pool::Forced] {
            guests.push((pool.of_qemu().to_owned(), qemu::rows_of(tools, &given, pool)?));
        }
        for (platform, _) in GUESTS {
            guests.push((
                platform.to_owned(),
                rows(given.copra(&tools.itself, platform).stderr(Stdio::piped()))?,
            ));
        }
        for (guest, rows) in guests {
            for (row, time) in rows {
                seconds.entry((row, guest.clone())).or_default().push(time);
            }
        }
    }
    let medians: BTreeMap<_, _> = seconds.into_iter().map(|(key, times)| (key, median(&times))).collect();
    for ((row, guest), time) in &medians {
        println!("throughput {row} {guest}: {:.1} MiB/s ({MIB} MiB in {time:.4} s)", MIB as f64 / time);
    }
    for (platform, pool) in GUESTS {
        for ((row, _), time) in medians.iter().filter(|((_, guest), _)| guest == platform) {
            let find = |pool: Pool| {
                let peer = pool.of_qemu();
                Some((peer, medians.get(&(row.clone(), peer.to_owned()))?))
            };
            let found = find(pool).or_else(|| find(Pool::Unused));
            let (peer, seconds) = found.ok_or_else(|| format!("QEMU was not measured for {row}"))?;
            print_ratio(&format!("throughput-{row}-{platform}/{peer}"), seconds / time);
        }
    }
    Ok(())
}

impl Pool {
    /// The guest of QEMU's.
    fn of_qemu(self) -> &'static str {
        match self {
            Self::Unused => "qemu",
            Self::Forced => "qemu-swiotlb",
        }
    }
}

impl Given {
    fn write(tools: &Tools, vmlinux: &Path, folder: &Path) -> Outcome<Self> {
        let given = Self {
            vmlinux: vmlinux.to_owned(),
            initramfs: tools.initramfs.clone(),
            disk: folder.join("disk"),
            share: folder.join("share"),
            socket: folder.join("virtiofsd"),
        };
        std::fs::create_dir(&given.share)?;
        let bytes = vec![0xa5; MIB << 20];
        std::fs::write(&given.disk, &bytes)?;
        std::fs::write(given.share.join("file"), &bytes)?;
        Ok(given)
    }

    /// A process with one guest of copra's.
    fn copra(&self, itself: &Path, platform: &str) -> Command {
        let mut command = Command::new(itself);
        command.args(["io", platform]);
        command.args([&self.vmlinux, &self.initramfs, &self.disk, &self.share]);
        command
    }
}

/// Words of the kernel's command line that only these guests have.
fn command_line() -> String {
    format!("quiet loglevel=3 rdinit=/guest.sh mib={MIB}")
}

/// Runs a guest of copra's, with its console on standard error, until it is ended from outside.
pub fn run(platform: &str, [vmlinux, initramfs, disk, share]: [&str; 4]) -> Outcome<()> {
    let kernel = image::into_vmlinux(image::read(vmlinux.as_ref())?)?;
    let initramfs = std::fs::read(initramfs)?;
    let disk = VirtioKind::Block { file: disk.into(), writable: true };
    let share = VirtioKind::Files { tag: TAG.into(), root: share.into(), above: Vec::new(), writable: true };
    let config = MachineConfig {
        ram: RAM << 20,
        echo_console: true,
        virtio: [disk, share].map(|kind| VirtioConfig { kind, access_platform: true }).into(),
        ..guest::config(platform)?
    };
    let mut machine = Machine::new(&config)?;
    let command_line =
        format!("{} {}", base_command_line(config.layout.has_efi(config.platform), true), command_line());
    let boot = LinuxBoot { kernel: &kernel, sites: None, initramfs: &initramfs, command_line: &command_line };
    machine.boot_linux(&boot, None)?;
    let until = Instant::now() + LIMIT;
    loop {
        let stop = machine.run(until, &AtomicBool::new(false))?;
        if stop != Stop::Agent {
            return Err(format!("the guest ended: {stop:?}").into());
        }
        // There is no agent: what the kernel's driver does to its serial port is not for anything.
        machine.take_from_agent();
        machine.take_notification();
    }
}

/// Runs a guest and takes the time between the two lines of each row.
fn rows(command: &mut Command) -> Outcome<Rows> {
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let rows = watch(&mut child);
    let _ = child.kill();
    child.wait()?;
    rows.map_err(|error| format!("{command:?}: {error}").into())
}

fn watch(child: &mut Child) -> Outcome<Rows> {
    let stdout = child.stdout.take().map(|file| Box::new(file) as Box<dyn Read>);
    let console = stdout.or_else(|| child.stderr.take().map(|file| Box::new(file) as Box<dyn Read>));
    let (mut rows, mut text, mut begun) = (Rows::new(), String::new(), Instant::now());
    for line in BufReader::new(console.ok_or("no console")?).split(b'\n') {
        let now = Instant::now();
        let line = String::from_utf8_lossy(&line?).trim().to_owned();
        if line.starts_with("begin ") {
            begun = now;
        } else if let Some(row) = line.strip_prefix("end ") {
            rows.insert(row.to_owned(), (now - begun).as_secs_f64());
        } else if line == COMPLETE {
            return Ok(rows);
        }
        text = text + &line + "\n";
    }
    Err(format!("it ended too early:\n{text}").into())
}
