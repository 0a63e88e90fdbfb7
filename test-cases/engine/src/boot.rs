// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verdict on a guest's boot: forbidden accesses that are known of stock kernels, and all others.

mod known;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use self::known::{BadList, Known, all};
use serde::{Deserialize, Serialize};
use types::{AccessEvent, Platform};

use crate::judge::Verdict;
use crate::observation::BootObservation;
use model::release::Release;

/// One boot with its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootResult {
    /// What happened.
    pub observed: BootObservation,
    /// For each of its forbidden accesses, why it is known; `None` for one that is not.
    pub known: Vec<Option<Cow<'static, str>>>,
    /// The verdict.
    #[serde(rename = "judged")]
    pub verdict: Verdict,
}

/// What decides which accesses are known.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The guest's platform.
    pub platform: Platform,
    /// The kernel's release, where known.
    pub release: Option<Release>,
}

/// Judges one boot.
pub fn judge(observed: BootObservation, context: Context) -> BootResult {
    // A list that cannot be read makes no access known.
    let list = all().unwrap_or_default();
    let why = |event| list.iter().find(|known| known.covers(event, observed.setup, context));
    let known: Vec<_> =
        observed.events.iter().map(|event| why(event).map(|it| Cow::Borrowed(it.hole.as_str()))).collect();
    let verdict = verdict(&observed, &known);
    BootResult { observed, known, verdict }
}

fn verdict(observed: &BootObservation, known: &[Option<Cow<'static, str>>]) -> Verdict {
    let expected = "no forbidden access while booting".to_owned();
    let unknown = observed.events.iter().zip(known).filter(|(_, hole)| hole.is_none());
    let count = unknown.clone().count() as u64 + observed.not_kept;
    let first = unknown.map(|(event, _)| event).chain(&observed.events).next();
    let first = first.map(ToString::to_string).unwrap_or_default();
    if let Some(death) = observed.death_after_access() {
        return Verdict::Unexpected {
            expected,
            got: format!("{first}; then the guest ended: {}", death.text),
        };
    }
    if count > 0 {
        let more = if count > 1 { format!("; {} more", count - 1) } else { String::new() };
        return Verdict::Unexpected { expected, got: format!("{first}{more}") };
    }
    if let Some(why) = observed.did_not_come_up() {
        return Verdict::NotRun { reason: format!("the guest did not come up: {why}") };
    }
    match known.iter().flatten().next() {
        Some(hole) => Verdict::KnownHole { hole: hole.clone().into_owned() },
        None => Verdict::AsSpecified,
    }
}

impl BootResult {
    /// What was found, in a few words.
    pub fn finding(&self) -> &'static str {
        if self.observed.death_after_access().is_some() {
            "the guest ended while booting, after a forbidden access"
        } else if self.observed.did_not_come_up().is_some() {
            "a forbidden access while booting that is not known; the guest did not come up"
        } else {
            "a forbidden access while booting that is not known"
        }
    }

    /// The distinct known holes that were shown.
    pub fn holes(&self) -> Vec<&str> {
        let mut holes: Vec<_> = self.known.iter().flatten().map(Cow::as_ref).collect();
        holes.sort_unstable();
        holes.dedup();
        holes
    }

    /// The forbidden accesses that are not known.
    pub fn unknown(&self) -> impl Iterator<Item = &AccessEvent> {
        self.observed
            .events
            .iter()
            .zip(&self.known)
            .filter(|(_, hole)| hole.is_none())
            .map(|(event, _)| event)
    }
}
