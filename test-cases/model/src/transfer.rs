// SPDX-License-Identifier: Apache-2.0 OR MIT
//! read(2), pread(2), write(2) and pwrite(2) as far as `fs/read_write.c` goes; one answer for both of a kind.

use protocol::{Buffer, Refusal};
use types::Errno;

use super::done::Done;
use super::op::Node;
use super::page::PAGE;
use super::prediction::{Outcome, Piece, Prediction, Source, skip_bytes, take_bytes};
use super::task::Task;
use super::world::World;
use super::{kcore, msr, pci, port, read, write};

/// `MAX_RW_COUNT`: longer requests are cut.
const MAX_COUNT: u64 = 0x7fff_f000;
/// `TASK_SIZE_MAX` with four levels of page tables.
const USER_END: u64 = (1 << 47) - PAGE;

/// How many bytes of a user buffer of `len` bytes there are.
pub fn usable(buffer: Buffer, len: u64) -> u64 {
    match buffer {
        Buffer::Good => u64::MAX,
        Buffer::Null | Buffer::Kernel => 0,
        Buffer::Straddling => (len / 2).min(PAGE),
    }
}

/// read(2), pread(2).
pub fn read(
    world: &World,
    task: &mut Task,
    slot: u8,
    at: Option<u64>,
    len: u64,
    buffer: Buffer,
) -> Prediction {
    let start = match prepare(task, slot, at, len, buffer, |file| file.readable) {
        Ok(start) => start,
        Err(outcome) => {
            if buffer == Buffer::Good && !matches!(outcome, Outcome::Refused(_)) {
                task.left = Some(vec![Piece { source: Source::Untouched, len }]);
            }
            return Prediction::plain(outcome);
        }
    };
    let (count, room) = (len.min(MAX_COUNT), usable(buffer, len));
    let done = match start.node {
        Node::Mem => read::read_mem(world, &task.types, start.position, count, room),
        Node::Port => port::read_port(start.position, count, room),
        Node::Kcore => kcore::read_kcore(count, room),
        Node::Msr => msr::msr_read(count, room),
        Node::Bar | Node::Config => pci::read(world, start.node, start.admin, start.position, count, room),
    };
    let seen = if buffer == Buffer::Good { u64::MAX } else { usable(buffer, len) };
    // What a call copies before it fails is in the buffer, and the rest of it is as the agent left it.
    if buffer == Buffer::Good {
        let copied: u64 = done.pieces.iter().map(|piece| piece.len).sum();
        let mut left = done.pieces.clone();
        left.push(Piece { source: Source::Untouched, len: len.saturating_sub(copied) });
        task.left = Some(left);
    }
    finish(task, slot, at, start, done, |value, pieces| {
        let pieces = take_bytes(pieces, seen.min(value));
        Outcome::Bytes { value, pieces }
    })
}

/// The bytes of the buffer that the read just before was given, from an offset on.
pub fn left(left: Option<Vec<Piece>>, from: u64, len: u64) -> Prediction {
    let available: u64 = left.iter().flatten().map(|piece| piece.len).sum();
    let Some(left) = left.filter(|_| from + len <= available) else {
        return Prediction::plain(Outcome::Refused(Refusal::Length));
    };
    let pieces = take_bytes(skip_bytes(left, from), len);
    Prediction::plain(Outcome::Bytes { value: len, pieces })
}

/// write(2), pwrite(2). `O_APPEND` has no effect here: only `generic_write_checks()` tests it.
pub fn write(
    world: &World,
    task: &mut Task,
    slot: u8,
    at: Option<u64>,
    data: &[u8],
    buffer: Buffer,
) -> Prediction {
    let len = data.len() as u64;
    if at.is_some_and(|at| at.cast_signed() >= 0) && !pci::has_pwrite(task, slot) {
        return Prediction::failed(Errno::ESPIPE);
    }
    let start = match prepare(task, slot, at, len, buffer, |file| file.writable) {
        Ok(start) => start,
        Err(outcome) => return Prediction::plain(outcome),
    };
    let room = usable(buffer, len);
    let done = match start.node {
        Node::Mem => write::write_mem(world, &task.types, start.position, data, room),
        Node::Port => port::write_port(start.position, len, room),
        Node::Kcore => kcore::write_kcore(),
        Node::Msr => msr::msr_write(world, len, room),
        Node::Bar | Node::Config => pci::write(world, start.node, start.position, len, room),
    };
    finish(task, slot, at, start, done, |value, _| Outcome::Value(value))
}

#[derive(Clone, Copy)]
struct Start {
    node: Node,
    admin: bool,
    position: u64,
}

/// `ksys_pread64()` and `vfs_read()`, in their order: the offset's sign (pread and pwrite only), the file's mode, the
/// buffer's range, then `rw_verify_area()`.
fn prepare(
    task: &Task,
    slot: u8,
    at: Option<u64>,
    len: u64,
    buffer: Buffer,
    may: impl FnOnce(&super::task::OpenFile) -> bool,
) -> Result<Start, Outcome> {
    if task.process.files.contains_key(&slot) && at.is_some_and(|at| at.cast_signed() < 0) {
        return Err(Outcome::failed(Errno::EINVAL));
    }
    let file = task.open_file(slot)?;
    if !may(file) {
        return Err(Outcome::failed(Errno::EBADF));
    }
    if !access_ok(buffer, len) {
        return Err(Outcome::failed(Errno::EFAULT));
    }
    let position = at.unwrap_or(file.position);
    verify(file.node == Node::Mem, position, len).map_err(Outcome::failed)?;
    Ok(Start { node: file.node, admin: file.by_admin, position })
}

/// `access_ok()`: the whole range lies in the user's half, mapped or unmapped.
fn access_ok(buffer: Buffer, len: u64) -> bool {
    match buffer {
        Buffer::Good => true,
        Buffer::Null => len < USER_END,
        Buffer::Kernel => false,
        // It lies at the top of the user's half, among the libraries of other programs.
        Buffer::Straddling => len < 1 << 32,
    }
}

/// `rw_verify_area()`. `unsigned`: `FOP_UNSIGNED_OFFSET`, which /dev/mem has and nothing else here.
fn verify(unsigned: bool, position: u64, count: u64) -> Result<(), Errno> {
    if count.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    if position.cast_signed() < 0 {
        if !unsigned {
            return Err(Errno::EINVAL);
        }
        if count >= position.wrapping_neg() {
            return Err(Errno::EOVERFLOW);
        }
    } else if position.wrapping_add(count).cast_signed() < 0 && !unsigned {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// The file position advances by the transferred count, on success and without an explicit offset only; never for MSR files.
fn finish(
    task: &mut Task,
    slot: u8,
    at: Option<u64>,
    start: Start,
    done: Done,
    outcome: impl FnOnce(u64, Vec<Piece>) -> Outcome,
) -> Prediction {
    let Done { result, pieces, effects, reasons } = done;
    match result {
        Ok(count) => {
            if let (None, Some(file)) = (at, task.file_mut(slot).filter(|file| file.node != Node::Msr)) {
                file.position = start.position.wrapping_add(count);
            }
            Prediction { outcome: outcome(count, pieces), effects, reasons }
        }
        Err(errno) => Prediction { outcome: Outcome::failed(errno), effects, reasons },
    }
}
