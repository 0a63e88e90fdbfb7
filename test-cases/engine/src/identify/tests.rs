// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::report::{CaseResult, fixture};
use model::class::Classes;
use types::{Errno, Platform};

/// A report of one guest in which the steps answered so; all others went through with plain bytes.
fn report(platform: Platform, answers: &[(&str, Told)]) -> Report {
    let case = case();
    let steps = case.steps.iter().map(|step| {
        let told = answers.iter().find(|(id, _)| *id == step.id).map_or(Told::Ok, |(_, told)| *told);
        let failed = |number| Answer::Failed { errno: number };
        let answer = match told {
            Told::Ok | Told::Zeros => Answer::Returned { value: 64 },
            Told::Denied => failed(Errno::EPERM),
            Told::Absent => failed(Errno::ENOENT),
            Told::Nothing => Answer::NotReached { needs: "mem".into() },
        };
        let mut observed = StepObservation::new(&step.id, answer);
        let class = if told == Told::Zeros { Class::Zeros } else { Class::Plain };
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

fn policy(confidential: &[(&str, Told)], ordinary: &[(&str, Told)]) -> Option<Policy> {
    let pair = (report(Platform::Sev, confidential), report(Platform::None, ordinary));
    identify(&pair.0, &pair.1).map(|identity| identity.policy)
}

#[test]
fn every_policy_is_told_from_every_other() {
    use Told::{Absent, Denied, Nothing, Zeros};
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
    assert_eq!(policy(&[], &[("open", Told::Denied)]), None);
    assert_eq!(policy(&[("open", Told::Nothing)], &[]), None);
}
