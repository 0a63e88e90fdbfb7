// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chooses operations: at random, but where kernels go wrong: at the edges of pages, regions and numbers.

mod changes;

use std::ops::Range;

use protocol::{Buffer, Via, Width};
use types::View;
use vmm::layout;

use super::guest::Guest;
use super::harmless::{self, Judge};
use super::sequence::RESIDUE;
use crate::random::Random;
use model::iomem::Intersection;
use model::{self, Node, Op, PAGE, Task, Through, World, kcore, pci};

/// File slots in use.
const FILES: u64 = 4;
/// Map slots in use.
const MAPS: u64 = 6;
/// Most pages of one mapping.
pub const MOST_PAGES: u64 = 16;
/// First page of the kernel's text: what an address with the encryption bit leads to, read and never changed.
pub const TEXT: Range<u64> = 0x100_0000..0x100_1000;

/// A sequence for a new process.
pub fn sequence(random: &mut Random, guest: &Guest, len: usize) -> Vec<Op> {
    let mut chooser = Chooser { random, guest, world: &guest.world, edges: edges(&guest.world) };
    let judge = Judge { world: &guest.world, ram: *guest.session.machine().ram() };
    let mut task = Task::default();
    let mut ops = Vec::with_capacity(len);
    while ops.len() < len {
        let op = chooser.propose(&task);
        let mut after = task.clone();
        let prediction = model::step(&guest.world, &mut after, &op);
        if judge.is_harmless(&task, &after, &op, &prediction) {
            task = after;
            ops.push(op);
        }
    }
    ops
}

/// Addresses at which something begins or ends.
fn edges(world: &World) -> Vec<u64> {
    let mut edges: Vec<u64> =
        world.iomem.resources().iter().flat_map(|r| [r.start, r.end.wrapping_add(1)]).collect();
    edges.extend(world.memory.backed.iter().flat_map(|range| [range.start, range.end]));
    edges.extend([
        layout::BDA,
        PAGE,
        layout::COMMAND_LINE,
        layout::EBDA,
        layout::VGA,
        layout::ROM,
        layout::SYSTEM_ROM,
        layout::HIGH_MEMORY,
        RESIDUE.start,
        RESIDUE.end,
        layout::BAR32,
        layout::CLAIMED_MMIO,
        layout::CLAIMED_MMIO + layout::CLAIMED_MMIO_SIZE,
        layout::UNCLAIMED_MMIO,
        layout::BAR64,
        TEXT.start,
        world.memory.top,
        1 << world.physical_bits,
        1 << 63,
        u64::MAX,
    ]);
    if let Some(bit) = world.encryption_bit {
        edges.extend([0xf_0000, TEXT.start, layout::BAR32, 0].map(|gpa| gpa | 1 << bit));
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

type Choose<C> = fn(&mut C, &Task) -> Op;

struct Chooser<'a> {
    random: &'a mut Random,
    guest: &'a Guest,
    world: &'a World,
    edges: Vec<u64>,
}

impl Chooser<'_> {
    fn propose(&mut self, task: &Task) -> Op {
        let open = !task.process.files.is_empty();
        let mapped = !task.process.maps.is_empty();
        let when = |condition: bool, weight: u64| if condition { weight } else { 1 };
        let choices: [(u64, Choose<Self>); 16] = [
            (if open { 24 } else { 200 }, Chooser::open),
            (when(open, 10), |c, task| Op::Close { file: c.file(task) }),
            (when(open, 30), Chooser::lseek),
            (when(open, 150), Chooser::read),
            (when(open, 60), Chooser::write),
            (when(open, 70), Chooser::mmap),
            (when(mapped, 20), |c, task| Op::Munmap { map: c.map(task) }),
            (when(mapped, 90), Chooser::load),
            (when(mapped, 45), Chooser::store),
            (when(mapped, 60), Chooser::remote),
            (8, Chooser::ports),
            (if mapped { 14 } else { 0 }, Chooser::over),
            (if mapped { 30 } else { 0 }, Chooser::protect),
            (if mapped { 14 } else { 0 }, Chooser::remap),
            (12, Chooser::process),
            (if open { 4 } else { 0 }, Chooser::pass),
        ];
        if self.random.once_in(400) {
            return self.privileges();
        }
        if let Some(left) = &task.left
            && self.random.once_in(5)
        {
            return self.left(left.iter().map(|piece| piece.len).sum());
        }
        self.random.weighted(&choices).map_or(Op::Close { file: 0 }, |choose| choose(self, task))
    }

    fn file(&mut self, task: &Task) -> u8 {
        let open: Vec<u8> = task.process.files.keys().copied().collect();
        let other = self.random.below(FILES) as u8;
        if self.random.once_in(60) { other } else { self.random.pick(&open).unwrap_or(other) }
    }

    fn map(&mut self, task: &Task) -> u8 {
        let mapped: Vec<u8> = task.process.maps.keys().copied().collect();
        let other = self.random.below(MAPS) as u8;
        if self.random.once_in(60) { other } else { self.random.pick(&mapped).unwrap_or(other) }
    }

    fn open(&mut self, _: &Task) -> Op {
        let nodes = [
            (40, Node::Mem),
            (6, Node::Port),
            (3, Node::Bar),
            (1, Node::Config),
            (1, Node::Msr),
            (1, Node::Kcore),
        ];
        let node = self.random.weighted(&nodes).unwrap_or(Node::Mem);
        let modes = [(16, libc::O_RDWR), (5, libc::O_RDONLY), (2, libc::O_WRONLY), (1, libc::O_ACCMODE)];
        let mode = self.random.weighted(&modes).unwrap_or(libc::O_RDONLY);
        let extras = [
            (40, 0),
            (14, libc::O_SYNC),
            (5, libc::O_DSYNC),
            (3, libc::O_APPEND),
            (3, libc::O_NONBLOCK),
            (3, libc::O_TRUNC),
            (2, libc::O_CLOEXEC),
            (1, libc::O_DIRECT),
            (1, libc::O_DIRECTORY),
        ];
        let extra = self.random.weighted(&extras).unwrap_or(0);
        Op::Open { file: self.random.below(FILES) as u8, node, flags: mode | extra }
    }

    /// An address at or near an edge.
    fn address(&mut self) -> u64 {
        let edge = self.random.pick(&self.edges).unwrap_or(0);
        let near = match self.random.below(8) {
            0..=2 => 0,
            3 => self.random.below(2 * PAGE).cast_signed(),
            4 => -(self.random.below(64).cast_signed()),
            5 => -(self.random.below(2 * PAGE).cast_signed()),
            6 => (self.random.below(4) * PAGE).cast_signed() - 4,
            _ => self.random.below(256).cast_signed() * 16,
        };
        match self.random.below(40) {
            0 => self.random.next(),
            1 => self.random.next() >> self.random.below(64),
            // Where what is read is not the same through both views.
            2..=8 => layout::ROM + self.random.below(0x4_0000),
            9..=12 => RESIDUE.start + self.random.below(RESIDUE.end - RESIDUE.start),
            13..=15 => self.random.below(PAGE),
            _ => edge.wrapping_add_signed(near),
        }
    }

    fn port(&mut self) -> u64 {
        match self.random.below(6) {
            0 => 0x1_0000 - self.random.below(32),
            1 => 0x1_0000 + self.random.below(1 << 20),
            2 => self.address(),
            _ => harmless::FIRST_PORT + self.random.below(0xe000),
        }
    }

    /// An offset in the file of a BAR, or just after it.
    fn in_bar(&mut self) -> u64 {
        let len = self.world.bar().map_or(0, |bar| bar.end - bar.start);
        match self.random.below(4) {
            0 => (len - 2 * PAGE.min(len / 2)) + self.random.below(3 * PAGE),
            _ => self.random.below(len + 1),
        }
    }

    fn len(&mut self) -> u64 {
        match self.random.below(60) {
            0..=2 => 0,
            3..=20 => 1 + self.random.below(16),
            21..=48 => 1 + self.random.below(64),
            49..=56 => self.random.below(200),
            57 => PAGE + self.random.below(3) - 1,
            58 => self.random.below(PAGE),
            _ => self.random.below(3 * PAGE),
        }
    }

    fn buffer(&mut self) -> Buffer {
        let choices = [(40, Buffer::Good), (2, Buffer::Null), (1, Buffer::Kernel), (4, Buffer::Straddling)];
        self.random.weighted(&choices).unwrap_or(Buffer::Good)
    }

    fn lseek(&mut self, task: &Task) -> Op {
        let file = self.file(task);
        let is_port = task.file(file).is_some_and(|file| file.node == Node::Port);
        let whence = self.random.weighted(&[(12, 0), (6, 1), (1, 2), (1, 3), (1, 4), (1, 9)]).unwrap_or(0);
        let offset = match (whence, self.random.below(6)) {
            (1, 0..=4) => self.random.below(4 * PAGE).cast_signed() - 2 * PAGE.cast_signed(),
            (_, 0) => -(self.random.below(5000).cast_signed()),
            _ if is_port => self.port().cast_signed(),
            _ => self.address().cast_signed(),
        };
        Op::Lseek { file, offset, whence }
    }

    /// The position of a read or write: the file's position, or an offset.
    fn at(&mut self, task: &Task, file: u8) -> Option<u64> {
        if self.random.once_in(3) {
            return None;
        }
        Some(match task.file(file).map_or(Node::Mem, |file| file.node) {
            Node::Mem => self.address(),
            Node::Port => self.port(),
            Node::Kcore => self.random.below(kcore::HEADER + 1),
            Node::Msr => harmless::TIME_STAMP_COUNTER,
            Node::Bar => self.in_bar(),
            Node::Config => self.random.below(pci::CONFIG_SPACE + 16),
        })
    }

    fn read(&mut self, task: &Task) -> Op {
        let (file, buffer) = (self.file(task), self.buffer());
        let at = self.at(task, file);
        let huge = [1 << 20, 0x7fff_f000, 1 << 31, 1 << 33, 1 << 46, 1 << 48, 1 << 63, u64::MAX - 7];
        let len = match buffer {
            Buffer::Null | Buffer::Kernel if self.random.once_in(2) => self.random.pick(&huge).unwrap_or(0),
            _ => self.len(),
        };
        Op::Read { file, at, len, buffer }
    }

    fn write(&mut self, task: &Task) -> Op {
        let (file, mut buffer) = (self.file(task), self.buffer());
        let at = self.at(task, file);
        let len = self.len() as usize;
        let mut data = self.random.bytes(len);
        let position = at.or_else(|| task.file(file).map(|file| file.position)).unwrap_or(0);
        // Should the kernel allow what it must not, then nothing shall change.
        if position >= layout::HIGH_MEMORY
            && self.world.iomem.intersects_ram(position) != Intersection::Disjoint
        {
            data.truncate((PAGE - position % PAGE) as usize);
            self.guest.session.machine().truth(View::Private, position, &mut data);
            buffer = Buffer::Good;
        }
        Op::Write { file, at, data, buffer }
    }

    fn mmap(&mut self, task: &Task) -> Op {
        let file = self.file(task);
        let is_bar = task.file(file).is_some_and(|file| file.node == Node::Bar);
        let address = if is_bar { self.in_bar() } else { self.address() };
        let aligned = address & !(PAGE - 1);
        let offset = if self.random.once_in(40) { aligned | self.random.below(PAGE) } else { aligned };
        let len = match self.random.below(40) {
            0 => 0,
            1 => self.random.pick(&[1 << 47, 1 << 63, u64::MAX, u64::MAX - PAGE + 1]).unwrap_or(0),
            2 => 1 + self.random.below(3 * PAGE),
            3 => MOST_PAGES * PAGE,
            4..=10 => (1 + self.random.below(4)) * PAGE,
            _ => PAGE,
        };
        let (prot, flags) = (self.protection(), self.share());
        Op::Mmap { map: self.random.below(MAPS) as u8, file, offset, len, prot, flags }
    }

    fn protection(&mut self) -> u32 {
        let choices = [(10, 1), (14, 3), (3, 2), (2, 0), (2, 4), (3, 5), (1, 6), (3, 7)];
        self.random.weighted(&choices).unwrap_or(1)
    }

    fn share(&mut self) -> u32 {
        self.random.weighted(&[(20, 1), (12, 2), (1, 0), (1, 3), (1, 4)]).unwrap_or(1)
    }

    /// An offset in a mapping, or just beyond it.
    fn offset(&mut self, task: &Task, map: u8, align: u64) -> u64 {
        let slot = task.process.maps.get(&map);
        let len = slot.map_or(PAGE, |slot| slot.len.next_multiple_of(PAGE));
        let offset = match self.random.below(10) {
            0 => len - self.random.below(17).min(len),
            1 => len + self.random.below(2 * PAGE),
            2 => (1 + self.random.below(4)) * PAGE - 4,
            _ => self.random.below(len),
        };
        let address = slot.map_or(0, |slot| slot.address + offset);
        let area = task.process.space.at(address);
        let is_device = area.is_some_and(|area| !self.world.is_memory(area.gpa(address)));
        if is_device || !self.random.once_in(6) { offset / align * align } else { offset }
    }

    /// Ports without a device node.
    fn ports(&mut self, _: &Task) -> Op {
        let port = match self.random.below(8) {
            0 => 0x1_0000 - self.random.below(32),
            _ => harmless::FIRST_PORT + self.random.below(8),
        };
        match self.random.below(8) {
            0 => Op::Iopl { level: self.random.below(5) as u8 },
            1..=3 => {
                let counts = [(8, 1 + self.random.below(8)), (1, 0), (1, 1 << 16), (1, u64::MAX)];
                let count = self.random.weighted(&counts).unwrap_or(1);
                Op::Ioperm { from: port, count, on: !self.random.once_in(4) }
            }
            _ => {
                let width = self.random.pick(&[Width::Byte, Width::Word, Width::Long]);
                Op::PortIn { port: port as u16, width: width.unwrap_or(Width::Byte) }
            }
        }
    }

    fn width(&mut self) -> Width {
        self.random.pick(Width::ALL).unwrap_or(Width::Byte)
    }

    fn load(&mut self, task: &Task) -> Op {
        let (map, width) = (self.map(task), self.width());
        let offset = self.offset(task, map, width as u64);
        let most = if self.random.once_in(40) { 400 } else { 12 };
        let count = self.random.below(most);
        Op::Load { map, offset, len: (count * width as u64) as u32, width }
    }

    fn store(&mut self, task: &Task) -> Op {
        let (map, width) = (self.map(task), self.width());
        let offset = self.offset(task, map, width as u64);
        let count = self.random.below(9) as usize;
        Op::Store { map, offset, data: self.random.bytes(count * width as usize), width }
    }

    fn remote(&mut self, task: &Task) -> Op {
        let choices = [
            (60, Through::ProcMem(Via::Itself)),
            (2, Through::ProcMem(Via::Child)),
            (12, Through::ProcessVm(Via::Itself)),
            (1, Through::ProcessVm(Via::Child)),
            (2, Through::Ptrace),
        ];
        let through = self.random.weighted(&choices).unwrap_or(Through::ProcMem(Via::Itself));
        let map = self.map(task);
        let offset = self.offset(task, map, 8);
        let len = if through == Through::Ptrace { self.random.below(5) * 8 } else { self.len() };
        if self.random.once_in(3) {
            let data = self.random.bytes(len as usize);
            Op::Put { through, map, offset, data }
        } else {
            Op::Fetch { through, map, offset, len: len as u32 }
        }
    }
}
