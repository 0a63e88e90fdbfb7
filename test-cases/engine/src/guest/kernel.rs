// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel that is read, unpacked and checked once, and booted as often as guests are needed.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use guest_kernel::initramfs::Initramfs;
use vmm::boot::prepared::PreparedImage;
use vmm::device::virtio::VirtioConfig;
use vmm::machine::MachineConfig;
use vmm::trace::kernel::KernelNames;

use super::command_line::command_line;
use super::error::{EngineError, check};
use super::stored::LazyImage;
use super::target::Target;
use crate::requirements::{accepts_lazily, missing_option};
use crate::session::{Debugger, GuestFiles, Plan, Session, SessionError};
use crate::setup::Setup;

/// A kernel and an initramfs, ready to be booted as guests of one platform.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct PreparedKernel {
    image: Arc<LazyImage>,
    names: Option<Arc<KernelNames>>,
    files: Arc<GuestFiles>,
    /// The kernel accepts memory while it runs; one that does not is given all of it accepted.
    accepts_lazily: bool,
    /// Virtio devices of its guests.
    devices: Vec<VirtioConfig>,
    /// Its guests have a device that tests the DMA API.
    dma_probe: bool,
    /// Its guests are ended at their first forbidden access.
    fail_fast: bool,
    /// The time at their start, in seconds since 1970.
    clock: Option<u64>,
    /// Every conversion of its guests is recorded, with the code that requests it.
    record_conversions: bool,
    /// The debugger of its guests.
    debugger: Option<Arc<dyn Debugger>>,
}

impl PreparedKernel {
    /// The kernel of a target, which must be one for the target's platform; it is read when it is needed. `initramfs` holds the
    /// agent as /init.
    pub(crate) fn new(target: &Target, initramfs: Vec<u8>) -> Result<Self, EngineError> {
        check(target.memory_mib)?;
        if let Some(config) = &target.config
            && let Some(option) = missing_option(target.platform, config)
        {
            let (kernel, platform) = (target.kernel.spec.clone(), target.platform);
            return Err(EngineError::Option { kernel, platform, option });
        }
        Ok(Self {
            image: Arc::new(LazyImage::new(&target.image)),
            names: None,
            files: Arc::new(GuestFiles::new(initramfs)),
            accepts_lazily: target.config.as_ref().is_none_or(accepts_lazily),
            devices: Vec::new(),
            dma_probe: false,
            fail_fast: false,
            clock: None,
            record_conversions: false,
            debugger: None,
        })
    }

    /// The same with an initramfs that holds nothing but the agent.
    pub(crate) fn with_agent(target: &Target) -> Result<Self, EngineError> {
        Self::new(target, Initramfs::new().build().map_err(EngineError::Initramfs)?)
    }

    /// Reads the kernel, if that was not done yet.
    pub(crate) fn read(&self) -> Result<&PreparedImage, EngineError> {
        self.image.get()
    }

    /// The kernel, to be shared with what starts it once more.
    pub(crate) fn shared_image(&self) -> Arc<LazyImage> {
        Arc::clone(&self.image)
    }

    /// Names functions and tasks in the events of its guests. Each event then costs a backtrace.
    #[must_use]
    pub fn with_names(self) -> Self {
        Self { names: Some(Arc::new(self.image.names())), ..self }
    }

    /// The command line of its guests.
    pub(crate) fn command_line(&self, target: &Target, setup: Setup) -> String {
        command_line(target, setup, !self.devices.is_empty())
    }

    /// Ends its guests at their first forbidden access.
    #[must_use]
    pub(crate) fn failing_fast(self, fail_fast: bool) -> Self {
        Self { fail_fast, ..self }
    }

    /// Gives its guests these devices.
    #[must_use]
    pub(crate) fn with_devices(self, devices: Vec<VirtioConfig>) -> Self {
        Self { devices, ..self }
    }

    /// Gives its guests a device that tests the DMA API.
    #[must_use]
    pub(crate) fn with_dma_probe(self) -> Self {
        Self { dma_probe: true, ..self }
    }

    /// Starts its guests' clocks at the host's time; other guests all start at the same.
    #[must_use]
    pub(crate) fn with_host_time(self) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { clock: since.ok().map(|time| time.as_secs()), ..self }
    }

    /// Records every conversion of its guests.
    #[must_use]
    pub(crate) fn recording_conversions(self) -> Self {
        Self { record_conversions: true, ..self }
    }

    /// Has its guests debugged.
    #[must_use]
    pub(crate) fn with_debugger(self, debugger: Option<Arc<dyn Debugger>>) -> Self {
        Self { debugger, ..self }
    }

    /// The names, where there are any.
    pub fn names(&self) -> Option<&KernelNames> {
        self.names.as_deref()
    }

    /// The image's release, where it has one in a header.
    pub fn release(&self) -> Option<String> {
        self.image.get().ok()?.kernel.release()
    }

    /// The image's GNU build id.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.image.get().ok()?.kernel.facts.build_id.as_deref()
    }

    /// `setup` as guests of this kernel get it.
    #[must_use]
    pub fn effective(&self, setup: Setup) -> Setup {
        let mut setup = setup;
        if !self.accepts_lazily {
            setup.layout.unaccepted.percent = 0;
        }
        setup
    }

    /// The names, to be shared with a guest.
    pub(crate) fn shared_names(&self) -> Option<Arc<KernelNames>> {
        self.names.clone()
    }

    /// The files its guests start with.
    pub(crate) fn files(&self) -> Arc<GuestFiles> {
        Arc::clone(&self.files)
    }

    /// The machine that a guest of this setup gets.
    pub(crate) fn machine(&self, target: &Target, setup: Setup) -> MachineConfig {
        let setup = self.effective(setup);
        MachineConfig {
            ram: target.memory_mib << 20,
            mode: setup.mode,
            layout: setup.layout,
            sept_ve_disable: !setup.sept_ve,
            watch: target.watch,
            failures: setup.fail,
            record_conversions: self.record_conversions,
            echo_console: target.console,
            clock: self.clock,
            virtio: self.devices.clone(),
            dma_probe: self.dma_probe,
            timeline: target.timeline.clone(),
            ..MachineConfig::new(target.platform)
        }
    }

    /// Boots a guest of this kernel's `image`, and waits until its agent answers.
    pub fn boot(
        &self,
        image: &PreparedImage,
        target: &Target,
        setup: Setup,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Session, SessionError> {
        let setup = self.effective(setup);
        Session::boot(&Plan {
            machine: self.machine(target, setup),
            kernel: &image.kernel,
            sites: image.sites.as_ref(),
            names: self.names.clone(),
            files: Arc::clone(&self.files),
            command_line: &self.command_line(target, setup),
            boot_limit: target.limit,
            interrupt: Arc::clone(interrupt),
            debugger: self.debugger.clone(),
            fail_fast: self.fail_fast,
        })
    }
}
