// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Looks for holes nobody listed: every region of memory by every path there is, every page of the first MiB and both ends of
//! every range the guest knows, judged by what no sane kernel does.

mod closers;
pub mod finding;
mod incomplete;
pub mod invariant;
mod place;
mod predict;
pub mod probe;
mod sweep;
#[cfg(test)]
mod tests;
mod writes;

pub use self::finding::{Finding, Invariant, Weight};
pub use self::incomplete::incomplete;
pub use self::sweep::{SweepError, Swept, sweep};

use std::collections::BTreeMap;

use types::{PlacedRegion, Platform, Region};

use self::probe::Spot;
use crate::case::Case;
use crate::observation::CaseObservation;
use crate::report::Report;
use model::World;

/// A case with what it gave, in a guest or by the model.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The case.
    pub case: Case,
    /// What it gave.
    pub observed: CaseObservation,
}

/// What the invariants need to know of a guest.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the guest was started as.
    pub platform: Platform,
    /// Where its regions are.
    pub regions: &'a [PlacedRegion],
}

/// Every case about regions.
pub fn cases() -> Vec<Case> {
    probe::cases().into_iter().chain(writes::cases()).collect()
}

/// How many regions were looked at, and how many of them written to as well.
pub fn regions(report: &Report) -> (usize, usize) {
    let ran = || report.cases.iter().filter(|result| result.observed.not_run.is_none());
    let looks = ran().filter(|result| result.case.name.starts_with(probe::PREFIX)).count();
    let mut written: Vec<&str> = ran().filter_map(|result| writes::label(&result.case)).collect();
    written.dedup();
    (looks, written.len())
}

/// What runs of [`cases`] and of a sweep show, heaviest first. Which policies close what is known only with a model of the
/// guest.
pub fn findings(report: &Report, swept: &Swept, world: Option<&World>) -> Vec<Finding> {
    let facts = Facts { platform: report.platform.platform, regions: &report.platform.regions };
    let ran = report.cases.iter().filter(|result| result.observed.not_run.is_none());
    let probed = ran.map(|result| Probed { case: result.case.clone(), observed: result.observed.clone() });
    found(groups(probed.chain(swept.probed.iter().cloned()), facts), facts, world)
}

/// The findings of all groups.
fn found(groups: Vec<(Vec<Probed>, Check<'_>)>, facts: Facts<'_>, world: Option<&World>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (probe, check) in groups {
        let mut findings = check(&probe);
        let of_region = probe.iter().any(|one| !one.case.regions().is_empty());
        for finding in &mut findings {
            finding.of_region = of_region;
        }
        if let Some(world) = world {
            closers::fill(world, &facts, &probe, &*check, &mut findings);
        }
        found.extend(findings);
    }
    merge(found, facts.regions)
}

/// How many forbidden accesses were not recorded: what came after them is not known.
pub fn dropped(report: &Report, swept: &Swept) -> u64 {
    let observed = report.cases.iter().map(|result| &result.observed);
    let all = observed.chain(swept.probed.iter().map(|probed| &probed.observed));
    all.flat_map(|observed| &observed.steps).map(|step| step.events_dropped).sum()
}

/// Finds what a probe shows.
type Check<'a> = Box<dyn Fn(&[Probed]) -> Vec<Finding> + 'a>;

/// The probes with what is to be checked of them: looks at a spot, at the two addresses of one page, the writes to a spot, and
/// side doors.
fn groups(probed: impl Iterator<Item = Probed>, facts: Facts<'_>) -> Vec<(Vec<Probed>, Check<'_>)> {
    let mut groups: Vec<(Vec<Probed>, Check<'_>)> = Vec::new();
    let mut written: BTreeMap<String, Vec<Probed>> = BTreeMap::new();
    let (mut plain, mut alias) = (None, None);
    for one in probed {
        if let Some(label) = writes::label(&one.case) {
            written.entry(label.to_owned()).or_default().push(one);
        } else if let Some(spot) = one.case.name.strip_prefix(probe::PREFIX).and_then(spot) {
            match spot.label.parse() {
                Ok(Region::Ram) => plain = Some(one.clone()),
                Ok(Region::CbitAliasRam) => alias = Some(one.clone()),
                _ => {}
            }
            let check =
                move |probe: &[Probed]| probe.iter().flat_map(|one| invariant::look(one, &spot)).collect();
            groups.push((vec![one], Box::new(check)));
        } else if one.case.name == probe::SIDE_DOORS {
            let check =
                move |probe: &[Probed]| probe.iter().flat_map(|one| invariant::doors(&facts, one)).collect();
            groups.push((vec![one], Box::new(check)));
        }
    }
    if let (Some(plain), Some(alias)) = (plain, alias) {
        let check = |probe: &[Probed]| match probe {
            [plain, alias] => invariant::alias(plain, alias).into_iter().collect(),
            _ => Vec::new(),
        };
        groups.push((vec![plain, alias], Box::new(check)));
    }
    for (label, probe) in written {
        if let Some(spot) = spot(&label) {
            groups.push((probe, Box::new(move |probe: &[Probed]| writes::findings(&spot, probe))));
        }
    }
    groups
}

/// The spot with this label.
fn spot(label: &str) -> Option<Spot> {
    match label.parse::<Region>() {
        Ok(region) => Some(Spot::of(region)),
        Err(_) => Some(Spot::at(crate::place::parse_number(label)?, sweep::LEN)),
    }
}

/// Findings that say the same of several places become one; heaviest first.
fn merge(mut found: Vec<Finding>, regions: &[PlacedRegion]) -> Vec<Finding> {
    // All of what is told one from another, so that the order of the probes makes no difference.
    let key = |finding: &Finding| {
        let Finding { weight, invariant, gpa, sentence, paths, evidence, .. } = finding;
        (*weight, *invariant, *gpa, sentence.clone(), paths.clone(), evidence.clone())
    };
    found.sort_by_cached_key(key);
    let mut merged: Vec<Finding> = Vec::new();
    for finding in found {
        match merged.iter_mut().find(|other| other.is_like(&finding)) {
            Some(other) => other.absorb(finding),
            None => merged.push(finding),
        }
    }
    for finding in &mut merged {
        finding.finish(regions);
    }
    merged
}
