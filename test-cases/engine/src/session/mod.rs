// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One booted guest with a running agent: executes batches and returns their results, or how the guest ended.

mod advice;
mod death;
mod debugger;
mod files;
mod memory;
mod overdue;
mod saved;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::{Batch, Event, Link, Outcome, Results, Step};
use vmm::boot::image::Vmlinux;
use vmm::boot::linux::LinuxBoot;
use vmm::boot::opcode::Sites;
use vmm::machine::{Machine, MachineConfig, MachineError, RunError, Stop};
use vmm::trace::Instruction;
use vmm::trace::event_log::EventCursor;
use vmm::trace::kernel::KernelNames;
use vmm::trace::log::Cursor;

pub use self::death::{End, Ended};
pub use self::debugger::{DebugNext, DebugPoint, Debugger};
pub use self::files::GuestFiles;
use self::memory::AgentMemory;
pub use self::overdue::overdue;
pub use self::saved::{NoSavedGuest, SavedGuest, Surroundings};

/// Kernel log bytes fetched at once.
const LOG_CHUNK: u32 = 48 << 10;
/// How often the same batch is sent before the agent channel counts as broken.
const TRIES: u32 = 3;

/// What to boot.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Machine.
    pub machine: MachineConfig,
    /// Kernel.
    pub kernel: &'a Vmlinux<'a>,
    /// Its instructions to rewrite, where they were found before.
    pub sites: Option<&'a Sites>,
    /// Its names, for events.
    pub names: Option<Arc<KernelNames>>,
    /// Its initramfs, with the agent as /init.
    pub files: Arc<GuestFiles>,
    /// Whole command line.
    pub command_line: &'a str,
    /// How long the guest may take until its agent answers.
    pub boot_limit: Duration,
    /// Set by another thread to stop the guest at once.
    pub interrupt: Arc<AtomicBool>,
    /// Its debugger.
    pub debugger: Option<Arc<dyn Debugger>>,
    /// The guest is ended at its first forbidden access.
    pub fail_fast: bool,
}

/// How often a guest that is to end at its first forbidden access is looked at.
const PAUSE: Duration = Duration::from_millis(250);
/// How it ended then.
const FAILED_FAST: &str = "it was ended at its first forbidden access (--fail-fast)";

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The machine could not be made.
    #[error("{error}{end}", error = .0, end = advice::on(.0))]
    Machine(#[from] MachineError),
    /// The guest ended before its agent answered; its stopped machine is the evidence.
    #[error("{end}")]
    Ended {
        /// How.
        end: Box<Ended>,
        /// Its machine, which does not run on.
        guest: Box<Session>,
    },
}

/// Which of the agent's processes does a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// The current one.
    Same,
    /// A new one, with all rights and nothing open.
    New,
}

/// A guest whose agent waits for a batch.
#[derive(Debug)]
pub struct Session {
    machine: Machine,
    link: Link,
    /// What the agent wrote until its greeting was complete: it brings a new end of the channel to that state.
    greeting: Arc<Vec<u8>>,
    boot_time: Duration,
    names: Option<Arc<KernelNames>>,
    files: Arc<GuestFiles>,
    interrupt: Arc<AtomicBool>,
    fail_fast: bool,
    reported: ReportedCursors,
    debugger: Option<Arc<dyn Debugger>>,
}

/// How far the machine's records were assigned to the boot or to a step.
#[derive(Debug, Clone, Copy)]
pub struct ReportedCursors {
    /// Forbidden accesses.
    pub events: EventCursor,
    /// Changes of the page that is watched.
    pub changes: Cursor,
}

impl ReportedCursors {
    fn all_of(machine: &Machine) -> Self {
        Self { events: machine.events().cursor(), changes: machine.history().cursor() }
    }
}

impl Session {
    /// Boots and waits for the agent.
    pub fn boot(plan: &Plan<'_>) -> Result<Self, SessionError> {
        let started = Instant::now();
        let mut machine = Machine::new(&plan.machine)?;
        let boot = LinuxBoot {
            kernel: plan.kernel,
            sites: plan.sites,
            initramfs: plan.files.archive(),
            command_line: plan.command_line,
        };
        machine.boot_linux(&boot, plan.names.clone())?;
        let interrupt = Arc::clone(&plan.interrupt);
        let mut session = Self {
            reported: ReportedCursors::all_of(&machine),
            machine,
            link: Link::new(),
            greeting: Arc::default(),
            boot_time: Duration::ZERO,
            names: plan.names.clone(),
            files: Arc::clone(&plan.files),
            interrupt,
            debugger: plan.debugger.clone(),
            fail_fast: plan.fail_fast,
        };
        let entered = session.debug(DebugPoint::Entry);
        let until = if session.debugger.is_some() { Instant::now() } else { started } + plan.boot_limit;
        let end = match entered.and_then(|()| session.next_event(until)) {
            Ok(Event::Hello(_)) => {
                session.boot_time = started.elapsed();
                session.machine.move_private_contents()?;
                return Ok(session);
            }
            Ok(other) => session.ended(&format!("its agent began with {other:?} instead of a greeting")),
            Err(end) => end,
        };
        session.boot_time = started.elapsed();
        Err(SessionError::Ended { end: Box::new(end), guest: Box::new(session) })
    }

    /// From the start of the VMM's work to the agent's greeting.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// Names of its kernel's code.
    pub fn names(&self) -> Option<&KernelNames> {
        self.names.as_deref()
    }

    /// The function or file that an instruction is in, with its offset, if it is certain.
    pub fn place(&self, at: &Instruction) -> Option<String> {
        match at.cpl {
            0 => self.names()?.name(at.rip),
            _ => self.files.name(at),
        }
    }

    /// The machine, which is stopped between batches.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The machine, which is stopped between batches.
    pub fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Marks everything recorded until now as reported, and returns the previous cursors: what the guest does between two
    /// steps belongs to the next one, so nothing is reported twice or lost.
    pub fn take_cursors(&mut self) -> ReportedCursors {
        std::mem::replace(&mut self.reported, ReportedCursors::all_of(&self.machine))
    }

    /// Statistics of the agent channel.
    pub fn line_stats(&self) -> protocol::Stats {
        self.link.stats()
    }

    /// Has the agent execute a batch; the guest is stopped when this returns.
    pub fn execute(&mut self, batch: &Batch, limit: Duration) -> Result<Results, Ended> {
        let until = Instant::now() + limit;
        let mut answers = Vec::new();
        for _ in 0..TRIES {
            let bytes = match self.link.send(batch, &mut AgentMemory(self.machine.memory())) {
                Ok(bytes) => bytes,
                Err(error) => {
                    return Err(self.ended(&format!("a batch could not be sent to its agent: {error}")));
                }
            };
            self.machine.send_to_agent(&bytes);
            match self.next_event(until)? {
                Event::Results(results) => return Ok(results),
                Event::Lost(error) => {
                    answers.push(format!("results lost ({error})"));
                    let bytes = self.link.again();
                    self.machine.send_to_agent(&bytes);
                    if let Event::Results(results) = self.next_event(until)? {
                        return Ok(results);
                    }
                }
                Event::Hello(_) => answers.push("a greeting".into()),
                Event::Refused(error) => answers.push(format!("refused ({error})")),
            }
        }
        Err(self.ended(&format!("its agent did not take a batch: {}", answers.join(", "))))
    }

    /// Executes one step with the current worker.
    pub fn step(&mut self, step: &Step<'_>, limit: Duration) -> Result<Outcome, Ended> {
        self.step_of(Worker::Same, step, limit)
    }

    /// Executes a step that gives data, and gives them as text; `None` if it failed.
    pub fn text(&mut self, step: &Step<'_>, limit: Duration) -> Result<Option<String>, Ended> {
        Ok(match self.step(step, limit)? {
            Outcome::Data { data, .. } => Some(String::from_utf8_lossy(&data.bytes).into_owned()),
            _ => None,
        })
    }

    fn step_of(&mut self, worker: Worker, step: &Step<'_>, limit: Duration) -> Result<Outcome, Ended> {
        let mut batch = Batch::new().step_limit(u32::try_from(limit.as_millis() / 3).unwrap_or(0));
        if worker == Worker::New {
            batch = batch.new_worker();
        }
        batch.push(step);
        let results = self.execute(&batch, limit)?;
        Ok(results.outcomes.into_iter().next().unwrap_or(Outcome::NotRun))
    }

    /// The guest's kernel log so far; the error is the outcome of the failed read.
    pub fn kernel_log(&mut self, worker: Worker, limit: Duration) -> Result<Result<String, Outcome>, Ended> {
        whole_log(|offset| {
            let worker = if offset == 0 { worker } else { Worker::Same };
            self.step_of(worker, &Step::KernelLog { offset, len: LOG_CHUNK }, limit)
        })
    }

    /// Gives the guest a debugger from now on, or none.
    pub fn set_debugger(&mut self, debugger: Option<Arc<dyn Debugger>>) {
        self.debugger = debugger;
    }

    /// Has the agent execute a step that starts another kernel, and waits until the agent of that one answers. `Some` is the step's
    /// outcome, where the kernel ran on.
    pub fn start_next_kernel(&mut self, step: &Step<'_>, limit: Duration) -> Result<Option<Outcome>, Ended> {
        let until = Instant::now() + limit;
        let mut batch = Batch::new();
        batch.push(step);
        let sent = self.link.send(&batch, &mut AgentMemory(self.machine.memory()));
        let bytes =
            sent.map_err(|error| self.ended(&format!("a batch could not be sent to its agent: {error}")))?;
        self.machine.send_to_agent(&bytes);
        loop {
            match self.next_event(until)? {
                Event::Hello(_) => return Ok(None),
                Event::Results(results) => {
                    return Ok(Some(results.outcomes.into_iter().next().unwrap_or(Outcome::NotRun)));
                }
                Event::Lost(_) | Event::Refused(_) => {}
            }
        }
    }

    /// Lets the guest run until it ends.
    pub fn await_end(&mut self, limit: Duration) -> Ended {
        let until = Instant::now() + limit;
        loop {
            if let Err(ended) = self.next_event(until) {
                return ended;
            }
        }
    }

    fn next_event(&mut self, mut until: Instant) -> Result<Event, Ended> {
        let _running = overdue::Running::until(until);
        let mut first = None;
        loop {
            let pause = if self.fail_fast { until.min(Instant::now() + PAUSE) } else { until };
            let stop = match self.machine.run(pause, &self.interrupt) {
                Ok(stop) => stop,
                Err(error) => return Err(self.host_failed(&error)),
            };
            if let Stop::Debug(stop) = stop {
                until = self.debug_until(stop, until)?;
                continue;
            }
            if stop == Stop::Deadline && pause < until {
                // Those of a conversion in place are withdrawn at its end.
                let now = self.machine.events().first();
                if now.is_some() && now == first {
                    return Err(Ended { text: FAILED_FAST.to_owned(), ..Ended::by(&self.machine, &stop) });
                }
                first = now;
                continue;
            }
            if stop != Stop::Agent {
                return Err(Ended::by(&self.machine, &stop));
            }
            for byte in self.machine.take_from_agent() {
                if self.boot_time.is_zero() {
                    Arc::make_mut(&mut self.greeting).push(byte);
                }
                if let Some(event) = self.link.receive(byte, &mut AgentMemory(self.machine.memory())) {
                    return Ok(event);
                }
            }
            if self.machine.take_notification()
                && let Some(event) = self.link.on_notification(&mut AgentMemory(self.machine.memory()))
            {
                return Ok(event);
            }
            // A guest that writes without end keeps the machine from checking its deadline.
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(Ended::by(&self.machine, &Stop::Interrupted));
            }
            if Instant::now() >= until {
                return Err(Ended::by(&self.machine, &Stop::Deadline));
            }
        }
    }

    fn ended(&self, why: &str) -> Ended {
        Ended::by(&self.machine, &Stop::Failed(why.into()))
    }

    fn host_failed(&self, error: &RunError) -> Ended {
        self.ended(&error.to_string())
    }
}

/// A log read in parts, up to the part that is empty. Any other outcome is a failure, not the end of the log.
fn whole_log(mut part: impl FnMut(u32) -> Result<Outcome, Ended>) -> Result<Result<String, Outcome>, Ended> {
    let mut log = Vec::new();
    loop {
        match part(log.len() as u32)? {
            Outcome::Data { data, .. } if data.bytes.is_empty() => {
                return Ok(Ok(String::from_utf8_lossy(&log).into_owned()));
            }
            Outcome::Data { data, .. } => log.extend_from_slice(&data.bytes),
            other => return Ok(Err(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Call, Data, Errno};

    use super::*;

    /// The log read in these parts.
    fn log(parts: Vec<Outcome>) -> Result<String, Outcome> {
        let mut parts = parts.into_iter();
        whole_log(|_| Ok(parts.next().unwrap_or(Outcome::NotRun))).unwrap()
    }

    fn part(bytes: &[u8]) -> Outcome {
        Outcome::Data { value: 4, data: Data { bytes: bytes.to_vec(), ..Data::default() } }
    }

    #[test]
    fn a_log_ends_with_an_empty_part_and_with_nothing_else() {
        assert_eq!(log(vec![part(b"ab"), part(b"cd"), part(b"")]), Ok("abcd".to_owned()));
        assert_eq!(log(vec![part(b"")]), Ok(String::new()));
        let refused = Outcome::Failed { errno: Errno(1), call: Call::Own };
        for failure in [refused, Outcome::NotRun, Outcome::NoRoom, Outcome::Timeout { undead: false }] {
            assert_eq!(log(vec![failure.clone()]), Err(failure.clone()));
            assert_eq!(log(vec![part(b"ab"), failure.clone()]), Err(failure));
        }
    }
}
