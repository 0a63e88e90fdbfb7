// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One guest from its first instruction until its agent answered, or until it ended before.

use serde::{Deserialize, Serialize};
use types::{AccessEvent, Mode, RefusedConversion};

use super::{Aborted, Death, SetupFacts};

/// What happened while one guest booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootObservation {
    /// How the guest was set up; forbidden accesses had the consequences of this mode.
    pub setup: SetupFacts,
    /// The forbidden accesses.
    pub events: Vec<AccessEvent>,
    /// Forbidden accesses beyond what is kept of one guest.
    pub not_kept: u64,
    /// Conversions of memory that were refused because a rule says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedConversion>,
    /// Its death, where it died before its agent answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
    /// Why its run was aborted before its agent answered, where it was: no evidence about the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<Aborted>,
}

impl BootObservation {
    /// A name that distinguishes it from boots with another setup.
    pub fn name(&self) -> String {
        let SetupFacts { mode: _, rom, sept_ve, unaccepted_percent: _, layout: _, fail } = self.setup;
        let rom = rom.map(|rom| format!(" rom={rom}")).unwrap_or_default();
        let mut name = format!("boot{rom}{}", if sept_ve { " sept-ve" } else { "" });
        for rule in fail.iter() {
            name.push_str(" fail=");
            name.push_str(&rule.to_string());
        }
        name
    }

    /// The death that may follow from a forbidden access: one after at least one access, where accesses have
    /// consequences.
    pub fn death_after_access(&self) -> Option<&Death> {
        let has_consequences = self.setup.mode == Mode::Faithful && !self.events.is_empty();
        self.death.as_ref().filter(|_| has_consequences)
    }

    /// Why the guest's agent never answered, if it did not.
    pub fn did_not_come_up(&self) -> Option<&str> {
        let death = self.death.as_ref().map(|death| death.text.as_str());
        death.or(self.aborted.as_ref().map(|aborted| aborted.reason.as_str()))
    }
}
