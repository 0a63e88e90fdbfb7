// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What boots showed, each kind once.

use serde::Serialize;
use types::{AccessEvent, EventKind};

use super::log::without_numbers;
use super::{BootDone, BootPlan};

/// What makes two failures the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Signature {
    /// What happened.
    pub kind: FindingKind,
    /// In which function, or by which words.
    pub place: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The guest ended before its agent answered.
    Death,
    /// A forbidden access.
    Access(EventKind),
    /// The kernel reported a fault of its own.
    Complaint,
}

/// One failure, and where it was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What it is.
    pub signature: Signature,
    /// The first one, in full.
    pub text: String,
    /// The access, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<AccessEvent>,
    /// The last lines of the console, of a death.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub console: Vec<String>,
    /// A hole of stock kernels that is known, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// The boots that showed it.
    pub boots: Vec<BootPlan>,
    /// The one with the fewest facts that shows it.
    pub least: BootPlan,
    /// It was shrunk as far as possible: without any one of the facts left it is not shown.
    pub shrunk: bool,
}

/// Every failure of a boot, with its text.
pub(super) fn of(boot: &BootDone) -> Vec<Finding> {
    let observed = &boot.result.observed;
    let make = |kind, place: String, text: String| Finding {
        signature: Signature { kind, place },
        text,
        event: None,
        console: Vec::new(),
        known: None,
        boots: vec![boot.plan.clone()],
        least: boot.plan.clone(),
        shrunk: false,
    };
    let deaths = observed.death.iter().map(|death| {
        let place = oops_function(&death.console).unwrap_or_else(|| without_numbers(&death.text));
        let text = format!("{}: {}", death.kind, death.text);
        Finding { console: death.console.clone(), ..make(FindingKind::Death, place, text) }
    });
    let accesses = observed.events.iter().zip(&boot.result.known).map(|(event, known)| Finding {
        event: Some(event.clone()),
        known: known.as_ref().map(ToString::to_string),
        ..make(FindingKind::Access(event.kind), function(event), event.to_string())
    });
    let complaints =
        boot.complaints.iter().map(|line| make(FindingKind::Complaint, without_numbers(line), line.clone()));
    deaths.chain(accesses).chain(complaints).collect()
}

/// The failures of all boots, each once, deaths first; those that are known last.
pub(super) fn collect(boots: &[BootDone]) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for found in boots.iter().flat_map(of) {
        match all.iter_mut().find(|known| known.signature == found.signature && known.known == found.known) {
            Some(known) => {
                if known.boots.last() != found.boots.last() {
                    known.boots.extend(found.boots);
                }
            }
            None => all.push(found),
        }
    }
    for finding in &mut all {
        let facts = |plan: &&BootPlan| {
            let words = usize::from(plan.words.is_some()) + usize::from(plan.layout.memory_mib.is_some());
            crate::layouts::simpler(&plan.layout.layout).len() + words
        };
        if let Some(least) = finding.boots.iter().min_by_key(facts) {
            finding.least = least.clone();
        }
    }
    all.sort_by(|a, b| (a.known.is_some(), &a.signature).cmp(&(b.known.is_some(), &b.signature)));
    all
}

/// The function that made the access, without the offset in it.
fn function(event: &AccessEvent) -> String {
    let name = event.symbol.as_deref().map(|symbol| symbol.split_once('+').map_or(symbol, |(name, _)| name));
    name.map_or_else(|| format!("{:#x}", event.rip), str::to_owned)
}

/// The function of the first `RIP:` line of an oops.
fn oops_function(console: &[String]) -> Option<String> {
    let line = console.iter().find_map(|line| line.split_once("RIP: 0010:"))?.1;
    Some(line.split(['+', ' ']).next()?.to_owned())
}
