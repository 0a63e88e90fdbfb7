// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tested combinations of operation, kind of memory and result, with counts.

use std::collections::BTreeMap;

use model::{Node, Op, Outcome, Prediction, Task, World};

/// An operation, the kind of memory it accesses, and its result.
pub type Combination = (&'static str, &'static str, String);

/// One operation's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// How often it occurred.
    pub count: u64,
    /// On how many kinds of memory.
    pub regions: usize,
    /// The results with their counts, most frequent first.
    pub outcomes: Vec<(String, u64)>,
}

/// How often each combination occurred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<Combination, u64>,
}

impl Coverage {
    /// Counts one operation.
    pub fn record(&mut self, combination: Combination) {
        *self.counts.entry(combination).or_default() += 1;
    }

    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        for (key, count) in other.counts {
            *self.counts.entry(key).or_default() += count;
        }
    }

    /// Combinations that occurred.
    pub fn combinations(&self) -> usize {
        self.counts.len()
    }

    /// Each operation's share, in the order of their names.
    pub fn by_operation(&self) -> Vec<Operation> {
        let mut operations: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
        for ((op, _, outcome), count) in &self.counts {
            *operations.entry(op).or_default().entry(outcome.clone()).or_default() += count;
        }
        let regions = |name: &str| {
            let mut regions: Vec<&str> =
                self.counts.keys().filter(|(op, ..)| *op == name).map(|(_, region, _)| *region).collect();
            regions.dedup();
            regions.len()
        };
        let shown = |(name, outcomes): (&'static str, BTreeMap<String, u64>)| {
            let mut outcomes: Vec<_> = outcomes.into_iter().collect();
            outcomes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let count = outcomes.iter().map(|(_, count)| count).sum();
            Operation { name, count, regions: regions(name), outcomes }
        };
        operations.into_iter().map(shown).collect()
    }
}

/// The combination that an operation makes, given the task before it.
pub fn combination(world: &World, task: &Task, op: &Op, prediction: &Prediction) -> Combination {
    let outcome = match &prediction.outcome {
        Outcome::Value(_) => "ok".to_owned(),
        Outcome::Bytes { pieces, .. } => {
            let first = pieces.first().map(|piece| world.class_of(piece.source));
            first.map_or_else(
                || "nothing".to_owned(),
                |class| class.map_or("ok".to_owned(), |class| class.to_string()),
            )
        }
        Outcome::Failed { errno, .. } => errno.to_string(),
        Outcome::Signal { signal, .. } => signal.to_string(),
        Outcome::Oops { .. } => "oops".to_owned(),
        Outcome::Refused(_) => "refused".to_owned(),
    };
    (op.name(), region(world, task, op), outcome)
}

/// The kind of memory an operation accesses.
fn region(world: &World, task: &Task, op: &Op) -> &'static str {
    let at = |slot: &u8, offset: u64| {
        let address = task.process.maps.get(slot).map(|slot| slot.address.wrapping_add(offset));
        let area = address.and_then(|address| Some((address, task.process.space.at(address)?)));
        area.map_or("-", |(address, area)| {
            if area.requested_offset == area.gpa { world.region(area.gpa(address)) } else { "alias" }
        })
    };
    match op {
        Op::Open { node, .. } => node_name(*node),
        Op::Read { file, .. } | Op::Write { file, .. } | Op::Mmap { file, .. }
            if task.file(*file).is_some_and(|file| file.node.is_neighbour()) =>
        {
            task.file(*file).map_or("-", |file| node_name(file.node))
        }
        Op::Read { file, at, .. } | Op::Write { file, at, .. } => {
            let position = at.or_else(|| task.file(*file).map(|file| file.position));
            position.map_or("-", |gpa| world.region(gpa))
        }
        Op::Mmap { offset, .. } | Op::MmapOver { offset, .. } => world.region(*offset),
        Op::Load { map, offset, .. }
        | Op::Store { map, offset, .. }
        | Op::Fetch { map, offset, .. }
        | Op::Mprotect { map, offset, .. }
        | Op::Put { map, offset, .. } => at(map, *offset),
        Op::Mremap { map, .. } => at(map, 0),
        _ => "-",
    }
}

const fn node_name(node: Node) -> &'static str {
    match node {
        Node::Mem => "mem",
        Node::Port => "port",
        Node::Kcore => "kcore",
        Node::Msr => "msr",
        Node::Bar => "pci-bar",
        Node::Config => "pci-config",
    }
}
