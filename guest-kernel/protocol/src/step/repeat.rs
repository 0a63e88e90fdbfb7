// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The requirements of a `Repeat` on the steps it covers.

use super::Step;
use crate::MAX_REPEATED;

impl Step<'_> {
    /// Adds to the step's offset, port or number, wrapping around. Steps that have none stay as they are.
    pub fn shift(&mut self, delta: i64) {
        match self {
            Self::Lseek { offset, .. } => *offset = offset.wrapping_add(delta),
            Self::Pread { offset, .. }
            | Self::Pwrite { offset, .. }
            | Self::Mmap { offset, .. }
            | Self::MmapOver { offset, .. }
            | Self::Mprotect { offset, .. }
            | Self::Peek { offset, .. }
            | Self::Poke { offset, .. }
            | Self::ProcMemRead { offset, .. }
            | Self::ProcMemWrite { offset, .. }
            | Self::VmRead { offset, .. }
            | Self::VmWrite { offset, .. }
            | Self::PtracePeek { offset, .. }
            | Self::PtracePoke { offset, .. }
            | Self::ReadFile { offset, .. } => *offset = offset.wrapping_add_signed(delta),
            Self::KernelLog { offset, .. } => *offset = offset.wrapping_add_signed(delta as i32),
            Self::Ioperm { from, .. } => *from = from.wrapping_add_signed(delta),
            Self::PortIn { port, .. } | Self::PortOut { port, .. } => {
                *port = port.wrapping_add_signed(delta as i16);
            }
            Self::Marker { value } => *value = value.wrapping_add_signed(delta),
            _ => {}
        }
    }

    /// Whether `Repeat` may cover the step.
    pub fn repeatable(&self) -> bool {
        !matches!(self, Self::Repeat { .. } | Self::Reset { .. } | Self::ExitWorker | Self::Fork | Self::Exec)
    }

    /// Whether a `Repeat` covers a number of steps it may cover; true for all other steps.
    pub fn well_formed(&self) -> bool {
        !matches!(*self, Self::Repeat { steps, .. } if steps == 0 || steps > MAX_REPEATED)
    }
}
