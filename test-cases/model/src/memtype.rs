// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's memtype entries, the cache mode of physical ranges (`arch/x86/mm/pat/memtype.c`).
//!
//! They have one effect: a mapping that requests another cache mode than an existing one of the same page fails, or
//! gets what the other has.

use super::cache_mode::CacheMode;
use super::page::PAGE;
use super::world::World;

/// The kernel refuses: two cachings of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

/// Ranges with a known caching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTypes {
    entries: Vec<(u64, u64, CacheMode)>,
}

/// The legacy window that is not tracked (`arch/x86/include/asm/e820/api.h:is_ISA_range`).
const ISA: std::ops::Range<u64> = 0xa_0000..0x10_0000;
/// Where the kernel begins to count RAM as such (`pat_pagerange_is_ram()`).
const RAM_FLOOR: u64 = 0x10_0000;

impl MemoryTypes {
    /// `memtype_reserve()`: the caching that `[start, end)` gets. [`Self::free`] gives the range back.
    pub fn reserve(
        &mut self,
        world: &World,
        start: u64,
        end: u64,
        requested: CacheMode,
    ) -> Result<CacheMode, Conflict> {
        if !world.config.pat {
            return Ok(requested);
        }
        // `sanitize_phys()`: the encryption bit is no part of the address. A range across it ends before it begins, which
        // the kernel warns about.
        let (start, end) = (world.without_bit(start), world.without_bit(end - 1) + 1);
        if start >= end {
            return Err(Conflict);
        }
        if is_untracked(start, end) {
            return Ok(CacheMode::WriteBack);
        }
        let (ram, other) = world.iomem.ram_pages(start, end - 1, RAM_FLOOR);
        if ram {
            // `reserve_ram_pages_type()` keeps the type in the page's flags; they are all write-back here.
            return if other { Err(Conflict) } else { Ok(requested) };
        }
        // `pat_x_mtrr_type()`: what the MTRRs do not cache is not mapped cached.
        let actual = if requested == CacheMode::WriteBack { world.cached(start, end) } else { requested };
        // `memtype_check_conflict()`: what the first range found has goes for the new one, if all agree.
        let kept =
            world.kept.iter().map(|range| (range.start, range.end, world.cached(range.start, range.end)));
        let all = self.entries.iter().copied().chain(kept);
        let mut overlapping = all.filter(|e| e.0 < end && start < e.1).map(|e| e.2);
        let found = overlapping.next().unwrap_or(actual);
        if overlapping.any(|mode| mode != found) {
            return Err(Conflict);
        }
        self.entries.push((start, end, found));
        Ok(found)
    }

    /// `memtype_free()`, with the range as page table entries hold it. It masks the exclusive end where `memtype_reserve()`
    /// masks the last byte, so a range that ends where the encryption bit begins is never found, and is never freed. The end of
    /// an entry can be taken off it, its front cannot (`arch/x86/mm/pat/memtype_interval.c:memtype_erase()`).
    pub fn free(&mut self, world: &World, start: u64, end: u64) {
        let (start, end) = (world.without_bit(start), world.without_bit(end));
        if let Some(index) = self.entries.iter().position(|e| (e.0, e.1) == (start, end)) {
            self.entries.swap_remove(index);
            return;
        }
        let ends_there = self.entries.iter_mut().filter(|e| e.0 < start && e.1 == end);
        if let Some(entry) = ends_there.min_by_key(|entry| entry.0) {
            entry.1 = start;
        }
    }

    /// Whether no range has an entry.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// `reserve_pfn_range()`: the cache mode a user mapping of `[start, end)` gets. `strict`: the requested one or none.
    pub fn reserve_mapping(
        &mut self,
        world: &World,
        start: u64,
        end: u64,
        requested: CacheMode,
        strict: bool,
    ) -> Result<CacheMode, Conflict> {
        let (ram, _) = world.iomem.ram_pages(start, end - 1, RAM_FLOOR);
        if ram {
            // RAM keeps the type of its first page, which is write-back.
            return Ok(if world.config.pat { CacheMode::WriteBack } else { requested });
        }
        let got = self.reserve(world, start, end, requested)?;
        if got != requested && (strict || !is_allowed_instead(start, end, requested, got)) {
            self.free(world, start, end);
            return Err(Conflict);
        }
        Ok(got)
    }

    /// `__ioremap_caller()`: whether the kernel can map a range temporarily, given the existing cache modes.
    pub fn admits(&self, world: &World, start: u64, end: u64, requested: CacheMode) -> bool {
        let mut types = self.clone();
        let got = types.reserve(world, start, end, requested);
        got.is_ok_and(|got| got == requested || is_allowed_instead(start, end, requested, got))
    }
}

/// `arch/x86/include/asm/pgtable.h:is_new_memtype_allowed()`: an uncached request must not become write-back.
fn is_allowed_instead(start: u64, end: u64, requested: CacheMode, got: CacheMode) -> bool {
    is_untracked(start, end) || !(requested == CacheMode::Uncached && got == CacheMode::WriteBack)
}

fn is_untracked(start: u64, end: u64) -> bool {
    start >= ISA.start && end <= ISA.end
}

/// The whole pages that hold `len` bytes from `gpa`.
pub const fn pages(gpa: u64, len: u64) -> (u64, u64) {
    (gpa & !(PAGE - 1), (gpa + len).next_multiple_of(PAGE))
}
