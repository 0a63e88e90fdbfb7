// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The next kernel as the present one has loaded it: where each page of it will be, and where it is now.

use std::collections::BTreeMap;

use types::View;

use super::Machine;
use super::debug::DebugAddress;
use crate::layout::PAGE_SIZE;

/// Flags of a `kimage_entry_t` (include/linux/kexec.h: `IND_DESTINATION` and the three after it).
const DESTINATION: u64 = 1;
const INDIRECTION: u64 = 2;
const DONE: u64 = 4;
const SOURCE: u64 = 8;
/// Bytes of an entry.
const ENTRY: u64 = 8;
/// `struct kimage` begins with `head`, `entry`, `last_entry`, `start` (include/linux/kexec.h).
const HEAD: u64 = 0;
const START: u64 = 24;
/// More entries than 127 GiB have pages are no list.
const MOST: usize = 1 << 25;
/// Pages of purgatory that are searched for its end.
const PURGATORY_PAGES: u64 = 16;
/// `jmp *disp32(%rip)`: how `arch/x86/purgatory/entry64.S` ends.
const JUMP: [u8; 2] = [0xff, 0x25];
const JUMP_LEN: u64 = 6;

/// A loaded kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedKernel {
    /// Where it is entered.
    pub start: u64,
    /// For each page that is copied: where it is now. All others, as those of a crash kernel, are in their places.
    pages: BTreeMap<u64, u64>,
}

/// The last instruction of purgatory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgatoryEnd {
    /// Its address when it is executed.
    pub rip: u64,
    /// Where it is now.
    pub gpa: u64,
    /// Where it jumps to.
    pub entry: u64,
}

impl LoadedKernel {
    /// Reads a `struct kimage` at a virtual address; `None` if there is none.
    pub fn read(machine: &Machine, kimage: u64) -> Option<Self> {
        let word = |address: u64| {
            let mut bytes = [0; ENTRY as usize];
            (machine.read_virtual(address, &mut bytes) == bytes.len()).then(|| u64::from_le_bytes(bytes))
        };
        let physical = |gpa: u64| {
            let mut bytes = [0; ENTRY as usize];
            machine.memory().read(View::Private, gpa, &mut bytes).ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        let start = word(kimage + START)?;
        Some(Self { start, pages: pages(word(kimage + HEAD)?, physical)? })
    }

    /// Where the byte is that will be at `gpa`.
    pub fn now(&self, gpa: u64) -> u64 {
        let page = gpa & !(PAGE_SIZE - 1);
        self.pages.get(&page).map_or(gpa, |source| source + gpa % PAGE_SIZE)
    }

    /// Finds the end of purgatory, which jumps to an address that `is_entry`.
    pub fn purgatory_end(&self, machine: &Machine, is_entry: impl Fn(u64) -> bool) -> Option<PurgatoryEnd> {
        let first = self.start & !(PAGE_SIZE - 1);
        let mut code = vec![0; (PURGATORY_PAGES * PAGE_SIZE) as usize];
        for (page, at) in code.chunks_mut(PAGE_SIZE as usize).zip((first..).step_by(PAGE_SIZE as usize)) {
            // It may be the last thing in RAM.
            if machine.memory().read(View::Private, self.now(at), page).is_err() {
                break;
            }
        }
        let (at, entry) = jumps(&code, first).find(|(_, entry)| is_entry(*entry))?;
        Some(PurgatoryEnd { rip: at, gpa: self.now(at), entry })
    }
}

impl PurgatoryEnd {
    /// Its bytes, as a debugger addresses them.
    pub fn bytes(&self) -> impl Iterator<Item = DebugAddress> {
        (self.gpa..).take(JUMP_LEN as usize).map(|gpa| DebugAddress { view: View::Private, gpa, user: false })
    }
}

/// Destination and source of each page in the list that begins with this entry.
fn pages(head: u64, word: impl Fn(u64) -> Option<u64>) -> Option<BTreeMap<u64, u64>> {
    let mut pages = BTreeMap::new();
    let (mut entry, mut next, mut destination) = (head, 0, 0);
    for _ in 0..MOST {
        let page = entry & !(PAGE_SIZE - 1);
        if entry & DONE != 0 {
            return Some(pages);
        }
        if entry & DESTINATION != 0 {
            destination = page;
        } else if entry & INDIRECTION != 0 {
            next = page;
        } else if entry & SOURCE != 0 {
            pages.insert(destination, page);
            destination += PAGE_SIZE;
        }
        // Before the first indirection page there is nothing else.
        entry = word(Some(next).filter(|next| *next != 0)?)?;
        next += ENTRY;
    }
    None
}

/// Addresses of the indirect jumps in code at `base`, with the targets that are in the code's own data.
fn jumps(code: &[u8], base: u64) -> impl Iterator<Item = (u64, u64)> {
    code.windows(JUMP_LEN as usize).enumerate().filter_map(move |(at, bytes)| {
        let (opcode, displacement) = bytes.split_at(JUMP.len());
        let displacement = i32::from_le_bytes(displacement.try_into().ok()?);
        let slot = (at + JUMP_LEN as usize).checked_add_signed(displacement as isize)?;
        let target = code.get(slot..slot + ENTRY as usize).filter(|_| opcode == JUMP)?;
        Some((base + at as u64, u64::from_le_bytes(target.try_into().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The list as the kernel lays it out: pages of entries, each of which ends with the address of the next.
    fn list(segments: &[(u64, &[u64])], per_page: usize) -> (u64, BTreeMap<u64, u64>) {
        let mut entries = Vec::new();
        for (destination, sources) in segments {
            entries.push(destination | DESTINATION);
            entries.extend(sources.iter().map(|source| source | SOURCE));
        }
        entries.push(DONE);
        let mut words = BTreeMap::new();
        let page = |number: usize| 0x100_0000 + number as u64 * PAGE_SIZE;
        for (number, chunk) in entries.chunks(per_page).enumerate() {
            for (at, entry) in (page(number)..).step_by(ENTRY as usize).zip(chunk) {
                words.insert(at, *entry);
            }
            words.insert(page(number) + chunk.len() as u64 * ENTRY, page(number + 1) | INDIRECTION);
        }
        (page(0) | INDIRECTION, words)
    }

    #[test]
    fn every_page_of_a_list_has_its_source() {
        let segments: [(u64, &[u64]); 2] = [(0x20_0000, &[0x7000, 0x5000, 0x9000]), (0x90_0000, &[0xa000])];
        let (head, words) = list(&segments, 2);
        let found = pages(head, |at| words.get(&at).copied()).unwrap();
        let expected = [(0x20_0000, 0x7000), (0x20_1000, 0x5000), (0x20_2000, 0x9000), (0x90_0000, 0xa000)];
        assert_eq!(found, BTreeMap::from(expected));
        let loaded = LoadedKernel { start: 0, pages: found };
        assert_eq!((loaded.now(0x20_1234), loaded.now(0x1234)), (0x5234, 0x1234));
        assert_eq!(pages(DONE, |_| None), Some(BTreeMap::new()), "a crash kernel's");
    }

    #[test]
    fn a_jump_is_found_with_its_target() {
        let mut code = vec![0x90; 64];
        code[10..16].copy_from_slice(&[0xff, 0x25, 8, 0, 0, 0]);
        code[24..32].copy_from_slice(&0x100_0200_u64.to_le_bytes());
        code[40..46].copy_from_slice(&[0xff, 0x25, 0xff, 0xff, 0, 0]);
        assert_eq!(jumps(&code, 0x1000).collect::<Vec<_>>(), [(0x100a, 0x100_0200)]);
    }

    proptest! {
        /// What a guest has in its memory ends the search, and nothing else.
        #[test]
        fn any_list_ends(head: u64, words in prop::collection::vec(any::<u64>(), 1..64)) {
            let _ = pages(head, |at| words.get((at / ENTRY % 128) as usize).copied());
        }

        #[test]
        fn any_code_is_searched_to_its_end(code in prop::collection::vec(prop::sample::select(vec![0xff, 0x25, 0, 0x80]), 0..64)) {
            jumps(&code, u64::MAX - 100).for_each(drop);
        }
    }
}
