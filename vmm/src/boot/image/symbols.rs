// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel's symbols: from its ELF file, or from `System.map` or `/proc/kallsyms`, which have one format.

use crate::stored::{Reader, StoredError, Writer};

/// gABI `STT_FUNC`: the highest kind that names code or data; sections, files and the rest lie above.
const STT_FUNC: u8 = 2;

/// include/linux/kallsyms.h: `KSYM_NAME_LEN`. Longer names are passed over.
pub(super) const MAX_NAME: usize = 512;

/// Kernel addresses are in the upper half.
const KERNEL_HALF: u64 = 1 << 63;

/// A symbol near an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub address: u64,
    /// How far the address requested lies behind it.
    pub offset: u64,
}

impl std::fmt::Display for Symbol<'_> {
    /// As the kernel prints them: `startup_64+0x12`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{:#x}", self.name, self.offset)
    }
}

/// A symbol before its name is looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawSymbol {
    pub address: u64,
    pub size: u64,
    pub kind: u8,
    pub name: u32,
}

/// A symbol in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    address: u64,
    size: u64,
    name: u32,
}

/// Names and addresses, sorted both ways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SymbolTable {
    /// By address; of several at one address, the most specific comes last.
    symbols: Vec<Known>,
    /// Indices of `symbols` by name.
    by_name: Vec<u32>,
    /// NUL-terminated names.
    names: Vec<u8>,
}

impl SymbolTable {
    /// Takes the symbols that name code or data.
    pub(super) fn new(raw: impl Iterator<Item = RawSymbol>, names: Vec<u8>) -> Self {
        let mut table = Self { symbols: Vec::new(), by_name: Vec::new(), names };
        let mut symbols: Vec<_> = raw
            .filter(|s| s.kind <= STT_FUNC)
            .filter(|s| table.name(s.name).is_some_and(|name| !name.is_empty() && !name.starts_with(".L")))
            .collect();
        symbols.sort_unstable_by_key(|s| (s.address, s.kind, s.size, s.name));
        let mut by_name: Vec<_> = (0..symbols.len() as u32).collect();
        by_name.sort_unstable_by_key(|&i| (table.name(symbols[i as usize].name), i));
        table.symbols = symbols
            .into_iter()
            .map(|RawSymbol { address, size, name, .. }| Known { address, size, name })
            .collect();
        table.by_name = by_name;
        table
    }

    /// Reads lines of address, kind and name; lines of another form, and symbols of modules, are passed over.
    pub fn from_map(text: &str) -> Self {
        let mut names = Vec::new();
        let mut raw = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(address), Some(kind), Some(name), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Ok(address) = u64::from_str_radix(address, 16) else { continue };
            raw.push((address, kind.bytes().next().unwrap_or_default(), names.len() as u32));
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        Self::from_kallsyms(raw.into_iter(), names)
    }

    /// Takes addresses, nm(1)'s types and names at offsets of the string table.
    pub(super) fn from_kallsyms(entries: impl Iterator<Item = (u64, u8, u32)>, names: Vec<u8>) -> Self {
        let raw = entries.map(|(address, kind, name)| {
            let kind = if kind.eq_ignore_ascii_case(&b't') { STT_FUNC } else { 0 };
            RawSymbol { address, size: 0, kind, name }
        });
        Self::new(raw, names)
    }

    /// Appends the table: each column by itself, as it is searched.
    pub(crate) fn encode(&self, to: &mut Writer) {
        to.u64s(self.symbols.iter().map(|symbol| symbol.address));
        let has_sizes = self.symbols.iter().any(|symbol| symbol.size != 0);
        to.option(has_sizes.then_some(()), |to, ()| to.u64s(self.symbols.iter().map(|symbol| symbol.size)));
        to.u32s(self.symbols.iter().map(|symbol| symbol.name));
        to.u32s(self.by_name.iter().copied());
        to.bytes(&self.names);
    }

    /// Takes the table back.
    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredError> {
        let addresses = from.u64s("symbols' addresses")?;
        let count = addresses.len();
        let sizes = from.option("symbols' sizes", |from| from.u64s("symbols' sizes"))?;
        let (names, by_name) = (from.u32s("symbols' names")?, from.u32s("order of names")?);
        if names.len() != count
            || by_name.len() != count
            || sizes.as_ref().is_some_and(|sizes| sizes.len() != count)
        {
            return Err(StoredError::Malformed("number of symbols"));
        }
        let sizes = sizes.into_iter().flatten().chain(std::iter::repeat(0));
        let symbols: Vec<_> = addresses
            .zip(sizes)
            .zip(names)
            .map(|((address, size), name)| Known { address, size, name })
            .collect();
        let by_name: Vec<_> = by_name.collect();
        if !symbols.is_sorted_by_key(|symbol| symbol.address)
            || by_name.iter().any(|index| *index as usize >= count)
        {
            return Err(StoredError::Malformed("order of symbols"));
        }
        Ok(Self { symbols, by_name, names: from.bytes("symbols' names")?.to_vec() })
    }

    /// Addresses and names, by address.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.symbols.iter().filter_map(|symbol| Some((symbol.address, self.name(symbol.name)?)))
    }

    /// How many symbols there are.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The address of a symbol; the lowest if several have that name.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        let index = |i: u32| self.symbols[i as usize];
        let first = self.by_name.partition_point(|&i| self.name(index(i).name) < Some(name));
        let found = index(*self.by_name.get(first)?);
        (self.name(found.name) == Some(name)).then_some(found.address)
    }

    /// The next address behind this one that has a symbol.
    pub fn next_after(&self, address: u64) -> Option<u64> {
        let after = self.symbols.partition_point(|s| s.address <= address);
        Some(self.symbols.get(after)?.address)
    }

    /// The symbol that an address lies in: the last before it, if it reaches that far or its size is unknown. What is no
    /// kernel address lies in none: per-CPU symbols are offsets, and reach nowhere.
    pub fn resolve(&self, address: u64) -> Option<Symbol<'_>> {
        let after = self.symbols.partition_point(|s| s.address <= address);
        // What follows the last symbol is not in the image.
        if after == self.symbols.len() && self.symbols.last()?.address != address {
            return None;
        }
        let found = self.symbols.get(after.checked_sub(1)?)?;
        let offset = address - found.address;
        let is_beyond = if found.size == 0 { found.address < KERNEL_HALF } else { offset >= found.size };
        if is_beyond {
            return None;
        }
        Some(Symbol { name: self.name(found.name)?, address: found.address, offset })
    }

    /// The name at an offset of the string table.
    fn name(&self, at: u32) -> Option<&str> {
        let rest = self.names.get(at as usize..)?;
        let rest = &rest[..rest.len().min(MAX_NAME)];
        std::str::from_utf8(&rest[..rest.iter().position(|&b| b == 0)?]).ok()
    }
}
