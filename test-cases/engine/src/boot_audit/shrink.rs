// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Drops facts from a layout as long as the failure stays.

use super::workers::Guests;
use super::{BootPlan, Finding, Watcher, finding};
use crate::layouts::{NamedLayout, simpler};

/// Shrinks a finding's layout, and tells how many boots that took.
pub(super) fn shrink(finding: &mut Finding, guests: &Guests<'_>, watcher: &dyn Watcher) -> usize {
    let mut boots = 0;
    loop {
        let candidates = candidates(&finding.least);
        if candidates.is_empty() {
            finding.shrunk = true;
            return boots;
        }
        watcher.shrinking(finding, boots);
        let done = guests.boot_all(&candidates, &Quiet);
        boots += done.len();
        let shows = done
            .iter()
            .find(|boot| finding::of(boot).iter().any(|found| found.signature == finding.signature));
        let Some(boot) = shows else {
            // An interruption leaves some untried.
            finding.shrunk = done.len() == candidates.len();
            return boots;
        };
        finding.least = boot.plan.clone();
    }
}

/// The boots with one fact less.
fn candidates(plan: &BootPlan) -> Vec<BootPlan> {
    let with = |layout: NamedLayout| BootPlan { layout, ..plan.clone() };
    let mut all = Vec::new();
    if plan.words.is_some() {
        all.push(BootPlan { words: None, ..plan.clone() });
    }
    if plan.layout.memory_mib.is_some() {
        all.push(with(NamedLayout { memory_mib: None, ..plan.layout.clone() }));
    }
    for (_, layout) in simpler(&plan.layout.layout) {
        all.push(with(NamedLayout { layout, ..plan.layout.clone() }));
    }
    all.retain(|plan| plan.layout.check(plan.platform, USUAL_MIB).is_ok());
    all
}

/// Memory of a guest that nothing is chosen for.
const USUAL_MIB: u64 = 512;

struct Quiet;

impl Watcher for Quiet {
    fn booted(&self, _: &super::BootDone, _: usize, _: usize) {}
    fn shrinking(&self, _: &Finding, _: usize) {}
}
