// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A driver, as Virtio 1.2 §3.1 and §4.1 have it, and the devices under it.

mod devices;
mod files;
mod hostile;
mod registers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use types::{Mode, View};

use super::{MessageSink, Notification, Stored, VirtioDevices, VirtioKind};
use crate::device::pci::PciBus;
use crate::layout::{self, PAGE_SIZE};
use crate::memory::dma::{DmaMemory, Forbidden};
use crate::memory::protected::{Architecture, Cause};
use crate::memory::ram::Ram;
use crate::memory::{Content, GuestMemory};

/// The first virtio device: host bridge and two test devices come before it.
const DEVICE: u32 = 3;
/// Where the rings of queue 0 are; each queue has so many bytes.
const RINGS: u64 = 0x40_0000;
const RINGS_LEN: u64 = 0x1_0000;
/// Available and used ring behind the descriptor table.
const AVAIL: u64 = 0x4000;
const USED: u64 = 0x8000;
/// Where buffers of queue 0 are; each queue has so many bytes.
const BUFFERS: u64 = 0x80_0000;
const BUFFERS_LEN: u64 = 0x10_0000;
/// Descriptor flags.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// Registers of the common configuration.
const DEVICE_FEATURE_SELECT: u64 = 0;
const DEVICE_FEATURE: u64 = 4;
const DRIVER_FEATURE_SELECT: u64 = 8;
const DRIVER_FEATURE: u64 = 0xc;
const CONFIG_VECTOR: u64 = 0x10;
const NUM_QUEUES: u64 = 0x12;
const STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY_OFF: u64 = 0x1e;
const QUEUE_DESC: u64 = 0x20;
const QUEUE_DRIVER: u64 = 0x28;
const QUEUE_DEVICE: u64 = 0x30;
/// Status bits.
const ACKNOWLEDGE: u64 = 1;
const DRIVER: u64 = 2;
const DRIVER_OK: u64 = 4;
const FEATURES_OK: u64 = 8;
const NEEDS_RESET: u64 = 64;
/// Features.
const VERSION_1: u64 = 1 << 32;
const ACCESS_PLATFORM: u64 = 1 << 33;

/// Messages sent, as address and data.
#[derive(Debug, Default)]
struct Sent(Mutex<Vec<(u64, u32)>>);

impl MessageSink for Sent {
    fn send(&self, address: u64, data: u32) {
        self.0.lock().unwrap().push((address, data));
    }
}

/// One queue as the driver knows it.
#[derive(Debug, Default, Clone, Copy)]
struct Ring {
    size: u16,
    avail: u16,
    used: u16,
}

/// A machine's part with one virtio device.
struct Machine {
    memory: GuestMemory,
    bus: PciBus,
    devices: VirtioDevices,
    sent: Arc<Sent>,
    bar: u64,
    /// Offset in the BAR by type of structure.
    places: BTreeMap<u8, u64>,
    stride: u64,
    rings: BTreeMap<u16, Ring>,
}

impl Machine {
    fn new(kind: &VirtioKind) -> Self {
        Self::with_memory(kind, Content::OneView)
    }

    /// In an SNP guest whose rings are shared, and whose buffers are not.
    fn snp(kind: &VirtioKind) -> Self {
        let content = Content::SeparateBacking { architecture: Architecture::Snp, mode: Mode::Faithful };
        let machine = Self::with_memory(kind, content);
        machine.memory.apply(RINGS, (BUFFERS - RINGS) / PAGE_SIZE, Cause::MakeShared).unwrap();
        machine
    }

    fn with_memory(kind: &VirtioKind, content: Content) -> Self {
        let memory = GuestMemory::unenforced(Ram::new(layout::MIN_RAM).unwrap(), content).unwrap();
        let (mut bus, mut devices) = (PciBus::new(layout::BAR32, layout::BAR64), VirtioDevices::default());
        let sent = Arc::new(Sent::default());
        devices.add(kind.make(1).unwrap(), &mut bus, Arc::clone(&sent) as Arc<dyn MessageSink>, true);
        let (places, rings) = (BTreeMap::new(), BTreeMap::new());
        let mut machine = Self { memory, bus, devices, sent, bar: 0, places, stride: 0, rings };
        machine.bar = u64::from(machine.config(0x10) & !0xf) | u64::from(machine.config(0x14)) << 32;
        for (at, id) in machine.capabilities() {
            match id {
                9 => {
                    let kind = (machine.config(at) >> 24) as u8;
                    let place = machine.config(at + 8).into();
                    machine.places.insert(kind, place);
                    if kind == 2 {
                        machine.stride = u64::from(machine.config(at + 16));
                    }
                }
                0x11 => {
                    let [table, pending] = [4, 8].map(|register| machine.config(at + register).into());
                    machine.places.extend([(0x11, table), (0x12, pending)]);
                }
                _ => panic!("a capability {id:#x}"),
            }
        }
        machine
    }

    /// A register of configuration space.
    fn config(&mut self, register: u8) -> u32 {
        self.select(register);
        let mut data = [0; 4];
        self.bus.read_config_port(0xcfc, &mut data);
        u32::from_le_bytes(data)
    }

    fn set_config(&mut self, register: u8, value: u32) {
        self.select(register);
        self.bus.write_config_port(0xcfc, &value.to_le_bytes());
        self.devices.send_pending(&self.bus);
    }

    fn select(&mut self, register: u8) {
        let address = 0x8000_0000 | DEVICE << 11 | u32::from(register & 0xfc);
        self.bus.write_config_port(0xcf8, &address.to_le_bytes());
    }

    /// Place and id of each capability.
    fn capabilities(&mut self) -> Vec<(u8, u8)> {
        assert_eq!(self.config(4) >> 16 & 0x10, 0x10, "there is a list");
        let mut at = self.config(0x34) as u8;
        let mut found = Vec::new();
        while at != 0 {
            assert!(at >= 0x40 && at.is_multiple_of(4) && found.len() < 48, "{at:#x}");
            let header = self.config(at);
            found.push((at, header as u8));
            at = (header >> 8) as u8;
        }
        found
    }

    /// Loads `len` bytes at an offset in the BAR.
    fn load(&mut self, offset: u64, len: usize) -> u64 {
        let mut data = [0; 8];
        assert!(self.devices.read(&self.bus, self.bar + offset, &mut data[..len]));
        u64::from_le_bytes(data)
    }

    /// Stores at an offset in the BAR, and does what a machine does when that notifies a device.
    fn store(&mut self, offset: u64, len: usize, value: u64) -> Forbidden {
        let data = value.to_le_bytes();
        let stored = self.devices.write(&self.bus, self.bar + offset, &data[..len]);
        match stored.expect("the device answers") {
            Stored::Notification(what) => self.serve(what),
            Stored::Register => Forbidden::default(),
        }
    }

    fn serve(&mut self, what: Notification) -> Forbidden {
        let memory = DmaMemory::new(&self.memory, None);
        self.devices.serve(what, &self.bus, &memory);
        for input in self.devices.with_input() {
            self.devices.serve(input, &self.bus, &memory);
        }
        memory.into_forbidden()
    }

    /// A register of the common configuration, in its width.
    fn common(&mut self, register: u64) -> u64 {
        let place = self.places[&1] + register;
        self.load(place, width(register))
    }

    fn set_common(&mut self, register: u64, value: u64) {
        let place = self.places[&1] + register;
        self.store(place, width(register), value);
    }

    fn offered(&mut self) -> u64 {
        let mut features = 0;
        for half in 0..2 {
            self.set_common(DEVICE_FEATURE_SELECT, half);
            features |= self.common(DEVICE_FEATURE) << (32 * half);
        }
        features
    }

    /// §3.1.1, steps 1 to 6. Returns whether the device agrees.
    fn accept(&mut self, features: u64) -> bool {
        self.set_common(STATUS, 0);
        assert_eq!(self.common(STATUS), 0);
        self.rings.clear();
        self.set_common(STATUS, ACKNOWLEDGE);
        self.set_common(STATUS, ACKNOWLEDGE | DRIVER);
        for half in 0..2 {
            self.set_common(DRIVER_FEATURE_SELECT, half);
            self.set_common(DRIVER_FEATURE, features >> (32 * half) & 0xffff_ffff);
        }
        self.set_common(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        self.common(STATUS) & FEATURES_OK != 0
    }

    fn set_queue(&mut self, queue: u16, size: u16) {
        let place = RINGS + u64::from(queue) * RINGS_LEN;
        self.put(place, &vec![0; RINGS_LEN as usize]);
        self.set_common(QUEUE_SELECT, queue.into());
        self.set_common(QUEUE_SIZE, size.into());
        assert_eq!(self.common(QUEUE_SIZE), u64::from(size));
        for (register, address) in
            [(QUEUE_DESC, place), (QUEUE_DRIVER, place + AVAIL), (QUEUE_DEVICE, place + USED)]
        {
            self.set_common(register, address & 0xffff_ffff);
            self.set_common(register + 4, address >> 32);
        }
        self.set_common(QUEUE_VECTOR, u64::from(queue) + 1);
        self.set_common(QUEUE_ENABLE, 1);
        self.rings.insert(queue, Ring { size, avail: 0, used: 0 });
    }

    /// All of §3.1.1: every queue with `size` entries, and vector `queue + 1`, whose message has that number in its data.
    fn start(&mut self, size: u16) {
        let offered = self.offered();
        assert!(self.accept(offered));
        self.set_vectors();
        self.set_common(CONFIG_VECTOR, 0);
        for queue in 0..self.common(NUM_QUEUES) as u16 {
            self.set_queue(queue, size);
        }
        self.set_common(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }

    fn set_vectors(&mut self) {
        let table = self.places[&0x11];
        let vectors = (self.config(0x40) >> 16 & 0x7ff) + 1;
        for vector in 0..u64::from(vectors) {
            self.store(table + 16 * vector, 4, 0xfee0_0000);
            self.store(table + 16 * vector + 8, 4, vector);
            self.store(table + 16 * vector + 12, 4, 0);
        }
        self.set_config(0x40, 0x8000_0000);
    }

    /// Puts a descriptor into a table.
    fn describe(&self, table: u64, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let bytes =
            [&address.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()]
                .concat();
        self.put(table + 16 * u64::from(index), &bytes);
    }

    /// Stores to memory that the host reaches.
    fn put(&self, gpa: u64, bytes: &[u8]) {
        let view = if self.memory.state(gpa).is_some() { View::Shared } else { View::Private };
        self.memory.store(view, gpa, bytes).unwrap();
    }

    fn get(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let view = if self.memory.state(gpa).is_some() { View::Shared } else { View::Private };
        self.memory.read(view, gpa, &mut bytes).unwrap();
        bytes
    }

    /// Makes the chain that begins with this descriptor available, and notifies the device.
    fn offer(&mut self, queue: u16, head: u16) -> Forbidden {
        let place = RINGS + u64::from(queue) * RINGS_LEN;
        let ring = self.rings.get_mut(&queue).unwrap();
        let slot = place + AVAIL + 4 + 2 * u64::from(ring.avail % ring.size);
        ring.avail = ring.avail.wrapping_add(1);
        let avail = ring.avail;
        self.put(slot, &head.to_le_bytes());
        self.put(place + AVAIL + 2, &avail.to_le_bytes());
        self.notify(queue)
    }

    fn notify(&mut self, queue: u16) -> Forbidden {
        self.set_common(QUEUE_SELECT, queue.into());
        let offset = self.common(QUEUE_NOTIFY_OFF) * self.stride;
        self.store(self.places[&2] + offset, 2, queue.into())
    }

    /// The next used request, as first descriptor and bytes written.
    fn used(&mut self, queue: u16) -> Option<(u32, u32)> {
        let place = RINGS + u64::from(queue) * RINGS_LEN + USED;
        let ring = self.rings[&queue];
        let index = self.get(place + 2, 2);
        if u16::from_le_bytes([index[0], index[1]]) == ring.used {
            return None;
        }
        let entry = self.get(place + 4 + 8 * u64::from(ring.used % ring.size), 8);
        self.rings.get_mut(&queue).unwrap().used = ring.used.wrapping_add(1);
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
        Some((word(0), word(4)))
    }

    /// Puts the bytes and room for these many more into a chain, and gives it to the device.
    fn submit(&mut self, queue: u16, readable: &[&[u8]], writable: &[u32]) -> Forbidden {
        let table = RINGS + u64::from(queue) * RINGS_LEN;
        let last = (readable.len() + writable.len() - 1) as u16;
        let mut at = buffers(queue);
        let lens = readable.iter().map(|bytes| (bytes.len() as u32, 0));
        for (index, (len, write)) in (0..).zip(lens.chain(writable.iter().map(|len| (*len, WRITE)))) {
            if let Some(bytes) = readable.get(usize::from(index)) {
                self.put(at, bytes);
            }
            let flags = if index == last { write } else { write | NEXT };
            self.describe(table, index, at, len, flags, index + 1);
            at += u64::from(len).next_multiple_of(PAGE_SIZE);
        }
        self.offer(queue, 0)
    }

    /// Submits a request, and gives what the device wrote; `None` if it has not used the request.
    fn request(&mut self, queue: u16, readable: &[&[u8]], writable: u32) -> Option<Vec<u8>> {
        let writables = if writable == 0 { vec![] } else { vec![writable] };
        assert!(self.submit(queue, readable, &writables).accesses.is_empty());
        let (head, written) = self.used(queue)?;
        assert_eq!(head, 0);
        let before: u64 = readable.iter().map(|bytes| (bytes.len() as u64).next_multiple_of(PAGE_SIZE)).sum();
        Some(self.get(buffers(queue) + before, written as usize))
    }

    fn messages(&self) -> Vec<u32> {
        let sent = std::mem::take(&mut *self.sent.0.lock().unwrap());
        assert!(sent.iter().all(|(address, _)| *address == 0xfee0_0000));
        sent.into_iter().map(|(_, data)| data).collect()
    }
}

/// Where buffers of a queue are.
fn buffers(queue: u16) -> u64 {
    BUFFERS + u64::from(queue) * BUFFERS_LEN
}

/// §4.1.4.3: bytes of a register.
fn width(register: u64) -> usize {
    match register {
        STATUS | 0x15 => 1,
        CONFIG_VECTOR | NUM_QUEUES | QUEUE_SELECT..=QUEUE_NOTIFY_OFF => 2,
        _ => 4,
    }
}
