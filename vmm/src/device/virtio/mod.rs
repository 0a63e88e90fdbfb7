// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Virtio devices behind PCI, version 1 only (Virtio 1.2 §4.1). They access guest memory as [`crate::memory::dma`] has it.

mod block;
mod config;
mod console;
mod files;
mod function;
mod msix;
mod random;
mod request;
mod terminal;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::Arc;

pub use self::block::BlockError;
pub use self::config::{VirtioConfig, VirtioError, VirtioKind};
pub use self::console::{ConsolePort, NullPeer, PortPeer};
pub use self::files::FilesError;
use self::function::Function;
pub use self::msix::MessageSink;
pub use self::request::Request;
use super::pci::PciBus;
use crate::memory::dma::DmaMemory;

/// What a kind of device does.
pub trait Backend: std::fmt::Debug + Send {
    /// Which device it is.
    fn kind(&self) -> types::DeviceKind;
    /// Feature bits of its own (Virtio 1.2 §5).
    fn features(&self) -> u64 {
        0
    }
    /// Sizes of its queues.
    fn queues(&self) -> Vec<u16>;
    /// Its configuration structure.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Whether the configuration has changed since the last call.
    fn config_changed(&mut self) -> bool {
        false
    }
    /// For a queue whose requests wait for input of the host's: whether there is any.
    fn has_input(&self, queue: u16) -> Option<bool> {
        let _ = queue;
        None
    }
    /// Carries out one request. Returns the bytes written to it.
    ///
    /// # Errors
    /// Where the request is malformed: the device then needs a reset.
    fn carry_out(&mut self, queue: u16, request: &Request, memory: &DmaMemory<'_>) -> Result<u32, Malformed>;
    /// The driver has reset the device.
    fn reset(&mut self) {}
}

/// A request breaks the rules of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// All virtio devices of a machine.
#[derive(Debug, Default)]
pub struct VirtioDevices {
    functions: Vec<Function>,
}

impl VirtioDevices {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Puts a device on the bus.
    pub fn add(
        &mut self,
        backend: Box<dyn Backend>,
        bus: &mut PciBus,
        sink: Arc<dyn MessageSink>,
        access_platform: bool,
    ) {
        self.functions.push(Function::new(backend, bus, sink, access_platform, self.functions.len()));
    }

    /// Load from plain GPA `gpa`; `false` if no device has registers there.
    pub fn read(&mut self, bus: &PciBus, gpa: u64, data: &mut [u8]) -> bool {
        let Some((_, function, offset)) = self.find(bus, gpa) else { return false };
        function.read(offset, data);
        true
    }

    /// Store to plain GPA `gpa`; `None` if no device has registers there.
    pub fn write(&mut self, bus: &PciBus, gpa: u64, data: &[u8]) -> Option<Stored> {
        let (device, function, offset) = self.find(bus, gpa)?;
        Some(match function.write(bus, offset, data) {
            Some(queue) => Stored::Notification(Notification { device, queue }),
            None => Stored::Register,
        })
    }

    /// The driver has written to configuration space: what it unmasked there is sent.
    pub fn send_pending(&mut self, bus: &PciBus) {
        self.functions.iter_mut().for_each(|function| function.send_pending(bus));
    }

    /// The device whose registers are at `gpa`, with its index, and the offset in its BAR.
    fn find(&mut self, bus: &PciBus, gpa: u64) -> Option<(usize, &mut Function, u64)> {
        self.functions.iter_mut().enumerate().find_map(|(index, function)| {
            let offset = function.decode(bus, gpa)?;
            Some((index, function, offset))
        })
    }

    /// Interrupts drivers of devices whose configuration has changed.
    pub fn report_changes(&mut self, bus: &PciBus) {
        for function in &mut self.functions {
            function.report_change(bus);
        }
    }

    /// Queues of devices that have input of the host's for the guest.
    pub fn with_input(&self) -> Vec<Notification> {
        let each = self.functions.iter().enumerate();
        each.flat_map(|(device, function)| {
            function.with_input().map(move |queue| Notification { device, queue })
        })
        .collect()
    }

    /// Carries out the requests in a queue, and interrupts the driver where that is due.
    pub fn serve(&mut self, what: Notification, bus: &PciBus, memory: &DmaMemory<'_>) {
        if let Some(function) = self.functions.get_mut(what.device) {
            function.serve(what.queue, bus, memory);
        }
    }

    /// Which device has been notified.
    pub fn kind(&self, what: Notification) -> Option<types::DeviceKind> {
        self.functions.get(what.device).map(Function::kind)
    }
}

/// What a store to a device's registers was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// A register.
    Register,
    /// The driver has put requests into a queue.
    Notification(Notification),
}

/// A queue of a device that is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Its number among the virtio devices.
    device: usize,
    /// Its queue.
    pub queue: u16,
}
