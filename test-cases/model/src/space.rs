// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A process's address space: which part of it shows what (`mm/vma.c`).

use std::collections::{BTreeMap, BTreeSet};

use types::View;

use super::cache_mode::CacheMode;
use super::page::PAGE;
use super::reason::Reason;
use super::world::World;

/// `PROT_READ`.
pub const READ: u32 = 1;
/// `PROT_WRITE`.
pub const WRITE: u32 = 2;
/// `PROT_EXEC`.
pub const EXEC: u32 = 4;

/// What a mapping was noted with in the kernel's table of cachings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The number of the mapping, which its parts and the copies of a fork share.
    pub mapping: u32,
    /// First physical address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

/// A range of addresses with one kind of memory and one protection: a `struct vm_area_struct`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
pub struct Area {
    /// First address.
    pub start: u64,
    /// Bytes, whole pages.
    pub len: u64,
    /// The physical address that `start` maps, without the encryption bit: `pfn_pte()` masks it off.
    pub gpa: u64,
    /// The offset given to mmap(2), which may include the encryption bit.
    pub requested_offset: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// `VM_MAYWRITE`.
    pub may_write: bool,
    /// `VM_MAYEXEC`.
    pub may_exec: bool,
    /// `MAP_SHARED`.
    pub shared: bool,
    /// The cache mode in the page table entries.
    pub mode: CacheMode,
    /// The view that loads and stores use.
    pub view: View,
    /// It maps anonymous memory instead, initially zero (policy `mmap-zeros`).
    pub own: bool,
    /// The number of its anonymous memory, or of the copies that stores to a private mapping make.
    pub memory: u32,
    /// Where in that memory `start` is.
    pub origin: u64,
    /// Pages of that memory which are copies.
    pub copied: BTreeSet<u64>,
    /// Whether first stores to its pages fault (`mm/vma.c:vma_wants_writenotify()`).
    pub notifies: bool,
    /// Pages (as in `copied`) that were stored to: `pte_dirty()`. Recorded only where first stores fault.
    pub stored: BTreeSet<u64>,
    /// Pages whose entry in the page tables admits no store yet, though the protection does: the next store faults, and
    /// then it does.
    pub guarded: BTreeSet<u64>,
    /// Why it shows what it shows.
    pub decided: Option<Reason>,
    /// The entry that its mapping has in the kernel's table of cachings (`VM_PAT`).
    pub tracked: Option<Entry>,
}

impl Area {
    /// One past the last address.
    pub const fn end(&self) -> u64 {
        self.start + self.len
    }

    /// The physical address of an address in the area.
    pub const fn gpa(&self, address: u64) -> u64 {
        self.gpa.wrapping_add(address - self.start)
    }

    /// The offset of an address in the anonymous memory or the copies.
    pub const fn offset(&self, address: u64) -> u64 {
        self.origin + (address - self.start)
    }

    /// The page at an address is a copy or anonymous.
    pub fn is_copied(&self, address: u64) -> bool {
        self.own || self.copied.contains(&(self.offset(address) / PAGE))
    }

    /// `pte_write()` of the page at an address inside: stores reach the memory itself, without a fault.
    pub fn is_writable(&self, address: u64) -> bool {
        self.shared && self.prot & WRITE != 0 && !self.guarded.contains(&(self.offset(address) / PAGE))
    }

    /// What mprotect(2) makes of an area and of its page table entries (`mm/mprotect.c:mprotect_fixup()`, which leaves an
    /// area alone that has the protection already). Where first stores fault
    /// (`mm/vma.c:vma_wants_writenotify()`), an entry that becomes writable admits stores only if it is dirty
    /// (`can_change_pte_writable()`).
    pub fn protect(&mut self, prot: u32) {
        if self.prot == prot {
            return;
        }
        self.prot = prot;
        self.guarded.clear();
        if self.notifies && self.shared && prot & WRITE != 0 {
            let pages = self.origin / PAGE..(self.origin + self.len) / PAGE;
            self.guarded = pages.filter(|page| !self.stored.contains(page)).collect();
        }
    }

    /// The processor stores to the page at an address inside, which the protection admits (`mm/memory.c:wp_pfn_shared()`
    /// where the entry does not).
    pub fn note_store(&mut self, address: u64) {
        if self.notifies && self.shared {
            let page = self.offset(address) / PAGE;
            self.stored.insert(page);
            self.guarded.remove(&page);
        }
    }

    /// The processor loads from it: on x86 from all that can be written or, without protection keys
    /// (`arch/x86/mm/pkeys.c:__execute_only_pkey`), executed.
    pub const fn loads(&self, world: &World) -> bool {
        self.prot != 0 && !(self.prot == EXEC && world.protection_keys)
    }

    /// The part of it in `[start, end)`, which must overlap.
    fn part(&self, start: u64, end: u64) -> Self {
        let start = start.max(self.start);
        Self {
            start,
            len: end.min(self.end()) - start,
            gpa: self.gpa(start),
            requested_offset: self.requested_offset.wrapping_add(start - self.start),
            origin: self.offset(start),
            ..self.clone()
        }
    }
}

/// The areas, by their first address; none overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Space {
    areas: BTreeMap<u64, Area>,
}

impl Space {
    /// The area an address is in.
    pub fn at(&self, address: u64) -> Option<&Area> {
        let (_, area) = self.areas.range(..=address).next_back()?;
        (address < area.end()).then_some(area)
    }

    /// The same, to be changed but for its place.
    pub fn at_mut(&mut self, address: u64) -> Option<&mut Area> {
        let (_, area) = self.areas.range_mut(..=address).next_back()?;
        (address < area.end()).then_some(area)
    }

    /// The areas that overlap `[start, end)`, from the first on.
    pub fn within(&self, start: u64, end: u64) -> impl Iterator<Item = &Area> {
        let first = self.at(start).map_or(start, |area| area.start);
        self.areas.range(first..end.max(first)).map(|(_, area)| area)
    }

    /// Every area.
    pub fn areas(&self) -> impl Iterator<Item = &Area> {
        self.areas.values()
    }

    /// The same, to be changed but for their places.
    pub fn areas_mut(&mut self) -> impl Iterator<Item = &mut Area> {
        self.areas.values_mut()
    }

    /// Adds an area where nothing is.
    pub fn insert(&mut self, area: Area) {
        self.areas.insert(area.start, area);
    }

    /// Takes `[start, end)` out, splitting areas at its ends (`mm/vma.c:vms_gather_munmap_vmas()`); the parts, in order.
    pub fn take(&mut self, start: u64, end: u64) -> Vec<Area> {
        let affected: Vec<Area> = self.within(start, end).cloned().collect();
        let mut taken = Vec::new();
        for area in affected {
            self.areas.remove(&area.start);
            if area.start < start {
                self.insert(area.part(area.start, start));
            }
            if end < area.end() {
                self.insert(area.part(end, area.end()));
            }
            taken.push(area.part(start, end));
        }
        taken
    }
}
