// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ground truth for memory that the firmware or a device owns: every 16 bytes are an ASCII text of their
//! kind and address, so that a comparison classifies an observation, and a hexdump is readable.
//!
//! ```text
//! 000f0100  3c 70 72 76 20 30 30 30  30 30 66 30 31 30 30 3e  |<prv 00000f0100>|
//! ```

use std::str;

/// Length of a cell; it begins at a multiple of this.
pub const CELL: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Bytes in which the three lowest digits count.
const PAGE: u64 = 0x1000;
/// How many hexadecimal digits the address has.
const DIGITS: usize = 10;
/// The highest address that a cell can name: 1 TiB less one cell.
pub const MAX_GPA: u64 = (1 << (4 * DIGITS)) - CELL as u64;

/// Offset of the tag in a cell.
const TAG: usize = 1;
/// Offset of the address.
const ADDRESS: usize = TAG + TAG_LENGTH + 1;
/// How long a tag is.
const TAG_LENGTH: usize = 3;

const _: () = assert!(ADDRESS + DIGITS + 1 == CELL);

/// The origin of a cell's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The private view: what the guest itself put there, or the firmware for it.
    Private,
    /// The shared view: what the host sees.
    Shared,
    /// A device at a fixed address.
    Device,
    /// The 32-bit BAR of a PCI test device; the address is an offset in it.
    Bar32,
    /// The 64-bit BAR of a PCI test device; the address is an offset in it.
    Bar64,
}

impl Tag {
    /// Every tag.
    pub const ALL: [Self; 5] = [Self::Private, Self::Shared, Self::Device, Self::Bar32, Self::Bar64];

    /// Device memory, not RAM.
    pub const fn is_device(self) -> bool {
        matches!(self, Self::Device | Self::Bar32 | Self::Bar64)
    }

    /// As it is in a cell.
    const fn text(self) -> &'static [u8; TAG_LENGTH] {
        match self {
            Self::Private => b"prv",
            Self::Shared => b"shr",
            Self::Device => b"dev",
            Self::Bar32 => b"b32",
            Self::Bar64 => b"b64",
        }
    }
}

/// The cell for an address, whose lowest four bits are ignored, and those above [`MAX_GPA`] too.
pub fn cell(tag: Tag, gpa: u64) -> [u8; CELL] {
    let gpa = gpa & MAX_GPA;
    let mut cell = *b"<--- ---------->";
    cell[TAG..ADDRESS - 1].copy_from_slice(tag.text());
    for (index, digit) in cell[ADDRESS..ADDRESS + DIGITS].iter_mut().rev().enumerate() {
        *digit = HEX[(gpa >> (4 * index)) as usize & 0xf];
    }
    cell
}

/// One byte of what [`fill`] writes.
pub fn byte(tag: Tag, gpa: u64) -> u8 {
    cell(tag, gpa)[gpa as usize % CELL]
}

/// Fills memory from `gpa` on, which need not begin or end with a cell.
pub fn fill(tag: Tag, gpa: u64, memory: &mut [u8]) {
    let len = memory.len();
    let (head, rest) = memory.split_at_mut(((gpa as usize).wrapping_neg() % CELL).min(len));
    let skipped = gpa as usize % CELL;
    head.copy_from_slice(&cell(tag, gpa)[skipped..skipped + head.len()]);
    let mut gpa = gpa.wrapping_add(head.len() as u64);
    let mut text = cell(tag, gpa);
    let mut cells = rest.chunks_exact_mut(CELL);
    for piece in &mut cells {
        if gpa.is_multiple_of(PAGE) {
            text = cell(tag, gpa);
        } else {
            // Within a page no other digits differ.
            for (place, shift) in [(DIGITS - 3, 8), (DIGITS - 2, 4)] {
                text[ADDRESS + place] = HEX[(gpa >> shift) as usize & 0xf];
            }
        }
        piece.copy_from_slice(&text);
        gpa = gpa.wrapping_add(CELL as u64);
    }
    let tail = cells.into_remainder();
    tail.copy_from_slice(&cell(tag, gpa)[..tail.len()]);
}

/// Reads one whole cell: its tag and address.
pub fn parse_cell(cell: &[u8; CELL]) -> Option<(Tag, u64)> {
    let tag = Tag::ALL.into_iter().find(|tag| cell[TAG..].starts_with(tag.text()))?;
    let digits = str::from_utf8(&cell[ADDRESS..ADDRESS + DIGITS]).ok()?;
    // `from_str_radix` takes a sign as well; the comparison below does not.
    let gpa = u64::from_str_radix(digits, 16).ok()?;
    (self::cell(tag, gpa) == *cell).then_some((tag, gpa))
}

/// The origin of bytes that are nothing but marker: the tag and the address of the first byte.
/// At least one whole cell must be among them, wherever it begins.
pub fn parse(bytes: &[u8]) -> Option<(Tag, u64)> {
    let (tag, first) = (0..CELL).find_map(|phase| {
        let cell: &[u8; CELL] = bytes.get(phase..)?.first_chunk()?;
        let (tag, gpa) = parse_cell(cell)?;
        Some((tag, gpa.checked_sub(phase as u64)?))
    })?;
    matches(tag, first, bytes).then_some((tag, first))
}

/// Whether bytes are what [`fill`] writes at that address.
pub fn matches(tag: Tag, gpa: u64, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut gpa = gpa;
    while !rest.is_empty() {
        let skipped = gpa as usize % CELL;
        let (piece, after) = rest.split_at((CELL - skipped).min(rest.len()));
        if !cell(tag, gpa)[skipped..].starts_with(piece) {
            return false;
        }
        gpa = gpa.wrapping_add(piece.len() as u64);
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags() -> impl Strategy<Value = Tag> {
        prop::sample::select(&Tag::ALL[..])
    }

    #[test]
    fn a_cell_reads_well() {
        assert_eq!(&cell(Tag::Private, 0xf_0100), b"<prv 00000f0100>");
        assert_eq!(&cell(Tag::Shared, MAX_GPA), b"<shr fffffffff0>");
        assert_eq!(parse_cell(b"<b64 00000f0100>"), Some((Tag::Bar64, 0xf_0100)));
        assert_eq!(parse_cell(b"<prv +0000f0100>"), None);
        assert_eq!(parse_cell(b"<prv 00000F0100>"), None);
        assert_eq!(parse_cell(b"<prv 00000f0101>"), None, "no cell begins there");
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"<prv 00000f0100"), None);
    }

    #[test]
    fn firmware_scans_find_nothing() {
        // romwrap (arch/x86/kernel/probe_roms.c), DMI, PCI IRQ routing, MP tables, ACPI: what Linux looks for below
        // 1 MiB. Whatever their step, none occurs anywhere.
        let mut memory = vec![0; 1 << 20];
        for tag in Tag::ALL {
            fill(tag, 0, &mut memory);
            let signatures: [&[u8]; 8] =
                [&[0x55, 0xaa], b"_SM_", b"_SM3_", b"_DMI_", b"$PIR", b"_MP_", b"RSD PTR ", b"_32_"];
            for signature in signatures {
                assert!(!memory.windows(signature.len()).any(|w| w == signature), "{signature:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn parse_finds_what_fill_wrote(tag in tags(), gpa in 0..MAX_GPA - 4096, length in 31_usize..4096) {
            let mut memory = vec![0; length];
            fill(tag, gpa, &mut memory);
            prop_assert_eq!(parse(&memory), Some((tag, gpa)));
            prop_assert!(matches(tag, gpa, &memory));
            prop_assert_eq!(byte(tag, gpa + 7), memory[7]);
        }

        #[test]
        fn any_change_is_noticed(tag in tags(), gpa in 0..MAX_GPA - 64, at in 0_usize..64, flip in 1_u8..) {
            let mut memory = [0; 64];
            fill(tag, gpa, &mut memory);
            memory[at] ^= flip;
            prop_assert!(!matches(tag, gpa, &memory));
            prop_assert_eq!(parse(&memory), None);
        }

        #[test]
        fn filling_in_pieces_is_the_same(tag in tags(), gpa in 0..MAX_GPA - 300, cut in 0_usize..300) {
            let (mut whole, mut pieces) = ([0; 300], [0; 300]);
            fill(tag, gpa, &mut whole);
            let (before, after) = pieces.split_at_mut(cut);
            fill(tag, gpa, before);
            fill(tag, gpa + cut as u64, after);
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn views_differ_in_every_cell(gpa in 0..MAX_GPA) {
            for (index, tag) in Tag::ALL.into_iter().enumerate() {
                for other in &Tag::ALL[..index] {
                    prop_assert_ne!(cell(tag, gpa), cell(*other, gpa));
                }
            }
        }

        #[test]
        fn arbitrary_bytes_are_no_marker(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(parse(&bytes), None);
        }
    }
}
