// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest page tables, walked by the VMM itself: KVM's own translation refuses user addresses while SMAP is on.

use kvm_bindings::kvm_sregs;

use types::View;

use crate::layout::PAGE_SIZE;

/// CR4.LA57.
const CR4_LA57: u64 = 1 << 12;
/// Present.
const PRESENT: u64 = 1;
/// Writable.
const WRITABLE: u64 = 1 << 1;
/// User.
const USER: u64 = 1 << 2;
/// Page size, at the levels of 1 GiB and 2 MiB.
const LARGE: u64 = 1 << 7;
/// Physical address of a page-table entry (Intel SDM volume 3 §4.5), any encryption bit in it.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Guest physical memory, as far as the processor needs it.
pub trait PhysicalMemory {
    /// Copies what `view` shows at `gpa`; `false` if any of it is not RAM.
    fn load(&self, view: View, gpa: u64, buffer: &mut [u8]) -> bool;

    /// Stores through `view`, within one page; `false` if that is not RAM or its state forbids the view.
    fn store_admitted(&self, view: View, gpa: u64, bytes: &[u8]) -> bool;
}

/// Where a walk starts, and how an address names its view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageTables {
    cr3: u64,
    levels: u32,
    bit: Option<u8>,
    with_bit: View,
}

impl PageTables {
    /// Those in use, where addresses that carry `bit` name the view `with_bit`.
    pub fn new(sregs: &kvm_sregs, bit: Option<u8>, with_bit: View) -> Self {
        Self { cr3: sregs.cr3, levels: if sregs.cr4 & CR4_LA57 == 0 { 4 } else { 5 }, bit, with_bit }
    }

    fn split(&self, address: u64) -> (View, u64) {
        match self.bit {
            None => (View::Private, address),
            Some(bit) if address >> bit & 1 == 1 => (self.with_bit, address & !(1 << bit)),
            Some(_) => (self.with_bit.other(), address),
        }
    }
}

/// Where a virtual address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Address as the page tables give it, encryption bit and all.
    pub address: u64,
    /// View it names.
    pub view: View,
    /// Without the bit.
    pub gpa: u64,
    /// Every level allows writing.
    pub writable: bool,
    /// Every level allows user mode.
    pub user: bool,
    /// Bytes of the page that maps it.
    pub page_size: u64,
}

/// Walks from CR3; `None` where nothing is mapped or the tables are not in RAM.
pub fn translate(memory: &dyn PhysicalMemory, tables: &PageTables, address: u64) -> Option<Translation> {
    let mut table = tables.cr3 & ADDRESS;
    let mut rights = WRITABLE | USER;
    for level in (0..tables.levels).rev() {
        let shift = 12 + 9 * level;
        let index = address >> shift & 0x1ff;
        let (view, gpa) = tables.split(table);
        let mut entry = [0; 8];
        if !memory.load(view, gpa + index * 8, &mut entry) {
            return None;
        }
        let entry = u64::from_le_bytes(entry);
        if entry & PRESENT == 0 {
            return None;
        }
        rights &= entry;
        if level == 0 || (level <= 2 && entry & LARGE != 0) {
            let page_size = PAGE_SIZE << (9 * level);
            let address = (entry & ADDRESS & !(page_size - 1)) | (address & (page_size - 1));
            let (view, gpa) = tables.split(address);
            return Some(Translation {
                address,
                view,
                gpa,
                writable: rights & WRITABLE != 0,
                user: rights & USER != 0,
                page_size,
            });
        }
        table = entry & ADDRESS;
    }
    None
}

/// Reads guest virtual memory; `false` if any of it is not mapped to RAM.
pub fn read(memory: &dyn PhysicalMemory, tables: &PageTables, address: u64, buffer: &mut [u8]) -> bool {
    page_pieces(address, buffer.len()).all(|(at, range)| {
        translate(memory, tables, at).is_some_and(|t| memory.load(t.view, t.gpa, &mut buffer[range]))
    })
}

/// Writes guest virtual memory; `false` if any of it is not mapped to RAM, or to RAM whose state forbids it.
pub fn write(memory: &dyn PhysicalMemory, tables: &PageTables, address: u64, bytes: &[u8]) -> bool {
    page_pieces(address, bytes.len()).all(|(at, range)| {
        translate(memory, tables, at).is_some_and(|t| memory.store_admitted(t.view, t.gpa, &bytes[range]))
    })
}

/// Splits a range at page boundaries: where each part begins, and which of the `len` bytes it has.
pub(crate) fn page_pieces(address: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = address.wrapping_add(done as u64);
        let part = ((PAGE_SIZE - at % PAGE_SIZE) as usize).min(len - done);
        let range = done..done + part;
        done += part;
        (part > 0).then_some((at, range))
    })
}

#[cfg(test)]
mod tests;
