// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A report without bytes, times, logs and counters: what two runs are compared by, and what baselines keep.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::{EventKind, Platform, Policy, Region};

use super::RunEnd;
use super::document::{CaseRecord, DocumentError, RunDocument, SCHEMA, StepRecord};
use super::shard::Shard;
use crate::judge::Verdict;
use crate::observation::{Answer, Deaths, KernelFacts, KvmHost, SetupFacts};

/// The version of the compact form.
pub const COMPACT_SCHEMA: &str = "copra-compact/1";

/// A run, as far as two runs are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactReport {
    /// The version of the form.
    pub schema: String,
    /// The version of copra.
    pub copra: String,
    /// The policy the kernel was held to.
    pub policy: Policy,
    /// The policy that was in force with the kernel's options.
    pub policy_in_force: Policy,
    /// The kernel, without the lines of its log.
    pub kernel: KernelFacts,
    /// The platform.
    pub platform: Platform,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// How guests were set up.
    pub setup: SetupFacts,
    /// Where KVM ran.
    pub kvm: KvmHost,
    /// Which part of the cases was run, where not all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// How the run ended.
    pub ended: RunEnd,
    /// The forbidden accesses while guests booted.
    pub boot_accesses: BTreeSet<BootAccess>,
    /// Guests that died otherwise than a case specifies, and those whose run was aborted.
    pub deaths: BTreeSet<GuestEnd>,
    /// The cases by name.
    pub cases: BTreeMap<String, CompactCase>,
}

/// Forbidden accesses of boots that differ in address and instruction alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootAccess {
    /// Which boot: the options of its guest.
    pub boot: String,
    /// What kind of access.
    pub kind: EventKind,
    /// The region, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// The state of the page.
    pub state: String,
    /// The function, without offset, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Why it is known of this kernel, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
}

/// The end of a guest that was not copra's own doing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GuestEnd {
    /// The step it happened in as `case#step`; `None` while booting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<String>,
    /// The death, or `aborted`.
    pub how: String,
}

/// A case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactCase {
    /// The verdict.
    pub verdict: CompactVerdict,
    /// Why it was skipped or not run, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<CompactStep>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactStep {
    /// Its name.
    pub id: String,
    /// The call.
    pub call: String,
    /// The verdict.
    pub verdict: CompactVerdict,
    /// The observation in a few words; `None` if the step was not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Whether access was refused ("not permitted"); `None` if the step was not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<bool>,
    /// The known hole that it showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hole: Option<String>,
}

types::names::named! {
    /// A verdict without its reason.
    pub enum CompactVerdict ("verdict") {
        AsSpecified = "as-specified", "what the policy specifies";
        KnownHole = "known-hole", "as specified, and a known hole";
        DenialMissing = "denial-missing", "something was to be refused or hidden, and was not";
        Unexpected = "unexpected", "something else than specified";
        Inconclusive = "inconclusive", "the result does not show whether it is as specified";
        Evidence = "evidence", "not judged: by the policy an earlier step is refused";
        NotReached = "not-reached", "not tried, as an earlier step was refused";
        Skipped = "skipped", "does not apply to this guest";
        NotRun = "not-run", "could not be run, or was not reached";
    }
}

impl CompactVerdict {
    /// The kernel was judged.
    pub const fn is_judgement(self) -> bool {
        matches!(self, Self::AsSpecified | Self::KnownHole | Self::DenialMissing | Self::Unexpected)
    }

    /// The kernel is at fault.
    pub const fn is_finding(self) -> bool {
        matches!(self, Self::DenialMissing | Self::Unexpected)
    }
}

impl From<&Verdict> for CompactVerdict {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::AsSpecified => Self::AsSpecified,
            Verdict::KnownHole { .. } => Self::KnownHole,
            Verdict::DenialMissing { .. } => Self::DenialMissing,
            Verdict::Unexpected { .. } => Self::Unexpected,
            Verdict::Inconclusive { .. } => Self::Inconclusive,
            Verdict::Evidence { .. } => Self::Evidence,
            Verdict::NotReached => Self::NotReached,
            Verdict::Skipped { .. } => Self::Skipped,
            Verdict::NotRun { .. } => Self::NotRun,
        }
    }
}

impl CompactReport {
    /// Reads a report, whole or compact.
    pub fn read(text: &str) -> Result<Self, DocumentError> {
        /// What decides how the rest is read.
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let Head { schema } = serde_json::from_str(text)?;
        match schema.as_str() {
            COMPACT_SCHEMA => Ok(serde_json::from_str(text)?),
            SCHEMA => RunDocument::read(text).map(|document| Self::of(&document)),
            _ => Err(DocumentError::Schema(schema)),
        }
    }

    /// The compact form of a report.
    pub fn of(document: &RunDocument) -> Self {
        let remaining = document.remaining.iter().map(|name| {
            let reason = document.cut_short();
            (name.clone(), CompactCase { verdict: CompactVerdict::NotRun, reason, steps: Vec::new() })
        });
        let cases = document.cases.iter().map(|case| (case.name.clone(), CompactCase::of(case)));
        Self {
            schema: COMPACT_SCHEMA.to_owned(),
            copra: document.copra.clone(),
            policy: document.policy,
            policy_in_force: document.policy_in_force,
            kernel: KernelFacts { log: Vec::new(), ..document.kernel.clone() },
            platform: document.platform.platform,
            memory_mib: document.platform.memory_mib,
            setup: document.platform.setup,
            kvm: document.platform.kvm.clone(),
            shard: document.shard.as_ref().map(|part| part.shard),
            ended: document.ended.clone(),
            boot_accesses: boot_accesses(document),
            deaths: ends(document),
            cases: remaining.chain(cases).collect(),
        }
    }
}

fn boot_accesses(document: &RunDocument) -> BTreeSet<BootAccess> {
    let boots = document.boot.guests.iter();
    let accesses = boots.flat_map(|boot| {
        boot.observed.events.iter().zip(&boot.known).map(|(event, known)| BootAccess {
            boot: boot.observed.name(),
            kind: event.kind,
            region: event.region,
            state: event.state.to_string(),
            function: event.symbol.as_deref().map(without_offset),
            known: known.as_deref().map(str::to_owned),
        })
    });
    accesses.collect()
}

/// The name of a function: offsets change with each build.
fn without_offset(symbol: &str) -> String {
    symbol.split_once("+0x").map_or(symbol, |(function, _)| function).to_owned()
}

fn ends(document: &RunDocument) -> BTreeSet<GuestEnd> {
    let during = |during: &Option<crate::observation::During>| during.as_ref().map(ToString::to_string);
    let name = |kind: Deaths| if kind.is_empty() { "unknown".to_owned() } else { kind.to_string() };
    let is_specified = |during: &crate::observation::During| {
        let case = document.cases.iter().find(|case| case.name == during.case);
        let step = case.and_then(|case| case.steps.iter().find(|step| step.id == during.step));
        step.is_some_and(|step| matches!(step.judged, Verdict::AsSpecified | Verdict::KnownHole { .. }))
    };
    let unspecified = document.deaths.iter().filter(|death| !death.during.as_ref().is_some_and(is_specified));
    let deaths = unspecified.map(|death| GuestEnd { during: during(&death.during), how: name(death.kind) });
    let aborted = document
        .aborted
        .iter()
        .map(|aborted| GuestEnd { during: during(&aborted.during), how: "aborted".to_owned() });
    deaths.chain(aborted).collect()
}

impl CompactCase {
    fn of(case: &CaseRecord) -> Self {
        let reason = match &case.judged {
            Verdict::Skipped { reason } | Verdict::NotRun { reason } => Some(reason.clone()),
            _ => None,
        };
        let steps = case.steps.iter().map(CompactStep::of).collect();
        Self { verdict: (&case.judged).into(), reason, steps }
    }
}

impl CompactStep {
    fn of(step: &StepRecord) -> Self {
        let tried = step.observed.as_ref().filter(|observed| {
            !matches!(observed.answer, Answer::NotReached { .. } | Answer::NotRun { .. } | Answer::TimedOut)
        });
        let denied =
            tried.map(|observed| matches!(observed.answer, Answer::Failed { errno } if errno.is_refusal()));
        let hole = match &step.judged {
            Verdict::KnownHole { hole } => Some(hole.clone()),
            _ => None,
        };
        Self {
            id: step.id.clone(),
            call: step.call.clone(),
            verdict: (&step.judged).into(),
            result: step.result.clone().filter(|_| tried.is_some()),
            denied,
            hole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_compact_form_reads_back_and_is_the_same_of_the_whole_report() {
        for report in fixture::every() {
            let document = RunDocument::of(&report);
            let compact = CompactReport::of(&document);
            let (whole, small) =
                (serde_json::json!(document).to_string(), serde_json::json!(compact).to_string());
            assert_eq!(CompactReport::read(&whole).unwrap(), compact);
            assert_eq!(CompactReport::read(&small).unwrap(), compact);
            assert!(small.len() * 2 < whole.len(), "{} of {}", small.len(), whole.len());
        }
    }

    #[test]
    fn a_refusal_is_told_from_other_results() {
        let compact = CompactReport::of(&RunDocument::of(&fixture::whole()));
        let denied =
            |case: &str| compact.cases[case].steps.iter().map(|step| step.denied).collect::<Vec<_>>();
        assert_eq!(denied("test/denied"), [Some(true), None]);
        assert_eq!(denied("test/granted"), [Some(false), Some(false)]);
        let not_run = &CompactReport::of(&RunDocument::of(&fixture::cut_short())).cases["mmap/rom"];
        assert_eq!(not_run.verdict, CompactVerdict::NotRun);
        assert!(not_run.reason.as_deref().unwrap().contains("died"));
    }

    #[test]
    fn a_death_that_a_case_specifies_is_not_kept() {
        let mut document = RunDocument::of(&fixture::cut_short());
        assert_eq!(CompactReport::of(&document).deaths.len(), 1);
        document.cases[1].steps[0].judged = Verdict::AsSpecified;
        assert_eq!(CompactReport::of(&document).deaths.len(), 0);
    }

    #[test]
    fn another_schema_is_refused() {
        let error = CompactReport::read(r#"{"schema":"copra-compact/9"}"#).unwrap_err().to_string();
        assert!(error.contains("copra-compact/9"), "{error}");
    }
}
