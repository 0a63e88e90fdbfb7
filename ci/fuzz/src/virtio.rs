// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any accesses to a virtio device's registers, with any rings and requests in memory, leave a device that a reset makes usable,
//! and a bounded record.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use types::View;
use vmm::device::pci::PciBus;
use vmm::device::virtio::{MessageSink, Stored, VirtioDevices, VirtioKind};
use vmm::layout::{self, PAGE_SIZE};
use vmm::memory::dma::{DmaMemory, MOST_FORBIDDEN};
use vmm::memory::protected::{Architecture, Cause};

use crate::bench::{BIT, Bench, Program, encode};

/// Accesses of one program.
const ACTS: usize = 64;
/// Descriptor table, available ring and used ring of queue 0; those of the next queue follow.
const RINGS: u64 = 0x40_0000;
const AVAIL: u64 = 0x4000;
const USED: u64 = 0x8000;
const RINGS_LEN: u64 = 0x1_0000;
/// Entries of each queue.
const SIZE: u16 = 8;
/// Requests, which are shared too.
const BUFFERS: u64 = 0x50_0000;
/// Shared memory.
const SHARED_PAGES: u64 = 0x200;
/// Virtio 1.2 §4.1.4.3, registers of the common configuration.
const FEATURE_SELECT: u64 = 0x08;
const FEATURE: u64 = 0x0c;
const STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_PLACES: [(u64, u64); 3] = [(0x20, 0), (0x28, AVAIL), (0x30, USED)];
/// Where the notification registers are in the BAR.
const NOTIFY: u64 = 0x3000;
/// §2.1: what a driver has set when it uses the device.
const RUNNING: u8 = 1 | 2 | 4 | 8;

/// Takes messages.
#[derive(Debug)]
struct Nowhere;

impl MessageSink for Nowhere {
    fn send(&self, _: u64, _: u32) {}
}

/// A folder of the host with a disk and a file, the same for all programs.
fn folder() -> Option<&'static PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        let folder = std::env::temp_dir().join(format!("copra-fuzz-virtio-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("share")).ok()?;
        std::fs::write(folder.join("disk"), [1; 1 << 14]).ok()?;
        std::fs::write(folder.join("share/file"), "text").ok()?;
        Some(folder)
    };
    FOLDER.get_or_init(make).as_ref()
}

fn kind(number: u8) -> Option<VirtioKind> {
    let folder = folder()?;
    Some(match number % 4 {
        0 => VirtioKind::Random,
        1 => VirtioKind::Console(vec![]),
        2 => VirtioKind::Block { file: folder.join("disk"), writable: true },
        _ => VirtioKind::Files {
            tag: "share".to_owned(),
            root: folder.join("share"),
            above: Vec::new(),
            writable: false,
        },
    })
}

/// A device on a bus, and a guest's memory.
struct Machine {
    bench: Bench,
    bus: PciBus,
    devices: VirtioDevices,
}

impl Machine {
    fn store(&mut self, offset: u64, data: &[u8]) {
        let stored = self.devices.write(&self.bus, layout::VIRTIO_BARS + offset, data);
        if let Some(Stored::Notification(what)) = stored {
            let memory = DmaMemory::new(&self.bench.memory, Some((1 << BIT, View::Private)));
            self.devices.serve(what, &self.bus, &memory);
            assert!(memory.into_forbidden().accesses.len() <= MOST_FORBIDDEN);
        }
    }

    fn put(&self, gpa: u64, bytes: &[u8]) {
        let _ = self.bench.memory.store(View::Shared, gpa, bytes);
    }

    /// What a driver does until it can send requests.
    fn start(&mut self) {
        self.store(STATUS, &[0]);
        for (half, features) in [(0u32, 0u32), (1, 3)] {
            self.store(FEATURE_SELECT, &half.to_le_bytes());
            self.store(FEATURE, &features.to_le_bytes());
        }
        self.store(STATUS, &[11]);
        for queue in 0..2 {
            let rings = RINGS + u64::from(queue) * RINGS_LEN;
            self.store(QUEUE_SELECT, &u16::to_le_bytes(queue));
            self.store(QUEUE_SIZE, &SIZE.to_le_bytes());
            for (register, place) in QUEUE_PLACES {
                self.store(register, &((rings + place) as u32).to_le_bytes());
            }
            self.store(QUEUE_ENABLE, &[1, 0]);
        }
        self.store(STATUS, &[RUNNING]);
    }

    /// One access; `None` where the program ends.
    fn act(&mut self, program: &mut Program<'_>) -> Option<()> {
        let op = program.byte()?;
        let queue = u64::from(op >> 3 & 1);
        let rings = RINGS + queue * RINGS_LEN;
        match op & 7 {
            0 => {
                let (offset, len) = (program.word()?, usize::from(op >> 4 & 7) + 1);
                let mut data = [0; 8];
                let at = layout::VIRTIO_BARS + offset % 0x1_0000;
                self.devices.read(&self.bus, at, &mut data[..len]);
            }
            1 => {
                let (offset, len, value) = (program.word()?, usize::from(op >> 4 & 7) + 1, program.word()?);
                self.store(offset % 0x1_0000, &value.to_le_bytes()[..len]);
            }
            2 => {
                let (register, value) = (program.byte()?, program.word()?);
                let select = 1 << 31 | 3 << 11 | u32::from(register & 0xfc);
                self.bus.write_config_port(0xcf8, &select.to_le_bytes());
                self.bus.write_config_port(0xcfc, &(value as u32).to_le_bytes());
                self.devices.send_pending(&self.bus);
            }
            3 => {
                let (at, len) = (program.word()?, usize::from(program.byte()?));
                let bytes = &program.0[..len.min(program.0.len())];
                self.put(BUFFERS + at % 0x1_0000, bytes);
                program.0 = &program.0[bytes.len()..];
            }
            4 => {
                let (index, flags, next) = (program.byte()?, program.byte()?, program.byte()?);
                let (address, len) = (program.word()?, program.word()?);
                let numbers = [u16::from(flags), u16::from(next)].map(u16::to_le_bytes).concat();
                let bytes = [&address.to_le_bytes()[..], &(len as u32).to_le_bytes(), &numbers].concat();
                self.put(rings + 16 * u64::from(index), &bytes);
            }
            5 => {
                let (slot, value) = (program.byte()?, program.byte()?);
                self.put(rings + AVAIL + 2 * u64::from(slot), &u16::from(value).to_le_bytes());
            }
            _ => self.store(NOTIFY + 4 * queue, &[0, 0]),
        }
        Some(())
    }
}

/// A byte for the device, then accesses.
pub fn run(bytes: &[u8]) {
    let mut program = Program(bytes);
    let first = program.byte().unwrap_or_default();
    let architecture = Architecture::ALL[usize::from(first >> 2) % Architecture::ALL.len()];
    let (Some(bench), Some(kind)) = (Bench::new(architecture), kind(first)) else { return };
    // Unaccepted memory may not be shared everywhere; then requests there are forbidden accesses.
    let _ = bench.memory.apply(RINGS, SHARED_PAGES, Cause::MakeShared);
    let mut bus = PciBus::new(layout::BAR32, layout::BAR64);
    let mut devices = VirtioDevices::default();
    let Ok(backend) = kind.make(1) else { return };
    devices.add(backend, &mut bus, Arc::new(Nowhere), true);
    let saved = bus.save();
    let mut machine = Machine { bench, bus, devices };
    machine.start();
    for _ in 0..ACTS {
        if machine.act(&mut program).is_none() {
            break;
        }
    }
    // The BAR may have been moved or switched off.
    assert_eq!(machine.bus.restore(&saved), Ok(()));
    machine.start();
    let mut status = [0];
    assert!(machine.devices.read(&machine.bus, layout::VIRTIO_BARS + STATUS, &mut status));
    assert_eq!(status, [RUNNING], "a reset makes it usable");
    machine.bench.check();
}

/// Requests that drivers send.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let describe = |queue: u8, index: u8, flags: u8, address: u64, len: u64| {
        [&[4 | queue << 3, index, flags, index + 1][..], &encode(address), &encode(len)].concat()
    };
    let put = |at: u64, bytes: &[u8]| [&[3][..], &encode(at), &[bytes.len() as u8], bytes].concat();
    // The index of the available ring, and the notification.
    let offer = |queue: u8| vec![5 | queue << 3, 1, 1, 6 | queue << 3];
    let fuse = |opcode: u32, node: u64, body: &[u8]| {
        let begin = [40 + body.len() as u32, opcode].map(u32::to_le_bytes).concat();
        [&begin[..], &1u64.to_le_bytes(), &node.to_le_bytes(), &[0; 16], body].concat()
    };
    let request = |device: u8, queue: u8, message: &[u8], room: u64| {
        let readable = describe(queue, 0, 1, BUFFERS, message.len() as u64);
        let writable = describe(queue, 1, 2, BUFFERS + 2 * PAGE_SIZE, room);
        [&[device][..], &put(0, message), &readable, &writable, &offer(queue)].concat()
    };
    let block = |kind: u8| [&[kind][..], &[0; 15]].concat();
    let init = fuse(26, 0, &[7u32, 31, 0, 0].map(u32::to_le_bytes).concat());
    vec![
        ("entropy".into(), [&[0][..], &describe(0, 0, 2, BUFFERS, 64), &offer(0)].concat()),
        ("private".into(), [&[0][..], &describe(0, 0, 2, 0x100_0000, 0x8000), &offer(0)].concat()),
        ("indirect".into(), [&[0][..], &describe(0, 0, 4, BUFFERS, 16), &offer(0)].concat()),
        ("console".into(), request(1, 1, b"text", 1)),
        ("block-read".into(), request(2, 0, &block(0), 513)),
        ("block-id".into(), request(2, 0, &block(8), 21)),
        ("files-init".into(), request(3, 1, &init, 256)),
        ("files-lookup".into(), request(3, 1, &fuse(1, 1, b"file\0"), 256)),
        ("vbs".into(), request(4 + 4 + 2, 0, &block(0), 513)),
        ("registers".into(), [&[0, 0][..], &encode(0x14), &[1], &encode(0x14), &[0]].concat()),
    ]
}
