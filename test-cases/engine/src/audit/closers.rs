// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which policy of the thread would close a finding, by the model of /dev/mem.
//!
//! The probe that made the finding is given to the model once for each policy; what it predicts is judged by the same
//! invariants as what the guest did.

use super::finding::{Finding, Invariant};
use super::{Facts, Probed, predict};
use crate::observation::Answer;
use model::World;
use types::Policy;

/// The findings of one probe as the model has them under one policy.
struct Predicted {
    policy: Policy,
    probe: Vec<Probed>,
    findings: Vec<Finding>,
}

/// Fills in who closes the findings of one probe. `world` is the guest as it is; `check` finds what a probe shows.
pub fn fill(
    world: &World,
    facts: &Facts<'_>,
    probe: &[Probed],
    check: &dyn Fn(&[Probed]) -> Vec<Finding>,
    findings: &mut [Finding],
) {
    if findings.is_empty() {
        return;
    }
    let under = |policy| {
        let world = World { policy, ..world.clone() };
        let probe: Vec<Probed> =
            probe.iter().map(|one| predict::case(&world, facts.regions, one.subject, &one.case)).collect();
        Predicted { policy, findings: check(&probe), probe }
    };
    let today = under(world.policy);
    let all: Vec<Predicted> = Policy::ALL.iter().map(|policy| under(*policy)).collect();
    for finding in findings {
        let closes = |predicted: &&Predicted| closes(predicted, &today, finding);
        finding.closed_by = all.iter().filter(closes).map(|predicted| predicted.policy).collect();
    }
}

fn closes(then: &Predicted, today: &Predicted, finding: &Finding) -> bool {
    match finding.invariant {
        // A policy only refuses; none of them gives back what is lost.
        Invariant::NothingLost => false,
        // The finding is that /dev/mem is refused and this is not, so only a refusal closes it.
        Invariant::NoSideDoors => is_out_of_reach(then, finding),
        // For a finding that the model does not predict today, it is unknown what removes it; but what cannot be
        // reached shows nothing.
        _ => !has(then, finding) && (has(today, finding) || is_out_of_reach(then, finding)),
    }
}

fn has(predicted: &Predicted, finding: &Finding) -> bool {
    predicted.findings.iter().any(|other| {
        other.invariant == finding.invariant
            && other.pages.intersects(&finding.pages)
            && other.paths.iter().any(|path| finding.paths.contains(path))
    })
}

/// None of the paths gives anything or accesses any memory.
fn is_out_of_reach(predicted: &Predicted, finding: &Finding) -> bool {
    let steps = || {
        let all = predicted.probe.iter().flat_map(|probed| &probed.observed.steps);
        all.filter(|step| finding.paths.contains(&step.step))
    };
    let refused = |answer: &Answer| matches!(answer, Answer::Failed { .. } | Answer::NotReached { .. });
    steps().count() > 0 && steps().all(|step| refused(&step.answer) && step.events.is_empty())
}
