// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model's prediction of an operation, as the expectation of a case file's step.

use super::contents::Memory;
use super::guest::Guest;
use crate::case::{Expected, ExpectedEvent, Term};
use model::class::Class;
use model::events::Contents;
use model::{self, Op, Outcome, Piece, Source, Task, World};

/// Follows a sequence with the model, one operation at a time, as a case is run.
#[derive(Default)]
pub struct Predictor {
    task: Task,
    memory: Memory,
    contents: Contents,
}

impl Predictor {
    /// The predicted result of the next operation, as far as case files can state it; with its forbidden accesses if they are compared.
    pub fn expectation(&mut self, guest: &Guest, op: &Op, with_events: bool) -> Option<Expected> {
        let (world, machine) = (&guest.world, guest.session.machine());
        let prediction = model::step(world, &mut self.task, op);
        self.contents.start_operation();
        let bytes = self.memory.read(world, machine, prediction.outcome.pieces());
        let mut events = Vec::new();
        for effect in &prediction.effects {
            events.extend(self.contents.apply(world, effect));
            self.memory.apply(world, machine, effect);
        }
        let expected = Expected::only(term(world, op, &prediction.outcome, &bytes)?);
        // An optional event cannot be stated.
        if !with_events || events.iter().any(|event| event.optional) {
            return Some(expected);
        }
        Some(
            expected.with_events(
                events.iter().map(|event| ExpectedEvent { kind: event.kind(), at: None }).collect(),
            ),
        )
    }
}

fn term(world: &World, op: &Op, outcome: &Outcome, bytes: &[Option<u8>]) -> Option<Term> {
    Some(match outcome {
        Outcome::Value(value) => match op {
            Op::Lseek { .. } | Op::PortIn { .. } => Term::Number(*value),
            Op::Write { data, .. } | Op::Store { data, .. } | Op::Put { data, .. }
                if *value != data.len() as u64 =>
            {
                Term::Number(*value)
            }
            _ => Term::Ok,
        },
        Outcome::Bytes { value, pieces } => {
            let whole = requested_len(op) == Some(*value);
            class(world, pieces, bytes).filter(|_| whole).map_or(Term::Number(*value), Term::Class)
        }
        Outcome::Failed { errno, .. } => Term::Errno(*errno),
        Outcome::Signal { signal, .. } | Outcome::Oops { signal } => Term::Signal(*signal),
        Outcome::Refused(_) => return None,
    })
}

/// The class that fits and no other: what the bytes are is known, and zeros from where zeros are may be anything's.
fn class(world: &World, pieces: &[Piece], bytes: &[Option<u8>]) -> Option<Class> {
    // Copies are compared with the mapped memory, from which they may differ.
    let of = |piece: &Piece| match piece.source {
        Source::Copy { .. } => None,
        source => world.class_of(source),
    };
    let zeros = !bytes.is_empty() && bytes.iter().all(|byte| *byte == Some(0));
    if zeros {
        let only = pieces.iter().all(|piece| matches!(piece.source, Source::Zeros | Source::Copy { .. }));
        return only.then_some(Class::Zeros);
    }
    let first = of(pieces.first()?)?;
    pieces.iter().all(|piece| of(piece) == Some(first)).then_some(first)
}

/// How many bytes an operation requests.
fn requested_len(op: &Op) -> Option<u64> {
    match op {
        Op::Read { len, .. } => Some(*len),
        Op::Load { len, .. } | Op::Fetch { len, .. } | Op::Left { len, .. } => Some(u64::from(*len)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: Source, bytes: &[Option<u8>]) -> Option<Class> {
        let world = model::fixture::plain_world();
        class(&world, &[Piece { source, len: bytes.len() as u64 }], bytes)
    }

    #[test]
    fn zeros_are_named_only_where_nothing_else_could_be() {
        let physical = Source::Physical { gpa: 0x2_0000, view: types::View::Private };
        assert_eq!(of(physical, &[Some(1), Some(0)]), Some(Class::Plain));
        assert_eq!(of(physical, &[Some(0), Some(0)]), None);
        // Memory that mmap-zeros makes for a mapping, and copies of a private one.
        let copy = Source::Copy { memory: 1, offset: 0 };
        assert_eq!(of(copy, &[Some(0), Some(0)]), Some(Class::Zeros));
        assert_eq!(of(copy, &[Some(7), Some(0)]), None);
        assert_eq!(of(Source::Zeros, &[Some(0)]), Some(Class::Zeros));
        assert_eq!(of(Source::Unknown, &[None]), None);
    }
}
