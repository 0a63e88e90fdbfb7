// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs of `copra` that need a guest, carried out one after the other where KVM works.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// An unprivileged user.
const NOBODY: u32 = 65534;
/// The sysctl that allows unprivileged users a userfaultfd with kernel-mode faults.
const UNPRIVILEGED_USERFAULTFD: &str = "/proc/sys/vm/unprivileged_userfaultfd";
/// The device by which one can be obtained instead.
const DEVICE: &str = "/dev/userfaultfd";

/// One run of `copra`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Job {
    /// Its name, also that of its files.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Send SIGINT once standard output contains this.
    pub interrupt_at: Option<String>,
    /// Send SIGINT after so many seconds.
    pub interrupt_after: Option<f64>,
    /// Run as a user who may not open a userfaultfd.
    pub without_userfaultfd: bool,
}

/// What is to be run, and with which program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Plan {
    /// `copra`.
    pub program: PathBuf,
    /// The runs.
    pub jobs: Vec<Job>,
}

/// The file that holds the outcome of a job.
pub fn outcome_file(folder: &Path, job: &str) -> PathBuf {
    folder.join(format!("{job}.outcome"))
}

/// Runs the plan in `folder`.
pub fn run_all(folder: &Path) -> io::Result<()> {
    let plan: Plan = serde_json::from_str(&fs::read_to_string(folder.join("plan"))?)?;
    for job in &plan.jobs {
        let outcome = match run(&plan.program, job, folder) {
            Ok(outcome) => outcome,
            Err(error) => Outcome { stderr: format!("starting it: {error}"), ..Outcome::default() },
        };
        fs::write(outcome_file(folder, &job.name), serde_json::to_string(&outcome)?)?;
    }
    Ok(())
}

fn run(program: &Path, job: &Job, folder: &Path) -> io::Result<Outcome> {
    let mut command = Command::new(program);
    command.args(&job.arguments).current_dir(folder).stdin(Stdio::null());
    let guard = if job.without_userfaultfd {
        match Unprivileged::prepare(&mut command, folder)? {
            Ok(guard) => Some(guard),
            Err(reason) => return Ok(Outcome { skipped: Some(reason), ..Outcome::default() }),
        }
    } else {
        None
    };
    let (out, err) = (folder.join(format!("{}.out", job.name)), folder.join(format!("{}.err", job.name)));
    let started = Instant::now();
    let child = command.stdout(File::create(&out)?).stderr(File::create(&err)?).spawn()?;
    let process = i32::try_from(child.id()).map_err(io::Error::other)?;
    interrupt(job, process, &out)?;
    let (status, peak_kib) = wait(process)?;
    drop(guard);
    let text = |file: &Path| fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Outcome {
        code: status.code().or_else(|| status.signal().map(|signal| 1000 + signal)),
        stdout: text(&out)?,
        stderr: text(&err)?,
        peak_kib,
        seconds: started.elapsed().as_secs_f64(),
        skipped: None,
    })
}

/// Sends SIGINT at the job's time.
fn interrupt(job: &Job, process: i32, out: &Path) -> io::Result<()> {
    let nap = Duration::from_millis(50);
    let give_up = Instant::now() + Duration::from_secs(120);
    if let Some(seconds) = job.interrupt_after {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    } else if let Some(sign) = &job.interrupt_at {
        while !fs::read_to_string(out)?.contains(sign) && Instant::now() < give_up && !is_over(process) {
            std::thread::sleep(nap);
        }
    } else {
        return Ok(());
    }
    // SAFETY: kill takes numbers only; the process is our child and not waited for yet, so its process id is not reused.
    if unsafe { libc::kill(process, libc::SIGINT) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the child has ended and can be waited for.
fn is_over(process: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z'))
}

/// Waits for a child; returns its status and its peak memory in KiB.
fn wait(process: i32) -> io::Result<(ExitStatus, u64)> {
    let mut status = 0;
    // SAFETY: both pointers are to live variables of the right types; zeroes are a valid rusage.
    let (ended, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(process, &raw mut status, 0, &raw mut usage), usage)
    };
    if ended != process {
        return Err(io::Error::last_os_error());
    }
    Ok((ExitStatus::from_raw(status), u64::try_from(usage.ru_maxrss).unwrap_or(0)))
}

/// Restores on drop the settings changed for a process without userfaultfd.
#[derive(Debug, Default)]
struct Unprivileged {
    setting: Option<String>,
    mode: Option<u32>,
}

impl Unprivileged {
    /// Makes `command` run without userfaultfd, or returns why that is not possible. Settings are changed only on a KVM host
    /// that was made for us.
    fn prepare(command: &mut Command, folder: &Path) -> io::Result<Result<Self, String>> {
        let mut changed = Self::default();
        let ours = std::env::var_os("COPRA_IN_KVM_HOST").is_some();
        // SAFETY: geteuid takes nothing and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        if ours {
            changed.setting = fs::read_to_string(UNPRIVILEGED_USERFAULTFD).ok();
            fs::write(UNPRIVILEGED_USERFAULTFD, "0")?;
            if let Ok(metadata) = fs::metadata(DEVICE) {
                changed.mode = Some(metadata.permissions().mode());
                fs::set_permissions(DEVICE, fs::Permissions::from_mode(0o600))?;
            }
        } else if fs::read_to_string(UNPRIVILEGED_USERFAULTFD).is_ok_and(|value| value.trim() == "1") {
            return Ok(Err(format!(
                "{UNPRIVILEGED_USERFAULTFD} is 1 here, and this machine's setting is not changed"
            )));
        } else if fs::metadata(DEVICE).is_ok_and(|metadata| metadata.mode() & 0o006 != 0) {
            return Ok(Err(format!("{DEVICE} is accessible to all users here")));
        }
        if root {
            let group = fs::metadata("/dev/kvm").map_or(NOBODY, |kvm| kvm.gid());
            command.uid(NOBODY).gid(group);
        }
        let cache = folder.join("nobody");
        fs::create_dir_all(&cache)?;
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o777))?;
        command.env("XDG_CACHE_HOME", cache).env("COPRA_KVM_HOST", "here");
        Ok(Ok(changed))
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        if let Some(setting) = &self.setting {
            let _ = fs::write(UNPRIVILEGED_USERFAULTFD, setting);
        }
        if let Some(mode) = self.mode {
            let _ = fs::set_permissions(DEVICE, fs::Permissions::from_mode(mode));
        }
    }
}
