// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run as a JUnit report, for CI systems.

use std::io;
use std::time::Duration;

use engine::report::document::{CaseRecord, RunDocument};
use engine::report::evidence;
use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};
use thiserror::Error;

use super::plain;
use engine::judge::Verdict;

/// Why the report could not be written.
#[derive(Debug, Error)]
pub enum JunitError {
    /// The report could not be put together.
    #[error("cannot put together the JUnit report: {0}")]
    Serialize(#[from] quick_junit::SerializeError),
    /// The report could not be written.
    #[error("cannot write the JUnit report: {0}")]
    Write(#[from] io::Error),
}

/// Writes the run, whole or cut short: one suite, one test case per case.
pub fn write(report: &RunDocument, mut out: impl io::Write) -> Result<(), JunitError> {
    let mut suite = TestSuite::new(format!("{} {}", report.kernel.spec, report.platform.platform));
    let duration = seconds(report.seconds);
    suite.set_time(duration);
    for (name, value) in properties(report) {
        suite.add_property((name, value.as_str()));
    }
    if let Some(verdict) = &report.boot.judged {
        suite.add_test_case(boot(report, verdict));
    }
    for case in &report.cases {
        suite.add_test_case(test_case(case));
    }
    let reason = report.cut_short().unwrap_or_else(|| "the run ended before it".to_owned());
    for name in &report.remaining {
        suite.add_test_case(bare(name, status(NonSuccessKind::Error, "not run", &reason)));
    }
    let mut junit = Junit::new("copra");
    junit.set_time(duration);
    junit.add_test_suite(suite);
    plain::write(&mut out, &junit.to_string()?)?;
    Ok(())
}

fn properties(report: &RunDocument) -> Vec<(&'static str, String)> {
    vec![
        ("kernel", report.kernel.spec.clone()),
        ("kernel.release", report.kernel.release.clone()),
        ("kernel.sha256", report.kernel.sha256.clone()),
        ("platform", report.platform.platform.to_string()),
        ("policy", report.policy.to_string()),
        ("rewritten", engine::report::rewritten(&report.platform)),
    ]
}

/// The boots of all guests are one test.
fn boot(report: &RunDocument, verdict: &Verdict) -> TestCase {
    let status = match verdict {
        Verdict::Unexpected { got, .. } => status(NonSuccessKind::Failure, verdict.label(), got),
        Verdict::NotRun { reason } => status(NonSuccessKind::Error, verdict.label(), reason),
        _ => TestCaseStatus::success(),
    };
    let mut case = bare("boot", status);
    let lines = report.boot.guests.iter().flat_map(|boot| {
        let holes = boot.holes().into_iter().map(|hole| format!("known hole: {hole}"));
        evidence::of_events(&boot.observed.events).into_iter().chain(holes)
    });
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        case.set_system_out(lines.join("\n"));
    }
    case
}

fn test_case(record: &CaseRecord) -> TestCase {
    let complaints = record.complaints().join("\n");
    let status = match &record.judged {
        verdict if verdict.is_finding() || matches!(verdict, Verdict::Inconclusive { .. }) => {
            status(NonSuccessKind::Failure, verdict.label(), &complaints)
        }
        verdict @ Verdict::NotRun { .. } => status(NonSuccessKind::Error, verdict.label(), &complaints),
        Verdict::Skipped { reason } => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason.as_str());
            status
        }
        _ => TestCaseStatus::success(),
    };
    let mut case = bare(&record.name, status);
    case.set_time(seconds(record.seconds));
    let lines: Vec<String> = record.steps.iter().flat_map(evidence::of_step).collect();
    if !lines.is_empty() {
        case.set_system_out(lines.join("\n"));
    }
    case
}

/// A report's seconds; none where they are no duration.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn bare(name: &str, status: TestCaseStatus) -> TestCase {
    let (theme, short) = name.rsplit_once('/').unwrap_or(("", name));
    let mut case = TestCase::new(short, status);
    case.set_classname(format!("copra.{}", theme.replace('/', ".")).trim_end_matches('.'));
    case
}

fn status(kind: NonSuccessKind, label: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(label);
    status.set_message(text.lines().next().unwrap_or_default());
    status.set_description(text);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::report::{Report, fixture};

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        write(&RunDocument::of(report), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    crate::report::golden::snapshots!(text);

    #[test]
    fn a_run_cut_short() {
        insta::assert_snapshot!(text(&fixture::cut_short()));
    }
}
