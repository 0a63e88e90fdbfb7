//! What a task holds: open files with positions, mappings, and what the kernel remembers of them.

use std::collections::{BTreeMap, BTreeSet};

use vmm::memory::View;

use super::PAGE;
use super::credentials::Credentials;
use super::memtype::{CacheMode, MemoryTypes};
use super::op::Node;
use super::ports::Ports;

/// An open file.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// A mapping of /dev/mem, or of a BAR.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
pub struct Mapping {
    /// Where it begins in the task's address space.
    pub address: u64,
    /// First physical address, without any encryption bit: `pfn_pte()` masks it off.
    pub gpa: u64,
    /// The address as asked for.
    pub asked: u64,
    /// Bytes, whole pages.
    pub len: u64,
    /// `PROT_READ`.
    pub reads: bool,
    /// `PROT_READ` or `PROT_WRITE`: on x86 what can be written can be read.
    pub loads: bool,
    /// `PROT_WRITE`.
    pub stores: bool,
    /// `MAP_SHARED`.
    pub shared: bool,
    /// What the page table entries say about caching.
    pub mode: CacheMode,
    /// The view that loads and stores use.
    pub view: View,
    /// It has memory of its own instead, zero at first (policy `mmap-zeros`).
    pub own: bool,
    /// Pages that a store to this private mapping made copies of.
    pub copied: BTreeSet<u64>,
}

impl Mapping {
    /// The physical address behind an offset, which must be inside.
    pub const fn gpa(&self, offset: u64) -> u64 {
        self.gpa.wrapping_add(offset)
    }

    /// The page that holds the offset is a copy, or the mapping's own.
    pub fn is_copied(&self, offset: u64) -> bool {
        self.own || self.copied.contains(&(offset / PAGE))
    }

    /// `pte_write()`: stores reach the memory itself.
    pub const fn is_writable(&self) -> bool {
        self.shared && self.stores
    }
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Open files by slot.
    pub files: BTreeMap<u8, OpenFile>,
    /// Mappings by slot.
    pub maps: BTreeMap<u8, Mapping>,
    /// What the kernel remembers about the caching of physical ranges; only this task's mappings make entries that last.
    pub types: MemoryTypes,
    /// Who it is and what it may.
    pub credentials: Credentials,
    /// Ports it may use by itself.
    pub ports: Ports,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            maps: BTreeMap::new(),
            types: MemoryTypes::default(),
            credentials: Credentials::default(),
            ports: Ports::default(),
        }
    }
}
