// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One device as a PCI function: its registers, its queues, its interrupts.

use std::sync::Arc;

use types::DeviceKind;
use virtio_bindings::virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;
use virtio_queue::{Queue, QueueOwnedT, QueueT};

use super::msix::{MessageControl, MessageSink, Msix};
use super::transport::{self, Changed, NOTIFY_STRIDE, Transport};
use super::{Backend, Malformed, Request};
use crate::device::pci::{BAR_SIZE, PciBus};
use crate::layout;
use crate::memory::dma::DmaMemory;

/// Offsets in the BAR.
pub(super) mod place {
    /// Common configuration.
    pub const COMMON: u64 = 0;
    /// Interrupt status.
    pub const ISR: u64 = 0x1000;
    /// The device's own configuration.
    pub const DEVICE: u64 = 0x2000;
    /// Notifications.
    pub const NOTIFY: u64 = 0x3000;
    /// The table of interrupt vectors.
    pub const MSIX_TABLE: u64 = 0x4000;
    /// Pending interrupts.
    pub const MSIX_PENDING: u64 = 0x5000;
    /// Bytes of each of them.
    pub const LEN: u64 = 0x1000;
}

/// Virtio 1.2 §5: the device's number, and the PCI class of its function, lowest byte first.
const fn identity(kind: DeviceKind) -> (u16, [u8; 3]) {
    match kind {
        DeviceKind::Block => (2, [0x00, 0x00, 0x01]),
        DeviceKind::Console => (3, [0x00, 0x80, 0x07]),
        DeviceKind::Random => (4, [0x00, 0x00, 0xff]),
        DeviceKind::Files => (26, [0x00, 0x80, 0x01]),
        // It is no virtio device; the number is reserved.
        DeviceKind::Probe => (0, [0x00, 0x00, 0xff]),
    }
}

/// A device.
#[derive(Debug)]
pub(super) struct Function {
    backend: Box<dyn Backend>,
    /// Its number on the bus.
    number: usize,
    transport: Transport,
    msix: Msix,
}

impl Function {
    /// Puts the virtio device with this index on the bus. `access_platform`: it offers feature 33, by which the driver
    /// respects what the platform lets devices access (§6).
    pub(super) fn new(
        backend: Box<dyn Backend>,
        bus: &mut PciBus,
        sink: Arc<dyn MessageSink>,
        access_platform: bool,
        index: usize,
    ) -> Self {
        let (id, class) = identity(backend.kind());
        let queues = backend.queues();
        // One for each queue, and one for changes of the configuration.
        let vectors = queues.len() as u16 + 1;
        let mut capabilities = vec![Msix::capability(vectors, place::MSIX_TABLE, place::MSIX_PENDING)];
        capabilities.extend(transport::capabilities());
        let number = bus.add_virtio(id, class, layout::VIRTIO_BARS + index as u64 * BAR_SIZE, &capabilities);
        let mut features = backend.features() | 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC;
        if access_platform {
            features |= 1 << VIRTIO_F_ACCESS_PLATFORM;
        }
        let transport = Transport::new(features, &queues);
        Self { backend, number, transport, msix: Msix::new(sink, vectors) }
    }

    pub(super) fn kind(&self) -> DeviceKind {
        self.backend.kind()
    }

    /// The offset in its BAR, if it answers at `gpa`.
    pub(super) fn decode(&self, bus: &PciBus, gpa: u64) -> Option<u64> {
        let offset = gpa.checked_sub(bus.bar_of(self.number)?)?;
        (offset < BAR_SIZE).then_some(offset)
    }

    /// Load at an offset in the BAR.
    pub(super) fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let within = offset % place::LEN;
        match offset - within {
            place::COMMON => self.transport.read(within, data),
            place::ISR => data[0] = self.transport.take_isr(),
            place::DEVICE => {
                let config = self.backend.config();
                let bytes = config.get(within as usize..).unwrap_or_default();
                data.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            }
            place::MSIX_TABLE => self.msix.read(within, data),
            place::MSIX_PENDING => self.msix.read_pending(within, data),
            _ => {}
        }
    }

    /// Store at an offset in the BAR. Returns the queue that the driver notifies the device of.
    pub(super) fn write(&mut self, bus: &PciBus, offset: u64, data: &[u8]) -> Option<u16> {
        let within = offset % place::LEN;
        match offset - within {
            place::COMMON if self.transport.write(within, data) == Changed::Reset => {
                self.transport = Transport::new(self.transport.features(), &self.backend.queues());
                self.backend.reset();
                self.msix.discard_pending();
            }
            place::MSIX_TABLE => {
                self.msix.write(within, data);
                self.send_pending(bus);
            }
            place::NOTIFY => return u16::try_from(within / u64::from(NOTIFY_STRIDE)).ok(),
            _ => {}
        }
        None
    }

    /// Interrupts the driver if the configuration has changed.
    pub(super) fn report_change(&mut self, bus: &PciBus) {
        if self.transport.is_running() && self.backend.config_changed() {
            let vector = self.transport.config_changed();
            self.msix.send(vector, self.message_control(bus));
        }
    }

    /// Queues whose requests the device can use without having been notified.
    pub(super) fn with_input(&self) -> impl Iterator<Item = u16> {
        let count = if self.transport.is_running() { self.transport.len() } else { 0 };
        (0..count).filter(|queue| self.backend.has_input(*queue) == Some(true))
    }

    /// Carries out what is in a queue, and interrupts the driver where that is due.
    pub(super) fn serve(&mut self, index: u16, bus: &PciBus, memory: &DmaMemory<'_>) {
        if !self.transport.is_running() {
            return;
        }
        let Some((queue, vector)) = self.transport.queue(index) else { return };
        let served = carry_out(self.backend.as_mut(), index, queue, memory);
        let vector = match served {
            Ok(false) => return,
            Ok(true) => {
                self.transport.set_isr();
                vector
            }
            Err(Malformed) => self.transport.needs_reset(),
        };
        self.msix.send(vector, self.message_control(bus));
    }

    /// Sends the messages that have been kept while they were masked, and no longer are.
    pub(super) fn send_pending(&mut self, bus: &PciBus) {
        self.msix.send_pending(self.message_control(bus));
    }

    fn message_control(&self, bus: &PciBus) -> MessageControl {
        MessageControl::of(|register| bus.register_of(self.number, register))
    }
}

/// All that the device can do of a queue now. Returns whether the driver is to be interrupted.
fn carry_out(
    backend: &mut dyn Backend,
    index: u16,
    queue: &mut Queue,
    memory: &DmaMemory<'_>,
) -> Result<bool, Malformed> {
    let mut used = false;
    // A driver that adds requests meanwhile does not run: the guest is stopped.
    // A buffer that contains the available ring lets the device itself add requests without end: no more are carried out for one
    // notification than the queue has room for.
    for _ in 0..queue.size() {
        if backend.has_input(index) == Some(false) {
            break;
        }
        memory.set_chain(None);
        let Some(chain) = queue.iter(memory).map_err(|_| Malformed)?.next() else { break };
        let head = chain.head_index();
        let request = Request::of(chain)?;
        let written = backend.carry_out(index, &request, memory)?;
        memory.set_chain(None);
        queue.add_used(memory, head, written).map_err(|_| Malformed)?;
        used = true;
    }
    memory.set_chain(None);
    Ok(used && queue.needs_notification(memory).map_err(|_| Malformed)?)
}
