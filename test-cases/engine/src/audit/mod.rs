// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Searches for unlisted holes: every region of memory by every known path, every page of the first MiB and both ends of
//! every range of the guest's memory map, judged by invariants that hold for every policy.

mod closers;
pub mod devices;
pub mod doors;
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
use self::writes::Way;
use crate::case::Case;
use crate::observation::CaseObservation;
use crate::place::Base;
use crate::report::{CaseResult, Report};
use model::World;

/// What a case of the audit tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Every path to the bytes of a spot.
    Read(Spot),
    /// One way to change them.
    Write(Spot, Way),
    /// Other ways to what /dev/mem gives.
    SideDoors,
}

/// A case with what it gave, in a guest or by the model.
#[derive(Debug, Clone)]
pub struct Probed {
    /// What it tries.
    pub subject: Subject,
    /// The case.
    pub case: Case,
    /// What it gave.
    pub observed: CaseObservation,
}

/// The facts of a guest that the invariants use.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the guest was started as.
    pub platform: Platform,
    /// Where its regions are.
    pub regions: &'a [PlacedRegion],
}

impl Subject {
    /// Everything that is tried by name: regions, and side doors.
    fn named() -> impl Iterator<Item = Self> {
        let reads = Region::ALL.iter().map(|region| Self::Read(Spot::of(*region)));
        let writes = writes::regions().map(|(spot, way)| Self::Write(spot, way));
        reads.chain([Self::SideDoors]).chain(writes)
    }

    /// The name of its case.
    fn name(&self) -> String {
        match self {
            Self::Read(spot) => probe::name(spot),
            Self::Write(spot, way) => writes::name(spot, *way),
            Self::SideDoors => doors::NAME.to_owned(),
        }
    }

    /// Its case: of a region every path, of an address those of a sweep.
    fn case(&self) -> Case {
        match self {
            Self::Read(Spot { base: Base::Region(region), .. }) => probe::case(*region),
            Self::Read(spot) => probe::case_at(spot),
            Self::Write(spot, way) => writes::case(spot, *way),
            Self::SideDoors => doors::case(),
        }
    }
}

/// Every case about regions.
pub fn cases() -> Vec<Case> {
    Subject::named().map(|subject| subject.case()).collect()
}

/// The cases of a report that ran, with what each tries.
fn ran(report: &Report) -> impl Iterator<Item = (Subject, &CaseResult)> {
    let named: BTreeMap<String, Subject> = Subject::named().map(|it| (it.name(), it)).collect();
    let ran = report.cases.iter().filter(|result| result.observed.not_run.is_none());
    ran.filter_map(move |result| Some((*named.get(&result.case.name)?, result)))
}

/// How many regions were read, and how many of them were also written.
pub fn regions(report: &Report) -> (usize, usize) {
    let reads = ran(report).filter(|(subject, _)| matches!(subject, Subject::Read(_))).count();
    let mut written: Vec<Spot> = ran(report)
        .filter_map(|(subject, _)| match subject {
            Subject::Write(spot, _) => Some(spot),
            _ => None,
        })
        .collect();
    written.dedup();
    (reads, written.len())
}

/// What runs of [`cases`] and of a sweep show, heaviest first. Which policies close what is known only with a model of the
/// guest.
pub fn findings(report: &Report, swept: &Swept, world: Option<&World>) -> Vec<Finding> {
    let facts = Facts { platform: report.platform.platform, regions: &report.platform.regions };
    let probed = ran(report).map(|(subject, result)| {
        let (case, observed) = (result.case.clone(), result.observed.clone());
        Probed { subject, case, observed }
    });
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

/// How many forbidden accesses were not recorded because the log was full.
pub fn dropped(report: &Report, swept: &Swept) -> u64 {
    let observed = report.cases.iter().map(|result| &result.observed);
    let all = observed.chain(swept.probed.iter().map(|probed| &probed.observed));
    all.flat_map(|observed| &observed.steps).map(|step| step.events_dropped).sum()
}

/// Finds what a probe shows.
type Check<'a> = Box<dyn Fn(&[Probed]) -> Vec<Finding> + 'a>;

/// The probes with the check of each: reads of a spot, at the two addresses of one page, the writes to a spot, and
/// side doors.
fn groups(probed: impl Iterator<Item = Probed>, facts: Facts<'_>) -> Vec<(Vec<Probed>, Check<'_>)> {
    let mut groups: Vec<(Vec<Probed>, Check<'_>)> = Vec::new();
    let mut written: BTreeMap<String, (Spot, Vec<Probed>)> = BTreeMap::new();
    let (mut plain, mut alias) = (None, None);
    for one in probed {
        match one.subject {
            Subject::Write(spot, _) => {
                written.entry(spot.to_string()).or_insert((spot, Vec::new())).1.push(one);
            }
            Subject::Read(spot) => {
                match spot.base {
                    Base::Region(Region::Ram) => plain = Some(one.clone()),
                    Base::Region(Region::CbitAliasRam) => alias = Some(one.clone()),
                    _ => {}
                }
                let check = move |probe: &[Probed]| {
                    probe.iter().flat_map(|one| invariant::check_reads(one, &spot)).collect()
                };
                groups.push((vec![one], Box::new(check)));
            }
            Subject::SideDoors => {
                let check = move |probe: &[Probed]| {
                    probe.iter().flat_map(|one| invariant::side_doors(&facts, one)).collect()
                };
                groups.push((vec![one], Box::new(check)));
            }
        }
    }
    if let (Some(plain), Some(alias)) = (plain, alias) {
        let check = |probe: &[Probed]| match probe {
            [plain, alias] => invariant::alias(plain, alias).into_iter().collect(),
            _ => Vec::new(),
        };
        groups.push((vec![plain, alias], Box::new(check)));
    }
    for (spot, probe) in written.into_values() {
        groups.push((probe, Box::new(move |probe: &[Probed]| writes::findings(&spot, probe))));
    }
    groups
}

/// Equal findings of several places become one; heaviest first.
fn merge(mut found: Vec<Finding>, regions: &[PlacedRegion]) -> Vec<Finding> {
    // By every field that distinguishes findings, so that the order of the probes has no effect.
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
