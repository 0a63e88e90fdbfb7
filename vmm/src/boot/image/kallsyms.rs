// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The symbols that a kernel carries for itself, and keeps when it is stripped (kernel/kallsyms.c).
//!
//! No header leads to the tables, but they follow each other in `.rodata`, each aligned to 8 bytes or,
//! in 7.3, to 4 (scripts/kallsyms.c: `write_src`): until 6.3 in the order offsets, `relative_base`, `num_syms`, names, markers,
//! `token_table`, `token_index`; since 6.4 the first two come last. The token table has a shape that nothing else
//! has; from there each table leads to the next, and a table is accepted only if all of it agrees with the others.
//! Names have lengths as since 6.1.

use std::ops::Range;

use addresses::Data;
use names::Names;
use tokens::Tokens;

use super::Vmlinux;
use super::symbols::{MAX_NAME, SymbolTable};

mod addresses;
mod names;
#[cfg(test)]
mod tests;
mod tokens;

/// scripts/kallsyms.c: `write_src`: what every table is aligned to: pointers, until they went (some release after 6.12),
/// and now 32-bit numbers.
const ALIGNS: [usize; 2] = [8, 4];
/// How far apart one may look for any of them.
const LEAST_ALIGN: usize = 4;
/// A kernel with everything compiled in has less than a million.
const MAX_SYMBOLS: usize = 1 << 21;
/// All names together take less than this.
const MAX_NAMES_SIZE: usize = 64 << 20;
/// Kernel addresses are in the upper half.
const KERNEL_HALF: u64 = 1 << 63;

impl Vmlinux<'_> {
    /// The symbols that the kernel has for itself; `None` if it has none (`CONFIG_KALLSYMS`), or keeps them in an
    /// unknown way. Without `CONFIG_KALLSYMS_ALL` these are functions only. Searches the whole image.
    pub fn kallsyms(&self) -> Option<SymbolTable> {
        let segments = || self.facts.segments.iter().filter(|s| s.vaddr >= KERNEL_HALF);
        let start = segments().map(|s| s.vaddr).min()?;
        let end = segments().map(|s| s.vaddr.saturating_add(s.memsz)).max()?;
        segments()
            .map(|s| Data { bytes: self.segment_bytes(s), address: s.vaddr })
            .find_map(|data| find(data, &(start..end)))
    }

    /// The best symbols that there are: the ELF file's or, if it was stripped, the kernel's own.
    pub fn symbol_table(&self) -> Option<SymbolTable> {
        let of_file = self.symbols().ok().flatten().filter(|symbols| !symbols.is_empty());
        of_file.or_else(|| self.kallsyms())
    }
}

/// Finds the tables in a segment.
fn find(data: Data<'_>, image: &Range<u64>) -> Option<SymbolTable> {
    ALIGNS.into_iter().find_map(|align| {
        Tokens::find(data.bytes, align).find_map(|tokens| {
            let names = Names::before(data.bytes, tokens.start, align)?;
            let behind = tokens.end.next_multiple_of(align);
            let addresses = addresses::read(data, names.count, names.start, behind, image)?;
            symbols(&tokens, &names, &addresses)
        })
    })
}

/// Expands the names. The first character is the symbol's type, as nm(1) shows it.
fn symbols(tokens: &Tokens<'_>, names: &Names<'_>, addresses: &[u64]) -> Option<SymbolTable> {
    let mut text = Vec::new();
    let mut entries = Vec::with_capacity(names.count);
    for (name, &address) in names.iter().zip(addresses) {
        let start = text.len();
        for &code in name {
            text.extend_from_slice(tokens.get(code));
            (text.len() - start <= MAX_NAME).then_some(())?;
        }
        let kind = *text.get(start)?;
        text.push(0);
        (text.len() <= MAX_NAMES_SIZE).then_some(())?;
        entries.push((address, kind, start as u32 + 1));
    }
    Some(SymbolTable::from_kallsyms(entries.into_iter(), text))
}

/// A few bytes.
fn bytes_at<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}
