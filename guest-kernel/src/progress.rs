// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is going on, for anything that takes more than a second.

/// Receives the long steps of fetching and building a kernel. The command implements it; [`Silent`] is for tests and
/// for callers that do not care.
pub trait Progress: Send + Sync {
    /// A step begins: `Downloading linux-source-6.12 6.12.117-1~deb12u1`. It ends when the next one begins.
    fn step(&self, what: &str);

    /// How far the current step has come. Called often; print as rarely as you like.
    fn advance(&self, amount: Amount);

    /// Something the user should know though nothing failed: `offline, using what was fetched on …`.
    fn note(&self, what: &str);
}

/// How much of a step is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Units done so far.
    pub done: u64,
    /// Units in all, where known. An estimate for objects: `done` may pass it.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
}

impl Amount {
    /// Bytes out of a known number.
    pub fn bytes(done: u64, total: u64) -> Self {
        Self { done, total: Some(total), unit: Unit::Bytes }
    }

    /// Objects compiled, out of an expected number if there is an expectation.
    pub fn objects(done: u64, total: Option<u64>) -> Self {
        Self { done, total, unit: Unit::Objects }
    }

    /// Per cent of whatever the step does.
    pub fn percent(done: u64) -> Self {
        Self { done, total: Some(100), unit: Unit::Percent }
    }
}

/// What [`Amount`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes downloaded or unpacked.
    Bytes,
    /// Object files compiled.
    Objects,
    /// Per cent.
    Percent,
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _what: &str) {}
    fn advance(&self, _amount: Amount) {}
    fn note(&self, _what: &str) {}
}
