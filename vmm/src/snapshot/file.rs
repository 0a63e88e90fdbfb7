// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A snapshot as bytes: a head (the version, a JSON header, the sites of the kernel), and the pages that are not zeros, in
//! ascending order. The head is a value in memory; the pages, which are tens of megabytes, are copied once.
//!
//! The bytes are checked for form, not for damage: who stores them does that.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use types::{PageState, View};

use super::{Snapshot, State};
use crate::boot::opcode::Sites;
use crate::device::pci::PciImageError;
use crate::memory::MemoryError;
use crate::memory::cipher::PAGE;
use crate::memory::image::{MemoryImage, SavedStates};
use crate::memory::ram::Ram;
use crate::memory::state::AliasState;
use crate::stored::{Reader, StoredError, Writer};

/// The first bytes. The number changes with the form of what follows.
const MAGIC: &[u8; 16] = b"copra snapshot 4";
/// The header is not longer than that; most of it is a console's text.
const MAX_HEADER: usize = 16 << 20;
/// What is wrong with pages that the guest does not have.
const BEYOND: &str = "has pages beyond its memory";
/// Pages that are read or written at once.
const MANY: usize = 256;

/// Why bytes are no snapshot that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Other bytes, or another version's.
    #[error("it does not begin as a snapshot of this version")]
    Magic,
    /// The pages cannot be read, or are fewer than the header says.
    #[error("reading its pages: {0}")]
    Pages(#[source] io::Error),
    /// What comes before the pages cannot be read.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// The header cannot be read.
    #[error("its header: {0}")]
    Header(#[from] serde_json::Error),
    /// The header contradicts itself.
    #[error("its header {0}")]
    Contradiction(&'static str),
    /// Its devices are no guest's.
    #[error(transparent)]
    Devices(#[from] PciImageError),
    /// No memory for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

#[derive(Serialize, Deserialize)]
struct Header<S> {
    state: S,
    /// Bytes of guest memory, in one view.
    memory: u64,
    states: States,
    /// First page and number of pages of each run that is not zeros.
    filled: Vec<(u32, u32)>,
}

/// Page states, as runs of equal ones.
#[derive(Serialize, Deserialize)]
enum States {
    OneView,
    Alias { runs: Vec<(View, View, u32)>, map_gpa_range_enabled: bool },
    Separate { runs: Vec<(PageState, u32)>, large: Vec<(bool, u32)> },
}

/// Equal neighbours, and how many there are.
fn runs<T: PartialEq + Copy>(values: impl IntoIterator<Item = T>) -> Vec<(T, u32)> {
    let mut runs: Vec<(T, u32)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => runs.push((value, 1)),
        }
    }
    runs
}

/// The values of the runs, of which there must be `expected`.
fn values<T: Copy>(runs: &[(T, u32)], expected: usize) -> Result<Vec<T>, FileError> {
    let total: u64 = runs.iter().map(|(_, count)| u64::from(*count)).sum();
    if total != expected as u64 {
        return Err(FileError::Contradiction("has states of other pages than it has memory"));
    }
    Ok(runs.iter().flat_map(|(value, count)| std::iter::repeat_n(*value, *count as usize)).collect())
}

/// The page numbers of the runs, which must ascend and lie below `pages`.
fn page_numbers(runs: &[(u32, u32)], pages: usize) -> Result<Vec<usize>, FileError> {
    let mut numbers: Vec<usize> = Vec::new();
    for &(first, count) in runs {
        let (first, count) = (first as usize, count as usize);
        if numbers.last().is_some_and(|last| first <= *last) {
            return Err(FileError::Contradiction("has pages that do not ascend"));
        }
        if first.saturating_add(count) > pages {
            return Err(FileError::Contradiction(BEYOND));
        }
        numbers.extend(first..first + count);
    }
    Ok(numbers)
}

impl States {
    fn of(states: &SavedStates) -> Self {
        match states {
            SavedStates::OneView => Self::OneView,
            SavedStates::Alias { states, map_gpa_range_enabled } => {
                let pairs = runs(states.iter().map(|state| (state.declared(), state.content())));
                let runs = pairs.into_iter().map(|((declared, content), count)| (declared, content, count));
                Self::Alias { runs: runs.collect(), map_gpa_range_enabled: *map_gpa_range_enabled }
            }
            SavedStates::Separate { states, large } => {
                Self::Separate { runs: runs(states.iter().copied()), large: runs(large.iter().copied()) }
            }
        }
    }

    fn saved(&self, pages: usize) -> Result<SavedStates, FileError> {
        Ok(match self {
            Self::OneView => SavedStates::OneView,
            Self::Alias { runs, map_gpa_range_enabled } => {
                let runs: Vec<(AliasState, u32)> = runs
                    .iter()
                    .map(|(declared, content, count)| (AliasState::new(*declared, *content), *count))
                    .collect();
                SavedStates::Alias {
                    states: values(&runs, pages)?,
                    map_gpa_range_enabled: *map_gpa_range_enabled,
                }
            }
            Self::Separate { runs, large } => SavedStates::Separate {
                states: values(runs, pages)?,
                large: values(large, pages / crate::memory::protected::table::PAGES_PER_CHUNK)?,
            },
        })
    }
}

impl Snapshot {
    /// Appends the head.
    pub fn encode(&self, to: &mut Writer) -> Result<(), FileError> {
        let mut filled: Vec<(u32, u32)> = Vec::new();
        for page in self.memory.filled().iter() {
            match filled.last_mut() {
                Some((first, count)) if *first as usize + *count as usize == page => *count += 1,
                _ => filled.push((page as u32, 1)),
            }
        }
        let header = Header {
            state: &self.state,
            memory: self.memory.mapped_size(),
            states: States::of(self.memory.states()),
            filled,
        };
        to.raw(MAGIC);
        to.bytes(&serde_json::to_vec(&header)?);
        self.state.sites.encode(to);
        Ok(())
    }

    /// Writes the pages, which belong behind the head.
    pub fn write_pages(&self, to: &mut impl Write) -> io::Result<()> {
        let mut pages = self.memory.filled().iter().peekable();
        let mut buffer = Vec::with_capacity(MANY * PAGE);
        let mut page = [0; PAGE];
        while pages.peek().is_some() {
            buffer.clear();
            for number in pages.by_ref().take(MANY) {
                self.memory.page(number, &mut page);
                buffer.extend_from_slice(&page);
            }
            to.write_all(&buffer)?;
        }
        Ok(())
    }

    /// Takes all of `head` for what [`Self::encode`] appended, and reads what [`Self::write_pages`] wrote.
    pub fn decode(head: Reader<'_>, pages: &mut impl Read) -> Result<Self, FileError> {
        let mut head = Reader::new(head.rest().strip_prefix(MAGIC).ok_or(FileError::Magic)?);
        let header = head.bytes("header")?;
        if header.len() > MAX_HEADER {
            return Err(FileError::Contradiction("is longer than any"));
        }
        let mut header: Header<State> = serde_json::from_slice(header)?;
        header.state.sites = Sites::decode(&mut head)?;
        head.end()?;
        header.state.devices.check()?;
        if Ram::new(header.memory).is_err() {
            return Err(FileError::Contradiction("has a size of memory that no guest has"));
        }
        let count = (header.memory / PAGE as u64) as usize;
        let mut memory = MemoryImage::new(header.states.saved(count)?, header.memory)?;
        let numbers = page_numbers(&header.filled, count)?;
        let mut buffer = vec![0; MANY * PAGE];
        for numbers in numbers.chunks(MANY) {
            let buffer = &mut buffer[..numbers.len() * PAGE];
            pages.read_exact(buffer).map_err(FileError::Pages)?;
            for (number, page) in numbers.iter().zip(buffer.as_chunks().0) {
                if !memory.set_page(*number, page) {
                    return Err(FileError::Contradiction(BEYOND));
                }
            }
        }
        Ok(Self { state: header.state, memory })
    }
}
