// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page tables a guest enters with: the first GiB by 2 MiB pages, at 0 and in the high half.

use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE, PAGE_TABLES};
use crate::memory::{GuestMemory, MemoryError};

/// Present, writable (Intel SDM volume 3 §4.5).
const TABLE: u64 = 0b11;
/// Present, writable, page size.
const LARGE: u64 = 0b1000_0011;
/// Present, writable, accessed, dirty: a 4 KiB leaf.
const LEAF: u64 = 0b0110_0011;

/// Where the second GiB of addresses starts, used by small test guests for aliases.
pub const SECOND_GIB: u64 = 1 << 30;

/// Writes the tables and gives CR3. `private_bit` is OR-ed into every entry and CR3 on C-bit platforms.
pub fn write(memory: &GuestMemory, private_bit: u64) -> Result<u64, MemoryError> {
    let (pml4, pdpt, pd) = (PAGE_TABLES, PAGE_TABLES + PAGE_SIZE, PAGE_TABLES + 2 * PAGE_SIZE);
    let mut table = [0u64; 512];
    (table[0], table[511]) = (pdpt | private_bit | TABLE, pdpt | private_bit | TABLE);
    put(memory, pml4, &table)?;
    (table[0], table[510], table[511]) = (pd | private_bit | TABLE, pd | private_bit | TABLE, 0);
    put(memory, pdpt, &table)?;
    for (entry, index) in table.iter_mut().zip(0u64..) {
        *entry = (index * LARGE_PAGE_SIZE) | private_bit | LARGE;
    }
    put(memory, pd, &table)?;
    Ok(pml4 | private_bit)
}

/// Maps up to 512 pages from [`SECOND_GIB`] on to the guest physical addresses given, bits and all.
/// Small test guests use it to look at one page through another view.
pub fn write_aliases(memory: &GuestMemory, private_bit: u64, targets: &[u64]) -> Result<(), MemoryError> {
    let pdpt = PAGE_TABLES + PAGE_SIZE;
    let pd = PAGE_TABLES + 3 * PAGE_SIZE;
    let pt = PAGE_TABLES + 4 * PAGE_SIZE;
    memory.write(pdpt + 8, &(pd | private_bit | TABLE).to_le_bytes())?;
    let mut table = [0u64; 512];
    table[0] = pt | private_bit | TABLE;
    put(memory, pd, &table)?;
    table[0] = 0;
    for (entry, target) in table.iter_mut().zip(targets) {
        *entry = target | LEAF;
    }
    put(memory, pt, &table)
}

fn put(memory: &GuestMemory, gpa: u64, table: &[u64; 512]) -> Result<(), MemoryError> {
    let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    memory.write(gpa, &bytes)
}
