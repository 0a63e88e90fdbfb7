// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads KTAP and TAP, the output of the kernel's own tests (Documentation/dev-tools/ktap.rst; TAP 13 and 14), out of a kernel log
//! or a program's output.
//!
//! Real output is looser than the formats: lines of others between, timestamps before, levels without a header or an end. What
//! cannot be understood is part of the log of the test it stands before; what is wrong with a level is one of its problems. No
//! input makes a test pass that has no line of its own that starts with `ok`.

mod line;
mod reader;
#[cfg(test)]
mod tests;

pub use self::line::Directive;

/// Everything that was found in an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ktap {
    /// The outermost levels, one after another.
    pub levels: Vec<Level>,
    /// The reason of `Bail out!`, which ends the output.
    pub bail_out: Option<String>,
    /// Ends of lines, each with the test that was under way until there.
    bounds: Vec<(usize, Option<TestId>)>,
    /// The test under way at the end.
    last: Option<TestId>,
}

/// Identifies a test of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TestId(usize);

/// Tests with the same indentation, under one plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// The plan line, where there is one.
    pub plan: Option<Plan>,
    /// The tests.
    pub tests: Vec<Test>,
    /// What is wrong with it.
    pub problems: Vec<String>,
    /// Lines after its last test.
    pub log: Vec<String>,
    /// By `# Subtest:`.
    name: Option<String>,
}

/// `1..N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How many tests there are.
    pub count: u64,
    /// Why there are none, where that is stated.
    pub skip: Option<String>,
}

/// A test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Which one.
    pub id: TestId,
    /// Its name; its number where it has none.
    pub name: String,
    /// `ok` or `not ok`; `None` if it has subtests and no result of its own.
    pub ok: Option<bool>,
    /// What its line ends with.
    pub directive: Option<(Directive, String)>,
    /// Its line, without indentation.
    pub line: String,
    /// Lines since the result before, as far as they are kept.
    pub log: Vec<String>,
    /// Its subtests.
    pub subtests: Option<Level>,
}

/// Where the text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's log, in which tests begin with a version line.
    KernelLog,
    /// Standard output of a program; many leave the version out.
    Program,
}

impl Ktap {
    /// Reads an output. `complete`: its program has ended, so that its last line needs no line feed.
    pub fn read(text: &[u8], origin: Origin, complete: bool) -> Self {
        reader::read(text, origin, complete)
    }

    /// The test under way when the output had this length; `None` outside all of them.
    ///
    /// What precedes a test's result line, after the result before it, is its own. What precedes the header of subtests
    /// belongs to the test that has the subtests, and so does what follows the last one.
    pub fn test_at(&self, position: u64) -> Option<TestId> {
        let index = self.bounds.partition_point(|(end, _)| *end as u64 <= position);
        self.bounds.get(index).map_or(self.last, |(_, test)| *test)
    }

    /// The output had this length after the last line that counts.
    pub fn is_after_last(&self, position: u64) -> bool {
        self.bounds.last().is_none_or(|(end, _)| *end as u64 <= position)
    }
}

impl Level {
    /// How many planned tests have no line.
    pub fn missing(&self) -> u64 {
        self.plan.as_ref().map_or(0, |plan| plan.count.saturating_sub(self.tests.len() as u64))
    }
}
