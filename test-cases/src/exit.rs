//! What the exit codes of `copra` mean; they do not change.

use std::process::ExitCode;

use crate::judge::Verdict;

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
    /// The exit code of `copra run` after these verdicts.
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
