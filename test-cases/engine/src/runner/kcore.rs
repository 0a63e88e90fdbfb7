// SPDX-License-Identifier: Apache-2.0 OR MIT
//! /proc/kcore: an ELF core file of the running kernel whose program headers name physical addresses.

/// Bytes of the ELF header and the program headers that are read.
pub const HEAD: u32 = 4096;

/// Bytes of an ELF64 program header (`include/uapi/linux/elf.h:elf64_phdr`).
const PROGRAM_HEADER: usize = 56;
/// `p_type` of what is loaded.
const PT_LOAD: u64 = 1;

/// The file offset of a physical address, by the file's first bytes.
pub fn offset_of(head: &[u8], physical: u64) -> Option<u64> {
    let first = usize::try_from(number(head, 32, 8)?).ok()?;
    let count = number(head, 56, 2)? as usize;
    (0..count).find_map(|index| {
        let header = head.get(first.checked_add(index * PROGRAM_HEADER)?..)?;
        let (kind, offset) = (number(header, 0, 4)?, number(header, 8, 8)?);
        let (start, len) = (number(header, 24, 8)?, number(header, 32, 8)?);
        let into = physical.checked_sub(start).filter(|into| kind == PT_LOAD && *into < len)?;
        offset.checked_add(into)
    })
}

/// The little-endian number of `len` bytes at `at`.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.get(..len)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file with these segments: physical address, length, offset.
    fn file(segments: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[32] = 64;
        head[56] = segments.len() as u8 + 1;
        // The first segment is PT_NOTE, which is no memory.
        head.extend([&4_u32.to_le_bytes()[..], &[0; 28], &u64::MAX.to_le_bytes(), &[0; 16]].concat());
        for (physical, len, offset) in segments {
            let numbers = [1, *offset, 0, *physical, *len, *len, 0];
            head.extend(numbers.iter().flat_map(|number: &u64| number.to_le_bytes()));
        }
        head
    }

    #[test]
    fn a_physical_address_has_the_place_its_segment_gives_it() {
        // The kernel's mappings of what is no memory have the physical address -1.
        let file =
            file(&[(u64::MAX, 1 << 40, 0x1000), (0x1000, 0x9e000, 0x5000), (0x10_0000, 0x1000, 0x8000)]);
        assert_eq!(offset_of(&file, 0x1000), Some(0x5000));
        assert_eq!(offset_of(&file, 0x10_0020), Some(0x8020));
        assert_eq!(offset_of(&file, 0x10_1000), None);
        assert_eq!(offset_of(&file, 0), None);
    }

    proptest! {
        #[test]
        fn no_file_panics(head: Vec<u8>, physical: u64) {
            let _ = offset_of(&head, physical);
        }
    }
}
