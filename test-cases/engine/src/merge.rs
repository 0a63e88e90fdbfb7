// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reports of all shards of a run as one report. It is that of the run in one piece, except for times, boots, counters, the
//! order of cases, and facts of the first boot (boot seconds, unaccepted memory, malformed calls), which are the first shard's.

use std::collections::{BTreeMap, BTreeSet};

use crate::diff::{self, Change};
use crate::judge::Rigour;
use crate::observation::Counters;
use crate::report::compact::CompactReport;
use crate::report::document::{Boots, CaseRecord, RunDocument};
use crate::report::shard::{Shard, ShardOf};
use crate::report::{RunEnd, Summary};

/// Why reports are not those of all shards of one run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// There is no report.
    #[error("no report was given")]
    Nothing,
    /// A report is that of a whole run.
    #[error("{0} is the report of a whole run, not of a shard; it cannot be merged with others")]
    Whole(String),
    /// Two reports are of different kernels or set-ups.
    #[error("{first} and {other} are of different runs: {difference}; run all shards with the same options")]
    Different {
        /// The name of the first report.
        first: String,
        /// The name of the other.
        other: String,
        /// What differs.
        difference: String,
    },
    /// Two reports are of the same shard.
    #[error("{first} and {other} are both shard {shard}; give each shard once")]
    Duplicate {
        /// The name of the first report.
        first: String,
        /// The name of the other.
        other: String,
        /// The shard.
        shard: Shard,
    },
    /// A case is in two reports, or in one whose shard it does not belong to.
    #[error(
        "{name} has the case {case}, which belongs to another shard; write it again with `copra run --shard`"
    )]
    Misplaced {
        /// The name of the report.
        name: String,
        /// The case.
        case: String,
    },
    /// A case is in no report.
    #[error(
        "the case {case} of shard {shard} is in none of the reports, nor among those that it says were not run; write that shard's \
         report again"
    )]
    Lost {
        /// The case.
        case: String,
        /// Its shard.
        shard: Shard,
    },
    /// Some shards are not there.
    #[error("of {of} shards these are missing: {missing}; give their reports too")]
    Missing {
        /// How many shards there are.
        of: u16,
        /// Those that are missing.
        missing: String,
    },
}

/// A report with the name that messages have for it.
pub type Named = (String, RunDocument);

/// Merges the reports of all shards of a run; a single report of a whole run is that run.
pub fn merge(reports: &[Named]) -> Result<RunDocument, MergeError> {
    if let [(_, only)] = reports
        && only.shard.is_none()
    {
        return Ok(only.clone());
    }
    let (part, shards) = check(reports)?;
    // A shard in which a guest booted has every fact of the platform and the kernel.
    let has_booted = |(_, document): &&Named| !document.platform.regions.is_empty();
    let (_, base) = reports.iter().find(has_booted).or(reports.first()).ok_or(MergeError::Nothing)?;
    let mut merged = RunDocument { shard: None, ..base.clone() };
    let all = || reports.iter().map(|(_, document)| document);
    let mut cases: BTreeMap<&str, CaseRecord> =
        all().flat_map(|document| &document.cases).map(|case| (case.name.as_str(), case.clone())).collect();
    let remaining: BTreeSet<&str> =
        all().flat_map(|document| &document.remaining).map(String::as_str).collect();
    for (name, document) in reports {
        let shard = document.shard.as_ref().map(|part| part.shard);
        let names = document.cases.iter().map(|case| &case.name).chain(&document.remaining);
        let mut foreign = names
            .filter(|case| !part.selected.contains(case) || shard.is_some_and(|shard| !shard.contains(case)));
        if let Some(case) = foreign.next() {
            return Err(MergeError::Misplaced { name: name.clone(), case: case.clone() });
        }
    }
    let is_lost = |name: &&String| !cases.contains_key(name.as_str()) && !remaining.contains(name.as_str());
    if let Some(case) = part.selected.iter().find(is_lost) {
        let shard = shards.iter().copied().find(|shard| shard.contains(case)).unwrap_or(part.shard);
        return Err(MergeError::Lost { case: case.clone(), shard });
    }
    merged.cases = part.selected.iter().filter_map(|name| cases.remove(name.as_str())).collect();
    merged.remaining =
        part.selected.iter().filter(|name| remaining.contains(name.as_str())).cloned().collect();
    merged.boot = Boots::of(all().flat_map(|document| document.boot.guests.clone()).collect());
    merged.deaths = all().flat_map(|document| document.deaths.clone()).collect();
    merged.aborted = all().flat_map(|document| document.aborted.clone()).collect();
    merged.seconds = all().map(|document| document.seconds).sum();
    merged.platform.names_lacking = all().find_map(|document| document.platform.names_lacking.clone());
    merged.platform.log_unread = all().find_map(|document| document.platform.log_unread.clone());
    merged.modes = BTreeMap::new();
    merged.rigour = Rigour::default();
    merged.counters = Counters::default();
    for document in all() {
        for (mode, count) in &document.modes {
            *merged.modes.entry(*mode).or_default() += count;
        }
        merged.rigour.add(&document.rigour);
        merged.counters = merged.counters.plus(document.counters);
    }
    merged.ended = ended(reports, &shards);
    merged.summary = Summary::of(
        merged.cases.iter().map(|case| (&case.judged, case.holes().count())),
        merged.remaining.len(),
    );
    Ok(merged)
}

/// That the reports are those of all shards of one run; the first one's part, and the shard of each.
fn check(reports: &[Named]) -> Result<(&ShardOf, Vec<Shard>), MergeError> {
    let ((first, base), rest) = reports.split_first().ok_or(MergeError::Nothing)?;
    let shard = |(name, document): &'_ Named| {
        document.shard.as_ref().map(|part| part.shard).ok_or_else(|| MergeError::Whole(name.clone()))
    };
    let shards = reports.iter().map(shard).collect::<Result<Vec<_>, _>>()?;
    let part = base.shard.as_ref().ok_or_else(|| MergeError::Whole(first.clone()))?;
    for (other, document) in rest {
        if let Some(difference) = difference(base, document) {
            return Err(MergeError::Different { first: first.clone(), other: other.clone(), difference });
        }
    }
    for (index, shard) in shards.iter().enumerate() {
        if let Some(earlier) = shards[..index].iter().position(|earlier| earlier == shard) {
            let name = |index: usize| reports.get(index).map(|(name, _)| name.clone()).unwrap_or_default();
            return Err(MergeError::Duplicate { first: name(earlier), other: name(index), shard: *shard });
        }
    }
    let of = part.shard.of;
    let missing: Vec<String> = (1..=of)
        .map(|index| Shard { index, of })
        .filter(|shard| !shards.contains(shard))
        .map(|shard| shard.to_string())
        .collect();
    if missing.is_empty() {
        Ok((part, shards))
    } else {
        Err(MergeError::Missing { of, missing: missing.join(", ") })
    }
}

/// What shows that two reports are not of the same run: the first difference.
fn difference(one: &RunDocument, other: &RunDocument) -> Option<String> {
    let part = |document: &RunDocument| document.shard.clone();
    let (a, b) = (part(one)?, part(other)?);
    if a.shard.of != b.shard.of {
        return Some(format!("one of {} shards, the other of {}", a.shard.of, b.shard.of));
    }
    if a.selected != b.selected {
        return Some("they were made of different selections of cases".to_owned());
    }
    let compact = |document: &RunDocument, twin: &RunDocument| {
        let mut compact = CompactReport::of(document);
        compact.shard = None;
        // The version is read from a booted guest, and a shard may have booted none.
        if document.kernel.version.is_empty() || twin.kernel.version.is_empty() {
            compact.kernel.version.clear();
        }
        compact
    };
    let (a, b) = (compact(one, other), compact(other, one));
    let by_copra = (a.copra != b.copra).then(|| format!("copra: {} → {}", a.copra, b.copra));
    let of_run =
        |change: Change| matches!(change, Change::Setup(_) | Change::Kernel(_)).then(|| change.to_string());
    by_copra.or_else(|| diff::diff(&a, &b).into_iter().find_map(of_run))
}

/// Complete if each shard is; else the first reason, with its shard.
fn ended(reports: &[Named], shards: &[Shard]) -> RunEnd {
    let mut parts =
        reports.iter().zip(shards).filter(|((_, document), _)| document.ended != RunEnd::Complete);
    match parts.next() {
        None => RunEnd::Complete,
        Some(((_, document), _)) if document.ended == RunEnd::Interrupted => RunEnd::Interrupted,
        Some(((_, document), shard)) => {
            RunEnd::Failed(format!("shard {shard}: {}", document.cut_short().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::{Report, fixture};

    /// The reports that a run in shards would have written.
    fn split(report: &Report, of: u16) -> Vec<Named> {
        let selected = report.planned.clone();
        let part = |index| {
            let shard = Shard { index, of };
            let mut part = report.clone();
            part.planned.retain(|name| shard.contains(name));
            part.cases.retain(|result| shard.contains(&result.case.name));
            part.deaths.retain(|death| death.during.as_ref().is_some_and(|it| shard.contains(&it.case)));
            let document = RunDocument::of(&part);
            let shard = Some(ShardOf { shard, selected: selected.clone() });
            (format!("{index}.json"), RunDocument { shard, ..document })
        };
        (1..=of).map(part).collect()
    }

    /// Without what the run in one piece has otherwise.
    fn comparable(mut document: RunDocument) -> RunDocument {
        document.seconds = 0.0;
        document.counters = Counters::default();
        document.boot.guests.dedup();
        document.boot.guests.truncate(1);
        document.cases.sort_by(|a, b| a.name.cmp(&b.name));
        if let RunEnd::Failed(reason) = &mut document.ended {
            *reason = reason.rsplit(": ").next().unwrap_or_default().to_owned();
        }
        document
    }

    #[test]
    fn shards_are_refused_with_the_reason() {
        let refusal = |reports: &[Named]| merge(reports).unwrap_err().to_string();
        let three = || split(&fixture::whole(), 3);
        let changed = |change: fn(&mut RunDocument)| {
            let mut reports = three();
            change(&mut reports[1].1);
            refusal(&reports)
        };
        assert_eq!(refusal(&[]), "no report was given");
        assert!(
            changed(|it| it.kernel.sha256.replace_range(..2, "ff"))
                .contains("1.json and 2.json are of different runs: image: 0000")
        );
        assert!(changed(|it| it.platform.platform = types::Platform::Tdx).contains("platform: sev → tdx"));
        assert!(changed(|it| it.policy = types::Policy::OpenEperm).contains("policy: upstream → open-eperm"));
        assert!(changed(|it| it.platform.memory_mib = 7).contains("guest memory: 512 MiB → 7 MiB"));
        assert!(
            changed(|it| it.platform.setup.mode = types::Mode::Faithful).contains("mode: record → faithful")
        );
        assert!(changed(|it| it.kernel.cmdline.push_str(" nopat")).contains("command line"));
        assert!(changed(|it| "9".clone_into(&mut it.copra)).contains("copra: "));
        assert!(changed(|it| it.shard = None).contains("2.json is the report of a whole run"));
        assert!(changed(|it| it.shard.as_mut().unwrap().selected.clear()).contains("different selections"));
        assert!(
            changed(|it| it.shard.as_mut().unwrap().shard.of = 4).contains("one of 3 shards, the other of 4")
        );
        let mut twice = three();
        twice.push(("again.json".to_owned(), twice[2].1.clone()));
        assert!(refusal(&twice).contains("3.json and again.json are both shard 3/3"));
        let mut lacking = three();
        lacking.remove(0);
        assert!(refusal(&lacking[..1]).contains("of 3 shards these are missing: 1/3, 3/3"));
        let mut foreign = three();
        let case = foreign[0].1.cases.first().or(foreign[1].1.cases.first()).unwrap().clone();
        for (_, document) in &mut foreign {
            document.cases = vec![case.clone()];
        }
        assert!(refusal(&foreign).contains("belongs to another shard"));
    }

    #[test]
    fn counters_and_durations_are_sums() {
        let reports = split(&fixture::whole(), 4);
        let merged = merge(&reports).unwrap();
        assert_eq!(merged.counters.exits, reports.iter().map(|(_, it)| it.counters.exits).sum::<u64>());
        assert_eq!(merged.boot.guests.len(), 4);
        assert!(merged.seconds > reports[0].1.seconds);
    }

    #[test]
    fn a_single_whole_report_is_left_as_it_is() {
        let document = RunDocument::of(&fixture::whole());
        assert_eq!(merge(&[("a".to_owned(), document.clone())]), Ok(document));
    }

    proptest! {
        // Each makes a run anew.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_merged_report_is_that_of_the_run_in_one_piece(of in 1..9_u16, cut: bool, turn in 0..9_usize) {
            let report = if cut { fixture::cut_short() } else { fixture::whole() };
            let mut reports = split(&report, of);
            let turn = turn % reports.len();
            reports.rotate_left(turn);
            let merged = merge(&reports).unwrap();
            prop_assert_eq!(comparable(merged), comparable(RunDocument::of(&report)));
        }
    }
}
