// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verdicts of a step and of a case; docs/verdicts.md defines each word.

use serde::{Deserialize, Serialize};

use super::Rigour;

/// The verdict of a step or a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// What was specified, and nothing wrong with it.
    AsSpecified,
    /// What was specified, and it is a hole that is known.
    KnownHole {
        /// What leaks or breaks.
        hole: String,
    },
    /// Something was to be refused or hidden, and was not.
    DenialMissing {
        /// What was specified.
        expected: String,
        /// The result.
        got: String,
    },
    /// Something else than specified.
    Unexpected {
        /// What was specified.
        expected: String,
        /// The result.
        got: String,
    },
    /// The result may be as specified or not: it does not show the difference.
    Inconclusive {
        /// What was specified.
        expected: String,
        /// The result.
        got: String,
        /// Why it does not show the difference.
        reason: String,
    },
    /// By the specification an earlier step is refused, so this step has no expected result: not judged.
    Evidence {
        /// The result.
        got: String,
    },
    /// A step that could not be tried because an earlier one was refused.
    NotReached,
    /// A case that does not apply to this guest.
    Skipped {
        /// Why.
        reason: String,
    },
    /// A case or step that could not be run.
    NotRun {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// Whether the kernel under test is at fault.
    pub const fn is_finding(&self) -> bool {
        matches!(self, Self::DenialMissing { .. } | Self::Unexpected { .. })
    }

    /// Whether the kernel under test was not judged, though it was to be.
    pub const fn says_nothing(&self) -> bool {
        matches!(self, Self::Inconclusive { .. } | Self::NotRun { .. })
    }

    /// The verdict in one or two words.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::AsSpecified => "as specified",
            Self::KnownHole { .. } => "known hole",
            Self::DenialMissing { .. } => "denial missing",
            Self::Unexpected { .. } => "unexpected",
            Self::Inconclusive { .. } => "inconclusive",
            Self::Evidence { .. } => "evidence",
            Self::NotReached => "not reached",
            Self::Skipped { .. } => "skipped",
            Self::NotRun { .. } => "not run",
        }
    }

    /// How much a step's verdict weighs in the verdict on its case. A finding is a fact, which no doubt about another
    /// step takes back. Of the two that do not judge, the inconclusive one weighs more: the guest was there and the case
    /// is at fault, while what did not run may be judged by running it again.
    pub(crate) const fn weight(&self) -> u8 {
        match self {
            Self::Evidence { .. } | Self::NotReached | Self::Skipped { .. } => 0,
            Self::AsSpecified => 1,
            Self::KnownHole { .. } => 2,
            Self::NotRun { .. } => 3,
            Self::Inconclusive { .. } => 4,
            Self::Unexpected { .. } => 5,
            Self::DenialMissing { .. } => 6,
        }
    }
}

/// The verdict on a case and on each of its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseVerdict {
    /// The weightiest of the steps' verdicts.
    pub verdict: Verdict,
    /// The verdicts on the steps, in the case's order; empty if the case did not run.
    pub steps: Vec<Verdict>,
    /// How strict the comparisons were.
    pub rigour: Rigour,
}

impl CaseVerdict {
    /// A case that was not run.
    pub(super) fn bare(verdict: Verdict) -> Self {
        Self { verdict, steps: Vec::new(), rigour: Rigour::default() }
    }

    /// The known holes that were shown.
    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|verdict| match verdict {
            Verdict::KnownHole { hole } => Some(hole.as_str()),
            _ => None,
        })
    }
}
