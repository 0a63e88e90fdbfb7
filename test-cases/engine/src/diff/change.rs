// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One difference of two runs, and its text.

use std::fmt;

use serde::Serialize;

use crate::report::compact::{BootAccess, CompactVerdict, GuestEnd};

/// A difference of two runs. The order is that of reports: what makes runs incomparable first, then what is worse, then what
/// is better, then the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// The runs were set up in different ways, so that other differences may follow from that.
    Setup(Values),
    /// Another kernel, or another configuration of it.
    Kernel(Values),
    /// The run did not end in the same way.
    Ended(Values),
    /// A step that was refused is not any more.
    DenialLost(StepValues),
    /// A step shows a hole that it did not show.
    NewHole(Hole),
    /// A guest died or was aborted where none did.
    NewDeath(GuestEnd),
    /// A boot makes a forbidden access that it did not make.
    NewBootAccess(BootAccess),
    /// A case has another verdict.
    VerdictMoved(VerdictMove),
    /// A step has another verdict, for none of the reasons above or below.
    StepVerdictMoved(StepMove),
    /// A step that was not refused is now.
    DenialGained(StepValues),
    /// A step does not show a hole any more that it showed, though it was tried.
    HoleClosed(Hole),
    /// A boot does not make a forbidden access any more.
    BootAccessGone(BootAccess),
    /// Where a guest died or was aborted, none does any more.
    DeathGone(GuestEnd),
    /// A step gives another result.
    ResultChanged(StepValues),
    /// A case has other steps: the case itself was changed.
    CaseEdited(CaseName),
    /// Only the new run has this case.
    CaseAdded(CaseVerdictNow),
    /// Only the old run has this case.
    CaseRemoved(CaseName),
}

/// One fact in both runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Values {
    /// What it is.
    pub what: String,
    /// In the old run.
    pub old: String,
    /// In the new run.
    pub new: String,
}

/// The result of one step in both runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StepValues {
    /// The case.
    pub case: String,
    /// The step.
    pub step: String,
    /// The call.
    pub call: String,
    /// The result in the old run.
    pub old: String,
    /// The result in the new run.
    pub new: String,
}

/// A hole that one run shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Hole {
    /// The case.
    pub case: String,
    /// The step.
    pub step: String,
    /// The call.
    pub call: String,
    /// The hole.
    pub hole: String,
}

/// A case's verdicts in both runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct VerdictMove {
    /// The case.
    pub case: String,
    /// The verdict in the old run.
    pub old: CompactVerdict,
    /// The verdict in the new run.
    pub new: CompactVerdict,
    /// Why the new run gives no judgement, where it gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A step's verdicts in both runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StepMove {
    /// The case.
    pub case: String,
    /// The step.
    pub step: String,
    /// The call.
    pub call: String,
    /// The verdict in the old run.
    pub old: CompactVerdict,
    /// The verdict in the new run.
    pub new: CompactVerdict,
}

/// A case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CaseName {
    /// Its name.
    pub case: String,
}

/// A case of the new run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CaseVerdictNow {
    /// Its name.
    pub case: String,
    /// Its verdict.
    pub verdict: CompactVerdict,
}

/// How a change is to be weighed by its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The runs cannot be compared without care.
    Caution,
    /// The kernel denies less, or does more that is forbidden.
    Worse,
    /// The kernel denies more, or does less that is forbidden.
    Better,
    /// Neither.
    Neutral,
}

impl Change {
    /// The change in a few words.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Setup(_) => "SET-UP DIFFERS",
            Self::Kernel(_) => "kernel",
            Self::Ended(_) => "end of run",
            Self::DenialLost(_) => "DENIAL LOST",
            Self::NewHole(_) => "NEW HOLE",
            Self::NewDeath(_) => "NEW DEATH",
            Self::NewBootAccess(_) => "NEW BOOT EVENT",
            Self::VerdictMoved(_) => "verdict moved",
            Self::StepVerdictMoved(_) => "step's verdict",
            Self::DenialGained(_) => "denial gained",
            Self::HoleClosed(_) => "hole closed",
            Self::BootAccessGone(_) => "boot event gone",
            Self::DeathGone(_) => "death gone",
            Self::ResultChanged(_) => "result changed",
            Self::CaseEdited(_) => "case edited",
            Self::CaseAdded(_) => "case added",
            Self::CaseRemoved(_) => "case removed",
        }
    }

    /// How it is to be weighed.
    pub const fn weight(&self) -> Weight {
        match self {
            Self::Setup(_) => Weight::Caution,
            Self::DenialLost(_) | Self::NewHole(_) | Self::NewDeath(_) | Self::NewBootAccess(_) => {
                Weight::Worse
            }
            Self::VerdictMoved(VerdictMove { old, new, .. })
            | Self::StepVerdictMoved(StepMove { old, new, .. }) => match (old.is_finding(), new.is_finding())
            {
                (_, true) => Weight::Worse,
                (true, false) if new.is_judgement() => Weight::Better,
                _ => Weight::Neutral,
            },
            Self::DenialGained(_) | Self::HoleClosed(_) | Self::BootAccessGone(_) | Self::DeathGone(_) => {
                Weight::Better
            }
            _ => Weight::Neutral,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(Values { what, old, new })
            | Self::Kernel(Values { what, old, new })
            | Self::Ended(Values { what, old, new }) => write!(f, "{what}: {old} → {new}"),
            Self::DenialLost(it) | Self::DenialGained(it) | Self::ResultChanged(it) => {
                write!(f, "{}#{}, {}: {} → {}", it.case, it.step, it.call, it.old, it.new)
            }
            Self::NewHole(it) | Self::HoleClosed(it) => {
                write!(f, "{}#{}, {}: {}", it.case, it.step, it.call, it.hole)
            }
            Self::NewDeath(end) | Self::DeathGone(end) => match &end.during {
                Some(during) => write!(f, "{} in {during}", end.how),
                None => write!(f, "{} while booting", end.how),
            },
            Self::NewBootAccess(access) | Self::BootAccessGone(access) => boot_access(f, access),
            Self::VerdictMoved(VerdictMove { case, old, new, reason }) => {
                write!(f, "{case}: {old} → {new}")?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, " ({reason})"))
            }
            Self::StepVerdictMoved(StepMove { case, step, call, old, new }) => {
                write!(f, "{case}#{step}, {call}: {old} → {new}")
            }
            Self::CaseEdited(CaseName { case }) => write!(f, "{case}: its steps are other ones now"),
            Self::CaseAdded(CaseVerdictNow { case, verdict }) => write!(f, "{case}: {verdict}"),
            Self::CaseRemoved(CaseName { case }) => f.write_str(case),
        }
    }
}

fn boot_access(f: &mut fmt::Formatter<'_>, access: &BootAccess) -> fmt::Result {
    let BootAccess { boot, kind, region, state, function, known } = access;
    write!(f, "{boot}: {kind} of ")?;
    match region {
        Some(region) => write!(f, "{region}, which is {state}")?,
        None => write!(f, "memory that is {state}")?,
    }
    write!(f, ", by {}", function.as_deref().unwrap_or("code without a name"))?;
    known.as_ref().map_or(Ok(()), |known| write!(f, " (known: {known})"))
}
