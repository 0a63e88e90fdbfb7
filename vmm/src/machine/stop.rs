// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a run ended.

use std::fmt;

use super::debug::DebugStop;
use crate::platform::services::Termination;

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The agent has written; take it with `take_from_agent`.
    Agent,
    /// The guest reset itself through a port.
    Reset {
        /// i8042 0x64, or 0xcf9.
        port: u16,
    },
    /// The guest switched itself off through ACPI.
    PowerOff,
    /// The vCPU halted for good: HLT with interrupts off.
    Halted,
    /// Triple fault.
    TripleFault,
    /// The platform or its hypervisor ended the guest.
    Terminated(Termination),
    /// A small test guest ended with this byte.
    DebugExit(u8),
    /// For the guest's debugger.
    Debug(DebugStop),
    /// The caller requested it.
    Interrupted,
    /// The deadline passed.
    Deadline,
    /// KVM could not go on with this guest.
    Failed(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("the agent answered"),
            Self::Reset { port } => write!(f, "the guest reset itself (port {port:#x})"),
            Self::PowerOff => f.write_str("the guest switched itself off (ACPI sleep state S5)"),
            Self::Halted => f.write_str("the guest halted with interrupts off (power-off or halt)"),
            Self::TripleFault => f.write_str("the guest triple-faulted"),
            Self::Terminated(termination) => termination.fmt(f),
            Self::DebugExit(code) => write!(f, "the test guest ended with {code}"),
            Self::Debug(stop) => stop.fmt(f),
            Self::Interrupted => f.write_str("the run was interrupted"),
            Self::Deadline => f.write_str("the deadline passed"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}
