// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A command of the user's in a guest, with the host's files, and the forbidden accesses made meanwhile.

mod root;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::{Batch, Outcome, Step};
use types::{AccessEvent, Errno, RefusedConversion};
use vmm::device::virtio::{ConsolePort, PortPeer, VirtioConfig, VirtioKind};

use crate::boot::{self, BootResult};
use crate::guest::{self, EngineError, GuestLog, PreparedKernel, Target, check_guest_type};
use crate::observation::BootObservation;
use crate::runner;
use crate::session::{DebugPoint, Debugger, Ended, Session, SessionError, Worker};
use model::release::Release;

/// How long a command may take: as long as it likes.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How often the agent must show that it waits.
const STEP_MS: u32 = 10_000;
/// How often the guest is looked at for its console's ports.
const PORT_TRIES: u32 = 500;
/// The guest's terminal.
const TERMINAL: &str = "/dev/hvc0";

/// What is run, and with what.
#[derive(Debug, Clone)]
pub struct Order {
    /// Program and arguments. Without any, the guest runs until it is ended from outside.
    pub arguments: Vec<Vec<u8>>,
    /// Its environment, as `NAME=VALUE`.
    pub environment: Vec<Vec<u8>>,
    /// Its current folder.
    pub folder: PathBuf,
    /// Files and folders that it may change.
    pub writable: Vec<Writable>,
    /// Folders of the host whose files it sees in place of those in the root folder, from the lowest.
    pub above: Vec<PathBuf>,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// The guest is ended at its first forbidden access.
    pub fail_fast: bool,
    /// Devices offer `VIRTIO_F_ACCESS_PLATFORM`.
    pub access_platform: bool,
    /// Its standard files.
    pub files: StandardFiles,
    /// Its guest's debugger.
    pub debugger: Option<Arc<dyn Debugger>>,
}

/// A file of the host as a disk of the guest: /dev/vda, /dev/vdb, in their order.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The file that holds its sectors.
    pub file: PathBuf,
    /// The guest may write it.
    pub writable: bool,
}

/// A file or folder that a command may change.
#[derive(Debug, Clone)]
pub struct Writable {
    /// The folder of the host that is changed.
    pub shared: PathBuf,
    /// Of a file: its name in there.
    pub file: Option<OsString>,
    /// Its path for the command.
    pub path: PathBuf,
}

/// What a command reads and writes.
#[derive(Debug, Clone)]
pub enum StandardFiles {
    /// Standard input, output, error.
    Pipes([Arc<dyn PortPeer>; 3]),
    /// A terminal for all of them.
    Terminal(Arc<dyn PortPeer>),
}

/// A command that has ended, or its guest.
#[derive(Debug)]
pub struct Executed {
    /// How it ended.
    pub end: CommandEnd,
    /// `uname -r`.
    pub release: String,
    /// The boot, with its verdict.
    pub boot: BootResult,
    /// Forbidden accesses since then.
    pub events: Vec<AccessEvent>,
    /// Forbidden accesses that were not kept.
    pub not_kept: u64,
    /// Conversions of memory refused since then because a rule says so.
    pub refused: Vec<RefusedConversion>,
}

/// How a command ended.
#[derive(Debug)]
pub enum CommandEnd {
    /// It exited with this status.
    Exited(u8),
    /// A signal ended it.
    Signal(u8),
    /// It could not be started.
    NotStarted(Errno),
    /// The guest has not what it needs.
    NotRun(ExecError),
    /// Its guest ended.
    GuestEnded(Box<Ended>),
    /// It was interrupted from outside.
    Interrupted,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The kernel.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The guest.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It is another guest than it was started as.
    #[error("{0}")]
    Type(String),
    /// The host's files.
    #[error("the guest could not mount {what}: {outcome}; {advice}")]
    Mount {
        /// What was mounted.
        what: String,
        /// What the guest answered.
        outcome: String,
        /// What to do.
        advice: &'static str,
    },
    /// The agent's answer is no status.
    #[error("the agent answered {0} instead of the command's status; report this")]
    NoStatus(String),
    /// No console.
    #[error(
        "the guest shows no console port named {name} in /sys/class/virtio-ports; its kernel needs CONFIG_VIRTIO_PCI and \
         CONFIG_VIRTIO_CONSOLE built in{}", logged(.log)
    )]
    NoPort {
        /// The port.
        name: &'static str,
        /// What the kernel logged of virtio.
        log: Vec<String>,
    },
    /// What is sent to the agent is too long.
    #[error(
        "the command with its environment has {bytes} bytes, and {most} can be sent to the guest; unset some variables"
    )]
    TooLong {
        /// Bytes.
        bytes: usize,
        /// Most.
        most: usize,
    },
}

/// Boots a guest and runs a command in it.
pub fn exec(target: &Target, order: &Order, interrupt: &Arc<AtomicBool>) -> Result<Executed, ExecError> {
    let bytes: usize = order.arguments.iter().chain(&order.environment).map(|text| text.len() + 1).sum();
    if bytes > protocol::MAX_DATA {
        return Err(ExecError::TooLong { bytes, most: protocol::MAX_DATA });
    }
    let kernel = PreparedKernel::with_agent(target)?.with_names();
    let kernel = kernel.with_devices(devices(order)).with_dma_probe();
    let kernel = kernel.with_host_time().failing_fast(order.fail_fast);
    let kernel = kernel.with_debugger(order.debugger.clone());
    let mut session = match kernel.boot(kernel.read()?, target, target.setup, interrupt) {
        Ok(session) => session,
        Err(SessionError::Ended { end, guest }) => return Ok(not_up(target, &guest, end, interrupt)),
        Err(error) => return Err(error.into()),
    };
    let mut running = Running { target, order, interrupt, session: &mut session };
    match running.go() {
        Ok(executed) => Ok(executed),
        Err(Failure::Ended(ended)) => Ok(not_up(target, &session, ended, interrupt)),
        Err(Failure::Exec(error)) => Err(error),
    }
}

/// The same in a guest that is up and has the order's [`devices`].
pub(crate) fn in_session(
    session: &mut Session,
    target: &Target,
    order: &Order,
    interrupt: &AtomicBool,
) -> CommandEnd {
    Running { target, order, interrupt, session }.end()
}

/// Boots a guest until its agent answers, and no further.
pub fn boot(target: &Target, interrupt: &Arc<AtomicBool>) -> Result<(), ExecError> {
    let kernel = PreparedKernel::with_agent(target)?.with_names();
    kernel.boot(kernel.read()?, target, target.setup, interrupt)?;
    Ok(())
}

/// A guest that ended before anything could be run in it, with what it accessed until then.
fn not_up(target: &Target, session: &Session, ended: Box<Ended>, interrupt: &AtomicBool) -> Executed {
    let interrupted = interrupt.load(Ordering::Relaxed);
    let end = if interrupted { CommandEnd::Interrupted } else { CommandEnd::GuestEnded(ended) };
    let release = target.kernel.release.clone();
    let boot = judged_boot(target, session, &release);
    Executed { end, release, boot, events: Vec::new(), not_kept: 0, refused: Vec::new() }
}

/// What was recorded of a guest until now, as its boot.
fn judged_boot(target: &Target, session: &Session, release: &str) -> BootResult {
    let recorded = runner::all_events(session, &guest::placed(session.machine()));
    let observed = BootObservation {
        setup: target.setup.into(),
        events: recorded.events,
        not_kept: recorded.dropped,
        refused: runner::refused_since(session, 0),
        death: None,
        aborted: None,
    };
    let context = boot::Context { platform: target.platform, release: Release::of_version(release).ok() };
    boot::judge(observed, context)
}

/// The devices of the guest.
pub(crate) fn devices(order: &Order) -> Vec<VirtioConfig> {
    let port = |(name, peer): (&&str, &Arc<dyn PortPeer>)| ConsolePort {
        name: (*name).to_owned(),
        peer: Arc::clone(peer),
    };
    let console = match &order.files {
        StandardFiles::Terminal(peer) => VirtioKind::Terminal(Arc::clone(peer)),
        StandardFiles::Pipes(peers) => VirtioKind::Console(PORTS.iter().zip(peers).map(port).collect()),
    };
    let disk = |disk: &Disk| VirtioKind::Block { file: disk.file.clone(), writable: disk.writable };
    let kinds = [console, VirtioKind::Random]
        .into_iter()
        .chain(root::shares(order))
        .chain(order.disks.iter().map(disk));
    kinds.map(|kind| VirtioConfig { kind, access_platform: order.access_platform }).collect()
}

/// The console's ports, in their order.
const PORTS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// A guest in which the command is run.
struct Running<'a> {
    target: &'a Target,
    order: &'a Order,
    interrupt: &'a AtomicBool,
    session: &'a mut Session,
}

/// Why nothing was run, but that the session is still needed.
enum Failure {
    Ended(Box<Ended>),
    Exec(ExecError),
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        Self::Ended(Box::new(ended))
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        Self::Exec(error)
    }
}

impl Running<'_> {
    fn go(&mut self) -> Result<Executed, Failure> {
        let limit = self.target.limit;
        let uname = self.session.text(&Step::Uname, limit)?.unwrap_or_default();
        let release = uname.lines().nth(2).unwrap_or_default().to_owned();
        let log = GuestLog::read(self.session, limit)?;
        check_guest_type(self.session, &log, self.target.platform, &self.target.kernel.spec, &release)
            .map_err(ExecError::Type)?;
        let regions = guest::placed(self.session.machine());
        let boot = judged_boot(self.target, self.session, &release);
        let booted = self.session.machine().events().cursor();
        let requested = self.session.machine().conversions().all().len();
        let end = self.end();
        let refused = runner::refused_since(self.session, requested);
        let recorded = runner::events_since(self.session, booted, &regions);
        Ok(Executed { end, release, boot, events: recorded.events, not_kept: recorded.dropped, refused })
    }

    /// Prepares the guest and runs the command.
    fn end(&mut self) -> CommandEnd {
        match self.await_ports().and_then(|()| self.make_root()).and_then(|()| self.command()) {
            Ok(end) => end,
            // What devices accessed meanwhile may be the reason.
            Err(Failure::Exec(error)) => CommandEnd::NotRun(error),
            Err(Failure::Ended(_)) if self.interrupt.load(Ordering::Relaxed) => CommandEnd::Interrupted,
            Err(Failure::Ended(ended)) => CommandEnd::GuestEnded(ended),
        }
    }

    /// Waits until the guest has all ports of its console, connected.
    fn await_ports(&mut self) -> Result<(), Failure> {
        if let StandardFiles::Terminal(_) = self.order.files {
            let found = self.session.step(&Step::Stat { path: TERMINAL.as_bytes() }, self.target.limit)?;
            return match found {
                Outcome::Status(_) => Ok(()),
                _ => Err(ExecError::NoPort { name: TERMINAL, log: self.log_of_virtio()? }.into()),
            };
        }
        for (number, name) in PORTS.into_iter().enumerate() {
            let path = format!("/sys/class/virtio-ports/vport0p{number}/name");
            let step = Step::ReadFile { path: path.as_bytes(), offset: 0, len: 64 };
            let mut tries = 0;
            while self.session.text(&step, self.target.limit)?.is_none_or(|text| text.trim_end() != name) {
                tries += 1;
                if tries == PORT_TRIES {
                    return Err(ExecError::NoPort { name, log: self.log_of_virtio()? }.into());
                }
            }
        }
        Ok(())
    }

    /// Lines of the kernel's log about virtio devices.
    fn log_of_virtio(&mut self) -> Result<Vec<String>, Ended> {
        let log = self.session.kernel_log(Worker::Same, self.target.limit)?.unwrap_or_default();
        Ok(log.lines().filter(|line| line.contains("virtio")).map(str::to_owned).collect())
    }

    fn make_root(&mut self) -> Result<(), Failure> {
        for part in root::parts(self.order) {
            let outcome = self.session.step(&part.step(), self.target.limit)?;
            if part.required && !matches!(outcome, Outcome::Value(_)) {
                let error = ExecError::Mount {
                    what: part.to_string(),
                    outcome: format!("{outcome:?}"),
                    advice: root::ADVICE,
                };
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<CommandEnd, Failure> {
        self.session.debug(DebugPoint::Command)?;
        if self.order.arguments.is_empty() {
            return Err(self.session.await_end(FOREVER).into());
        }
        let files: Vec<u8> = match self.order.files {
            StandardFiles::Pipes(_) => b"/dev/vport0p0\0/dev/vport0p1\0/dev/vport0p2\0".to_vec(),
            StandardFiles::Terminal(_) => [TERMINAL.as_bytes(), &[0]].concat().repeat(3),
        };
        let list =
            |texts: &[Vec<u8>]| texts.iter().flat_map(|text| [text.as_slice(), &[0]].concat()).collect();
        let (arguments, environment): (Vec<u8>, Vec<u8>) =
            (list(&self.order.arguments), list(&self.order.environment));
        let folder = self.order.folder.as_os_str().as_encoded_bytes();
        let step = Step::Command {
            root: root::PLACE.as_bytes(),
            folder,
            files: &files,
            terminal: matches!(self.order.files, StandardFiles::Terminal(_)),
            arguments: &arguments,
            environment: &environment,
        };
        let mut batch = Batch::new().step_limit(STEP_MS);
        batch.push(&step);
        let results = self.session.execute(&batch, FOREVER)?;
        Ok(match results.outcomes.first() {
            Some(Outcome::Value(status)) => of_wait_status(*status),
            Some(Outcome::Failed { errno, .. }) => CommandEnd::NotStarted(*errno),
            other => return Err(ExecError::NoStatus(format!("{other:?}")).into()),
        })
    }
}

fn logged(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("; it logged:\n{}", lines.join("\n")) }
}

/// wait(2): the exit status is above bit 8, the signal below.
fn of_wait_status(status: i64) -> CommandEnd {
    let [low, high, ..] = status.to_le_bytes();
    match low & 0x7f {
        0 => CommandEnd::Exited(high),
        signal => CommandEnd::Signal(signal),
    }
}
