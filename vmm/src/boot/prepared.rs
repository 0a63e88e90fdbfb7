// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel as it can be kept in a file and booted from it: unpacked, its instructions to rewrite found.
//!
//! Runs of zeros, of which a third or more of a kernel consists, and what a guest does not load (debug information, the
//! file's symbol table) are left out; they are zeros in the kernel taken back.

use std::borrow::Cow;
use std::ops::Range;

use super::image::{ElfFacts, Vmlinux};
use super::opcode::{self, Sites};
use crate::layout::PAGE_SIZE;
use crate::stored::{Reader, StoredError, Writer};

/// The longest file that is taken back; a larger one is read anew each time. With all its debug information a
/// distribution's vmlinux is shorter.
const MAX_LENGTH: u64 = 1 << 30;

/// What one boots.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// The kernel.
    pub kernel: Vmlinux<'static>,
    /// Where its instructions to rewrite are; `None` if they cannot be found, which [`opcode::find`] explains.
    pub sites: Option<Sites>,
}

/// The kernel and its sites as bytes to keep.
pub fn encode(kernel: &Vmlinux<'_>) -> Vec<u8> {
    let mut to = Writer::default();
    to.option(opcode::find(kernel).ok().as_ref(), |to, sites| sites.encode(to));
    to.u64(kernel.elf.len() as u64);
    for run in runs(&kernel.elf, &kernel.needed()) {
        to.u64(run.start as u64);
        to.bytes(&kernel.elf[run]);
    }
    to.into_bytes()
}

/// Takes them back.
pub fn decode(bytes: &[u8]) -> Result<PreparedImage, StoredError> {
    let mut from = Reader::new(bytes);
    let sites = from.option("sites", Sites::decode)?;
    let length = from.u64("length of the kernel")?;
    let length = usize::try_from(length).ok().filter(|length| *length as u64 <= MAX_LENGTH);
    let mut elf = vec![0; length.ok_or(StoredError::Malformed("length of the kernel"))?];
    while from.end().is_err() {
        let start = usize::try_from(from.u64("part of the kernel")?).unwrap_or(usize::MAX);
        let run = from.bytes("part of the kernel")?;
        elf.get_mut(start..start.saturating_add(run.len()))
            .ok_or(StoredError::Malformed("part of the kernel"))?
            .copy_from_slice(run);
    }
    let facts = ElfFacts::parse(&elf).map_err(|_| StoredError::Malformed("kernel"))?;
    Ok(PreparedImage { kernel: Vmlinux { elf: Cow::Owned(elf), facts, bzimage: None }, sites })
}

/// The pages of the file that are not all zeros, as far as they are needed; neighbours together.
fn runs(file: &[u8], needed: &[Range<usize>]) -> Vec<Range<usize>> {
    const PAGE: usize = PAGE_SIZE as usize;
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, page) in file.chunks(PAGE).enumerate() {
        let range = index * PAGE..index * PAGE + page.len();
        let is_needed = needed.iter().any(|part| part.start < range.end && range.start < part.end);
        if !is_needed || page.iter().all(|byte| *byte == 0) {
            continue;
        }
        match runs.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => runs.push(range),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::image::{extract_vmlinux, synth};
    use super::*;

    fn kernel(file: &[u8]) -> Vmlinux<'_> {
        extract_vmlinux(file).unwrap()
    }

    #[test]
    fn a_kernel_comes_back_as_it_was() {
        let file = synth::elf();
        let kernel = kernel(&file);
        let back = decode(&encode(&kernel)).unwrap();
        assert_eq!(back.kernel.facts, kernel.facts);
        for segment in &kernel.facts.segments {
            assert_eq!(back.kernel.segment_bytes(segment), kernel.segment_bytes(segment));
        }
        let sites = opcode::find(&kernel).unwrap();
        assert_eq!(back.sites.as_ref().unwrap().iter().collect::<Vec<_>>(), sites.iter().collect::<Vec<_>>());
        assert_eq!(back.sites.unwrap().rejected(), sites.rejected());
    }

    #[test]
    fn what_is_not_loaded_takes_no_room() {
        let text = [0x90; 64];
        let debug = vec![0x5a; 4 << 20];
        let code = synth::VIRTUAL + synth::TEXT;
        let file = synth::elf_with_sections(&[(".text", code, 6, &text), (".debug_info", 0, 0, &debug)]);
        let kernel = kernel(&file);
        let stored = encode(&kernel);
        assert!(file.len() > 4 << 20 && stored.len() < 1 << 20, "{} of {}", stored.len(), file.len());
        let back = decode(&stored).unwrap().kernel;
        assert_eq!(back.elf.len(), kernel.elf.len());
        assert_eq!(back.section(".text"), kernel.section(".text"));
        assert_eq!(back.code(), kernel.code());
    }

    #[test]
    fn a_length_beyond_measure_is_refused() {
        let mut to = Writer::default();
        to.u8(0);
        to.u64(u64::MAX);
        assert_eq!(decode(&to.into_bytes()).unwrap_err(), StoredError::Malformed("length of the kernel"));
    }

    proptest! {
        #[test]
        fn damage_does_no_harm(at: prop::sample::Index, bit in 0u8..8, keep: prop::sample::Index) {
            let mut bytes = encode(&kernel(&synth::elf()));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode(&bytes);
            bytes.truncate(keep.index(bytes.len()));
            prop_assert!(decode(&bytes).is_err() || bytes.len() > 8);
        }

        #[test]
        fn runs_hold_all_that_is_not_zero(pages in prop::collection::vec(any::<bool>(), 1..40), tail in 0usize..4096) {
            let mut file: Vec<u8> = pages.iter().flat_map(|full| vec![u8::from(*full); PAGE_SIZE as usize]).collect();
            file.extend(vec![1; tail]);
            let all = 0..file.len();
            let found = runs(&file, std::slice::from_ref(&all));
            let ones = |part: &[u8]| part.iter().map(|byte| usize::from(*byte)).sum::<usize>();
            prop_assert_eq!(found.iter().map(|run| ones(&file[run.clone()])).sum::<usize>(), ones(&file));
            prop_assert!(found.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
