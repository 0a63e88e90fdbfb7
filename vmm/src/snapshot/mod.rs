// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest at one instant: saved once, restored as often as needed, in place or into a new VM.
//!
//! A guest restored finds itself at that instant: its clocks are set back with its memory, so time passes for it without a
//! jump. What the machine records (forbidden accesses, malformed calls, counters) goes on.

mod error;
pub mod file;
pub mod host;
mod sample;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::error::SnapshotError;
use crate::boot::linux::UnservedModule;
use crate::boot::opcode::Sites;
use crate::device::image::DevicesImage;
use crate::machine::dirty_log::DirtyLog;
use crate::machine::vcpu::image::VcpuImage;
use crate::machine::vcpu::{Vcpu, VmEntry};
use crate::machine::vm_image::VmImage;
use crate::machine::{Machine, MachineConfig, Parts};
use crate::memory::image::MemoryImage;
use crate::memory::page_set::PageSet;
use crate::platform::PlatformState;
use crate::platform::failure::Counted;
use crate::platform::guest_type::GuestActivity;
use crate::trace::kernel::KernelNames;
use crate::x86::cpuid::CpuidTable;

/// A guest at one instant.
#[derive(Debug)]
pub struct Snapshot {
    state: State,
    memory: MemoryImage,
}

/// All but memory.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    vcpus: Vec<VcpuImage>,
    vm: VmImage,
    devices: DevicesImage,
    platform: PlatformState,
    /// Calls that the rules for failing conversions have counted.
    refused: Counted,
    /// Shared pages whose conversion to private was refused, and that were not accessed since.
    refused_pages: Vec<u64>,
    cpuid: CpuidTable,
    /// Kept as the sites of an image are.
    #[serde(skip)]
    sites: Sites,
    unserved_modules: Vec<UnservedModule>,
    activity: GuestActivity,
}

/// What a restore did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreStats {
    /// Pages whose contents were compared.
    pub compared: usize,
    /// Pages that differed.
    pub changed: usize,
}

impl Snapshot {
    /// Makes a new VM that is where the saved guest was. `config` is the saved guest's, `names` its kernel's.
    pub fn start(
        &self,
        config: &MachineConfig,
        names: Option<Arc<KernelNames>>,
    ) -> Result<Machine, SnapshotError> {
        let parts = Parts { cpuid: Some(self.state.cpuid.clone()), ..Parts::default() };
        let mut machine = Machine::with_parts(config, parts)?;
        machine.restore_new(self, names, self.memory.filled().clone(), true)?;
        Ok(machine)
    }

    /// Guest memory.
    pub fn memory(&self) -> &MemoryImage {
        &self.memory
    }

    /// Bytes of guest memory that are not zeros.
    pub fn filled(&self) -> u64 {
        self.memory.filled().len() as u64 * crate::layout::PAGE_SIZE
    }
}

impl Machine {
    /// Saves the guest, and begins to record which pages change. It does not run.
    pub fn save(&mut self) -> Result<Snapshot, SnapshotError> {
        if self.devices.access_memory() {
            return Err(SnapshotError::Dma);
        }
        let entries = self.complete_exits()?;
        let refused_pages = self.memory.give_back_refused()?;
        let state = State {
            vcpus: self.vcpus.iter().map(|vcpu| vcpu.save(&self.msrs)).collect::<Result<_, _>>()?,
            vm: VmImage::save(&self.vm)
                .map_err(SnapshotError::kvm("saving interrupt controllers and clocks"))?,
            devices: self.devices.save(),
            platform: self.platform.save(),
            refused: self.refuser.save(),
            refused_pages,
            cpuid: self.cpuid.clone(),
            sites: self.sites.clone(),
            unserved_modules: self.unserved_modules.clone(),
            activity: self.guest_activity(),
        };
        self.start_dirty_log()?;
        self.memory.forget_touched();
        let memory = self.memory.save()?;
        self.memory.withhold_refused(&state.refused_pages)?;
        self.resume(entries);
        Ok(Snapshot { state, memory })
    }

    /// Makes the guest what it was when it was saved. Its VM must be the one saved, or one made of the snapshot, and
    /// must not have ended.
    ///
    /// # Errors
    /// Where something could not be restored. The guest does not run on then.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<RestoreStats, SnapshotError> {
        let entries = self.complete_exits()?;
        while self.vcpus.iter_mut().any(|vcpu| vcpu.next_coalesced().is_some()) {}
        self.restore_state(&snapshot.state)?;
        let mut dirty = PageSet::new(snapshot.memory.pages());
        let stats = self.restore_memory(snapshot, &mut dirty, false)?;
        self.resume(entries);
        Ok(stats)
    }

    /// The same for a guest that has ended: it gets a new VM, and keeps its memory, of which only what changed is restored.
    pub fn revive(self, snapshot: &Snapshot) -> Result<Self, SnapshotError> {
        let mut dirty = PageSet::new(snapshot.memory.pages());
        self.collect_dirty(&mut dirty)?;
        let (config, names) = (self.config.clone(), self.kernel.clone());
        let records = self.records;
        let parts =
            Parts { cpuid: Some(snapshot.state.cpuid.clone()), memory: Some((self.memory, self.faults)) };
        drop((self.vcpus, self.devices, self.dirty, self.vm));
        let mut machine = Self::with_parts(&config, parts)?;
        machine.records = records;
        machine.start_recording();
        machine.restore_new(snapshot, names, dirty, false)?;
        Ok(machine)
    }

    /// Restores into a new VM, in whose memory the pages in `dirty` may differ from the snapshot's. `fresh`: its memory is new
    /// too.
    fn restore_new(
        &mut self,
        snapshot: &Snapshot,
        names: Option<Arc<KernelNames>>,
        mut dirty: PageSet,
        fresh: bool,
    ) -> Result<(), SnapshotError> {
        self.kernel = names;
        self.sites = snapshot.state.sites.clone();
        self.unserved_modules.clone_from(&snapshot.state.unserved_modules);
        let entries = self.complete_exits()?;
        self.start_dirty_log()?;
        self.restore_state(&snapshot.state)?;
        self.restore_memory(snapshot, &mut dirty, fresh)?;
        self.resume(entries);
        Ok(())
    }

    /// Has KVM complete the exits that the guest waits in. Until [`Self::resume`] it cannot run.
    fn complete_exits(&mut self) -> Result<Vec<VmEntry>, SnapshotError> {
        let complete = |(vcpu, entry): (&mut Vcpu, &mut Option<VmEntry>)| {
            let entry = entry.take().ok_or(SnapshotError::Unanswered(vcpu.id()))?;
            vcpu.complete(entry).map_err(SnapshotError::kvm("completing the last exit of a vCPU"))
        };
        self.vcpus.iter_mut().zip(&mut self.entries).map(complete).collect()
    }

    /// Everything but memory.
    fn restore_state(&mut self, state: &State) -> Result<(), SnapshotError> {
        // Restoring a port can raise its interrupt, which the interrupt controllers' state then replaces.
        self.devices.restore(&state.devices).map_err(SnapshotError::Devices)?;
        if !self.platform.restore(&state.platform) {
            return Err(SnapshotError::Platform(self.platform.kind()));
        }
        self.refuser.restore(state.refused);
        if self.vcpus.len() != state.vcpus.len() {
            return Err(SnapshotError::Vcpus { saved: state.vcpus.len(), present: self.vcpus.len() });
        }
        self.vcpus.iter().zip(&state.vcpus).try_for_each(|(vcpu, image)| vcpu.restore(image))?;
        state
            .vm
            .restore(&self.vm)
            .map_err(SnapshotError::kvm("restoring interrupt controllers and clocks"))?;
        self.activity = state.activity.clone();
        Ok(())
    }

    /// Memory, of which the pages in `dirty` and those in the log may have changed.
    fn restore_memory(
        &mut self,
        snapshot: &Snapshot,
        dirty: &mut PageSet,
        fresh: bool,
    ) -> Result<RestoreStats, SnapshotError> {
        self.collect_dirty(dirty)?;
        self.memory.give_back_refused()?;
        let restored = self.memory.restore(&snapshot.memory, dirty, fresh)?;
        self.memory.withhold_refused(&snapshot.state.refused_pages)?;
        self.record_changes(None);
        if let Some(log) = &mut self.dirty {
            log.settle(dirty, &restored.changed)
                .map_err(SnapshotError::kvm("clearing the log of changed pages"))?;
        }
        Ok(RestoreStats { compared: restored.compared, changed: restored.changed.len() })
    }

    fn start_dirty_log(&mut self) -> Result<(), SnapshotError> {
        if self.dirty.is_none() {
            let pages = (self.ram().mapped_size() / crate::layout::PAGE_SIZE) as usize;
            let log = DirtyLog::start(&self.vm, &self.slots, pages);
            self.dirty = Some(log.map_err(SnapshotError::kvm("logging which pages change"))?);
        }
        Ok(())
    }

    fn collect_dirty(&self, dirty: &mut PageSet) -> Result<(), SnapshotError> {
        let log = self.dirty.as_ref().ok_or(SnapshotError::NotSaved)?;
        log.collect(dirty).map_err(SnapshotError::kvm("reading which pages changed"))
    }

    /// The guest can run again, from the registers it has.
    fn resume(&mut self, entries: Vec<VmEntry>) {
        self.entries = entries.into_iter().map(Some).collect();
        self.end_streaks();
        self.records.events.seal();
    }
}
