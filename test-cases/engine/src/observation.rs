// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happened: per step, per case, and in the run as a whole.

mod boot;
mod death;
mod facts;

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::{AccessEvent, Errno, PageChange, RefusedConversion, Signal};

pub use boot::BootObservation;
pub use death::{Aborted, Death, DeathKind, Deaths, During};
pub use facts::{Counters, KernelFacts, KvmHost, PlatformFacts, RewrittenOpcode, SetupFacts, Unaccepted};

use model::class::{Classes, States, Truth, hex};

/// How many bytes of an answer reports show.
pub const SHOWN: usize = 64;

/// The answer of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Answer {
    /// It succeeded and returned this number: a count, a position, a file descriptor.
    Returned {
        /// The number.
        value: u64,
    },
    /// It failed with this error.
    Failed {
        /// The error.
        errno: Errno,
    },
    /// The process that did it was ended by a signal.
    Signalled {
        /// The signal.
        signal: Signal,
    },
    /// It did not return in time, though the guest's agent answers: no evidence of anything.
    TimedOut,
    /// The guest died during it.
    GuestDied,
    /// It was not tried, since it needs a file or mapping that an earlier step did not obtain.
    NotReached {
        /// The name of what it needs.
        needs: String,
    },
    /// It was not tried, or not to its end, for a reason that is no evidence about the guest: the host's failure, copra's
    /// own, a deadline.
    NotRun {
        /// The reason.
        reason: String,
    },
}

/// A range of guest physical addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpaRange {
    /// The first address.
    #[serde(serialize_with = "address", deserialize_with = "types::json::read_address")]
    pub start: u64,
    /// How many bytes.
    pub len: u64,
}

/// When the memory of a step was read. The guest is stopped then; in between it executes the step, and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TruthTaken {
    /// Before the step, and it held the same after it.
    BeforeAndAfter,
    /// Before the step; after it memory held something else.
    Before,
}

/// What one step gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepObservation {
    /// The step's name.
    pub step: String,
    /// Its answer.
    pub answer: Answer,
    /// Every manner of the guest's death that fits what the VMM saw, where it died.
    #[serde(rename = "death", default, skip_serializing_if = "Deaths::is_empty")]
    pub end: Deaths,
    /// Every byte it gave back.
    #[serde(
        serialize_with = "shown",
        deserialize_with = "model::class::read_hex",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bytes: Vec<u8>,
    /// What the bytes are.
    #[serde(default, skip_serializing_if = "Classes::is_empty")]
    pub class: Classes,
    /// The change of memory (`memory` steps only).
    #[serde(default, skip_serializing_if = "States::is_empty")]
    pub state: States,
    /// The memory that the step accessed, read by the VMM.
    pub truth: Truth,
    /// When that was read, where bytes were compared with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth_taken: Option<TruthTaken>,
    /// The guest physical addresses it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpa: Option<GpaRange>,
    /// The forbidden accesses during the step.
    pub events: Vec<AccessEvent>,
    /// Forbidden accesses during the step that were not kept, beyond the bound of one guest: with any, the absence of an
    /// event shows nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub events_dropped: u64,
    /// The changes of the watched page (`copra explain`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PageChange>,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "seconds", deserialize_with = "read_seconds")]
    pub duration: Duration,
}

impl StepObservation {
    /// An observation with an answer only.
    pub fn new(step: &str, answer: Answer) -> Self {
        Self {
            step: step.to_owned(),
            answer,
            end: Deaths::default(),
            bytes: Vec::new(),
            class: Classes::default(),
            state: States::default(),
            truth: Truth::default(),
            truth_taken: None,
            gpa: None,
            events: Vec::new(),
            events_dropped: 0,
            changes: Vec::new(),
            duration: Duration::ZERO,
        }
    }

    /// Adds bytes and compares them with the truth.
    #[must_use]
    pub fn with_bytes(mut self, bytes: Vec<u8>, truth: Truth) -> Self {
        self.class = model::class::classify(&bytes, &truth);
        self.bytes = bytes;
        self.truth = truth;
        self
    }
}

/// What the steps of one case gave, in their order; a case that was cut short has fewer than its steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseObservation {
    /// The steps.
    pub steps: Vec<StepObservation>,
    /// Conversions of memory that were refused meanwhile because a rule says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedConversion>,
    /// Why the case was not run at all, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_run: Option<NotRun>,
    /// How long the case took.
    #[serde(rename = "seconds", serialize_with = "seconds", deserialize_with = "read_seconds")]
    pub duration: Duration,
}

/// Why a case was not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", content = "reason", rename_all = "kebab-case")]
pub enum NotRun {
    /// It does not apply to this guest.
    Skipped(String),
    /// It could not be run.
    Failed(String),
}

impl CaseObservation {
    /// The observation of a step, if it was made.
    pub fn step(&self, id: &str) -> Option<&StepObservation> {
        self.steps.iter().find(|observed| observed.step == id)
    }
}

fn shown<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(&bytes[..bytes.len().min(SHOWN)]))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands over a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Addresses are texts in JSON, since many of its readers know no 64-bit numbers.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's serialize_with hands over a reference")]
pub(crate) fn address<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{address:#x}"))
}

pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1e6).round() / 1e6)
}

/// Reads a duration that [`seconds`] wrote.
pub(crate) fn read_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
