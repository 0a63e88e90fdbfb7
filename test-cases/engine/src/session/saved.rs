// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest whose agent waits, saved together with the host's end of the agent's channel.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use protocol::Link;
use vmm::machine::MachineConfig;
use vmm::snapshot::{RestoreStats, Snapshot, SnapshotError};
use vmm::trace::kernel::KernelNames;

use super::{GuestFiles, ReportedCursors, Session};

/// A guest at one instant, between two batches.
#[derive(Debug)]
pub struct SavedGuest {
    machine: Snapshot,
    config: MachineConfig,
    link: Link,
    boot_time: Duration,
    names: Option<Arc<KernelNames>>,
    files: Arc<GuestFiles>,
    interrupt: Arc<AtomicBool>,
}

impl SavedGuest {
    /// Starts another guest that is where the saved one was.
    pub fn start(&self) -> Result<Session, SnapshotError> {
        let machine = self.machine.start(&self.config, self.names.clone())?;
        Ok(Session {
            reported: ReportedCursors::all_of(&machine),
            machine,
            link: self.link.clone(),
            boot_time: self.boot_time,
            names: self.names.clone(),
            files: Arc::clone(&self.files),
            interrupt: Arc::clone(&self.interrupt),
        })
    }

    /// Bytes of guest memory in it that are not zeros.
    pub fn filled(&self) -> u64 {
        self.machine.filled()
    }
}

impl Session {
    /// Saves the guest, to be restored later.
    pub fn save(&mut self) -> Result<SavedGuest, SnapshotError> {
        Ok(SavedGuest {
            machine: self.machine.save()?,
            config: self.machine.config().clone(),
            link: self.link.clone(),
            boot_time: self.boot_time,
            names: self.names.clone(),
            files: Arc::clone(&self.files),
            interrupt: Arc::clone(&self.interrupt),
        })
    }

    /// Makes the guest, which has not ended, what it was when it was saved.
    ///
    /// # Errors
    /// Where that failed. The guest is of no use then.
    pub fn restore(&mut self, saved: &SavedGuest) -> Result<RestoreStats, SnapshotError> {
        let stats = self.machine.restore(&saved.machine)?;
        self.link = saved.link.clone();
        self.reported = ReportedCursors::all_of(&self.machine);
        Ok(stats)
    }

    /// The same for a guest that has ended.
    pub fn revive(self, saved: &SavedGuest) -> Result<Self, SnapshotError> {
        let machine = self.machine.revive(&saved.machine)?;
        Ok(Self { reported: ReportedCursors::all_of(&machine), machine, link: saved.link.clone(), ..self })
    }
}
