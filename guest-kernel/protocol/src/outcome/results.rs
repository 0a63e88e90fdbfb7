// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The outcomes of a whole batch: the payload of a results frame.

use super::{FRESH, Outcome};
use crate::Error;
use crate::wire::{Reader, Sink};

/// What a batch gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// The worker was started for this batch: its files and mappings are only those of this batch.
    pub fresh: bool,
    /// One outcome per step, in order.
    pub outcomes: Vec<Outcome>,
}

impl Results {
    /// Reads the payload of a results frame for a batch of `steps` steps. What was not reached is
    /// [`Outcome::NotRun`].
    pub fn decode(payload: &[u8], steps: usize) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let flags = reader.byte()?;
        let mut outcomes = Vec::new();
        let mut unfolded = 0;
        while !reader.is_empty() {
            if outcomes.len() == steps {
                return Err(Error::TooLong);
            }
            outcomes.push(Outcome::decode(&mut reader, &mut unfolded, true)?);
        }
        outcomes.resize(steps, Outcome::NotRun);
        Ok(Self { fresh: flags & FRESH != 0, outcomes })
    }

    /// Appends the payload.
    pub fn encode(&self, sink: &mut impl Sink) {
        sink.byte(if self.fresh { FRESH } else { 0 });
        for outcome in &self.outcomes {
            outcome.encode(sink);
        }
    }
}
