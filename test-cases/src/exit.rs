//! What the exit codes of `copra` mean; they do not change.

use std::process::ExitCode;

use crate::judge::Verdict;
use crate::report::{Ended, Report};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// `run`: all that ran is as specified, known holes included, and something ran.
    /// `repro`: the documented behaviour was reproduced. Other commands: done.
    Success = 0,
    /// `run`: a denial is missing, or something came back that is not specified.
    /// `repro`: the documented behaviour was not reproduced. `doctor`: this host cannot run copra.
    Finding = 1,
    /// The command could not do its work: bad arguments, no kernel, no KVM, a guest that died on its own,
    /// or no case that applies. A finding made before weighs more.
    CouldNotRun = 2,
    /// `run --bisect`: this commit cannot be tested, because it does not build, boot or have what the cases need;
    /// `git bisect run` tries another one.
    Untestable = 125,
    /// `run --bisect`: nothing can be tested, whatever the commit; `git bisect run` stops.
    Hopeless = 128,
    /// Interrupted by Ctrl-C; reports hold what ran until then.
    Interrupted = 130,
}

impl Exit {
    /// The exit code of `copra run`: a finding made before the run was cut short weighs more than that.
    pub fn of_report(report: &Report) -> Self {
        let cases = || report.cases.iter().map(|result| &result.verdict.verdict);
        let found = report.has_boot_finding() || cases().any(Verdict::is_finding);
        match report.ended {
            Ended::Interrupted => Self::Interrupted,
            _ if found => Self::Finding,
            Ended::Failed(_) => Self::CouldNotRun,
            Ended::Complete => Self::of_run(cases()),
        }
    }

    /// The exit code after these verdicts on cases.
    pub fn of_run<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        let (mut ran, mut failed) = (false, false);
        for verdict in verdicts {
            match verdict {
                verdict if verdict.is_finding() => return Self::Finding,
                Verdict::NotRun { .. } => failed = true,
                Verdict::Skipped { .. } => {}
                _ => ran = true,
            }
        }
        if ran && !failed { Self::Success } else { Self::CouldNotRun }
    }

    /// The same to `git bisect run`, of a run that was made.
    #[must_use]
    pub fn for_bisection(self) -> Self {
        if self == Self::CouldNotRun { Self::Untestable } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::DeathKind;
    use crate::report::fixture;
    use crate::setup::Mode;

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
        assert_eq!(Exit::Untestable as u8, 125);
        assert!(Exit::Hopeless as u8 > 127 && Exit::Interrupted as u8 > 127);
    }

    #[test]
    fn a_run_ends_as_its_weightiest_verdict_says() {
        let fine = Verdict::AsSpecified;
        let hole = Verdict::KnownHole { hole: String::new() };
        let bad = Verdict::DenialMissing { expected: String::new(), got: String::new() };
        let skipped = Verdict::Skipped { reason: String::new() };
        let failed = Verdict::NotRun { reason: String::new() };
        assert_eq!(Exit::of_run([&fine, &hole, &skipped]), Exit::Success);
        assert_eq!(Exit::of_run([&fine, &failed, &bad]), Exit::Finding);
        assert_eq!(Exit::of_run([&fine, &failed]), Exit::CouldNotRun);
        assert_eq!(Exit::of_run([&skipped]), Exit::CouldNotRun);
        assert_eq!(Exit::of_run([]), Exit::CouldNotRun);
    }
}
