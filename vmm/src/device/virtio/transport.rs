// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The common configuration structure (Virtio 1.2 §4.1.4.3): features, status, queues.

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::{Queue, QueueT};

use super::function::place;

/// Distance of two queues' notification registers.
pub(super) const NOTIFY_STRIDE: u32 = 4;

/// §4.1.4: a vendor-specific capability.
const VENDOR_CAPABILITY: u8 = 9;
/// §4.1.4.3: no vector.
const NO_VECTOR: u16 = 0xffff;
/// §2.1, device status bits.
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
/// Those that the driver sets: ACKNOWLEDGE, DRIVER, `DRIVER_OK`, `FEATURES_OK`, FAILED.
const DRIVER_STATUS: u8 = 1 | 2 | DRIVER_OK | FEATURES_OK | 128;
/// §4.1.4.5, ISR bits: a queue, the configuration.
const ISR_QUEUE: u8 = 1;
const ISR_CONFIGURATION: u8 = 2;

/// Capabilities that say where the structures are, all in BAR 0. §4.1.4.9 wants one more, by which firmware that has no BAR yet
/// accesses them through configuration space: there is none, as no firmware runs here and Linux does not use it.
pub(super) fn capabilities() -> Vec<(Vec<u8>, Vec<u8>)> {
    let capability = |kind: u8, offset: u64, more: &[u8]| {
        let length = 16 + more.len() as u8;
        let mut bytes = vec![VENDOR_CAPABILITY, 0, length, kind, 0, 0, 0, 0];
        bytes.extend_from_slice(&(offset as u32).to_le_bytes());
        bytes.extend_from_slice(&(place::LEN as u32).to_le_bytes());
        bytes.extend_from_slice(more);
        let writable = vec![0; bytes.len()];
        (bytes, writable)
    };
    vec![
        capability(1, place::COMMON, &[]),
        capability(2, place::NOTIFY, &NOTIFY_STRIDE.to_le_bytes()),
        capability(3, place::ISR, &[]),
        capability(4, place::DEVICE, &[]),
    ]
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// Nothing that concerns others.
    Registers,
    /// The driver resets the device.
    Reset,
}

/// The registers.
#[derive(Debug)]
pub(super) struct Transport {
    features: u64,
    feature_select: u32,
    driver_features: u64,
    driver_select: u32,
    config_vector: u16,
    status: u8,
    isr: u8,
    select: u16,
    queues: Vec<(Queue, u16)>,
}

impl Transport {
    pub(super) fn new(features: u64, sizes: &[u16]) -> Self {
        let queues = sizes.iter().filter_map(|size| Some((Queue::new(*size).ok()?, NO_VECTOR)));
        Self {
            features,
            feature_select: 0,
            driver_features: 0,
            driver_select: 0,
            config_vector: NO_VECTOR,
            status: 0,
            isr: 0,
            select: 0,
            queues: queues.collect(),
        }
    }

    /// What the device offers.
    pub(super) fn features(&self) -> u64 {
        self.features
    }

    /// The driver is ready, and nothing is broken.
    pub(super) fn is_running(&self) -> bool {
        self.status & (DRIVER_OK | FEATURES_OK | NEEDS_RESET) == DRIVER_OK | FEATURES_OK
    }

    /// Queues of the device.
    pub(super) fn len(&self) -> u16 {
        self.queues.len() as u16
    }

    /// A queue that is in use, and its vector.
    pub(super) fn queue(&mut self, index: u16) -> Option<(&mut Queue, u16)> {
        self.queues
            .get_mut(usize::from(index))
            .filter(|(queue, _)| queue.ready())
            .map(|(queue, vector)| (queue, *vector))
    }

    /// A queue has something for the driver.
    pub(super) fn set_isr(&mut self) {
        self.isr |= ISR_QUEUE;
    }

    /// Reading the interrupt status clears it.
    pub(super) fn take_isr(&mut self) -> u8 {
        std::mem::take(&mut self.isr)
    }

    /// The configuration has changed. Returns the vector by which the driver is interrupted.
    pub(super) fn config_changed(&mut self) -> u16 {
        self.isr |= ISR_CONFIGURATION;
        self.config_vector
    }

    /// The driver broke the rules (§2.1.2). Returns the vector by which it is interrupted.
    pub(super) fn needs_reset(&mut self) -> u16 {
        self.status |= NEEDS_RESET;
        self.config_changed()
    }

    /// §4.1.5.1.2.1: a vector that there is not reads back as none.
    fn vector(&self, vector: u16) -> u16 {
        // One for each queue, and one for the configuration.
        if usize::from(vector) <= self.queues.len() { vector } else { NO_VECTOR }
    }

    /// §2.2.2, §6.1: what the device did not offer cannot be accepted, and a driver for version 0 does not know these registers.
    fn accepts_features(&self) -> bool {
        self.driver_features & !self.features == 0 && self.driver_features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    fn selected(&self) -> Option<&(Queue, u16)> {
        self.queues.get(usize::from(self.select))
    }

    /// One register by its offset, and its bytes.
    fn register(&self, offset: u64) -> u64 {
        let half = |features: u64, select: u32| match select {
            0 => features & 0xffff_ffff,
            1 => features >> 32,
            _ => 0,
        };
        let of_queue = |value: fn(&Queue) -> u64| self.selected().map_or(0, |(queue, _)| value(queue));
        match offset {
            0x00 => u64::from(self.feature_select),
            0x04 => half(self.features, self.feature_select),
            0x08 => u64::from(self.driver_select),
            0x0c => half(self.driver_features, self.driver_select),
            0x10 => u64::from(self.config_vector),
            0x12 => self.queues.len() as u64,
            0x14 => u64::from(self.status),
            // §4.1.4.4: a queue's notification register is that of its number.
            0x16 | 0x1e => u64::from(self.select),
            0x18 => of_queue(|queue| u64::from(queue.size())),
            0x1a => self.selected().map_or(u64::from(NO_VECTOR), |(_, vector)| u64::from(*vector)),
            0x1c => of_queue(|queue| u64::from(queue.ready())),
            0x20 => of_queue(Queue::desc_table),
            0x24 => of_queue(Queue::desc_table) >> 32,
            0x28 => of_queue(Queue::avail_ring),
            0x2c => of_queue(Queue::avail_ring) >> 32,
            0x30 => of_queue(Queue::used_ring),
            0x34 => of_queue(Queue::used_ring) >> 32,
            _ => 0,
        }
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        for (to, from) in data.iter_mut().zip(self.register(offset).to_le_bytes()) {
            *to = from;
        }
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Changed {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(data) {
            *to = *from;
        }
        let value = u64::from_le_bytes(bytes);
        let (word, half) = (value as u32, value as u16);
        let vector = self.vector(half);
        match offset {
            0x00 => self.feature_select = word,
            0x08 => self.driver_select = word,
            0x0c => {
                let shift = match self.driver_select {
                    0 => 0,
                    1 => 32,
                    _ => return Changed::Registers,
                };
                let mask = 0xffff_ffff << shift;
                // §3.1.1: none is accepted after FEATURES_OK.
                if self.status & FEATURES_OK == 0 {
                    self.driver_features = self.driver_features & !mask | u64::from(word) << shift;
                }
            }
            0x10 => self.config_vector = vector,
            0x14 if value as u8 == 0 => return Changed::Reset,
            0x14 => {
                let accepted = if self.accepts_features() { u8::MAX } else { !FEATURES_OK };
                self.status |= value as u8 & DRIVER_STATUS & accepted;
            }
            0x16 => self.select = half,
            _ => self.write_queue(offset, word),
        }
        Changed::Registers
    }

    fn write_queue(&mut self, offset: u64, value: u32) {
        let vector = self.vector(value as u16);
        let Some((queue, queue_vector)) = self.queues.get_mut(usize::from(self.select)) else { return };
        match offset {
            0x18 => queue.set_size(value as u16),
            0x1a => *queue_vector = vector,
            0x1c => queue.set_ready(value & 1 == 1),
            0x20 => queue.set_desc_table_address(Some(value), None),
            0x24 => queue.set_desc_table_address(None, Some(value)),
            0x28 => queue.set_avail_ring_address(Some(value), None),
            0x2c => queue.set_avail_ring_address(None, Some(value)),
            0x30 => queue.set_used_ring_address(Some(value), None),
            0x34 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }
}
