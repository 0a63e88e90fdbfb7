// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of what is one finding.

use types::Platform;

use super::*;
use crate::boot::{Context, judge};
use crate::layouts;
use crate::observation::{BootObservation, Death, DeathKind, Deaths};
use crate::report::fixture;
use crate::setup::Setup;

fn plan(layout: &str) -> BootPlan {
    BootPlan { layout: layouts::find(layout).unwrap(), platform: Platform::Tdx, words: None }
}

fn boot(layout: &str, death: Option<&[&str]>, complaints: &[&str]) -> BootDone {
    let console = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    let death = death.map(|lines| Death {
        kind: Deaths::of([DeathKind::Panic]),
        text: format!("Kernel panic at 0x{:x}", lines.len()),
        during: None,
        console: console(lines),
    });
    let observed = BootObservation {
        setup: Setup::default().into(),
        events: Vec::new(),
        not_kept: 0,
        refused: Vec::new(),
        death,
        aborted: None,
    };
    BootDone {
        plan: plan(layout),
        result: judge(observed, Context { platform: Platform::Tdx, release: None }),
        complaints: console(complaints),
        inconclusive: None,
        seconds: 1.0,
    }
}

#[test]
fn the_same_failure_of_several_boots_is_one_finding_with_the_simplest_layout() {
    let oops = ["BUG: unable to handle page fault", "RIP: 0010:accept_memory+0x4e/0x1c0"];
    let boots = [
        boot("tdvf", Some(&oops), &["WARNING: CPU: 0 PID: 0 at mm/x.c:3 f+0x12/0x30"]),
        boot("table-crosses-page", Some(&oops), &[]),
        boot("usual", None, &["WARNING: CPU: 0 PID: 7 at mm/x.c:3 f+0x99/0x30"]),
    ];
    let found = finding::collect(&boots);
    let told: Vec<_> = found
        .iter()
        .map(|it| {
            (it.signature.kind, it.signature.place.as_str(), it.boots.len(), it.least.layout.name.as_str())
        })
        .collect();
    assert_eq!(
        told,
        [
            (FindingKind::Death, "accept_memory", 2, "table-crosses-page"),
            (FindingKind::Complaint, "WARNING: CPU: PID: at mm/x.c:3 f", 2, "usual"),
        ]
    );
}

#[test]
fn accesses_differ_by_what_they_do_and_by_their_function() {
    let mut done = boot("usual", None, &[]);
    let events = fixture::died_in_boot().boots.remove(0).observed.events;
    assert!(!events.is_empty());
    done.result.known = events.iter().map(|_| None).collect();
    done.result.observed.events = events;
    let found = finding::collect(&[done]);
    assert!(found.iter().all(|it| matches!(it.signature.kind, FindingKind::Access(_))));
    assert!(found.iter().all(|it| !it.signature.place.contains('+')), "{found:?}");
}
