// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One guest: memory, devices, platform and vCPUs (one for now), driven from one thread.

mod calls;
pub mod debug;
pub(crate) mod dirty_log;
mod dma;
mod error;
mod events;
pub mod kimage;
mod left_over;
mod next_kernel;
mod root_table;
mod run;
mod services;
mod setup;
pub mod stats;
mod stop;
pub mod timeline;
mod variable;
pub mod vcpu;
mod vcpu_state;
pub mod vm_image;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use kvm_ioctls::VmFd;
use types::{GuestLayout, Mode, Platform, VcpuId, View};

use self::debug::Debugging;
use self::dirty_log::{DirtyLog, LoggedSlot};
pub use self::error::{MachineError, RunError};
use self::services::{MAX_BAD_CALLS, MAX_CHANGES, MAX_CONVERSIONS};
pub use self::stats::Stats;
pub use self::stop::Stop;
use self::timeline::{Recording, Timeline};
pub use self::vcpu::VmExit;
use self::vcpu::heartbeat::INTERVAL;
pub use self::vcpu::heartbeat::Kick;
use self::vcpu::{Vcpu, VmEntry};
use crate::boot::linux::{self, LinuxBoot, UnservedModule};
use crate::boot::opcode::{self, Site, Sites};
use crate::boot::page_tables;
use crate::device::Devices;
use crate::device::pci::TestDevice;
use crate::device::serial::Capture;
use crate::device::virtio::VirtioConfig;
use crate::layout;
use crate::memory::ram::Ram;
use crate::memory::{FaultHandler, GuestMemory};
use crate::platform::failure::{Failures, Refuser};
use crate::platform::guest_type::GuestActivity;
use crate::platform::{HostFacts, PlatformModel};
use crate::trace::code_page::LastCodePage;
use crate::trace::conversion::ConversionLog;
use crate::trace::event_log::EventLog;
use crate::trace::kernel::KernelNames;
use crate::trace::log::Log;
use crate::trace::printk;
use crate::trace::{RecordedCall, RecordedChange};
use crate::x86::cpuid::CpuidTable;
use crate::x86::long_mode;
use crate::x86::walk::page_pieces;

/// What machine to make.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct MachineConfig {
    /// Bytes of RAM.
    pub ram: u64,
    /// The platform the guest is on.
    pub platform: Platform,
    /// Position of the encryption bit; `None` takes the highest one that works here.
    pub encryption_bit: Option<u8>,
    /// Memory key seed; the same seed gives the same ciphertext.
    pub seed: u64,
    /// What a mismatch leads to.
    pub mode: Mode,
    /// TD attribute 28, `SEPT_VE_DISABLE`.
    pub sept_ve_disable: bool,
    /// What firmware gives the guest, and where memory is.
    pub layout: GuestLayout,
    /// GPA of a page whose changes are all recorded.
    pub watch: Option<u64>,
    /// Conversions that fail.
    pub failures: Failures,
    /// Records every conversion with the code that requested it, not the refused ones alone.
    pub record_conversions: bool,
    /// Show the console on standard error as it comes.
    pub echo_console: bool,
    /// The time at its start, in seconds since 1970; `None`: the same for all machines.
    pub clock: Option<u64>,
    /// Its virtio devices.
    pub virtio: Vec<VirtioConfig>,
    /// It has a device that tests a kernel's DMA API.
    pub dma_probe: bool,
    /// Records what the machine does.
    pub timeline: Option<Arc<dyn Timeline>>,
}

impl MachineConfig {
    /// A machine of 512 MiB.
    pub fn new(platform: Platform) -> Self {
        Self {
            ram: 512 << 20,
            platform,
            encryption_bit: None,
            seed: 0x0063_6f70_7261,
            mode: Mode::Faithful,
            sept_ve_disable: true,
            layout: GuestLayout::default(),
            watch: None,
            failures: Failures::default(),
            record_conversions: false,
            echo_console: false,
            clock: None,
            virtio: Vec::new(),
            dma_probe: false,
            timeline: None,
        }
    }
}

/// A guest on KVM.
#[derive(Debug)]
pub struct Machine {
    // Dropped in this order: vCPU and devices, which hold the VM, before the fault handler and the mappings.
    pub(crate) vcpus: Vec<Vcpu>,
    /// How each vCPU re-enters the guest; `None` after a failure of the host in the middle of an exit.
    pub(crate) entries: Vec<Option<VmEntry>>,
    pub(crate) devices: Devices,
    /// KVM's record of changed pages, once the guest was saved.
    pub(crate) dirty: Option<DirtyLog>,
    pub(crate) vm: Arc<VmFd>,
    pub(crate) faults: Option<FaultHandler>,
    pub(crate) memory: Arc<GuestMemory>,
    /// What was made, to be made again after the guest's end.
    pub(crate) config: MachineConfig,
    pub(crate) slots: Vec<LoggedSlot>,
    /// Numbers of the MSRs that KVM keeps of a vCPU.
    pub(crate) msrs: Vec<u32>,
    pub(crate) platform: Box<dyn PlatformModel>,
    /// Decides which conversions fail.
    pub(crate) refuser: Refuser,
    host: HostFacts,
    pub(crate) cpuid: CpuidTable,
    /// Names of the kernel loaded, where the caller gave them.
    pub(crate) kernel: Option<Arc<KernelNames>>,
    /// Rewritten instructions of the kernel loaded.
    pub(crate) sites: Sites,
    pub(crate) unserved_modules: Vec<UnservedModule>,
    /// Where the kernel that was loaded finds the table of unaccepted memory.
    unaccepted_table: Option<u64>,
    pub(crate) records: Records,
    debugging: Option<Box<Debugging>>,
    recording: Option<Box<Recording>>,
    last_code_page: RefCell<LastCodePage>,
    pub(crate) activity: GuestActivity,
    idle_halts: u32,
    /// Heartbeats in a row that found interrupts off.
    interrupts_off_beats: u32,
}

/// What a machine records of its guest. Restoring an earlier instant takes nothing out of it.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) events: EventLog,
    bad_calls: Log<RecordedCall>,
    history: Log<RecordedChange>,
    conversions: ConversionLog,
    stats: Stats,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            events: EventLog::default(),
            bad_calls: Log::new(MAX_BAD_CALLS),
            history: Log::new(MAX_CHANGES),
            conversions: ConversionLog::new(MAX_CONVERSIONS),
            stats: Stats::default(),
        }
    }
}

/// What a machine is made around instead of something new.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The guest's CPUID.
    pub(crate) cpuid: Option<CpuidTable>,
    /// Memory with its fault handler.
    pub(crate) memory: Option<(Arc<GuestMemory>, Option<FaultHandler>)>,
}

impl Machine {
    /// Makes the VM, its memory and its vCPU; nothing is loaded.
    pub fn new(config: &MachineConfig) -> Result<Self, MachineError> {
        setup::machine(config, Parts::default())
    }

    /// The same around `parts`.
    pub(crate) fn with_parts(config: &MachineConfig, parts: Parts) -> Result<Self, MachineError> {
        setup::machine(config, parts)
    }

    /// Nothing is known of how long the guest has been idle or had interrupts off.
    pub(crate) fn end_streaks(&mut self) {
        (self.idle_halts, self.interrupts_off_beats) = (0, 0);
    }

    /// Loads a Linux kernel and points the vCPU at it. `names` are that kernel's, for events that name its code.
    pub fn boot_linux(
        &mut self,
        boot: &LinuxBoot<'_>,
        names: Option<Arc<KernelNames>>,
    ) -> Result<(), MachineError> {
        let entry =
            linux::load(&self.memory, self.platform.as_ref(), boot, &self.config.layout, &self.cpuid)?;
        self.sites = entry.sites;
        self.unserved_modules = entry.unserved_modules;
        self.unaccepted_table = entry.unaccepted_table;
        self.kernel = names;
        self.enter(entry.rip, entry.boot_params, entry.cr3)
    }

    /// Loads raw 64-bit code at [`layout::FLAT_CODE`] and points the vCPU at it. Pages from
    /// [`page_tables::SECOND_GIB`] on are mapped to `aliases`, encryption bits and all. Its platform's instructions are
    /// rewritten as a kernel's are. Only such a guest has the port [`layout::DEBUG_EXIT`].
    pub fn boot_flat(&mut self, code: &[u8], aliases: &[u64]) -> Result<(), MachineError> {
        self.devices.add_debug_exit();
        self.memory.write(layout::FLAT_CODE, code)?;
        self.sites = opcode::find_flat(code, layout::FLAT_CODE);
        for site in self.sites.for_opcodes(self.platform.opcodes()) {
            self.memory.write(site.physical, &site.replacement())?;
        }
        let private = self.platform.private_mask();
        let cr3 = page_tables::write(&self.memory, private)?;
        page_tables::write_aliases(&self.memory, private, aliases)?;
        self.enter(layout::FLAT_CODE, 0, cr3)
    }

    fn enter(&mut self, rip: u64, rsi: u64, cr3: u64) -> Result<(), MachineError> {
        // What pages were launched as no instruction did.
        self.record_changes(None);
        let kvm = |attempt| move |source| MachineError::Kvm { attempt, source };
        let vcpu = self.vcpu(VcpuId::BOOT);
        let mut sregs = vcpu.sregs().map_err(kvm("reading the vCPU's system registers"))?;
        long_mode::enter(&mut sregs, cr3);
        vcpu.set_sregs(&sregs).map_err(kvm("setting the vCPU's system registers"))?;
        let regs = long_mode::registers(rip, rsi, layout::FLAT_CODE);
        vcpu.set_regs(&regs).map_err(kvm("setting the vCPU's registers"))
    }

    fn vcpu(&self, id: VcpuId) -> &Vcpu {
        &self.vcpus[id.index()]
    }

    /// What was made.
    pub fn config(&self) -> &MachineConfig {
        &self.config
    }

    /// Guest RAM; reading it while the guest does not run gives the ground truth.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The platform the guest is on.
    pub fn platform(&self) -> &dyn PlatformModel {
        self.platform.as_ref()
    }

    /// What the host allows.
    pub fn host(&self) -> &HostFacts {
        &self.host
    }

    /// Physical address bits the guest's CPUID reports.
    pub fn guest_physical_bits(&self) -> u8 {
        let bit = self.platform.encryption_bit().map_or(0, |bit| bit + 1);
        self.host.physical_bits.max(bit)
    }

    /// What firmware gave the guest.
    pub fn layout(&self) -> &GuestLayout {
        &self.config.layout
    }

    /// Where RAM lies.
    pub fn ram(&self) -> &Ram {
        self.memory.ram()
    }

    /// What `view` shows at `gpa`: RAM, or what a device answers.
    pub fn truth(&self, view: View, gpa: u64, buffer: &mut [u8]) {
        for (at, range) in page_pieces(gpa, buffer.len()) {
            let part = &mut buffer[range];
            if self.memory.read(view, at, part).is_err() {
                self.devices.mmio_read(at, part);
            }
        }
    }

    /// A byte of a PCI device's configuration space, as the guest would read it.
    pub fn configuration(&self, device: TestDevice, register: u8) -> u8 {
        self.devices.pci.configuration(device, register)
    }

    /// Moves what the guest declared private to the private view (SEV), where accesses while booting have left it in the
    /// other one. Before the guest is saved, so that the first access of each case is a mismatch again.
    pub fn move_private_contents(&mut self) -> Result<(), MachineError> {
        Ok(self.memory.move_private_contents()?)
    }

    /// `gpa` is RAM, not device memory.
    pub fn is_ram(&self, gpa: u64) -> bool {
        self.ram().offset(gpa).is_some()
    }

    /// The kernel's console so far.
    pub fn console(&self) -> &Capture {
        self.devices.console.sink()
    }

    /// Queues bytes on the agent's port.
    pub fn send_to_agent(&mut self, bytes: &[u8]) {
        self.records.events.seal();
        self.devices.agent.send(bytes);
    }

    /// Takes what the agent has written.
    pub fn take_from_agent(&mut self) -> Vec<u8> {
        std::mem::take(self.devices.agent.sink_mut())
    }

    /// Whether the guest may have changed its agent's notification line, OUT1 of the agent's port, since the last call.
    pub fn take_notification(&mut self) -> bool {
        self.devices.agent.take_notification()
    }

    /// The accesses so far that the page's state forbids.
    pub fn events(&self) -> &EventLog {
        &self.records.events
    }

    /// Calls to the platform's module, firmware or hypervisor that were malformed.
    pub fn bad_calls(&self) -> &Log<RecordedCall> {
        &self.records.bad_calls
    }

    /// The conversions that were refused, or all of them ([`MachineConfig::record_conversions`]).
    pub fn conversions(&self) -> &ConversionLog {
        &self.records.conversions
    }

    /// The changes of the watched page.
    pub fn history(&self) -> &Log<RecordedChange> {
        &self.records.history
    }

    /// Instructions of the kernel that were rewritten.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.sites.for_opcodes(self.platform.opcodes())
    }

    /// Names of the kernel that was loaded, where its caller gave any.
    pub fn kernel_names(&self) -> Option<&KernelNames> {
        self.kernel.as_deref()
    }

    /// What the variable `symbol` of the kernel holds, read where the image was loaded and through the view its kernel
    /// uses for its own data; `None` where the symbol is unknown or the page is not the kernel's any more.
    pub fn kernel_variable<const N: usize>(&self, symbol: &str) -> Option<[u8; N]> {
        let gpa = self.kernel.as_ref()?.physical_of(symbol)?;
        variable::read(&self.memory, gpa)
    }

    /// The last lines of the kernel's log, from the buffer it keeps them in; `None` where copra cannot find them there.
    pub fn log_buffer(&self) -> Option<Vec<String>> {
        let names = self.kernel.as_deref()?;
        printk::last_lines(names.symbols()?, &variable::ImageMemory { memory: &self.memory, names })
    }

    /// Lines in the kernel's log that its console has not printed yet; `None` where copra cannot find them.
    pub(crate) fn open_log_lines(&self) -> Option<u64> {
        let names = self.kernel.as_deref()?;
        printk::open_lines(names.symbols()?, &variable::ImageMemory { memory: &self.memory, names })
    }

    /// For how long the vCPU has had interrupts off at every heartbeat, up to now: positive evidence of a hang, where
    /// it is long. Code of the kernel turns them off for milliseconds.
    pub fn interrupts_off_for(&self) -> Duration {
        INTERVAL.saturating_mul(self.interrupts_off_beats)
    }

    /// Modules in the initramfs with instructions that could not be rewritten.
    pub fn unserved_modules(&self) -> &[UnservedModule] {
        &self.unserved_modules
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats {
            accesses: self.records.events.numbered(),
            events_not_kept: self.records.events.dropped(),
            memory: self.memory.counters(),
            ..self.records.stats.clone()
        }
    }
}
