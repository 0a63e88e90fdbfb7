// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The symbols' addresses: `kallsyms_offsets` and, until 6.19, `kallsyms_relative_base`.

use std::ops::Range;

use super::bytes_at;

/// Of the base, a pointer, where there is one.
const ALIGN: usize = size_of::<u64>();

/// The data in which tables are searched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data<'a> {
    /// What the file has of a segment.
    pub bytes: &'a [u8],
    /// Its virtual address.
    pub address: u64,
}

/// Reads the addresses that are `behind` the token index, as since 6.4, or before the number of symbols, as until
/// 6.3. They ascend, and lie in the image unless they are offsets in the per-CPU area.
pub(super) fn read(
    data: Data<'_>,
    count: usize,
    names: usize,
    behind: usize,
    image: &Range<u64>,
) -> Option<Vec<u64>> {
    let size = count * size_of::<u32>();
    let relative = |at: usize, base_at: usize| {
        let base = u64::from_le_bytes(bytes_at(data.bytes, base_at)?);
        let offsets = offsets(data.bytes, at, size)?;
        (image.contains(&base)).then(|| from_base(&offsets, base))?
    };
    let before = || {
        let base_at = names.checked_sub(ALIGN)?;
        relative(base_at.checked_sub(size)? & !(ALIGN - 1), base_at)
    };
    relative(behind, (behind + size).next_multiple_of(ALIGN)).or_else(before).or_else(|| {
        from_place(&offsets(data.bytes, behind, size)?, data.address.wrapping_add(behind as u64), image)
    })
}

/// Signed numbers of 32 bits.
fn offsets(bytes: &[u8], at: usize, size: usize) -> Option<Vec<i32>> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(
        bytes
            .chunks_exact(size_of::<u32>())
            .filter_map(|b| Some(i32::from_le_bytes(b.try_into().ok()?)))
            .collect(),
    )
}

/// kernel/kallsyms.c: `kallsyms_sym_address` until 6.19. Without `CONFIG_KALLSYMS_ABSOLUTE_PERCPU` (dropped in 6.15)
/// no image is so large that an offset would be negative; with it, all are but those of per-CPU symbols.
fn from_base(offsets: &[i32], base: u64) -> Option<Vec<u64>> {
    let absolute_percpu = offsets.iter().any(|&offset| offset < 0);
    let address = |offset: i32| match u64::try_from(offset) {
        Ok(absolute) if absolute_percpu => absolute,
        Ok(relative) => base.wrapping_add(relative),
        Err(_) => base.wrapping_add(u64::from(!offset.cast_unsigned())),
    };
    ascending(offsets.iter().map(|&offset| address(offset)).collect())
}

/// kernel/kallsyms.c: `kallsyms_sym_address` since 7.0: each offset counts from its own address.
fn from_place(offsets: &[i32], address: u64, image: &Range<u64>) -> Option<Vec<u64>> {
    let place = |index: usize| address.wrapping_add((index * size_of::<u32>()) as u64);
    let addresses: Vec<_> = offsets
        .iter()
        .enumerate()
        .map(|(index, &offset)| place(index).wrapping_add_signed(offset.into()))
        .collect();
    // `_end` is a symbol.
    let inside = addresses.iter().all(|address| image.contains(address) || *address == image.end);
    if inside { ascending(addresses) } else { None }
}

/// scripts/kallsyms.c: `sort_symbols` sorts by address.
fn ascending(addresses: Vec<u64>) -> Option<Vec<u64>> {
    addresses.is_sorted().then_some(addresses)
}
