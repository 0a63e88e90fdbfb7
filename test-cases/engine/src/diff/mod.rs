// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What changed from one run to another: a pure function of two compact reports.

mod change;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use change::{CaseName, CaseVerdictNow, Change, Hole, StepMove, StepValues, Values, VerdictMove, Weight};

use crate::observation::{KernelFacts, KvmHost};
use crate::report::RunEnd;
use crate::report::compact::{CompactCase, CompactReport, CompactStep, CompactVerdict};

/// What a value is called that a report does not have.
const ABSENT: &str = "none";
/// Characters of a hash that are shown.
const HASH_SHOWN: usize = 12;

/// Everything that differs, in the order of [`Change`].
pub fn diff(old: &CompactReport, new: &CompactReport) -> Vec<Change> {
    let mut changes = BTreeSet::new();
    setup(&mut changes, old, new);
    kernel(&mut changes, &old.kernel, &new.kernel);
    let end = |end: &RunEnd| end.cut_short().unwrap_or_else(|| "complete".to_owned());
    changes.extend(differ("the run", &end(&old.ended), &end(&new.ended)).map(Change::Ended));
    changes.extend(new.boot_accesses.difference(&old.boot_accesses).cloned().map(Change::NewBootAccess));
    changes.extend(old.boot_accesses.difference(&new.boot_accesses).cloned().map(Change::BootAccessGone));
    changes.extend(new.deaths.difference(&old.deaths).cloned().map(Change::NewDeath));
    changes.extend(old.deaths.difference(&new.deaths).cloned().map(Change::DeathGone));
    for (name, case) in &new.cases {
        if let Some(before) = old.cases.get(name) {
            self::case(&mut changes, name, before, case);
        } else {
            changes.insert(Change::CaseAdded(CaseVerdictNow { case: name.clone(), verdict: case.verdict }));
        }
    }
    let removed = old.cases.keys().filter(|name| !new.cases.contains_key(*name));
    changes.extend(removed.map(|case| Change::CaseRemoved(CaseName { case: case.clone() })));
    changes.into_iter().collect()
}

/// Differences of the host and of copra itself: no change of the kernel, but a possible reason of one that is reported.
pub fn remarks(old: &CompactReport, new: &CompactReport) -> Vec<Values> {
    let host = |kvm: &KvmHost| match kvm {
        KvmHost::Direct => "KVM of the machine itself".to_owned(),
        KvmHost::Emulated { by } => format!("KVM under {by}"),
    };
    let host = differ("KVM host", &host(&old.kvm), &host(&new.kvm));
    host.into_iter().chain(differ("copra", &old.copra, &new.copra)).collect()
}

fn differ(what: &str, old: &str, new: &str) -> Option<Values> {
    (old != new).then(|| Values { what: what.to_owned(), old: old.to_owned(), new: new.to_owned() })
}

fn setup(changes: &mut BTreeSet<Change>, old: &CompactReport, new: &CompactReport) {
    let text = |value: Option<String>| value.unwrap_or_else(|| ABSENT.to_owned());
    let facts = |run: &CompactReport| {
        let setup = run.setup;
        [
            ("platform", run.platform.to_string()),
            ("policy", run.policy.to_string()),
            ("guest memory", format!("{} MiB", run.memory_mib)),
            ("mode", setup.mode.to_string()),
            (
                "ROM area",
                setup.rom.map_or_else(|| "the platform's default".to_owned(), |rom| rom.to_string()),
            ),
            ("#VE for memory not accepted", setup.sept_ve.to_string()),
            ("unaccepted at launch", format!("{} %", setup.unaccepted_percent)),
            ("layout", setup.layout.map_or_else(|| "as usual".to_owned(), |layout| layout.to_string())),
            ("shard", text(run.shard.map(|shard| shard.to_string()))),
        ]
    };
    for ((what, old), (_, new)) in facts(old).iter().zip(&facts(new)) {
        changes.extend(differ(what, old, new).map(Change::Setup));
    }
    if old.policy == new.policy {
        let in_force = differ("policy in force", old.policy_in_force.name(), new.policy_in_force.name());
        changes.extend(in_force.map(Change::Kernel));
    }
}

fn kernel(changes: &mut BTreeSet<Change>, old: &KernelFacts, new: &KernelFacts) {
    let hash = |hash: Option<&str>| {
        hash.map_or_else(|| ABSENT.to_owned(), |hash| hash.chars().take(HASH_SHOWN).collect())
    };
    let facts = |kernel: &KernelFacts| {
        [
            ("named", kernel.spec.clone()),
            ("release", kernel.release.clone()),
            ("version", kernel.version.clone()),
            ("package", kernel.package.clone().unwrap_or_else(|| ABSENT.to_owned())),
            ("build id", hash(kernel.build_id.as_deref())),
            ("image", hash(Some(&kernel.sha256))),
            ("configuration", hash(kernel.config_sha256.as_deref())),
            ("command line", kernel.cmdline.clone()),
        ]
    };
    for ((what, old), (_, new)) in facts(old).iter().zip(&facts(new)) {
        changes.extend(differ(what, old, new).map(Change::Kernel));
    }
    let options: BTreeSet<&String> = old.config.keys().chain(new.config.keys()).collect();
    for option in options {
        let value =
            |kernel: &KernelFacts| kernel.config.get(option).map_or(ABSENT, String::as_str).to_owned();
        let differs = differ(&format!("CONFIG_{option}"), &value(old), &value(new));
        changes.extend(differs.map(Change::Kernel));
    }
}

fn case(changes: &mut BTreeSet<Change>, name: &str, old: &CompactCase, new: &CompactCase) {
    if old.verdict != new.verdict {
        let reason = new.reason.clone().filter(|_| !new.verdict.is_judgement());
        let moved = VerdictMove { case: name.to_owned(), old: old.verdict, new: new.verdict, reason };
        changes.insert(Change::VerdictMoved(moved));
    }
    // A case that did not run in one of them has no steps there.
    if old.steps.is_empty() || new.steps.is_empty() {
        return;
    }
    let shape = |case: &CompactCase| -> Vec<(String, String)> {
        case.steps.iter().map(|step| (step.id.clone(), step.call.clone())).collect()
    };
    if shape(old) != shape(new) {
        changes.insert(Change::CaseEdited(CaseName { case: name.to_owned() }));
    }
    for step in &new.steps {
        if let Some(before) = old.steps.iter().find(|before| before.id == step.id) {
            self::step(changes, name, before, step);
        }
    }
}

fn step(changes: &mut BTreeSet<Change>, case: &str, old: &CompactStep, new: &CompactStep) {
    let count = changes.len();
    let result = |step: &CompactStep| step.result.clone().unwrap_or_else(|| step.verdict.to_string());
    let values = || StepValues {
        case: case.to_owned(),
        step: new.id.clone(),
        call: new.call.clone(),
        old: result(old),
        new: result(new),
    };
    let hole = |hole: &String| Hole {
        case: case.to_owned(),
        step: new.id.clone(),
        call: new.call.clone(),
        hole: hole.clone(),
    };
    match (old.denied, new.denied) {
        (Some(true), Some(false)) => _ = changes.insert(Change::DenialLost(values())),
        (Some(false), Some(true)) => _ = changes.insert(Change::DenialGained(values())),
        _ => {}
    }
    if old.hole != new.hole {
        changes.extend(new.hole.as_ref().map(hole).map(Change::NewHole));
        // A step that was not judged does not show that a hole is closed.
        let closed = old.hole.as_ref().filter(|_| is_answer(new));
        changes.extend(closed.map(hole).map(Change::HoleClosed));
    }
    if changes.len() > count {
        return;
    }
    match (&old.result, &new.result) {
        (Some(before), Some(now)) if before != now => {
            changes.insert(Change::ResultChanged(values()));
        }
        _ if old.verdict != new.verdict => {
            let step = StepMove {
                case: case.to_owned(),
                step: new.id.clone(),
                call: new.call.clone(),
                old: old.verdict,
                new: new.verdict,
            };
            changes.insert(Change::StepVerdictMoved(step));
        }
        _ => {}
    }
}

/// The step shows whether there is a hole: it was judged, or could not be reached since an earlier step is refused.
fn is_answer(step: &CompactStep) -> bool {
    step.verdict.is_judgement() || step.verdict == CompactVerdict::NotReached
}
