//! Looks for holes nobody listed: every region of memory by every path there is, judged by what no sane kernel does.

mod closers;
pub mod finding;
pub mod invariant;
pub mod probe;
mod writes;

pub use self::finding::{Finding, Weight};

use crate::case::Case;
use crate::report::Report;

/// Everything that is tried.
pub fn cases() -> Vec<Case> {
    probe::cases().into_iter().chain(writes::cases()).collect()
}

/// How many regions were looked at, and how many of them written to as well.
pub fn regions(report: &Report) -> (usize, usize) {
    let ran = || report.cases.iter().filter(|result| result.observed.not_run.is_none());
    let (writes, looks): (Vec<_>, Vec<_>) = ran().partition(|result| writes::has(&result.case));
    (looks.len().saturating_sub(1), writes.len() / writes::ways())
}

/// What a run of [`cases`] shows, heaviest first.
pub fn findings(report: &Report) -> Vec<Finding> {
    let mut found: Vec<Finding> = report
        .cases
        .iter()
        .filter(|result| result.observed.not_run.is_none() && !writes::has(&result.case))
        .flat_map(|result| invariant::check(report, result))
        .chain(invariant::alias(report))
        .chain(writes::findings(report))
        .collect();
    for finding in &mut found {
        finding.closed_by = closers::of(finding, report.platform.platform);
    }
    found.sort_by_key(|finding| (finding.weight, finding.invariant, finding.gpa));
    let mut merged: Vec<Finding> = Vec::new();
    for finding in found {
        match merged.iter_mut().find(|other| other.is_like(&finding)) {
            Some(other) => other.absorb(finding),
            None => merged.push(finding),
        }
    }
    merged.iter_mut().for_each(Finding::finish);
    merged
}
