// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page state change list of a GHCB page (`SW_EXITCODE` 0x80000010).
//!
//! GHCB specification 2.03 §4.1.6; `arch/x86/include/asm/sev-common.h:struct psc_hdr`, `struct psc_entry`.

use types::View;

use super::Refused;
use super::msr_protocol::{OPERATION_PRIVATE, OPERATION_SHARED};
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};
use crate::memory::GuestMemory;
use crate::memory::protected::Cause;
use crate::platform::failure::{Conversion, ConversionCall, Refusal};

/// Bytes of the header: `cur_entry`, `end_entry` (2 each), reserved (4).
pub const HEADER_SIZE: usize = 8;
/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 8;
/// Entries that fit behind a header at the start of the shared buffer (`sev-common.h:VMGEXIT_PSC_MAX_COUNT`).
pub const MAX_ENTRIES: usize = 253;
/// 4 KiB pages of an entry of 2 MiB.
const LARGE_PAGES: u64 = LARGE_PAGE_SIZE / PAGE_SIZE;

/// Page operation: split the 2 MiB RMP entry.
const OPERATION_PSMASH: u8 = 3;
/// Page operation: join 512 RMP entries.
const OPERATION_UNSMASH: u8 = 4;

/// Result of a list, as `SW_EXITINFO2` reports it (`sev-common.h:VMGEXIT_PSC_ERROR_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every entry is done.
    Done,
    /// `end_entry` lies beyond the buffer.
    InvalidHeader,
    /// The entry at `cur_entry` means nothing.
    InvalidEntry,
    /// The hypervisor failed.
    Failed,
    /// A rule has the list end at `cur_entry` with this.
    Refused(u64),
}

impl Outcome {
    /// `SW_EXITINFO2`.
    pub fn encode(self) -> u64 {
        match self {
            Self::Done => 0,
            Self::InvalidHeader => 1 << 32 | 1,
            Self::InvalidEntry => 1 << 32 | 2,
            Self::Failed => 0x100 << 32,
            Self::Refused(value) => value,
        }
    }
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// [11:0]: 4 KiB pages of it that are done.
    pub done: u16,
    /// [51:12]: frame number.
    pub frame: u64,
    /// [55:52]: operation.
    pub operation: u8,
    /// [56]: 2 MiB rather than 4 KiB.
    pub large: bool,
}

impl Entry {
    /// Reads an entry; bits [63:57] are reserved and dropped.
    pub fn parse(value: u64) -> Self {
        Self {
            done: (value & 0xfff) as u16,
            frame: value >> 12 & ((1 << 40) - 1),
            operation: (value >> 52 & 0xf) as u8,
            large: value >> 56 & 1 == 1,
        }
    }

    /// Writes an entry.
    pub fn encode(self) -> u64 {
        u64::from(self.done & 0xfff)
            | (self.frame & ((1 << 40) - 1)) << 12
            | u64::from(self.operation & 0xf) << 52
            | u64::from(self.large) << 56
    }

    /// 4 KiB pages it covers.
    pub fn pages(self) -> u64 {
        if self.large { LARGE_PAGES } else { 1 }
    }
}

/// Works off the list in `buffer`, as far as it is valid, and notes in it what is done. At most [`MAX_ENTRIES`] entries
/// of 512 pages each, whatever the header holds. With a `refusal` it ends after that many pages; header and entry show where.
pub fn process(
    buffer: &mut [u8],
    memory: &GuestMemory,
    refusal: Option<Refusal>,
) -> (Outcome, Option<String>) {
    let Some((header, entries)) = buffer.split_at_mut_checked(HEADER_SIZE) else {
        return (
            Outcome::InvalidHeader,
            Some("the scratch area has no room for a page state change header".into()),
        );
    };
    let current = u16::from_le_bytes([header[0], header[1]]);
    let end = u16::from_le_bytes([header[2], header[3]]);
    let room = (entries.len() / ENTRY_SIZE).min(MAX_ENTRIES);
    if usize::from(end) >= room {
        let why = format!("page state change header: end_entry {end} does not fit a list of {room}");
        return (Outcome::InvalidHeader, Some(why));
    }
    let mut left = refusal.map_or(u64::MAX, |refusal| refusal.done);
    let mut index = current;
    while index <= end {
        header[..2].copy_from_slice(&index.to_le_bytes());
        let Some(entry) = entry_at(entries, index) else { return (Outcome::InvalidHeader, None) };
        let mut count = alike(entries, index, end, memory);
        if let Some(refusal) = refusal {
            if left == 0 {
                note_refusal(entries, index..=end, memory);
                return (Outcome::Refused(refusal.error.value), None);
            }
            if entry.large && left < LARGE_PAGES - u64::from(entry.done) {
                let part = Entry { done: entry.done + left as u16, ..entry };
                if let Err((outcome, why)) = apply_part(entry, left, memory) {
                    return (outcome, Some(format!("page state change entry {index}: {why}")));
                }
                put_entry(entries, index, part);
                note_refusal(entries, index..=end, memory);
                return (Outcome::Refused(refusal.error.value), None);
            }
            count = u64::from(count).min(left) as u16;
            left -= if entry.large { LARGE_PAGES - u64::from(entry.done) } else { u64::from(count) };
        }
        if let Err((outcome, why)) = apply(entry, u64::from(count), memory) {
            return (outcome, Some(format!("page state change entry {index}: {why}")));
        }
        for index in index..index + count {
            if let Some(entry) = entry_at(entries, index) {
                put_entry(entries, index, Entry { done: entry.pages() as u16, ..entry });
            }
        }
        index += count;
    }
    if current <= end {
        header[..2].copy_from_slice(&(end + 1).to_le_bytes());
    }
    (Outcome::Done, None)
}

fn entry_at(entries: &[u8], index: u16) -> Option<Entry> {
    let bytes = entries.get(usize::from(index) * ENTRY_SIZE..)?.first_chunk()?;
    Some(Entry::parse(u64::from_le_bytes(*bytes)))
}

fn put_entry(entries: &mut [u8], index: u16, entry: Entry) {
    let at = usize::from(index) * ENTRY_SIZE;
    entries[at..at + ENTRY_SIZE].copy_from_slice(&entry.encode().to_le_bytes());
}

/// The conversion that a list requests: from its first page on, as many pages as its entries have left in all, made what
/// its first entry makes. `None` where there is nothing to convert, or the header or that entry is invalid.
pub fn conversion_of_list(buffer: &[u8], memory: &GuestMemory) -> Option<Conversion> {
    let (header, entries) = buffer.split_at_checked(HEADER_SIZE)?;
    let current = u16::from_le_bytes([header[0], header[1]]);
    let end = u16::from_le_bytes([header[2], header[3]]);
    if usize::from(end) >= (entries.len() / ENTRY_SIZE).min(MAX_ENTRIES) {
        return None;
    }
    let first = entry_at(entries, current).filter(|_| current <= end)?;
    let (_, to) = change_of(first.operation)?;
    let pages = (current..=end).filter_map(|index| entry_at(entries, index));
    let pages = pages.map(|entry| entry.pages().saturating_sub(u64::from(entry.done))).sum();
    let gpa = (first.frame + u64::from(first.done)) * PAGE_SIZE;
    is_ram(memory, gpa, 1).then_some(Conversion { call: ConversionCall::Psc, to, gpa, pages })
}

/// The conversion that the MSR protocol requests.
pub fn conversion_of_page(frame: u64, operation: u8, memory: &GuestMemory) -> Option<Conversion> {
    let (gpa, (_, to)) = (frame.checked_mul(PAGE_SIZE)?, change_of(operation)?);
    is_ram(memory, gpa, 1).then_some(Conversion { call: ConversionCall::MsrPsc, to, gpa, pages: 1 })
}

/// What an operation makes of a page.
fn change_of(operation: u8) -> Option<(Cause, View)> {
    match operation {
        OPERATION_PRIVATE => Some((Cause::MakePrivate, View::Private)),
        OPERATION_SHARED => Some((Cause::MakeShared, View::Shared)),
        _ => None,
    }
}

/// What is left of these entries was refused.
fn note_refusal(entries: &[u8], indices: std::ops::RangeInclusive<u16>, memory: &GuestMemory) {
    for entry in indices.filter_map(|index| entry_at(entries, index)) {
        if let Some((_, to)) = change_of(entry.operation) {
            let done = u64::from(entry.done).min(entry.pages());
            memory.note_refusal(entry.frame * PAGE_SIZE + done * PAGE_SIZE, entry.pages() - done, to);
        }
    }
}

/// Carries out `pages` more of a large entry.
fn apply_part(entry: Entry, pages: u64, memory: &GuestMemory) -> Result<(), (Outcome, String)> {
    let gpa = entry.frame * PAGE_SIZE;
    if !entry.frame.is_multiple_of(LARGE_PAGES) || !is_ram(memory, gpa, LARGE_PAGES) {
        return Err((Outcome::InvalidEntry, format!("the 2 MiB page {gpa:#x} is not aligned, or not RAM")));
    }
    let Some((cause, _)) = change_of(entry.operation) else { return Ok(()) };
    let first = gpa + u64::from(entry.done) * PAGE_SIZE;
    memory.apply(first, pages, cause).map(|_| ()).map_err(|why| (Outcome::Failed, why.to_string()))
}

/// How many entries from `index` on can be carried out as one: the same change of single pages that follow each other. Linux lists
/// a range so (`arch/x86/coco/sev/core.c:__set_pages_state`), and one change of a range costs little more than that of a page.
fn alike(entries: &[u8], index: u16, end: u16, memory: &GuestMemory) -> u16 {
    let Some(first) = entry_at(entries, index) else { return 1 };
    let single = |entry: Entry| !entry.large && entry.done == 0;
    if !single(first) || !matches!(first.operation, OPERATION_PRIVATE | OPERATION_SHARED) {
        return 1;
    }
    let mut count = 1;
    while index + count <= end {
        let follows = entry_at(entries, index + count).is_some_and(|entry| {
            single(entry)
                && entry.operation == first.operation
                && entry.frame == first.frame + u64::from(count)
                && is_ram(memory, entry.frame * PAGE_SIZE, 1)
        });
        if !follows {
            break;
        }
        count += 1;
    }
    count
}

/// Carries out an entry, and the `count - 1` after it that are alike.
fn apply(entry: Entry, count: u64, memory: &GuestMemory) -> Result<(), (Outcome, String)> {
    let invalid = |why: String| Err((Outcome::InvalidEntry, why));
    let Entry { done, frame, operation, large } = entry;
    let pages = entry.pages();
    let gpa = frame * PAGE_SIZE;
    if large && !frame.is_multiple_of(LARGE_PAGES) {
        return invalid(format!("the 2 MiB page {gpa:#x} is not aligned"));
    }
    if u64::from(done) > pages {
        return invalid(format!("cur_page {done} of {pages}"));
    }
    if !is_ram(memory, gpa, pages) {
        return invalid(format!("page {gpa:#x} (+{pages} × 4 KiB) is not RAM"));
    }
    let cause = match operation {
        OPERATION_PRIVATE => Cause::MakePrivate,
        OPERATION_SHARED => Cause::MakeShared,
        OPERATION_PSMASH => {
            memory.smash(gpa);
            return Ok(());
        }
        // A hint only; entries become large again with the next change of a whole 2 MiB page.
        OPERATION_UNSMASH => return Ok(()),
        _ => return invalid(format!("unknown operation {operation} on page {gpa:#x}")),
    };
    let first = gpa + u64::from(done) * PAGE_SIZE;
    match memory.apply(first, pages * count - u64::from(done), cause) {
        Ok(_) => Ok(()),
        Err(why) => Err((Outcome::Failed, why.to_string())),
    }
}

/// One page's change, requested through the MSR protocol (0x014).
pub fn change_page(frame: u64, operation: u8, memory: &GuestMemory) -> Result<(), Refused> {
    let gpa =
        frame.checked_mul(PAGE_SIZE).ok_or_else(|| Refused(format!("frame {frame:#x} is no address")))?;
    let cause = match operation {
        OPERATION_PRIVATE => Cause::MakePrivate,
        OPERATION_SHARED => Cause::MakeShared,
        _ => return Err(Refused(format!("unknown page operation {operation} on page {gpa:#x}"))),
    };
    if !is_ram(memory, gpa, 1) {
        return Err(Refused(format!("page {gpa:#x} is not RAM")));
    }
    memory.apply(gpa, 1, cause).map(|_| ()).map_err(|why| Refused(why.to_string()))
}

/// Memory backs all of `[gpa, gpa + pages × 4 KiB)`.
fn is_ram(memory: &GuestMemory, gpa: u64, pages: u64) -> bool {
    let Some(end) = pages.checked_mul(PAGE_SIZE).and_then(|len| gpa.checked_add(len)) else { return false };
    memory.ram().backed().into_iter().any(|(start, len)| start <= gpa && end <= start + len)
}

#[cfg(test)]
mod tests;
