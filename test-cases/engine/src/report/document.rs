// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The JSON report: one structure that writes it and reads it back. docs/report-json.md describes each field,
//! docs/report.schema.json is its JSON schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{Mode, Policy};

use super::shard::ShardOf;
use super::{CaseResult, Report, RunEnd, Summary};
use crate::boot::BootResult;
use crate::judge::{Rigour, Verdict, describe};
use crate::observation::{Aborted, Counters, Death, KernelFacts, PlatformFacts, StepObservation};

/// The version of the format. It changes when a field changes its meaning or is removed, not when one is added.
pub const SCHEMA: &str = "copra-run/2";

/// Why a text is no report that can be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON, or a field is missing or of another type.
    #[error("it is no report of `copra run --json`: {0}; see docs/report-json.md")]
    Malformed(#[from] serde_json::Error),
    /// It is of another version.
    #[error("its schema is `{0}`, and this copra reads {SCHEMA}; write it again with this copra")]
    Schema(String),
}

/// A run as the JSON report has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDocument {
    /// The version of the format.
    pub schema: String,
    /// The version of copra.
    pub copra: String,
    /// The policy the kernel was held to.
    pub policy: Policy,
    /// The policy that was in force with the kernel's options.
    pub policy_in_force: Policy,
    /// The kernel.
    pub kernel: KernelFacts,
    /// The platform.
    pub platform: PlatformFacts,
    /// How the run ended.
    pub ended: RunEnd,
    /// How many cases ran in each mode.
    pub modes: BTreeMap<Mode, usize>,
    /// How long the run took.
    pub seconds: f64,
    /// How many cases have which verdict.
    pub summary: Summary,
    /// The boots of all guests.
    pub boot: Boots,
    /// The cases that have a verdict, in the order they ran.
    pub cases: Vec<CaseRecord>,
    /// The planned cases that did not run.
    pub remaining: Vec<String>,
    /// Which part of the selected cases was run, where not all of them were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardOf>,
    /// Guests that died.
    pub deaths: Vec<Death>,
    /// Guests whose run was aborted.
    pub aborted: Vec<Aborted>,
    /// How strict the comparisons were.
    pub rigour: Rigour,
    /// What the run cost.
    pub counters: Counters,
}

/// The boots of all guests of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boots {
    /// The weightiest verdict on a boot; `None` if no guest was booted.
    pub judged: Option<Verdict>,
    /// Each boot.
    pub guests: Vec<BootResult>,
}

/// A case with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// Its name.
    pub name: String,
    /// What it shows, in one line.
    pub title: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The verdict.
    pub judged: Verdict,
    /// How long it took.
    pub seconds: f64,
    /// Its steps; none if it did not run.
    pub steps: Vec<StepRecord>,
}

/// A step with its observation and verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its name.
    pub id: String,
    /// The kind of action.
    #[serde(rename = "do")]
    pub action: String,
    /// The call, for people.
    pub call: String,
    /// The case's remark on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The observation in a few words, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The verdict.
    pub judged: Verdict,
    /// The observation, if there is one.
    pub observed: Option<StepObservation>,
}

impl RunDocument {
    /// The document of a run, whole or cut short.
    pub fn of(report: &Report) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            copra: env!("CARGO_PKG_VERSION").to_owned(),
            policy: report.policy,
            policy_in_force: report.policy_in_force,
            kernel: report.kernel.clone(),
            platform: report.platform.clone(),
            ended: report.ended.clone(),
            modes: report.modes(),
            seconds: report.duration.as_secs_f64(),
            summary: report.summary(),
            boot: Boots::of(report.boots.clone()),
            cases: report.cases.iter().map(CaseRecord::of).collect(),
            remaining: report.remaining().map(str::to_owned).collect(),
            shard: None,
            deaths: report.deaths.clone(),
            aborted: report.aborted.clone(),
            rigour: report.rigour(),
            counters: report.counters,
        }
    }

    /// Reads a report.
    pub fn read(text: &str) -> Result<Self, DocumentError> {
        /// What decides whether the rest can be read.
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let Head { schema } = serde_json::from_str(text)?;
        if schema != SCHEMA {
            return Err(DocumentError::Schema(schema));
        }
        Ok(serde_json::from_str(text)?)
    }

    /// Why the remaining cases were not run.
    pub fn cut_short(&self) -> Option<String> {
        self.ended.cut_short()
    }
}

impl Boots {
    /// The boots with the weightiest of their verdicts.
    pub fn of(guests: Vec<BootResult>) -> Self {
        let judged = guests.iter().map(|boot| &boot.verdict).max_by_key(|verdict| verdict.weight());
        Self { judged: judged.cloned(), guests }
    }
}

impl CaseRecord {
    /// The record of a case.
    pub fn of(result: &CaseResult) -> Self {
        let steps = result.steps().map(|(step, observed, verdict)| StepRecord {
            id: step.id.clone(),
            action: step.action.name().to_owned(),
            call: step.action.to_string(),
            note: step.note.clone(),
            result: observed.map(|observed| describe(step, observed)),
            judged: verdict.clone(),
            observed: observed.cloned(),
        });
        Self {
            name: result.case.name.clone(),
            title: result.case.title.clone(),
            tags: result.case.tags.clone(),
            judged: result.verdict.verdict.clone(),
            seconds: result.observed.duration.as_secs_f64(),
            steps: steps.collect(),
        }
    }

    /// The known holes that were shown.
    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match &step.judged {
            Verdict::KnownHole { hole } => Some(hole.as_str()),
            _ => None,
        })
    }

    /// One line for each step that went wrong, or for the case as a whole if it did not run.
    pub fn complaints(&self) -> Vec<String> {
        let whole = match &self.judged {
            Verdict::Skipped { reason } | Verdict::NotRun { reason } if self.steps.is_empty() => {
                return vec![reason.clone()];
            }
            _ => self.steps.iter(),
        };
        whole.filter_map(StepRecord::complaint).collect()
    }
}

impl StepRecord {
    fn complaint(&self) -> Option<String> {
        let Self { id, call, judged, .. } = self;
        match judged {
            Verdict::DenialMissing { expected, got } | Verdict::Unexpected { expected, got } => {
                let label = judged.label();
                Some(format!("{label} at `{id}`, {call}: expected {expected}, got {got}"))
            }
            Verdict::Inconclusive { expected, got, reason } => {
                Some(format!("inconclusive at `{id}`, {call}: expected {expected}, got {got}: {reason}"))
            }
            Verdict::NotRun { reason } => Some(format!("not run: `{id}`: {reason}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn text(document: &RunDocument) -> String {
        serde_json::json!(document).to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for report in fixture::every() {
            let document = RunDocument::of(&report);
            assert_eq!(RunDocument::read(&text(&document)).unwrap(), document);
        }
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        let mut value = serde_json::json!(RunDocument::of(&fixture::whole()));
        value["new"] = serde_json::json!({ "a": 1 });
        value["cases"][0]["new"] = serde_json::json!([]);
        assert_eq!(RunDocument::read(&value.to_string()).unwrap(), RunDocument::of(&fixture::whole()));
    }

    #[test]
    fn what_is_no_report_is_refused_with_the_reason() {
        let refusal = |text: &str| RunDocument::read(text).unwrap_err().to_string();
        assert!(refusal("{").contains("no report of `copra run --json`"));
        assert!(refusal("{}").contains("missing field `schema`"));
        assert!(refusal(r#"{"schema":"copra-run/1"}"#).contains("its schema is `copra-run/1`"));
        assert!(refusal(r#"{"schema":"copra-run/2"}"#).contains("missing field"));
        let damaged = |old: &str, new: &str| {
            let whole = text(&RunDocument::of(&fixture::whole()));
            assert!(whole.contains(old), "{old}");
            refusal(&whole.replace(old, new))
        };
        assert!(damaged("\"low-ram\"", "\"low-rom\"").contains("did you mean `low-ram`"));
        assert!(damaged("\"0x20010\"", "\"131088\"").contains("is no address"));
        assert!(damaged("\"9b1e", "\"9b1g").contains("hexadecimal"));
    }
}
