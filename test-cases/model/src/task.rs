// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a task: open files with positions, mappings, and the memtype entries of its mappings.

use std::collections::{BTreeMap, VecDeque};
use types::Errno;

use protocol::Refusal;

use super::credentials::Credentials;
use super::io_permission::IoPermission;
use super::memtype::MemoryTypes;
use super::op::Node;
use super::prediction::{Outcome, Piece, Source};
use super::space::{Area, Space};
use super::world::World;
use crate::class::Class;

/// An open file: what descriptors refer to, of one task or of several.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
pub struct OpenFile {
    /// What was opened.
    pub node: Node,
    /// `FMODE_READ`.
    pub readable: bool,
    /// `FMODE_WRITE`.
    pub writable: bool,
    /// `O_DSYNC`, which `O_SYNC` contains: mappings are uncached.
    pub uncached: bool,
    /// The one who opened it had `CAP_SYS_ADMIN`.
    pub by_admin: bool,
    /// `f_pos`.
    pub position: u64,
}

/// What a file slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The number of the open file.
    file: u32,
    /// `FD_CLOEXEC`.
    pub closes_on_exec: bool,
    /// execve(2) closed it; the number is no descriptor any more.
    pub gone: bool,
}

/// Where the mapping of a slot was put, whatever is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// First address.
    pub address: u64,
    /// The requested length in bytes.
    pub len: u64,
}

/// What a process has for itself, and fork(2) copies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Descriptors by slot.
    pub files: BTreeMap<u8, Descriptor>,
    /// Places of mappings by slot.
    pub maps: BTreeMap<u8, Slot>,
    /// What is mapped.
    pub space: Space,
    /// Who it is and what it may.
    pub credentials: Credentials,
    /// Ports it may use by itself.
    pub ports: IoPermission,
    /// The socket through which it passes files, by number.
    pub socket: Option<u32>,
}

/// A task, with the processes that wait for its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Task {
    /// The process that executes the operations.
    pub process: Process,
    /// Those that forked it, each waiting for the next.
    pub parents: Vec<Process>,
    /// The memtype entries of physical ranges; only this task's mappings make lasting ones.
    pub types: MemoryTypes,
    /// What the buffer of the read just before holds.
    pub left: Option<Vec<Piece>>,
    opened: BTreeMap<u32, OpenFile>,
    sent: BTreeMap<u32, VecDeque<u32>>,
    next: u32,
}

impl Task {
    /// A number never used before in this task: of an open file, a socket, anonymous memory.
    pub const fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Puts a newly opened file into a slot.
    pub fn insert_file(&mut self, slot: u8, file: OpenFile, closes_on_exec: bool) {
        let number = self.number();
        self.opened.insert(number, file);
        self.process.files.insert(slot, Descriptor { file: number, closes_on_exec, gone: false });
    }

    /// The open file of a slot, if it has one.
    pub fn file(&self, slot: u8) -> Option<&OpenFile> {
        let descriptor = self.process.files.get(&slot).filter(|descriptor| !descriptor.gone)?;
        self.opened.get(&descriptor.file)
    }

    /// The same, to be changed.
    pub fn file_mut(&mut self, slot: u8) -> Option<&mut OpenFile> {
        let descriptor = self.process.files.get(&slot).filter(|descriptor| !descriptor.gone)?;
        self.opened.get_mut(&descriptor.file)
    }

    /// The open file of a slot, or the outcome where there is none: the agent uses no slot that is empty, and the kernel
    /// has no descriptor that execve(2) closed.
    pub fn open_file(&self, slot: u8) -> Result<&OpenFile, Outcome> {
        if !self.process.files.contains_key(&slot) {
            return Err(Outcome::Refused(Refusal::File));
        }
        self.file(slot).ok_or(Outcome::failed(Errno::EBADF))
    }

    /// The class of bytes from a source, if the model determines it: anonymous memory is zero until something is stored there.
    pub fn class_of(&self, world: &World, source: Source) -> Option<Class> {
        match source {
            Source::Copy { memory, .. }
                if self.process.space.areas().any(|area| area.own && area.memory == memory) =>
            {
                Some(Class::Zeros)
            }
            source => world.class_of(source),
        }
    }

    /// Unmaps `[start, end)` of the process.
    pub fn unmap(&mut self, world: &World, start: u64, end: u64) {
        let taken = self.process.space.take(start, end);
        self.untrack(world, &taken);
    }

    /// Frees the memtype entries of removed areas. Up to 6.15 (`arch/x86/mm/pat/memtype.c:untrack_pfn()`) what is left of
    /// an area goes by itself; since 6.16 the entry goes with the last part or copy of the mapping
    /// (`mm/memory.c:pfnmap_track_ctx_release`).
    pub fn untrack(&mut self, world: &World, gone: &[Area]) {
        for area in gone {
            let Some(entry) = area.tracked else { continue };
            if !world.shares_tracking() {
                self.types.free(world, area.gpa, area.gpa + area.len);
                continue;
            }
            let mut processes = std::iter::once(&self.process).chain(&self.parents);
            let is_last = |process: &Process| {
                process
                    .space
                    .areas()
                    .all(|other| other.tracked.is_none_or(|other| other.mapping != entry.mapping))
            };
            if processes.all(is_last) {
                self.types.free(world, entry.start, entry.end);
            }
        }
    }

    /// Whether the kernel notes no caching any more once all processes have ended.
    pub fn loses_memtype_entries(&self, world: &World) -> bool {
        let mut end = self.clone();
        loop {
            let next = end.parents.pop();
            let last = next.is_none();
            let gone: Vec<Area> = end.process.space.areas().cloned().collect();
            end.process = next.unwrap_or_default();
            end.untrack(world, &gone);
            if last {
                return end.types.is_empty();
            }
        }
    }

    /// Files on their way through sockets.
    pub fn sent(&self) -> usize {
        self.sent.values().map(VecDeque::len).sum()
    }

    /// Queues the open file of a slot in the task's socket, which is made for it if there is none.
    pub fn send(&mut self, slot: u8) {
        let Some(file) = self.process.files.get(&slot).map(|descriptor| descriptor.file) else { return };
        let socket = self.process.socket.unwrap_or_else(|| self.number());
        self.process.socket = Some(socket);
        self.sent.entry(socket).or_default().push_back(file);
    }

    /// Takes the first file out of the socket, into a slot. Whether there was one.
    pub fn receive(&mut self, slot: u8) -> bool {
        let queue = self.process.socket.and_then(|socket| self.sent.get_mut(&socket));
        let Some(file) = queue.and_then(VecDeque::pop_front) else { return false };
        self.process.files.insert(slot, Descriptor { file, closes_on_exec: true, gone: false });
        true
    }
}
