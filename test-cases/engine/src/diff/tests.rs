// SPDX-License-Identifier: Apache-2.0 OR MIT
use proptest::prelude::*;

use super::*;
use crate::report::compact::GuestEnd;
use crate::report::document::RunDocument;
use crate::report::fixture;
use types::{Mode, Platform, Policy};

fn whole() -> CompactReport {
    CompactReport::of(&RunDocument::of(&fixture::whole()))
}

fn labels(old: &CompactReport, new: &CompactReport) -> Vec<&'static str> {
    diff(old, new).iter().map(Change::label).collect()
}

#[test]
fn a_run_does_not_differ_from_itself() {
    for report in fixture::every() {
        let compact = CompactReport::of(&RunDocument::of(&report));
        assert_eq!(diff(&compact, &compact), []);
        assert_eq!(remarks(&compact, &compact), []);
    }
}

#[test]
fn durations_and_counters_are_no_change() {
    let mut report = fixture::whole();
    report.duration *= 3;
    report.counters.exits += 1000;
    report.platform.boot_seconds *= 2.0;
    report.cases.reverse();
    assert_eq!(diff(&whole(), &CompactReport::of(&RunDocument::of(&report))), []);
}

#[test]
fn a_step_that_is_not_refused_any_more_is_a_denial_lost() {
    let (old, mut new) = (whole(), whole());
    new.cases.insert("test/denied".to_owned(), old.cases["test/granted"].clone());
    assert_eq!(labels(&old, &new), ["DENIAL LOST", "verdict moved", "step's verdict"]);
    assert_eq!(labels(&new, &old), ["verdict moved", "step's verdict", "denial gained"]);
    let changes = diff(&old, &new);
    assert_eq!(changes[0].to_string(), "test/denied#open, open(/dev/mem, O_RDONLY): EPERM → ok");
    assert_eq!(changes[1].to_string(), "test/denied: as-specified → denial-missing");
    assert!(changes.iter().any(|change| change.weight() == Weight::Worse));
}

#[test]
fn a_hole_is_new_or_closed_and_not_closed_by_a_step_that_was_not_tried() {
    let (old, mut new) = (whole(), whole());
    let case = new.cases.get_mut("test/hole").unwrap();
    case.verdict = CompactVerdict::AsSpecified;
    for step in &mut case.steps {
        (step.hole, step.verdict) = (None, CompactVerdict::AsSpecified);
    }
    assert_eq!(labels(&old, &new), ["verdict moved", "hole closed", "hole closed"]);
    assert_eq!(labels(&new, &old), ["NEW HOLE", "NEW HOLE", "verdict moved"]);
    for step in &mut new.cases.get_mut("test/hole").unwrap().steps {
        (step.result, step.verdict) = (None, CompactVerdict::NotRun);
    }
    assert!(!labels(&old, &new).contains(&"hole closed"));
}

#[test]
fn a_boot_and_a_death_differ() {
    let (old, new) = (fixture::whole(), fixture::events_in_boot());
    let compact = |report: &crate::report::Report| CompactReport::of(&RunDocument::of(report));
    let new = compact(&new);
    assert_eq!(labels(&compact(&old), &new), ["NEW BOOT EVENT", "NEW BOOT EVENT"]);
    assert_eq!(labels(&new, &compact(&old)), ["boot event gone", "boot event gone"]);
    let died = compact(&fixture::cut_short());
    let labels = labels(&compact(&old), &died);
    assert!(labels.contains(&"NEW DEATH") && labels.contains(&"end of run"), "{labels:?}");
}

#[test]
fn other_set_ups_are_reported_first() {
    let (old, mut new) = (whole(), whole());
    new.kernel.release = "6.12.118".to_owned();
    new.kernel.config.insert("STRICT_DEVMEM".to_owned(), "n".to_owned());
    new.platform = Platform::Tdx;
    new.memory_mib = 1024;
    new.setup.mode = Mode::Faithful;
    new.policy = Policy::OpenEperm;
    new.cases.remove("test/hole");
    let labels = labels(&old, &new);
    assert_eq!(labels[..4], ["SET-UP DIFFERS"; 4]);
    assert_eq!(labels[4..], ["kernel", "kernel", "case removed"]);
}

#[test]
fn another_host_is_a_remark_and_no_change() {
    let (old, mut new) = (whole(), whole());
    new.kvm = KvmHost::Direct;
    assert_eq!(diff(&old, &new), []);
    assert_eq!(remarks(&old, &new).len(), 1);
}

/// Any run with a few cases of few steps.
fn run() -> impl Strategy<Value = CompactReport> {
    let verdict = || prop::sample::select(CompactVerdict::ALL);
    let hole = |verdict| (verdict == CompactVerdict::KnownHole).then(|| "bytes are shown".to_owned());
    let step = (0..3u8, verdict(), prop::option::of(any::<bool>())).prop_map(move |(id, verdict, denied)| {
        let result = denied.map(|denied| if denied { "EPERM" } else { "ok" }.to_owned());
        let call = format!("call {id}");
        CompactStep { id: id.to_string(), call, verdict, result, denied, hole: hole(verdict) }
    });
    let steps = prop::collection::vec(step, 0..3).prop_map(|mut steps| {
        steps.sort_by(|a, b| a.id.cmp(&b.id));
        steps.dedup_by(|a, b| a.id == b.id);
        steps
    });
    let case = (verdict(), steps).prop_map(|(verdict, steps)| CompactCase { verdict, reason: None, steps });
    let cases = prop::collection::btree_map("[a-d]", case, 0..4);
    let deaths = prop::collection::btree_set("[ab]#[12]", 0..3).prop_map(|all| {
        all.into_iter().map(|during| GuestEnd { during: Some(during), how: "panic".to_owned() }).collect()
    });
    let base = whole();
    (cases, deaths).prop_map(move |(cases, deaths)| CompactReport { deaths, cases, ..base.clone() })
}

proptest! {
    #[test]
    fn nothing_differs_from_itself(run in run()) {
        prop_assert_eq!(diff(&run, &run), []);
    }

    #[test]
    fn every_verdict_that_moved_is_reported_once(old in run(), new in run()) {
        let changes = diff(&old, &new);
        for (name, case) in &new.cases {
            let count = changes.iter().filter(|change| matches!(change, Change::VerdictMoved(it) if it.case == *name)).count();
            let moved = old.cases.get(name).is_some_and(|before| before.verdict != case.verdict);
            prop_assert_eq!(count, usize::from(moved));
        }
    }

    #[test]
    fn two_runs_are_equal_exactly_if_nothing_is_reported(old in run(), new in run()) {
        // A case without steps differs from one with steps by its verdict alone.
        let shown = |case: &CompactCase, other: Option<&CompactCase>| {
            let bare = other.is_some_and(|other| other.steps.is_empty()) || case.steps.is_empty();
            (case.verdict, if bare { Vec::new() } else { case.steps.clone() })
        };
        let cases = |run: &CompactReport, other: &CompactReport| -> Vec<_> {
            run.cases.iter().map(|(name, case)| (name.clone(), shown(case, other.cases.get(name)))).collect()
        };
        let same = cases(&old, &new) == cases(&new, &old) && old.deaths == new.deaths;
        let silent = diff(&old, &new).is_empty();
        // A step that was not tried in one of them may have another result without a report.
        prop_assert!(!same || silent);
        let verdicts = |run: &CompactReport| -> Vec<_> {
            run.cases.iter().map(|(name, case)| (name.clone(), case.verdict)).collect()
        };
        prop_assert!(!silent || verdicts(&old) == verdicts(&new) && old.deaths == new.deaths);
    }

    #[test]
    fn a_change_and_its_reverse_are_as_many(old in run(), new in run()) {
        let count = |from, to, wanted: fn(&Change) -> bool| diff(from, to).into_iter().filter(wanted).count();
        let lost = |change: &Change| matches!(change, Change::DenialLost(_));
        let gained = |change: &Change| matches!(change, Change::DenialGained(_));
        prop_assert_eq!(count(&old, &new, lost), count(&new, &old, gained));
        let added = |change: &Change| matches!(change, Change::CaseAdded(_));
        let removed = |change: &Change| matches!(change, Change::CaseRemoved(_));
        prop_assert_eq!(count(&old, &new, added), count(&new, &old, removed));
    }
}
