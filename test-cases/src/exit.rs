// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the exit codes of `copra` mean; they do not change.

use std::process::ExitCode;

use engine::judge::Verdict;
use engine::report::document::RunDocument;
use engine::report::{CaseResult, Report, RunEnd};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `run`: all that ran is as specified, known holes included, and something ran.
    /// `repro`: the documented behaviour was reproduced. Other commands: done.
    Success,
    /// `run`: a denial is missing, or a result is not specified.
    /// `repro`: the documented behaviour was not reproduced. `doctor`: this host cannot run copra.
    Finding,
    /// `run`: no finding, and at least one case in which the difference between what is specified and what is not cannot be
    /// seen. The code is that of a finding, since no case passed; `git bisect run` skips the commit.
    /// `explore`: kernel and model disagreed, but not when the steps were repeated.
    Inconclusive,
    /// The command could not do its work: bad arguments, no kernel, no KVM, a guest that died on its own,
    /// or no case that applies. An earlier finding takes precedence.
    CouldNotRun,
    /// `run --bisect`: this commit cannot be tested, because it does not build, boot or have what the cases need;
    /// `git bisect run` tries another one.
    Untestable,
    /// `run --bisect`: nothing can be tested, whatever the commit; `git bisect run` stops.
    AbortBisect,
    /// `exec`: the command ended with this status.
    Program(u8),
    /// Interrupted by Ctrl-C; reports hold what ran until then.
    Interrupted,
}

impl Exit {
    /// The code the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Finding | Self::Inconclusive => 1,
            Self::CouldNotRun => 2,
            Self::Untestable => 125,
            Self::AbortBisect => 128,
            Self::Program(status) => status,
            Self::Interrupted => 130,
        }
    }

    /// The exit code of `copra run`: a finding made before the run was cut short takes precedence.
    pub fn of_report(report: &Report) -> Self {
        let cases = report.cases.iter().map(|result| &result.verdict.verdict);
        Self::of(&report.ended, report.boot_verdict(), cases)
    }

    /// The exit code of the run that a document reports.
    pub fn of_document(document: &RunDocument) -> Self {
        let cases = document.cases.iter().map(|case| &case.judged);
        Self::of(&document.ended, document.boot.judged.as_ref(), cases)
    }

    fn of<'a>(
        ended: &RunEnd,
        boot: Option<&'a Verdict>,
        cases: impl Iterator<Item = &'a Verdict> + Clone,
    ) -> Self {
        let found = boot.into_iter().chain(cases.clone()).any(Verdict::is_finding);
        let came_up = !matches!(boot, Some(Verdict::NotRun { .. }));
        match ended {
            RunEnd::Interrupted => Self::Interrupted,
            _ if found => Self::Finding,
            RunEnd::Complete if came_up => Self::of_run(cases),
            RunEnd::Complete | RunEnd::Failed(_) => match Self::of_run(cases) {
                Self::Inconclusive => Self::Inconclusive,
                _ => Self::CouldNotRun,
            },
        }
    }

    /// The exit code of one shard of a run: one without a case that applies is no failure.
    #[must_use]
    pub fn of_shard(report: &Report) -> Self {
        let skipped = |result: &CaseResult| matches!(result.verdict.verdict, Verdict::Skipped { .. });
        match Self::of_report(report) {
            Self::CouldNotRun
                if report.ended == RunEnd::Complete
                    && report.cases.iter().all(skipped)
                    && !matches!(report.boot_verdict(), Some(Verdict::NotRun { .. })) =>
            {
                Self::Success
            }
            other => other,
        }
    }

    /// The exit code after these verdicts on cases.
    pub fn of_run<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        let (mut ran, mut failed, mut inconclusive) = (false, false, false);
        for verdict in verdicts {
            match verdict {
                verdict if verdict.is_finding() => return Self::Finding,
                Verdict::Inconclusive { .. } => inconclusive = true,
                Verdict::NotRun { .. } => failed = true,
                Verdict::Skipped { .. } => {}
                _ => ran = true,
            }
        }
        match (inconclusive, ran && !failed) {
            (true, _) => Self::Inconclusive,
            (false, true) => Self::Success,
            (false, false) => Self::CouldNotRun,
        }
    }

    /// The exit code for `git bisect run` of a run that was made.
    #[must_use]
    pub fn for_bisection(self) -> Self {
        match self {
            Self::CouldNotRun | Self::Inconclusive => Self::Untestable,
            other => other,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::observation::DeathKind;
    use engine::report::fixture;
    use types::Mode;

    #[test]
    fn a_boot_that_ended_by_a_forbidden_access_is_a_finding_and_any_other_is_not() {
        let died = fixture::died_in_boot();
        assert_eq!(Exit::of_report(&died), Exit::Finding);
        assert_eq!(Exit::of_report(&died).for_bisection(), Exit::Finding);
        let mut other = died;
        other.boots = vec![fixture::boot(Mode::Faithful, vec![], Some(DeathKind::Panic))];
        assert_eq!(Exit::of_report(&other), Exit::CouldNotRun);
        assert_eq!(Exit::of_report(&other).for_bisection(), Exit::Untestable);
        other.boots.clear();
        assert_eq!(Exit::of_report(&other), Exit::CouldNotRun);
    }

    #[test]
    fn a_guest_that_did_not_come_up_is_a_failure_of_the_run_whatever_its_cases_would_have_been() {
        let mut report = fixture::whole();
        report.cases.retain(|result| {
            matches!(result.verdict.verdict, Verdict::AsSpecified | Verdict::Skipped { .. })
        });
        assert_eq!(Exit::of_report(&report), Exit::Success);
        report.boots.push(fixture::boot(Mode::Record, vec![], Some(DeathKind::Panic)));
        assert_eq!(Exit::of_report(&report), Exit::CouldNotRun);
        assert_eq!(Exit::of_shard(&report), Exit::CouldNotRun);
        report.cases.retain(|result| matches!(result.verdict.verdict, Verdict::Skipped { .. }));
        assert_eq!(Exit::of_shard(&report), Exit::CouldNotRun);
    }

    #[test]
    fn a_document_has_the_exit_code_of_its_run() {
        for report in fixture::every() {
            assert_eq!(Exit::of_document(&RunDocument::of(&report)), Exit::of_report(&report));
        }
    }

    #[test]
    fn a_shard_in_which_no_case_applies_is_no_failure() {
        let mut report = fixture::whole();
        report.cases.retain(|result| matches!(result.verdict.verdict, Verdict::Skipped { .. }));
        assert_eq!((Exit::of_report(&report), Exit::of_shard(&report)), (Exit::CouldNotRun, Exit::Success));
        report.cases.clear();
        assert_eq!(Exit::of_shard(&report), Exit::Success);
        report.ended = RunEnd::Failed("no KVM".to_owned());
        assert_eq!(Exit::of_shard(&report), Exit::CouldNotRun);
        assert_eq!(Exit::of_shard(&fixture::whole()), Exit::of_report(&fixture::whole()));
    }

    #[test]
    fn an_access_in_boot_that_is_not_known_is_a_finding() {
        let mut report = fixture::events_in_boot();
        report.cases.retain(|result| !result.verdict.verdict.is_finding());
        report.cases.retain(|result| !matches!(result.verdict.verdict, Verdict::NotRun { .. }));
        assert_eq!(Exit::of_report(&report), Exit::Finding);
        report.boots.truncate(1);
        assert_eq!(Exit::of_report(&report), Exit::Success, "only known ones");
    }

    #[test]
    fn git_bisect_skips_what_could_not_run_and_stops_at_an_interrupt() {
        assert_eq!(Exit::CouldNotRun.for_bisection(), Exit::Untestable);
        assert_eq!(Exit::Finding.for_bisection(), Exit::Finding);
        // git-bisect(1): 125 skips, other codes below 128 are bad but 0, the rest stops.
        assert_eq!(Exit::Inconclusive.for_bisection(), Exit::Untestable);
        assert_eq!(Exit::Untestable.code(), 125);
        assert!(Exit::AbortBisect.code() > 127 && Exit::Interrupted.code() > 127);
    }

    #[test]
    fn the_exit_code_of_a_run_is_that_of_its_worst_verdict() {
        let fine = Verdict::AsSpecified;
        let hole = Verdict::KnownHole { hole: String::new() };
        let bad = Verdict::DenialMissing { expected: String::new(), got: String::new() };
        let skipped = Verdict::Skipped { reason: String::new() };
        let failed = Verdict::NotRun { reason: String::new() };
        let [expected, got, reason] = [const { String::new() }; 3];
        let doubtful = Verdict::Inconclusive { expected, got, reason };
        assert_eq!(Exit::of_run([&fine, &doubtful]), Exit::Inconclusive);
        assert_eq!(Exit::of_run([&fine, &doubtful, &failed]), Exit::Inconclusive);
        assert_eq!(Exit::of_run([&doubtful, &bad]), Exit::Finding);
        assert_eq!(Exit::Inconclusive.code(), 1);
        assert_eq!(Exit::of_run([&fine, &hole, &skipped]), Exit::Success);
        assert_eq!(Exit::of_run([&fine, &failed, &bad]), Exit::Finding);
        assert_eq!(Exit::of_run([&fine, &failed]), Exit::CouldNotRun);
        assert_eq!(Exit::of_run([&skipped]), Exit::CouldNotRun);
        assert_eq!(Exit::of_run([]), Exit::CouldNotRun);
    }
}
