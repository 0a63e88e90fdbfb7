// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The conversions of memory that a guest requested.

use super::Instruction;
use super::log::Log;
use crate::platform::failure::{Conversion, ConversionCall, Refusal};

/// One conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedConversion {
    /// Counts the calls of this kind in one machine up from 1.
    pub number: u64,
    /// What was requested.
    pub conversion: Conversion,
    /// How it was refused, if it was.
    pub refusal: Option<Refusal>,
    /// By which instruction.
    pub at: Instruction,
}

/// The conversions of one machine's guest.
#[derive(Debug)]
pub struct ConversionLog {
    log: Log<RecordedConversion>,
    requested: [u64; ConversionCall::ALL.len()],
    refused: u64,
}

impl ConversionLog {
    /// A log that keeps this many.
    pub fn new(limit: usize) -> Self {
        Self { log: Log::new(limit), requested: [0; ConversionCall::ALL.len()], refused: 0 }
    }

    /// Counts a call; gives its number.
    pub(crate) fn count(&mut self, call: ConversionCall) -> u64 {
        let count = &mut self.requested[call as usize];
        *count += 1;
        *count
    }

    pub(crate) fn push(&mut self, conversion: RecordedConversion) {
        self.refused += u64::from(conversion.refusal.is_some());
        self.log.push(conversion);
    }

    /// Those that are kept, the first requested first.
    pub fn all(&self) -> &[RecordedConversion] {
        self.log.all()
    }

    /// Calls of this kind, refused or not.
    pub fn requested(&self, call: ConversionCall) -> u64 {
        self.requested[call as usize]
    }

    /// Conversions refused, kept or not.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How many were not kept.
    pub fn dropped(&self) -> u64 {
        self.log.dropped()
    }
}
