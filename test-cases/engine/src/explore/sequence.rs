// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One sequence: predicted, executed, compared; then the guest is restored.

use std::ops::Range;

use protocol::{Batch, Outcome};
use types::Platform;

use super::compare;
use super::contents::Memory;
use super::coverage::{self, Combination, Coverage};
use super::guest::Guest;
use super::translate;
use crate::judge::{Rigour, Weakening};
use crate::session::Ended;
use model::events::{Contents, Event};
use model::{self, Op, Prediction, Source, Task};

/// Most bytes a batch or its answers may take; there is room for a little more.
const MOST_BYTES: u64 = 60 << 10;
/// Bytes a question takes beside its data, at most.
const QUESTION: u64 = 40;
/// Bytes an answer takes beside its data, at most.
const ANSWER: u64 = 24;

/// What differs, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The operation; for events the last one of its batch.
    pub index: usize,
    /// It is about forbidden accesses, not about the result.
    pub in_events: bool,
    /// In words.
    pub text: String,
}

/// The result of a sequence.
#[derive(Debug, Default)]
pub struct Run {
    /// Operations executed and compared.
    pub executed: usize,
    /// Recorded forbidden accesses.
    pub events: usize,
    /// The first difference.
    pub difference: Option<Difference>,
    /// The combinations that occurred.
    pub coverage: Coverage,
    /// How strictly answers and forbidden accesses were compared.
    pub rigour: Rigour,
}

/// Executes sequences in a guest.
pub struct Runner<'a> {
    guest: &'a mut Guest,
    task: Task,
    contents: Contents,
    memory: Memory,
    fresh: bool,
}

/// An operation with its predicted results.
struct Expected {
    prediction: Prediction,
    bytes: Vec<Option<u8>>,
    events: Vec<Event>,
    combination: Combination,
}

/// Returned bytes, without pieces that are one byte repeated, which the agent compresses.
fn reported_bytes(outcome: &model::Outcome) -> u64 {
    let plain = outcome
        .pieces()
        .iter()
        .filter(|piece| !matches!(piece.source, Source::Zeros | Source::Floating | Source::Untouched));
    plain.map(|piece| piece.len).sum()
}

impl<'a> Runner<'a> {
    /// For one sequence, by a new process.
    pub fn new(guest: &'a mut Guest) -> Self {
        Self {
            guest,
            task: Task::default(),
            contents: Contents::default(),
            memory: Memory::default(),
            fresh: true,
        }
    }

    /// Executes up to the first difference, then puts memory back; where that fails, the guest has the reason.
    pub fn run(mut self, ops: &[Op]) -> Result<Run, Ended> {
        let mut run = Run::default();
        let mut at = 0;
        while at < ops.len() && run.difference.is_none() {
            let expected = self.expect(&ops[at..]);
            at += self.execute(at, &ops[at..at + expected.len()], &expected, &mut run)?;
        }
        self.restore();
        Ok(run)
    }

    /// Predicts as many operations as fit a batch.
    fn expect(&mut self, ops: &[Op]) -> Vec<Expected> {
        let mut expected: Vec<Expected> = Vec::new();
        self.contents.start_operation();
        let (mut answers, mut questions) = (0, 0);
        for op in ops {
            let before = self.task.clone();
            let prediction = model::step(&self.guest.world, &mut self.task, op);
            let data = match op {
                Op::Write { data, .. } | Op::Store { data, .. } | Op::Put { data, .. } => data.len() as u64,
                _ => 0,
            };
            // The agent needs room for the requested length, whatever the result.
            let requested = match op {
                Op::Read { len, .. } => (*len).min(protocol::MAX_DATA as u64),
                Op::Load { len, .. } | Op::Fetch { len, .. } | Op::Left { len, .. } => u64::from(*len),
                _ => 0,
            };
            questions += QUESTION + data;
            if !expected.is_empty() && (answers + requested > MOST_BYTES || questions > MOST_BYTES) {
                self.task = before;
                break;
            }
            answers += ANSWER + reported_bytes(&prediction.outcome);
            let (world, machine) = (&self.guest.world, self.guest.session.machine());
            let bytes = self.memory.read(world, machine, prediction.outcome.pieces());
            let mut events = Vec::new();
            for effect in &prediction.effects {
                events.extend(self.contents.apply(world, effect));
                self.memory.apply(world, machine, effect);
            }
            let combination = coverage::combination(world, &before, op, &prediction);
            expected.push(Expected { prediction, bytes, events, combination });
        }
        expected
    }

    /// Gives how many operations were executed.
    fn execute(
        &mut self,
        first: usize,
        ops: &[Op],
        expected: &[Expected],
        run: &mut Run,
    ) -> Result<usize, Ended> {
        let mut batch = Batch::new();
        if std::mem::take(&mut self.fresh) {
            batch = batch.new_worker();
        }
        for op in ops {
            batch.push(&translate::step(op));
        }
        let before = self.guest.session.machine().events().cursor();
        let results = self.guest.session.execute(&batch, self.guest.limit)?;
        for (index, expected) in expected.iter().enumerate() {
            let got = results.outcomes.get(index).unwrap_or(&Outcome::NotRun);
            run.coverage.record(expected.combination.clone());
            run.executed += 1;
            // An answer with bytes of which nothing was predicted is compared in all but these.
            if expected.bytes.contains(&None) {
                run.rigour.weakened(Weakening::UnknownBytes, 1);
            } else {
                run.rigour.exact(1);
            }
            if let Some(text) = compare::answer(&expected.prediction.outcome, &expected.bytes, got) {
                run.difference = Some(Difference { index: first + index, in_events: false, text });
                return Ok(index + 1);
            }
        }
        let events: Vec<Event> =
            expected.iter().flat_map(|expected| expected.events.iter().copied()).collect();
        let since = self.guest.session.machine().events().since(before);
        run.events += since.events.len();
        let temporary = self.guest.world.platform != Platform::Sev;
        let differs = if since.dropped > 0 {
            Some(format!("{} forbidden accesses were not kept, so nothing is known of them", since.dropped))
        } else {
            compare::events(&events, &since.events, temporary, &mut run.rigour)
        };
        if let Some(text) = differs {
            let index = first + ops.len() - 1;
            run.difference = Some(Difference { index, in_events: true, text });
        }
        Ok(ops.len())
    }

    /// The guest as it was before the sequence.
    fn restore(&mut self) {
        let Guest { session, saved, .. } = &mut *self.guest;
        self.guest.not_restored = session.restore(saved).err();
    }
}

/// Low System RAM the kernel keeps reserved and never uses, with what the boot loader left there. The only RAM that is
/// stored to.
pub const RESIDUE: Range<u64> = 0x3_0000..0x7_0000;
