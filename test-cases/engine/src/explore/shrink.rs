// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds the fewest operations that still disagree.

use super::case;
use super::guest::Guest;
use super::harmless::Judge;
use super::sequence::{Difference, Runner};
use super::{Disagreement, Replay, Unrepeated};
use crate::guest::Target;
use crate::session::Ended;
use model::{self, Op, Outcome, Task};

/// Sequences tried at most.
const TRIES: usize = 400;

/// How often a whole sequence is tried again.
const AGAIN: usize = 2;

/// The guest ended while a disagreement was repeated.
#[derive(Debug)]
pub struct Lost {
    /// How.
    pub ended: Box<Ended>,
    /// The operations it ended in.
    pub during: Vec<Op>,
    /// The disagreement, with its operations.
    pub found: Unrepeated,
}

/// Leaves out what is not needed: first everything after the difference, then ever smaller runs of operations.
pub fn shrink(
    guest: &mut Guest,
    ops: Vec<Op>,
    difference: Difference,
    target: &Target,
) -> Result<Disagreement, Box<Lost>> {
    let mut best = ops;
    best.truncate(difference.index + 1);
    let mut tries = TRIES;
    // An event may once be recorded late; the results of the operations themselves must not differ.
    let mut again = None;
    for _ in 0..AGAIN {
        if again.is_none() {
            let found = attempt(guest, &best, &mut tries);
            let found = found.map_err(|ended| lost(ended, &best, &best, &difference))?;
            again = found.filter(|found| same_kind(found, &difference));
        }
    }
    let repeats = again.is_some();
    let mut found = again.unwrap_or(difference);
    let mut chunk = best.len().div_ceil(2);
    while repeats && chunk > 0 {
        let mut start = 0;
        while start < best.len() && best.len() > 1 {
            let mut fewer = best.clone();
            fewer.drain(start..(start + chunk).min(best.len()));
            let again = attempt(guest, &fewer, &mut tries);
            let again = again.map_err(|ended| lost(ended, &fewer, &best, &found))?;
            match again.filter(|again| same_kind(again, &found)) {
                Some(again) => {
                    fewer.truncate(again.index + 1);
                    (best, found) = (fewer, again);
                }
                None => start += chunk,
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    let case = case::write(guest, &best, &found, target);
    let replay = Replay::NotRun("not tried yet".to_owned());
    Ok(Disagreement { ops: best, difference: found, repeats, case, replay })
}

#[expect(clippy::unnecessary_box_returns, reason = "the error of results, which are to stay small")]
fn lost(ended: Ended, during: &[Op], ops: &[Op], difference: &Difference) -> Box<Lost> {
    let found = Unrepeated { ops: ops.to_vec(), difference: difference.clone() };
    Box::new(Lost { ended: Box::new(ended), during: during.to_vec(), found })
}

/// Of the same kind: what is left out may change addresses and slots, but not answers into events.
fn same_kind(one: &Difference, other: &Difference) -> bool {
    one.in_events == other.in_events
}

/// What differs when these are executed; none if they cannot be, or no tries are left. A guest that ends is an error, as it
/// shows nothing of the disagreement.
fn attempt(guest: &mut Guest, ops: &[Op], tries: &mut usize) -> Result<Option<Difference>, Ended> {
    let Some(left) = tries.checked_sub(1) else { return Ok(None) };
    *tries = left;
    // Nothing more can be tried in a guest that is not as it was at its start.
    if guest.not_restored.is_some() || ops.is_empty() || !is_possible(guest, ops) {
        return Ok(None);
    }
    Ok(Runner::new(guest).run(ops)?.difference)
}

/// Every child that exits was forked: without its fork(2) an exit is no operation of the sequence. And every operation can still be
/// predicted: without a seek, a read of a port is one of another port.
fn is_possible(guest: &Guest, ops: &[Op]) -> bool {
    let judge = Judge { world: &guest.world, ram: *guest.session.machine().ram() };
    let mut task = Task::default();
    ops.iter().all(|op| {
        let before = task.clone();
        let prediction = model::step(&guest.world, &mut task, op);
        let is_lost = *op == Op::Exit && matches!(prediction.outcome, Outcome::Refused(_));
        !is_lost && judge.is_harmless(&before, &task, op, &prediction)
    })
}
