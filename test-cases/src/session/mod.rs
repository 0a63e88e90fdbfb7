//! One booted guest with an agent that answers: batches in, results out, death as a value.

mod death;
mod memory;
mod overdue;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::{Batch, Event, Link, Outcome, Results, Step};
use vmm::audit::event_log::EventCursor;
use vmm::audit::kernel::KernelNames;
use vmm::audit::log::Cursor;
use vmm::boot::image::Vmlinux;
use vmm::boot::linux::LinuxBoot;
use vmm::machine::{Machine, MachineConfig, MachineError, RunError, Stop};

pub use self::death::{End, Ended};
use self::memory::AgentMemory;
pub use self::overdue::overdue;

/// Kernel log bytes fetched at once.
const LOG_CHUNK: u32 = 48 << 10;
/// How often the same batch is sent before the line counts as broken.
const TRIES: u32 = 3;

/// What to boot.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Machine.
    pub machine: MachineConfig,
    /// Kernel.
    pub kernel: &'a Vmlinux<'a>,
    /// Its names, for events.
    pub names: Option<Arc<KernelNames>>,
    /// Initramfs with the agent as /init.
    pub initramfs: &'a [u8],
    /// Whole command line.
    pub command_line: &'a str,
    /// How long the guest may take until its agent answers.
    pub boot_limit: Duration,
    /// Set from outside to have the guest stand still at once.
    pub interrupt: Arc<AtomicBool>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The machine could not be made.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The guest ended before its agent answered; what is left of it is the evidence.
    #[error("{end}")]
    Ended {
        /// How.
        end: Box<Ended>,
        /// Its machine, which does not run on.
        guest: Box<Session>,
    },
}

/// A guest whose agent waits for a batch.
#[derive(Debug)]
pub struct Session {
    machine: Machine,
    link: Link,
    boot_time: Duration,
    names: Option<Arc<KernelNames>>,
    interrupt: Arc<AtomicBool>,
    told: Told,
}

/// Up to where the machine's records were given to the boot or to a step.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Forbidden accesses.
    pub events: EventCursor,
    /// Changes of the page that is watched.
    pub changes: Cursor,
}

impl Told {
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
            initramfs: plan.initramfs,
            command_line: plan.command_line,
            names: plan.names.clone(),
        };
        machine.boot_linux(&boot)?;
        let interrupt = Arc::clone(&plan.interrupt);
        let mut session = Self {
            told: Told::all_of(&machine),
            machine,
            link: Link::new(),
            boot_time: Duration::ZERO,
            names: plan.names.clone(),
            interrupt,
        };
        let until = started + plan.boot_limit;
        let end = match session.next_event(until) {
            Ok(Event::Hello(_)) => {
                session.boot_time = started.elapsed();
                session.machine.mark_start()?;
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

    /// The machine, standing still.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The machine, standing still.
    pub fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Takes all that was recorded until now as told, and gives the moment up to which it had been before: what the
    /// guest does between two steps is thus part of the next one, and nothing is told twice or lost.
    pub fn tell(&mut self) -> Told {
        std::mem::replace(&mut self.told, Told::all_of(&self.machine))
    }

    /// What went over the agent's line.
    pub fn line_stats(&self) -> protocol::Stats {
        self.link.stats()
    }

    /// Has the agent execute a batch; the guest stands still again when this returns.
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

    /// Executes one step with the worker that is there.
    pub fn step(&mut self, step: &Step<'_>, limit: Duration) -> Result<Outcome, Ended> {
        let mut batch = Batch::new().step_limit(u32::try_from(limit.as_millis() / 3).unwrap_or(0));
        batch.push(step);
        let results = self.execute(&batch, limit)?;
        Ok(results.outcomes.into_iter().next().unwrap_or(Outcome::NotRun))
    }

    /// The guest's kernel log so far.
    pub fn kernel_log(&mut self, limit: Duration) -> Result<String, Ended> {
        let mut log = Vec::new();
        loop {
            let step = Step::KernelLog { offset: log.len() as u32, len: LOG_CHUNK };
            match self.step(&step, limit)? {
                Outcome::Data { data, .. } if !data.bytes.is_empty() => log.extend_from_slice(&data.bytes),
                _ => return Ok(String::from_utf8_lossy(&log).into_owned()),
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

    fn next_event(&mut self, until: Instant) -> Result<Event, Ended> {
        let _running = overdue::Running::until(until);
        loop {
            let stop = match self.machine.run(until, &self.interrupt) {
                Ok(stop) => stop,
                Err(error) => return Err(self.host_failed(&error)),
            };
            if stop != Stop::Agent {
                return Err(Ended::by(&self.machine, &stop));
            }
            for byte in self.machine.take_from_agent() {
                if let Some(event) = self.link.receive(byte, &mut AgentMemory(self.machine.memory())) {
                    return Ok(event);
                }
            }
            // A guest that writes without end never lets the machine come to its own deadline.
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
