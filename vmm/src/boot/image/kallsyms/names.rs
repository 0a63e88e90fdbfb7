// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The compressed names: `kallsyms_num_syms`, `kallsyms_names` and `kallsyms_markers`, which are in this order.

use super::{LEAST_ALIGN, MAX_SYMBOLS, bytes_at};

/// scripts/kallsyms.c: `write_src`: every so many names there is a marker.
const PER_MARKER: usize = 256;
/// A name takes at least a byte of length and one of text.
const MIN_BLOCK: usize = PER_MARKER * 2;
/// scripts/kallsyms.c: `write_src`: a name has at most 0x3fff bytes, and two bytes of length.
const MAX_BLOCK: usize = PER_MARKER * (0x3fff + 2);
/// How many bytes per symbol are between the markers and the token table: none, or those of
/// `kallsyms_seqs_of_names`, which is there in 6.2, 6.3 and late releases of 6.1.
const BETWEEN: [usize; 2] = [0, 3];
/// How often something may look like the first marker, or like the number of symbols, and not be it.
const MAX_CANDIDATES: usize = 16;

/// Compressed names.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// Each with its length before it, and nothing behind the last.
    bytes: &'a [u8],
    /// How many there are.
    pub count: usize,
    /// Where the number of symbols is in the data searched.
    pub start: usize,
}

impl<'a> Names<'a> {
    /// Finds what ends before the token table.
    pub fn before(data: &'a [u8], token_table: usize, align: usize) -> Option<Self> {
        BETWEEN.into_iter().find_map(|between| {
            let farthest = MAX_SYMBOLS * between + MAX_SYMBOLS / PER_MARKER * size_of::<u32>() + 2 * align;
            let found = (1..=farthest / align).map_while(|n| token_table.checked_sub(n * align));
            let found = found.filter(|&at| starts_markers(data, at)).take(MAX_CANDIDATES);
            let markers = found.flat_map(|at| Markers::at(data, at, between, token_table, align));
            markers.into_iter().find_map(|markers| markers.names(data))
        })
    }

    /// One after the other, still compressed.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (name, next) = name_at(self.bytes, at)?;
            at = next;
            Some(name)
        })
    }
}

/// Where every 256th name begins. One marker alone is not accepted, since no kernel has so few symbols.
#[derive(Debug)]
struct Markers {
    at: usize,
    align: usize,
    offsets: Vec<u32>,
    /// How many symbols there can be, by the markers' number and by the room up to the token table.
    counts: Vec<usize>,
}

impl Markers {
    /// The markers that begin here, if up to the token table there is room for them and for as many bytes per symbol.
    fn at(data: &[u8], at: usize, between: usize, token_table: usize, align: usize) -> Vec<Self> {
        let room = token_table - at;
        let per_marker = size_of::<u32>() + between * PER_MARKER;
        // The number of symbols is unknown within one marker, and both tables may leave a gap.
        let numbers =
            room.saturating_sub(2 * align) / per_marker..=(room + between * PER_MARKER) / per_marker;
        let markers = |number: usize| {
            let end = at + number * size_of::<u32>();
            let fits = |count: usize| {
                (end.next_multiple_of(align) + count * between).next_multiple_of(align) == token_table
            };
            let counts = number.checked_sub(1)? * PER_MARKER + 1..=(number * PER_MARKER).min(MAX_SYMBOLS);
            let counts: Vec<_> = counts.filter(|&count| fits(count)).collect();
            let words = data.get(at..end)?.chunks_exact(size_of::<u32>());
            let offsets: Vec<_> =
                words.filter_map(|w| Some(u32::from_le_bytes(w.try_into().ok()?))).collect();
            let ascend = offsets.windows(2).all(|pair| is_block(pair[0], pair[1]));
            (ascend && number > 1 && !counts.is_empty()).then_some(Self { at, align, offsets, counts })
        };
        numbers.filter_map(markers).collect()
    }

    /// Finds the number of symbols: the one from which the names meet all markers.
    fn names<'a>(&self, data: &'a [u8]) -> Option<Names<'a>> {
        let (align, last) = (self.align, *self.offsets.last()? as usize);
        let highest = self.at.checked_sub(last)?.checked_sub(2)? & !(align - 1);
        let lowest = self.at.saturating_sub(last + MAX_BLOCK + align).max(align).next_multiple_of(align);
        let candidates = (lowest..=highest).step_by(align).filter_map(|names_at| {
            let start = names_at - align;
            // A 32-bit number and the gap behind it, if there is one.
            let number: u32 = u32::from_le_bytes(bytes_at(data, start)?);
            let gap = data.get(start + LEAST_ALIGN..names_at)?;
            let count = usize::try_from(number).ok()?;
            (self.counts.contains(&count) && gap.iter().all(|&b| b == 0)).then_some((start, names_at, count))
        });
        candidates.take(MAX_CANDIDATES).find_map(|(start, names_at, count)| {
            let bytes = data.get(names_at..self.at)?;
            let end = walk(bytes, count, &self.offsets)?;
            let (bytes, gap) = bytes.split_at(end);
            (gap.len() < align && gap.iter().all(|&b| b == 0)).then_some(Names { bytes, count, start })
        })
    }
}

/// Whether this may be the first marker: they ascend from 0.
fn starts_markers(data: &[u8], at: usize) -> bool {
    let word = |at: usize| Some(u32::from_le_bytes(bytes_at(data, at)?));
    word(at) == Some(0) && word(at + size_of::<u32>()).is_some_and(|second| is_block(0, second))
}

/// Whether so many names take that much room.
fn is_block(start: u32, end: u32) -> bool {
    end.checked_sub(start).is_some_and(|size| (MIN_BLOCK..=MAX_BLOCK).contains(&(size as usize)))
}

/// Goes through all names, which must meet all markers; where they end.
fn walk(bytes: &[u8], count: usize, markers: &[u32]) -> Option<usize> {
    let mut at = 0;
    for number in 0..count {
        if number % PER_MARKER == 0 && *markers.get(number / PER_MARKER)? as usize != at {
            return None;
        }
        (_, at) = name_at(bytes, at)?;
    }
    Some(at)
}

/// kernel/kallsyms.c: `kallsyms_expand_symbol`: a length of one byte, or of two if the first has its highest bit set;
/// where the next name begins comes second.
fn name_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let first = usize::from(*bytes.get(at)?);
    let (length, start) = if first & 0x80 == 0 {
        (first, at + 1)
    } else {
        ((first & 0x7f) | usize::from(*bytes.get(at + 1)?) << 7, at + 2)
    };
    let end = start + length;
    let name = bytes.get(start..end)?;
    (!name.is_empty()).then_some((name, end))
}
