// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random sequences of steps, executed in a guest and compared with the model of /dev/mem.
//!
//! A sequence begins with a new process and memory as it was. Its operations are chosen with the model's state: open files
//! and mappings are known, and no operation that would store to memory that cannot be restored is chosen. They are sent in
//! batches, the guest is stopped in between, and the prediction of each is compared with its result, to the
//! byte; the forbidden accesses of each batch are compared in their order.

mod case;
mod compare;
mod contents;
pub mod coverage;
mod expectation;
mod generate;
mod guest;
mod harmless;
mod replay;
mod sequence;
mod shrink;
mod translate;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::coverage::Coverage;
pub use self::guest::{Booted, Guest, GuestError, Kernel};
pub(crate) use self::guest::{smbios_page, uncached, with_command_line};
pub use self::replay::Replay;
use self::sequence::{Difference, Runner};
use crate::guest::Target;
use crate::judge::{Rigour, Weakening};
use crate::random::Random;
use crate::session::Ended;
use model::Op;
use vmm::snapshot::SnapshotError;

/// Operations of one sequence.
const SEQUENCE: usize = 500;
/// Forbidden accesses after which a new guest is taken: a machine keeps a bounded number of them.
const MOST_EVENTS: usize = 50_000;
/// Disagreements kept that could not be repeated.
const MOST_UNREPEATED: usize = 8;

/// What is to be explored.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where random numbers start.
    pub seed: u64,
    /// Operations at least.
    pub steps: u64,
}

/// Receives the progress.
pub trait Listener {
    /// The guest is up.
    fn up(&mut self, guest: &Guest);
    /// So many operations so far.
    fn progress(&mut self, steps: u64, elapsed: Duration);
}

/// The result of an exploration.
#[derive(Debug)]
pub struct Explored {
    /// Operations executed and compared.
    pub steps: u64,
    /// Time the guests took to execute them, all else included but boots.
    pub elapsed: Duration,
    /// The combinations that occurred.
    pub coverage: Coverage,
    /// Recorded forbidden accesses.
    pub events: u64,
    /// Sequences whose forbidden accesses were not those predicted, once, and were when it was run again: neither agreement
    /// nor a disagreement that can be shown.
    pub unrepeated: u32,
    /// The first of them.
    pub unrepeated_first: Vec<Unrepeated>,
    /// How strictly answers and forbidden accesses were compared.
    pub rigour: Rigour,
    /// Guests booted.
    pub boots: u32,
    /// Guests ended because memory or devices could not be restored after a sequence.
    pub not_restored: u32,
    /// The first reason.
    pub not_restored_first: Option<String>,
    /// The first disagreement.
    pub disagreement: Option<Disagreement>,
    /// It was interrupted.
    pub interrupted: bool,
}

/// A disagreement that was not reproduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrepeated {
    /// The operations up to it.
    pub ops: Vec<Op>,
    /// What differed.
    pub difference: Difference,
}

impl Explored {
    /// Whether another sequence may run in the guest; counts one that was not restored.
    fn keeps(&mut self, guest: &mut Guest) -> bool {
        if let Some(why) = guest.not_restored.take() {
            self.count_not_restored(&why);
            return false;
        }
        guest.session.machine().events().len() <= MOST_EVENTS
    }

    fn count_not_restored(&mut self, why: &SnapshotError) {
        self.not_restored += 1;
        self.not_restored_first.get_or_insert_with(|| why.to_string());
    }

    fn could_not_repeat(&mut self, found: Unrepeated) {
        self.unrepeated += 1;
        self.rigour.weakened(Weakening::NotRepeatable, 1);
        if self.unrepeated_first.len() < MOST_UNREPEATED {
            self.unrepeated_first.push(found);
        }
    }
}

/// Where kernel and model part.
#[derive(Debug)]
pub struct Disagreement {
    /// The operations that show it, as few as could be found; the last one shows it.
    pub ops: Vec<Op>,
    /// What differs.
    pub difference: Difference,
    /// It was reproduced when the operations were repeated.
    pub repeats: bool,
    /// The same as a case file.
    pub case: String,
    /// The result of the case file in a new guest.
    pub replay: Replay,
}

/// Why nothing could be explored.
#[derive(Debug, thiserror::Error)]
pub enum ExploreError {
    /// No guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The guest ended under the steps, after these.
    #[error("the guest ended during step {step}: {ended}; the last operations were:\n{last}")]
    Ended {
        /// Operations before.
        step: u64,
        /// How it ended.
        ended: Box<Ended>,
        /// The operations of the sequence it ended in.
        last: String,
    },
    /// The guest ended while a disagreement was repeated, which is reported here.
    #[error(
        "the guest ended while a disagreement was repeated: {ended}; the disagreement: {difference}; the last operations were:\n{last}"
    )]
    Lost {
        /// How it ended.
        ended: Box<Ended>,
        /// What differed.
        difference: String,
        /// The operations it ended in.
        last: String,
    },
}

/// Explores until the steps are done, something disagrees, or `interrupt` is set.
pub fn explore(
    target: &Target,
    plan: Plan,
    listener: &mut dyn Listener,
    interrupt: &Arc<AtomicBool>,
) -> Result<Explored, ExploreError> {
    let kernel = Kernel::new(target)?;
    let mut guest = kernel.boot(target, interrupt)?;
    listener.up(&guest);
    let mut done = Explored {
        steps: 0,
        elapsed: Duration::ZERO,
        coverage: Coverage::default(),
        events: 0,
        unrepeated: 0,
        unrepeated_first: Vec::new(),
        rigour: Rigour::default(),
        boots: u32::from(!guest.kept),
        not_restored: 0,
        not_restored_first: None,
        disagreement: None,
        interrupted: false,
    };
    let mut random = Random::new(plan.seed);
    let mut begun = Instant::now();
    while done.steps < plan.steps {
        if interrupt.load(Ordering::Relaxed) {
            done.interrupted = true;
            break;
        }
        if !done.keeps(&mut guest) {
            done.elapsed += begun.elapsed();
            guest.renew()?;
            begun = Instant::now();
        }
        let left = usize::try_from(plan.steps - done.steps).unwrap_or(SEQUENCE);
        let ops = generate::sequence(&mut random, &guest, SEQUENCE.min(left));
        let run = Runner::new(&mut guest).run(&ops).map_err(|ended| ExploreError::Ended {
            step: done.steps,
            ended: Box::new(ended),
            last: listed(&ops),
        })?;
        done.steps += run.executed as u64;
        done.events += run.events as u64;
        done.coverage.add(run.coverage);
        done.rigour.add(&run.rigour);
        if let Some(difference) = run.difference {
            if guest.not_restored.is_some() && !done.keeps(&mut guest) {
                guest.renew()?;
            }
            let mut found = match shrink::shrink(&mut guest, ops, difference, target) {
                Ok(found) => found,
                Err(lost) if interrupt.load(Ordering::Relaxed) => {
                    done.could_not_repeat(lost.found);
                    done.interrupted = true;
                    break;
                }
                Err(lost) => {
                    let (difference, steps) = (lost.found.difference.text, listed(&lost.during));
                    return Err(ExploreError::Lost { ended: lost.ended, difference, last: steps });
                }
            };
            // Interrupts decide how often one access faults; everything else must be reproduced.
            if found.repeats || !found.difference.in_events {
                if let Some(why) = guest.not_restored.take() {
                    done.count_not_restored(&why);
                }
                done.elapsed += begun.elapsed();
                // A new guest, as `copra run` boots it.
                drop(guest);
                found.replay = replay::replay(target, &found.case, interrupt);
                done.disagreement = Some(found);
                return Ok(done);
            }
            done.could_not_repeat(Unrepeated { ops: found.ops, difference: found.difference });
        }
        listener.progress(done.steps, done.elapsed + begun.elapsed());
    }
    done.elapsed += begun.elapsed();
    Ok(done)
}

fn listed(ops: &[Op]) -> String {
    ops.iter().map(|op| format!("  {op}")).collect::<Vec<_>>().join("\n")
}
