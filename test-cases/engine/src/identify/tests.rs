// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::report::{CaseResult, fixture};
use model::class::Classes;
use types::{Errno, Platform};

/// A report of one guest in which the steps answered so; all others went through with plain bytes.
fn report(platform: Platform, answers: &[(&str, StepResult)]) -> Report {
    let case = case();
    let steps = case.steps.iter().map(|step| {
        let result =
            answers.iter().find(|(id, _)| *id == step.id).map_or(StepResult::Ok, |(_, result)| *result);
        let failed = |number| Answer::Failed { errno: number };
        let answer = match result {
            StepResult::Ok | StepResult::Zeros => Answer::Returned { value: 64 },
            StepResult::Denied => failed(Errno::EPERM),
            StepResult::Absent => failed(Errno::ENOENT),
            StepResult::Nothing => Answer::NotReached { needs: "mem".into() },
        };
        let mut observed = StepObservation::new(&step.id, answer);
        let class = if result == StepResult::Zeros { Class::Zeros } else { Class::Plain };
        observed.class = Classes::of([class]);
        observed
    });
    let mut report = fixture::whole();
    let observed = crate::observation::CaseObservation { steps: steps.collect(), ..Default::default() };
    report.platform.platform = platform;
    let verdict = report.cases[0].verdict.clone();
    report.cases = vec![CaseResult { case, observed, verdict }];
    report
}

fn policy(confidential: &[(&str, StepResult)], ordinary: &[(&str, StepResult)]) -> Option<Policy> {
    let pair = (report(Platform::Sev, confidential), report(Platform::None, ordinary));
    identify(&pair.0, &pair.1).map(|identity| identity.policy)
}

#[test]
fn every_policy_is_told_from_every_other() {
    use StepResult::{Absent, Denied, Nothing, Zeros};
    let low = [("read-low", Zeros)];
    assert_eq!(policy(&low, &low), Some(Policy::Upstream));
    let shut = [("open", Denied), ("port", Denied), ("read-rom", Nothing), ("read-low", Nothing)];
    assert_eq!(policy(&shut, &low), Some(Policy::OpenEperm));
    let locked = [shut[0], shut[1], ("map-resource", Denied)];
    assert_eq!(policy(&locked, &low), Some(Policy::LockdownCc));
    assert_eq!(policy(&locked, &locked), Some(Policy::LockdownAll));
    assert_eq!(policy(&[("open", Absent)], &[("open", Absent)]), Some(Policy::NoDevmem));
    let ranges = [("read-rom", Denied), ("read-low", Denied), ("map-low", Denied)];
    assert_eq!(policy(&ranges, &low), Some(Policy::RangeDeny));
    let first_mib = [("read-low", Denied), ("map-low", Denied), ("load-low", Nothing)];
    assert_eq!(policy(&first_mib, &first_mib), Some(Policy::NoLow1m));
    let zeros = [("read-low", Zeros), ("load-low", Zeros)];
    assert_eq!(policy(&zeros, &zeros), Some(Policy::MmapZeros));
}

#[test]
fn what_fits_no_policy_is_not_guessed_at() {
    assert_eq!(policy(&[], &[("open", StepResult::Denied)]), None);
    assert_eq!(policy(&[("open", StepResult::Nothing)], &[]), None);
}
