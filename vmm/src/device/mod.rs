// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything behind a port or an address that is not RAM.

mod cmos;
pub mod dma_probe;
pub mod image;
mod ioapic;
pub mod pci;
pub mod power;
pub mod serial;
pub mod virtio;
mod window;

use std::sync::Arc;

use kvm_ioctls::VmFd;
use types::DeviceKind;

use self::cmos::Cmos;
use self::dma_probe::DmaProbe;
use self::ioapic::IoApic;
use self::pci::PciBus;
use self::power::PowerManagement;
use self::serial::{Capture, IrqLine, Port};
use self::virtio::{Backend, MessageSink, Notification, Stored, VirtioDevices};
use self::window::Windows;
use crate::layout;
use crate::memory::dma::DmaMemory;

/// A device's request to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The guest resets itself through this port.
    Reset {
        /// Port written.
        port: u16,
    },
    /// The guest switches itself off.
    PowerOff,
    /// A small test guest ends with this byte.
    DebugExit(u8),
}

/// What a device is to do for which it accesses guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submission {
    /// The requests in a queue of a virtio device.
    Queue(Notification),
    /// The command of `dma-probe`.
    Probe,
}

/// All devices of one guest.
#[derive(Debug)]
pub struct Devices {
    /// The kernel's console.
    pub console: Port<Capture>,
    /// The agent channel; the sink holds what the guest wrote until it is taken.
    pub agent: Port<Vec<u8>>,
    /// PCI configuration space and the test devices' memory.
    pub pci: PciBus,
    /// Devices with queues in guest memory.
    pub virtio: VirtioDevices,
    dma_probe: Option<DmaProbe>,
    cmos: Cmos,
    power: PowerManagement,
    ioapic: IoApic,
    windows: Windows,
    /// The debug exit exists: small test guests end through it, no kernel has it.
    debug_exit: bool,
}

impl Devices {
    /// Devices that interrupt through `vm`.
    pub fn new(vm: &Arc<VmFd>) -> Self {
        Self {
            console: Port::new(IrqLine::new(vm, layout::COM1_IRQ), Capture::default()),
            agent: Port::new(IrqLine::new(vm, layout::COM2_IRQ), Vec::new()),
            pci: PciBus::new(layout::BAR32, layout::BAR64),
            virtio: VirtioDevices::default(),
            dma_probe: None,
            cmos: Cmos::default(),
            power: PowerManagement::default(),
            ioapic: IoApic::new(vm),
            windows: Windows::default(),
            debug_exit: false,
        }
    }

    /// Sets the clock to seconds since 1970.
    pub fn set_clock(&mut self, seconds: u64) {
        self.cmos = Cmos::at(seconds);
    }

    /// Adds the port through which a small test guest ends itself with a byte of its choice.
    pub fn add_debug_exit(&mut self) {
        self.debug_exit = true;
    }

    /// OUT of one item.
    pub fn port_write(&mut self, port: u16, data: &[u8]) -> Option<Request> {
        let byte = data.first().copied().unwrap_or_default();
        match port {
            layout::COM1..=0x3ff => self.console.write(port - layout::COM1, byte),
            layout::COM2..=0x2ff => self.agent.write(port - layout::COM2, byte),
            layout::CMOS_INDEX => self.cmos.select(byte),
            layout::RESET_CONTROL if data.len() == 1 => {
                const RESET_CPU: u8 = 1 << 2;
                return (byte & RESET_CPU != 0).then_some(Request::Reset { port });
            }
            layout::PCI_CONFIG_ADDRESS..=0xcff => {
                self.pci.write_config_port(port, data);
                self.virtio.send_pending(&self.pci);
            }
            layout::I8042_COMMAND => {
                const PULSE_RESET: u8 = 0xfe;
                return (byte == PULSE_RESET).then_some(Request::Reset { port });
            }
            layout::PM1_EVENTS..=layout::PM1_LAST => {
                return self.power.write(port, data).then_some(Request::PowerOff);
            }
            layout::DEBUG_EXIT if self.debug_exit => return Some(Request::DebugExit(byte)),
            _ => {}
        }
        None
    }

    /// IN of one item; ports without a device float high.
    pub fn port_read(&mut self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        match port {
            layout::COM1..=0x3ff => data[0] = self.console.read(port - layout::COM1),
            layout::COM2..=0x2ff => data[0] = self.agent.read(port - layout::COM2),
            layout::CMOS_DATA => data[0] = self.cmos.read(),
            layout::PCI_CONFIG_ADDRESS..=0xcff => self.pci.read_config_port(port, data),
            layout::PM1_EVENTS..=layout::PM1_LAST => self.power.read(port, data),
            _ => {}
        }
    }

    /// Adds a virtio device. `access_platform`: it offers `VIRTIO_F_ACCESS_PLATFORM`.
    pub fn add_virtio(&mut self, backend: Box<dyn Backend>, vm: &Arc<VmFd>, access_platform: bool) {
        let sink: Arc<dyn MessageSink> = Arc::<VmFd>::clone(vm);
        self.virtio.add(backend, &mut self.pci, sink, access_platform);
    }

    /// Adds the device that tests a kernel's DMA API.
    pub fn add_dma_probe(&mut self) {
        self.dma_probe = Some(DmaProbe::new(&mut self.pci));
    }

    /// There is a device that accesses guest memory.
    pub fn access_memory(&self) -> bool {
        !self.virtio.is_empty() || self.dma_probe.is_some()
    }

    /// Load of the guest's from plain GPA `gpa`, outside RAM.
    pub fn load(&mut self, gpa: u64, data: &mut [u8]) {
        if !self.virtio.read(&self.pci, gpa, data) {
            self.mmio_read(gpa, data);
        }
    }

    /// Store of the guest's to plain GPA `gpa`, outside RAM. Returns what a device is to do then.
    pub fn store(&mut self, gpa: u64, data: &[u8]) -> Option<Submission> {
        if let Some(probe) = &mut self.dma_probe
            && let Some(offset) = probe.decode(&self.pci, gpa)
        {
            return probe.write(offset, data).then_some(Submission::Probe);
        }
        match self.virtio.write(&self.pci, gpa, data) {
            Some(Stored::Notification(notification)) => return Some(Submission::Queue(notification)),
            Some(Stored::Register) => {}
            None => self.mmio_write(gpa, data),
        }
        None
    }

    /// Interrupts drivers of virtio devices whose configuration has changed.
    pub fn report_changes(&mut self) {
        self.virtio.report_changes(&self.pci);
    }

    /// Has a device do what was submitted.
    pub fn serve(&mut self, what: Submission, memory: &DmaMemory<'_>) {
        match what {
            Submission::Queue(queue) => self.virtio.serve(queue, &self.pci, memory),
            Submission::Probe => {
                if let Some(probe) = &mut self.dma_probe {
                    probe.serve(&self.pci, memory);
                }
            }
        }
    }

    /// The device that something was submitted to.
    pub fn kind(&self, what: Submission) -> Option<DeviceKind> {
        match what {
            Submission::Queue(queue) => self.virtio.kind(queue),
            Submission::Probe => Some(DeviceKind::Probe),
        }
    }

    /// What plain GPA `gpa`, outside RAM, shows without an effect: virtio registers are left out, as reading them has one.
    pub fn mmio_read(&self, gpa: u64, data: &mut [u8]) {
        if IoApic::decodes(gpa) {
            self.ioapic.read(gpa, data);
            return;
        }
        for (offset, byte) in (0..).zip(data) {
            *byte = self.byte(gpa.wrapping_add(offset));
        }
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        if let Some((device, offset)) = self.pci.decode(gpa) {
            self.pci.write_memory(device, offset, data);
            return;
        }
        if IoApic::decodes(gpa) {
            self.ioapic.write(gpa, data);
            return;
        }
        for (gpa, byte) in (0..).map(|offset| gpa.wrapping_add(offset)).zip(data) {
            if PciBus::is_configuration(gpa) {
                self.pci.write_configuration(gpa, *byte);
            } else {
                self.windows.write(gpa, *byte);
            }
        }
        if PciBus::is_configuration(gpa) {
            self.virtio.send_pending(&self.pci);
        }
    }

    fn byte(&self, gpa: u64) -> u8 {
        if let Some((device, offset)) = self.pci.decode(gpa) {
            let mut byte = [0];
            self.pci.read_memory(device, offset, &mut byte);
            return byte[0];
        }
        if let Some(probe) = &self.dma_probe
            && let Some(offset) = probe.decode(&self.pci, gpa)
        {
            return probe.read(offset);
        }
        if PciBus::is_configuration(gpa) {
            return self.pci.read_configuration(gpa);
        }
        self.windows.read(gpa)
    }
}
