//! One guest from its first instruction until its agent answered, or until it ended before.

use serde::Serialize;

use super::{AccessEvent, Death, DeathKind, SetupFacts};
use crate::setup::Mode;

/// What happened while one guest booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootObservation {
    /// How the guest was set up; forbidden accesses had the consequences of this mode.
    pub setup: SetupFacts,
    /// The forbidden accesses.
    pub events: Vec<AccessEvent>,
    /// Forbidden accesses beyond what is kept of one guest.
    pub not_kept: u64,
    /// Its end, where it ended before its agent answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
}

impl BootObservation {
    /// A name that tells it from boots of guests that are set up otherwise.
    pub fn name(&self) -> String {
        let SetupFacts { mode: _, rom, sept_ve, unaccepted_percent: _ } = self.setup;
        let rom = rom.map(|rom| format!(" rom={rom}")).unwrap_or_default();
        format!("boot{rom}{}", if sept_ve { " sept-ve" } else { "" })
    }

    /// The end that may follow from a forbidden access: the guest's own, after at least one, where accesses have
    /// consequences. A host failure or a deadline is no evidence about the guest.
    pub fn death_after_access(&self) -> Option<&Death> {
        let has_consequences = self.setup.mode == Mode::Faithful && !self.events.is_empty();
        self.death
            .as_ref()
            .filter(|death| has_consequences && !matches!(death.kind, DeathKind::Hang | DeathKind::Internal))
    }
}
