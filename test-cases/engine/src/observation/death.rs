// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a guest died: by exact names, each of which rests on what the VMM saw.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use types::candidates::Candidates;
use types::names::named;

named! {
    /// The manner of a guest's death.
    pub enum DeathKind ("death") {
        Terminated = "terminated", "the platform's module, firmware or hypervisor ended the guest";
        Panic = "panic", "the kernel panicked";
        TripleFault = "triple-fault", "the processor shut down after a triple fault";
        Reset = "reset", "the guest reset itself";
        PowerOff = "power-off", "the guest switched itself off or halted for good";
        Hang = "hang", "the processor stays in code with interrupts off, and the agent does not answer";
    }
}

impl DeathKind {
    /// The kinds that `dead` in a case includes.
    pub const DEAD: [Self; 3] = [Self::Terminated, Self::Panic, Self::TripleFault];

    /// The death as the end of a sentence about the guest.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Terminated => "the platform terminated the guest",
            Self::Panic => "the guest's kernel panicked",
            Self::TripleFault => "the guest ended in a triple fault",
            Self::Reset => "the guest reset itself",
            Self::PowerOff => "the guest switched itself off",
            Self::Hang => "the guest hangs with interrupts off",
        }
    }
}

/// Every death that fits what the VMM saw; none for a guest that did not die.
pub type Deaths = Candidates<DeathKind>;

/// The step of a case in which something happened; `case#step` in reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct During {
    /// The case.
    pub case: String,
    /// The step.
    pub step: String,
}

impl fmt::Display for During {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.case, self.step)
    }
}

impl Serialize for During {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for During {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.rsplit_once('#').map(|(case, step)| (case.to_owned(), step.to_owned()));
        let (case, step) = parts.ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` names no step; one is written as CASE#STEP"))
        })?;
        Ok(Self { case, step })
    }
}

/// A guest that died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// The kind of death; several where copra could not determine which.
    pub kind: Deaths,
    /// What the VMM saw, and the panic message if there is one.
    pub text: String,
    /// The step it happened in, if it happened in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<During>,
    /// The last lines of its console; where that is empty, of the kernel's log buffer, after a line that states this.
    pub console: Vec<String>,
}

/// A guest that was aborted for a reason that is no evidence about it: the host's failure, copra's own, or a deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aborted {
    /// The reason.
    pub reason: String,
    /// The step it happened in, if it happened in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<During>,
    /// The last lines of the guest's console, or of the kernel's log buffer as for a death.
    pub console: Vec<String>,
}
