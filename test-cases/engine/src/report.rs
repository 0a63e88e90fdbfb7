// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run and its verdicts, whole or cut short, as data; its written forms are in the `copra` command.

pub mod compact;
pub mod document;
pub mod evidence;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod shard;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{Mode, Policy};

use crate::boot::BootResult;
use crate::case::Case;
use crate::judge::{CaseVerdict, Rigour, Verdict};
use crate::observation::{Aborted, CaseObservation, Counters, Death, During, KernelFacts, PlatformFacts};

/// A run: its kernel and platform, the planned cases, and the results so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The policy the kernel is judged by.
    pub policy: Policy,
    /// The effective policy, given the options the kernel was built with; cases are judged by it.
    pub policy_in_force: Policy,
    /// The kernel.
    pub kernel: KernelFacts,
    /// The platform, simulated and real.
    pub platform: PlatformFacts,
    /// The names of all cases that were to run, in order.
    pub planned: Vec<String>,
    /// Every guest's boot with its verdict, in order.
    pub boots: Vec<BootResult>,
    /// The cases that have a verdict, in order.
    pub cases: Vec<CaseResult>,
    /// Guests that died.
    pub deaths: Vec<Death>,
    /// Guests whose run was aborted for a reason that is no evidence about them.
    pub aborted: Vec<Aborted>,
    /// What the run cost.
    pub counters: Counters,
    /// Whether the run came to its end.
    pub ended: RunEnd,
    /// How long it took so far.
    pub duration: Duration,
}

/// One case with its observation and verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// The case.
    pub case: Case,
    /// What happened.
    pub observed: CaseObservation,
    /// The verdict.
    pub verdict: CaseVerdict,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", content = "reason", rename_all = "kebab-case")]
pub enum RunEnd {
    /// It came to its end.
    Complete,
    /// The user stopped it.
    Interrupted,
    /// It could not go on.
    Failed(String),
}

/// How many cases ended how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Cases that were to run.
    pub planned: usize,
    /// Cases as specified, without known holes.
    pub as_specified: usize,
    /// Cases as specified that show a known hole.
    pub known_hole: usize,
    /// Cases with a denial missing.
    pub denial_missing: usize,
    /// Cases with something else unexpected.
    pub unexpected: usize,
    /// Cases whose result may be as specified or not.
    pub inconclusive: usize,
    /// Cases that do not apply.
    pub skipped: usize,
    /// Cases that could not be run, including those the run did not reach.
    pub not_run: usize,
    /// Known holes shown, over all cases.
    pub holes_shown: usize,
    /// Why cases were skipped, and how many for each reason.
    pub skip_reasons: BTreeMap<String, usize>,
}

impl RunEnd {
    /// Why the run was cut short, if it was.
    pub fn cut_short(&self) -> Option<String> {
        match self {
            Self::Complete => None,
            Self::Interrupted => Some("the run was interrupted".to_owned()),
            Self::Failed(reason) => Some(reason.clone()),
        }
    }
}

impl Report {
    /// The planned cases that the run did not reach.
    pub fn remaining(&self) -> impl Iterator<Item = &str> {
        let ran = |name: &String| self.cases.iter().any(|result| result.case.name == *name);
        self.planned.iter().filter(move |name| !ran(name)).map(String::as_str)
    }

    /// Why the remaining cases were not run.
    pub fn cut_short(&self) -> Option<String> {
        self.ended.cut_short()
    }

    /// The death is what a case specifies for one of its steps, known holes included.
    pub fn is_expected(&self, death: &Death) -> bool {
        let Some(During { case: name, step: id }) = &death.during else { return false };
        self.cases.iter().filter(|result| result.case.name == *name).any(|result| {
            let index = result.case.steps.iter().position(|step| step.id == *id);
            let verdict = index.and_then(|index| result.verdict.steps.get(index));
            matches!(verdict, Some(Verdict::AsSpecified | Verdict::KnownHole { .. }))
        })
    }

    /// The weightiest verdict on a boot; `None` if no guest was booted.
    pub fn boot_verdict(&self) -> Option<&Verdict> {
        self.boots.iter().map(|boot| &boot.verdict).max_by_key(|verdict| verdict.weight())
    }

    /// The boot of a guest ended by a forbidden access, or made one that is not known.
    pub fn has_boot_finding(&self) -> bool {
        self.boots.iter().any(|boot| boot.verdict.is_finding())
    }

    /// How strict the comparisons of all verdicts were.
    pub fn rigour(&self) -> Rigour {
        self.cases.iter().fold(Rigour::default(), |mut sum, result| {
            sum.add(&result.verdict.rigour);
            sum
        })
    }

    /// In which modes the cases ran, and how many in each.
    pub fn modes(&self) -> BTreeMap<Mode, usize> {
        let mut modes = BTreeMap::new();
        for result in self.cases.iter().filter(|result| !result.observed.steps.is_empty()) {
            *modes.entry(result.case.guest.mode.unwrap_or(self.platform.setup.mode)).or_default() += 1;
        }
        modes
    }

    /// Counts the verdicts.
    pub fn summary(&self) -> Summary {
        let cases = self.cases.iter().map(|result| (&result.verdict.verdict, result.verdict.holes().count()));
        Summary::of(cases, self.remaining().count())
    }
}

impl Summary {
    /// Counts the verdicts on cases, each with the number of holes it showed, and the cases that did not run.
    pub fn of<'a>(cases: impl Iterator<Item = (&'a Verdict, usize)>, remaining: usize) -> Self {
        let mut summary = Self { planned: remaining, not_run: remaining, ..Self::default() };
        for (verdict, holes) in cases {
            summary.planned += 1;
            summary.holes_shown += holes;
            match verdict {
                Verdict::KnownHole { .. } => summary.known_hole += 1,
                Verdict::DenialMissing { .. } => summary.denial_missing += 1,
                Verdict::Unexpected { .. } => summary.unexpected += 1,
                Verdict::Inconclusive { .. } => summary.inconclusive += 1,
                Verdict::NotRun { .. } => summary.not_run += 1,
                Verdict::Skipped { reason } => {
                    summary.skipped += 1;
                    *summary.skip_reasons.entry(reason.clone()).or_default() += 1;
                }
                _ => summary.as_specified += 1,
            }
        }
        summary
    }
}

impl CaseResult {
    /// The steps with their observation, if there is one, and their verdict.
    pub fn steps(
        &self,
    ) -> impl Iterator<Item = (&crate::case::Step, Option<&crate::observation::StepObservation>, &Verdict)>
    {
        let steps = self.case.steps.iter().zip(&self.verdict.steps);
        steps.map(|(step, verdict)| (step, self.observed.step(&step.id), verdict))
    }
}

/// Which instructions of the kernel image were rewritten, in words.
pub fn rewritten(platform: &PlatformFacts) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for opcode in &platform.rewritten {
        *counts.entry(&opcode.was).or_default() += 1;
    }
    if counts.is_empty() {
        // A guest that was started has regions.
        let text = if platform.regions.is_empty() {
            "not known: no kernel was loaded"
        } else {
            "no instruction, the image runs unmodified"
        };
        return text.to_owned();
    }
    let counts: Vec<String> = counts.iter().map(|(was, count)| format!("{count} × {was}")).collect();
    counts.join(", ")
}
