// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An exported case is run before it is shown, in a new guest, as `copra run` does.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::boot::BootResult;
use crate::case;
use crate::guest::Target;
use crate::judge::Verdict;
use crate::report::{CaseResult, Report, RunEnd};
use crate::run::{self, Activity, Watcher};

/// The result of the exported case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// It fails, as it must: the verdict in words.
    Fails(String),
    /// It passes, so it shows nothing.
    Passes,
    /// It gave no verdict.
    NotRun(String),
}

/// Runs the case in a new guest.
pub fn replay(target: &Target, text: &str, interrupt: &Arc<AtomicBool>) -> Replay {
    let case = match case::parse(text, "explored") {
        Ok(case) => case,
        Err(errors) => return Replay::NotRun(format!("the case cannot be read: {errors}")),
    };
    match run::run(target, &[case], &mut Unwatched, interrupt) {
        Ok(report) => of(&report),
        Err(error) => Replay::NotRun(error.to_string()),
    }
}

fn of(report: &Report) -> Replay {
    let Some(result) = report.cases.first() else {
        let why =
            if report.ended == RunEnd::Interrupted { "interrupted" } else { "the guest did not come up" };
        return Replay::NotRun(why.to_owned());
    };
    match &result.verdict.verdict {
        Verdict::AsSpecified | Verdict::KnownHole { .. } => Replay::Passes,
        Verdict::DenialMissing { expected, got } | Verdict::Unexpected { expected, got } => {
            Replay::Fails(format!("expected {expected}, got {got}"))
        }
        Verdict::NotRun { reason } | Verdict::Skipped { reason } => Replay::NotRun(reason.clone()),
        other => Replay::NotRun(other.label().to_owned()),
    }
}

/// Nothing is shown of the run.
struct Unwatched;

impl Watcher for Unwatched {
    fn progress(&mut self, _: &Activity<'_>) {}
    fn up(&mut self, _: &Report) {}
    fn boot(&mut self, _: &BootResult) {}
    fn case(&mut self, _: &CaseResult) {}
}
