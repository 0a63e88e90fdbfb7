// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The operations: those on a place of memory, which are the columns of a table, and those on no place.

use protocol::{Buffer, Via, Width};

use super::answer::Answer;
use model::{Node, Op, PAGE, Task, Through, World};

/// Bytes an operation accesses.
const LEN: u32 = 16;
/// `MAP_SHARED`, `MAP_PRIVATE`.
const MAPPINGS: [(&str, u32); 2] = [("MAP_SHARED", 1), ("MAP_PRIVATE", 2)];
/// `PROT_READ | PROT_WRITE`.
const READ_WRITE: u32 = 3;

/// A column of a table: operations that have the same answer, or else are shown one by one.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name in JSON.
    pub id: &'static str,
    /// Its head, in two lines.
    pub head: [&'static str; 2],
    /// What it tries.
    pub about: &'static str,
    tries: fn(Spot) -> Vec<Try>,
}

/// A name, and the operations of which the last one has the answer.
type Try = (&'static str, Vec<Op>);

impl Column {
    /// Its head in one line.
    pub fn name(&self) -> String {
        let [first, second] = self.head;
        let gap = if first.is_empty() || first.ends_with('_') { "" } else { " " };
        format!("{first}{gap}{second}")
    }
}

/// A place in memory.
#[derive(Debug, Clone, Copy)]
struct Spot {
    gpa: u64,
}

impl Spot {
    const fn page(self) -> u64 {
        self.gpa & !(PAGE - 1)
    }

    const fn offset(self) -> u64 {
        self.gpa % PAGE
    }

    fn map(self, flags: u32) -> Op {
        Op::Mmap { map: 0, file: 0, offset: self.page(), len: PAGE, prot: READ_WRITE, flags }
    }

    fn data() -> Vec<u8> {
        vec![0xa5; LEN as usize]
    }

    fn fetch(self, through: Through) -> Vec<Op> {
        vec![self.map(1), Op::Fetch { through, map: 0, offset: self.offset(), len: LEN }]
    }

    fn put(self, through: Through) -> Vec<Op> {
        vec![self.map(1), Op::Put { through, map: 0, offset: self.offset(), data: Self::data() }]
    }
}

/// The columns, in order.
pub const COLUMNS: [Column; 9] = [
    Column {
        id: "read",
        head: ["", "read(2)"],
        about: "read(2) or pread(2) of /dev/mem",
        tries: |spot| {
            let read = |at| Op::Read { file: 0, at, len: LEN.into(), buffer: Buffer::Good };
            let seek = Op::Lseek { file: 0, offset: spot.gpa.cast_signed(), whence: 0 };
            vec![("pread", vec![read(Some(spot.gpa))]), ("read", vec![seek, read(None)])]
        },
    },
    Column {
        id: "write",
        head: ["", "write(2)"],
        about: "write(2) or pwrite(2) of /dev/mem",
        tries: |spot| {
            let write = Op::Write { file: 0, at: Some(spot.gpa), data: Spot::data(), buffer: Buffer::Good };
            vec![("pwrite", vec![write])]
        },
    },
    Column {
        id: "mmap",
        head: ["", "mmap(2)"],
        about: "mmap(2) of the page, MAP_SHARED or MAP_PRIVATE, to read and write",
        tries: |spot| MAPPINGS.map(|(name, flags)| (name, vec![spot.map(flags)])).to_vec(),
    },
    Column {
        id: "load",
        head: ["then", "load"],
        about: "a load from that mapping, MAP_SHARED or MAP_PRIVATE",
        tries: |spot| {
            let load = Op::Load { map: 0, offset: spot.offset(), len: LEN, width: Width::Quad };
            MAPPINGS.map(|(name, flags)| (name, vec![spot.map(flags), load.clone()])).to_vec()
        },
    },
    Column {
        id: "store",
        head: ["then", "store"],
        about: "a store to the MAP_SHARED one",
        tries: |spot| vec![("MAP_SHARED", vec![spot.map(1), store(spot)])],
    },
    Column {
        id: "store-private",
        head: ["private", "store"],
        about: "a store to the MAP_PRIVATE one",
        tries: |spot| vec![("MAP_PRIVATE", vec![spot.map(2), store(spot)])],
    },
    Column {
        id: "kernel-read",
        head: ["self/mem", "read"],
        about: "a read of the MAP_SHARED one through the kernel: /proc/PID/mem, or ptrace(2) PEEKDATA",
        tries: |spot| {
            vec![
                ("/proc/self/mem", spot.fetch(Through::ProcMem(Via::Itself))),
                ("ptrace", spot.fetch(Through::Ptrace)),
            ]
        },
    },
    Column {
        id: "kernel-write",
        head: ["self/mem", "write"],
        about: "a write of it through the kernel: /proc/PID/mem, or ptrace(2) POKEDATA",
        tries: |spot| {
            vec![
                ("/proc/self/mem", spot.put(Through::ProcMem(Via::Itself))),
                ("ptrace", spot.put(Through::Ptrace)),
            ]
        },
    },
    Column {
        id: "process-vm",
        head: ["process_", "vm_readv"],
        about: "process_vm_readv(2) of the MAP_SHARED one",
        tries: |spot| vec![("process_vm_readv", spot.fetch(Through::ProcessVm(Via::Child)))],
    },
];

fn store(spot: Spot) -> Op {
    Op::Store { map: 0, offset: spot.offset(), data: Spot::data(), width: Width::Quad }
}

fn open(node: Node, flags: i32) -> Op {
    Op::Open { file: 0, node, flags }
}

/// The answers of a column's operations at an address. One if they agree.
pub fn at(world: &World, column: &Column, gpa: u64) -> Vec<(&'static str, Answer)> {
    let tried = (column.tries)(Spot { gpa }).into_iter().map(|(name, ops)| {
        let ops = [vec![open(Node::Mem, libc::O_RDWR)], ops].concat();
        (name, last(world, &ops))
    });
    let mut answers: Vec<(&str, Answer)> = tried.collect();
    if answers.iter().all(|(_, answer)| *answer == answers[0].1) {
        answers.truncate(1);
    }
    answers
}

/// The answer of the last operation; not reached if one before it fails.
fn last(world: &World, ops: &[Op]) -> Answer {
    let mut task = Task::default();
    let mut answer = Answer::not_reached();
    for (index, op) in ops.iter().enumerate() {
        let prediction = model::step(world, &mut task, op);
        answer = Answer::of(world, &task, &prediction);
        if answer.fails() && index + 1 < ops.len() {
            return Answer::not_reached();
        }
    }
    answer
}

/// An operation on no place of memory.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// Its name in JSON.
    pub id: &'static str,
    /// For people.
    pub name: &'static str,
    ops: fn() -> Vec<Op>,
}

/// A port that no device decodes.
const PORT: u16 = 0x80;

/// They, in order.
pub const DOORS: [Door; 16] = [
    Door { id: "open-mem", name: "open(2) /dev/mem", ops: || vec![open(Node::Mem, libc::O_RDWR)] },
    Door {
        id: "seek",
        name: "lseek(2) /dev/mem to any address",
        ops: || vec![open(Node::Mem, libc::O_RDWR), Op::Lseek { file: 0, offset: i64::MIN, whence: 0 }],
    },
    Door {
        id: "seek-errno",
        name: "lseek(2) /dev/mem to -1",
        ops: || vec![open(Node::Mem, libc::O_RDWR), Op::Lseek { file: 0, offset: -1, whence: 0 }],
    },
    Door {
        id: "seek-end",
        name: "lseek(2) /dev/mem from the end",
        ops: || vec![open(Node::Mem, libc::O_RDWR), Op::Lseek { file: 0, offset: 0, whence: 2 }],
    },
    Door { id: "open-port", name: "open(2) /dev/port", ops: || vec![open(Node::Port, libc::O_RDWR)] },
    Door {
        id: "read-port",
        name: "read(2) /dev/port",
        ops: || {
            let read = Op::Read { file: 0, at: Some(PORT.into()), len: 1, buffer: Buffer::Good };
            vec![open(Node::Port, libc::O_RDWR), read]
        },
    },
    Door { id: "iopl", name: "iopl(2)", ops: || vec![Op::Iopl { level: 3 }] },
    Door {
        id: "ioperm",
        name: "ioperm(2)",
        ops: || vec![Op::Ioperm { from: PORT.into(), count: 1, on: true }],
    },
    Door { id: "open-kcore", name: "open(2) /proc/kcore", ops: || vec![open(Node::Kcore, libc::O_RDONLY)] },
    Door {
        id: "read-kcore",
        name: "read(2) /proc/kcore (ELF header)",
        ops: || {
            let read = Op::Read { file: 0, at: Some(0), len: 64, buffer: Buffer::Good };
            vec![open(Node::Kcore, libc::O_RDONLY), read]
        },
    },
    Door { id: "open-msr", name: "open(2) /dev/cpu/0/msr", ops: || vec![open(Node::Msr, libc::O_RDWR)] },
    Door {
        id: "write-msr",
        name: "write(2) /dev/cpu/0/msr",
        ops: || {
            let write = Op::Write { file: 0, at: Some(0x10), data: vec![0; 8], buffer: Buffer::Good };
            vec![open(Node::Msr, libc::O_RDWR), write]
        },
    },
    Door {
        id: "read-config",
        name: "read(2) PCI config (sysfs)",
        ops: || {
            let read = Op::Read { file: 0, at: Some(0), len: 64, buffer: Buffer::Good };
            vec![open(Node::Config, libc::O_RDWR), read]
        },
    },
    Door {
        id: "write-config",
        name: "write(2) PCI config (sysfs)",
        ops: || {
            let write = Op::Write { file: 0, at: Some(0x3c), data: vec![0], buffer: Buffer::Good };
            vec![open(Node::Config, libc::O_RDWR), write]
        },
    },
    Door {
        id: "map-bar",
        name: "mmap(2) PCI BAR (sysfs)",
        ops: || vec![open(Node::Bar, libc::O_RDWR), bar()],
    },
    Door {
        id: "load-bar",
        name: "then a load",
        ops: || {
            let load = Op::Load { map: 0, offset: 0, len: 8, width: Width::Quad };
            vec![open(Node::Bar, libc::O_RDWR), bar(), load]
        },
    },
];

const fn bar() -> Op {
    Op::Mmap { map: 0, file: 0, offset: 0, len: PAGE, prot: READ_WRITE, flags: 1 }
}

/// The answer of one.
pub fn door(world: &World, door: &Door) -> Answer {
    last(world, &(door.ops)())
}
