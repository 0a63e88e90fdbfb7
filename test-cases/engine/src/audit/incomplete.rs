// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps of an audit without an answer: a place that was not read may have a hole.

use super::Swept;
use crate::observation::{Answer, NotRun, StepObservation};
use crate::report::Report;

/// Why an audit did not read every place: cases not run, other than those that need something this guest does not have,
/// steps without an answer, and guests that were aborted.
pub fn incomplete(report: &Report, swept: &Swept) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for result in &report.cases {
        let name = &result.case.name;
        if let Some(NotRun::Failed(reason)) = &result.observed.not_run {
            reasons.push(format!("{name}: {reason}"));
        }
        reasons.extend(unanswered(name, &result.observed.steps));
    }
    reasons.extend(report.remaining().map(|name| format!("{name}: the run did not come to it")));
    reasons.extend(report.aborted.iter().map(|aborted| {
        let during = aborted.during.as_ref().map_or_else(|| "the boot".to_owned(), ToString::to_string);
        format!("{during}: {}", aborted.reason)
    }));
    reasons.extend(swept.unanswered.iter().cloned());
    reasons
}

/// The steps of a case that have no answer.
pub(super) fn unanswered(name: &str, steps: &[StepObservation]) -> Vec<String> {
    let why = |step: &StepObservation| match &step.answer {
        Answer::NotRun { reason } => Some(format!("{name}#{}: {reason}", step.step)),
        Answer::TimedOut => Some(format!("{name}#{}: it did not come to its end in time", step.step)),
        _ => None,
    };
    steps.iter().filter_map(why).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Aborted;
    use crate::report::fixture;

    /// A report of cases that were all run.
    fn whole() -> Report {
        let mut report = fixture::whole();
        report.cases.retain(|result| incomplete_of(result).is_empty());
        report.planned = report.cases.iter().map(|result| result.case.name.clone()).collect();
        report.aborted.clear();
        assert!(!report.cases.is_empty() && incomplete(&report, &Swept::default()).is_empty());
        report
    }

    fn incomplete_of(result: &crate::report::CaseResult) -> Vec<String> {
        match &result.observed.not_run {
            Some(NotRun::Failed(reason)) => vec![reason.clone()],
            _ => unanswered("case", &result.observed.steps),
        }
    }

    #[test]
    fn a_step_without_an_answer_makes_an_audit_incomplete() {
        for answer in [Answer::TimedOut, Answer::NotRun { reason: "the agent stopped before it".into() }] {
            let mut report = whole();
            report.cases[0].observed.steps.push(StepObservation::new("look", answer));
            assert_eq!(incomplete(&report, &Swept::default()).len(), 1);
        }
        let mut report = whole();
        report.cases[0].observed.not_run = Some(NotRun::Failed("the guest did not come up".into()));
        assert_eq!(incomplete(&report, &Swept::default()).len(), 1);
        report.cases[0].observed.not_run = Some(NotRun::Skipped("for platform tdx".into()));
        assert!(incomplete(&report, &Swept::default()).is_empty(), "a skip is stated");
        let swept = Swept { unanswered: vec!["0x1000#pread: lost".into()], ..Swept::default() };
        assert_eq!(incomplete(&report, &swept).len(), 1);
        report.planned.push("audit/look/never".into());
        let aborted = Aborted { reason: "a deadline".into(), during: None, console: Vec::new() };
        report.aborted.push(aborted);
        assert_eq!(incomplete(&report, &swept).len(), 3);
    }
}
