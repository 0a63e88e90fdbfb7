// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with a case file, and where.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

use super::expectation::{EventError, KeyError};
use super::needs::NeedError;
use super::term::TermError;
use crate::place::PlaceError;
use types::names::{UnknownName, suggestion};
use vmm::platform::failure::{BadRule, ForeignRule, TooManyRules};

/// Everything that was found wrong with one case file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseErrors {
    /// The case's name, or the file's path.
    pub name: String,
    /// What is wrong, from the top of the file to its end.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProblemKind {
    /// The file is no TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// A key that means nothing there.
    #[error("unknown key `{key}` in {place}{}; allowed: {}", suggestion(nearest.as_deref()), allowed.join(", "))]
    UnknownKey {
        /// The key.
        key: String,
        /// Its place in the file.
        place: String,
        /// The nearest key that is allowed.
        nearest: Option<String>,
        /// Every key that is allowed.
        allowed: Vec<String>,
    },
    /// A key that must be there and is not.
    #[error("{place} lacks the key `{key}`: write {form}")]
    Missing {
        /// The key.
        key: String,
        /// The place where it is missing.
        place: String,
        /// The form of its value.
        form: String,
    },
    /// A value of the wrong type.
    #[error("`{key}` is {found}, it must be {form}")]
    Type {
        /// The key.
        key: String,
        /// The form of its value.
        form: String,
        /// What was found.
        found: String,
    },
    /// A number out of range.
    #[error("`{key}` is {value}, it must be between {least} and {most}")]
    Range {
        /// The key.
        key: String,
        /// What was found.
        value: String,
        /// The least value.
        least: u64,
        /// The greatest value.
        most: u64,
    },
    /// A name that is not on its list.
    #[error(transparent)]
    Name(#[from] UnknownName),
    /// A place that cannot be read.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// An expectation that cannot be read.
    #[error(transparent)]
    Term(#[from] TermError),
    /// The left side of an expectation cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A forbidden access that cannot be read.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A need that cannot be read.
    #[error(transparent)]
    Need(#[from] NeedError),
    /// A rule for conversions that fail cannot be read.
    #[error(transparent)]
    Rule(#[from] BadRule),
    /// There are too many of them.
    #[error(transparent)]
    Rules(#[from] TooManyRules),
    /// One is for another platform.
    #[error("{0}")]
    ForeignRule(ForeignRule),
    /// Data for a write that cannot be read.
    #[error("`{key}` is no data: {why}")]
    Data {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two things of the same name.
    #[error("{what} `{name}` is there twice; the first one is on line {first}")]
    Twice {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// Its first place in the file.
        first: usize,
    },
    /// A step uses what no earlier step obtains.
    #[error("step `{step}` uses {what} `{name}`, which no earlier step opens or maps (`as = \"{name}\"`)")]
    Dangling {
        /// The step.
        step: String,
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A policy and platform without an expectation.
    #[error("step `{step}` expects nothing for policy {policy} on platform {platform}: add a key `any`")]
    Gap {
        /// The step.
        step: String,
        /// The policy.
        policy: String,
        /// The platform.
        platform: String,
    },
    /// A setup that is not possible, as a text.
    #[error("{0}")]
    Nonsense(String),
}

impl fmt::Display for CaseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let Problem { line, column, kind } = problem;
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}:{column}: {kind}", self.name)?;
        }
        Ok(())
    }
}

impl std::error::Error for CaseErrors {}

/// The problems found so far, and the text they were found in.
pub(super) struct Sink<'s> {
    source: &'s str,
    /// Where each line begins, so that finding a line does not mean reading the file from its start.
    lines: Vec<usize>,
    problems: Vec<(usize, ProblemKind)>,
}

impl<'s> Sink<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        let ends = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { source, lines, problems: Vec::new() }
    }

    /// Notes a problem with the text at `span`.
    pub(super) fn add(&mut self, span: &Range<usize>, kind: impl Into<ProblemKind>) {
        self.problems.push((span.start, kind.into()));
    }

    /// The value of a result, or nothing and a problem at `span`.
    pub(super) fn take<T, E: Into<ProblemKind>>(
        &mut self,
        span: &Range<usize>,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|kind| self.add(span, kind)).ok()
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        position(self.source, &self.lines, offset).0
    }

    /// Whether nothing is wrong so far.
    pub(super) const fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Nothing, if nothing is wrong.
    pub(super) fn finish(self, name: &str) -> Result<(), CaseErrors> {
        if self.is_clean() { Ok(()) } else { Err(self.into_errors(name)) }
    }

    /// The problems in the order of the file.
    pub(super) fn into_errors(mut self, name: &str) -> CaseErrors {
        self.problems.sort_by_key(|(offset, _)| *offset);
        let locate = |(offset, kind)| {
            let (line, column) = position(self.source, &self.lines, offset);
            Problem { line, column, kind }
        };
        let problems = self.problems.into_iter().map(locate).collect();
        CaseErrors { name: name.to_owned(), problems }
    }
}

/// Line and column of a byte offset, both from 1. `lines`: where each line begins.
fn position(source: &str, lines: &[usize], offset: usize) -> (usize, usize) {
    let line = lines.partition_point(|start| *start <= offset);
    let start = lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
    let before =
        source.get(start..).unwrap_or_default().char_indices().take_while(|(at, _)| start + at < offset);
    (line.max(1), before.count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let position = |source: &str, offset| {
            let sink = Sink::new(source);
            position(source, &sink.lines, offset)
        };
        assert_eq!(position("a\nbc", 0), (1, 1));
        assert_eq!(position("a\nbc", 3), (2, 2));
        assert_eq!(position("é\né=", 5), (2, 2));
        assert_eq!(position("", 9), (1, 1));
    }
}
