// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guests kept on disk at the instant their agent answered, so that the next run of the same kernel boots nothing.
//!
//! The key has everything that a boot depends on: the image, the initramfs, the command line, the machine and its setup,
//! the code of VMM and engine, and the host's processor and kernel. A guest that cannot be read or started is booted instead.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use guest_kernel::cache::{Key, LruStore};
use serde::{Deserialize, Serialize};

use super::Engine;
use super::boot::BootFacts;
use crate::guest::{PreparedKernel, Target, command_line};
use crate::session::{SavedGuest, Surroundings};
use crate::setup::Setup;

/// Changes with what is kept beside the guest, and with how it is read.
const FORMAT: &str = "guest 3";

/// What is kept beside the guest.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// When it was booted, in seconds since 1970.
    booted_at: u64,
    facts: BootFacts,
}

/// The guest of this kernel, target and setup that an earlier run kept.
pub fn find(
    kernel: &PreparedKernel,
    target: &Target,
    setup: Setup,
    interrupt: &Arc<AtomicBool>,
) -> Option<SavedGuest> {
    let place = Place::new(kernel, target, setup)?;
    place.read(kernel, target, setup, interrupt).map(|(saved, _)| saved)
}

impl Engine<'_> {
    /// The guest of this setup that an earlier run kept, with what its boot showed.
    pub(super) fn kept_guest(&self, place: &Place, setup: Setup) -> Option<(SavedGuest, BootFacts)> {
        place.read(self.kernel, self.target, setup, self.interrupt)
    }

    /// Where the guest of a setup is kept; `None` where none is to be, since its boot is to be seen.
    pub(super) fn place(&self, setup: Setup) -> Option<Place> {
        Place::new(self.kernel, self.target, setup)
    }
}

/// Where the guest of one setup is kept.
#[derive(Debug)]
pub(super) struct Place {
    store: LruStore,
    key: Key,
}

impl Place {
    fn new(kernel: &PreparedKernel, target: &Target, setup: Setup) -> Option<Self> {
        if target.boots || target.console || target.watch.is_some() {
            return None;
        }
        let store = target.image.store.clone()?;
        let host = vmm::snapshot::host::fingerprint()?;
        let setup = kernel.effective(setup);
        let machine = format!("{:?} {:?} {} MiB", target.platform, setup, target.memory_mib);
        let key = Key::of([
            FORMAT.as_bytes(),
            vmm::BUILD.as_bytes(),
            env!("COPRA_ENGINE_BUILD").as_bytes(),
            target.image.sha256.as_bytes(),
            kernel.files().hash().as_bytes(),
            command_line(target, setup, false).as_bytes(),
            machine.as_bytes(),
            host.as_bytes(),
        ]);
        Some(Self { store, key })
    }

    fn read(
        &self,
        kernel: &PreparedKernel,
        target: &Target,
        setup: Setup,
        interrupt: &Arc<AtomicBool>,
    ) -> Option<(SavedGuest, BootFacts)> {
        self.store.read(&self.key, |content| {
            let around = Surroundings {
                config: kernel.machine(target, setup),
                names: kernel.shared_names(),
                files: kernel.files(),
                interrupt: Arc::clone(interrupt),
            };
            let (kept, saved) = SavedGuest::read(content, around).ok()?;
            let Kept { booted_at, mut facts } = serde_json::from_slice(&kept).ok()?;
            facts.booted_at = Some(booted_at);
            Some((saved, facts))
        })
    }

    /// Whether a guest seems to be kept there.
    pub(super) fn seems_taken(&self) -> bool {
        self.store.seems_intact(&self.key)
    }

    /// Keeps a guest. What cannot be kept is booted again.
    pub(super) fn keep(&self, saved: &SavedGuest, facts: BootFacts) {
        let booted_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let Ok(kept) = serde_json::to_vec(&Kept { booted_at, facts }) else { return };
        let _ = self.store.store(&self.key, |file| saved.write(&kept, file));
    }
}
