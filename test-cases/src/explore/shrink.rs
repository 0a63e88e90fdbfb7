//! Finds the fewest operations that still disagree.

use super::case;
use super::guest::Guest;
use super::sequence::{Difference, Runner};
use super::{Disagreement, Replay};
use crate::engine::Target;
use crate::model::{self, Op, Outcome, Task};

/// Sequences tried at most.
const TRIES: usize = 400;

/// How often a whole sequence is tried again.
const AGAIN: usize = 2;

/// Leaves out what is not needed: first everything after the difference, then ever smaller runs of operations.
pub fn shrink(guest: &mut Guest, ops: Vec<Op>, difference: Difference, target: &Target) -> Disagreement {
    let mut best = ops;
    best.truncate(difference.index + 1);
    let mut tries = TRIES;
    // An event may be told late once; what comes of the operations themselves may not differ.
    let mut again = None;
    for _ in 0..AGAIN {
        again = again.or_else(|| attempt(guest, &best, &mut tries).filter(|found| alike(found, &difference)));
    }
    let repeats = again.is_some();
    let mut found = again.unwrap_or(difference);
    let mut chunk = best.len().div_ceil(2);
    while repeats && chunk > 0 {
        let mut start = 0;
        while start < best.len() && best.len() > 1 {
            let mut fewer = best.clone();
            fewer.drain(start..(start + chunk).min(best.len()));
            match attempt(guest, &fewer, &mut tries).filter(|again| alike(again, &found)) {
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
    Disagreement { ops: best, difference: found, repeats, case, replay }
}

/// Of the same kind: what is left out may change addresses and slots, but not answers into events.
fn alike(one: &Difference, other: &Difference) -> bool {
    one.in_events == other.in_events
}

fn attempt(guest: &mut Guest, ops: &[Op], tries: &mut usize) -> Option<Difference> {
    *tries = tries.checked_sub(1)?;
    if ops.is_empty() || !is_possible(guest, ops) {
        return None;
    }
    Runner::new(guest).run(ops).ok()?.difference
}

/// Every child that exits was forked: without its fork(2) an exit is no operation of the sequence.
fn is_possible(guest: &Guest, ops: &[Op]) -> bool {
    let mut task = Task::default();
    let outcomes = ops.iter().map(|op| (op, model::step(&guest.world, &mut task, op).outcome));
    outcomes.into_iter().all(|(op, outcome)| *op != Op::Exit || !matches!(outcome, Outcome::Refused(_)))
}
