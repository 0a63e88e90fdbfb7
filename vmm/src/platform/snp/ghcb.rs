// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The GHCB page: one page the guest shares, where an exit's registers go out and the answer's come in.
//!
//! GHCB specification 2.03, GHCB layout; `arch/x86/include/asm/svm.h:struct ghcb`. A field counts only if its bit in
//! the valid bitmap is set: bit n is for the eight bytes at offset 8 × n.

use std::ops::Range;

use types::{PageState, View};

use crate::layout::PAGE_SIZE;
use crate::memory::{GuestMemory, MemoryError};

/// Bytes of a GHCB.
pub const SIZE: usize = PAGE_SIZE as usize;
/// The shared buffer: requests too large for registers.
pub const SHARED_BUFFER: Range<usize> = 0x800..0xff0;
/// `valid_bitmap`, 16 bytes.
pub const VALID_BITMAP: usize = 0x3f0;
const VALID_BITMAP_SIZE: usize = 16;
/// `protocol_version`, 2 bytes.
const PROTOCOL_VERSION: usize = 0xffa;
/// `ghcb_usage`, 4 bytes; 0 is the format described here.
const USAGE: usize = 0xffc;

/// A field of the save area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name in the specification.
    pub name: &'static str,
    /// Byte offset in the page.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
}

impl Field {
    const fn new(name: &'static str, offset: usize) -> Self {
        Self { name, offset, len: 8 }
    }

    /// Privilege level the exit came from.
    pub const CPL: Self = Self { name: "CPL", offset: 0xcb, len: 1 };
    /// RAX.
    pub const RAX: Self = Self::new("RAX", 0x1f8);
    /// RCX.
    pub const RCX: Self = Self::new("RCX", 0x308);
    /// RDX.
    pub const RDX: Self = Self::new("RDX", 0x310);
    /// RBX.
    pub const RBX: Self = Self::new("RBX", 0x318);
    /// The exit requested.
    pub const SW_EXITCODE: Self = Self::new("SW_EXITCODE", 0x390);
    /// First argument; [31:0] of the answer are its result.
    pub const SW_EXITINFO1: Self = Self::new("SW_EXITINFO1", 0x398);
    /// Second argument; the answer's details.
    pub const SW_EXITINFO2: Self = Self::new("SW_EXITINFO2", 0x3a0);
    /// GPA of the data that go with the request.
    pub const SW_SCRATCH: Self = Self::new("SW_SCRATCH", 0x3a8);
    /// XCR0, on which CPUID leaf 0xd depends.
    pub const XCR0: Self = Self::new("XCR0", 0x3e8);

    /// Every field used here.
    pub const ALL: [Self; 10] = [
        Self::CPL,
        Self::RAX,
        Self::RCX,
        Self::RDX,
        Self::RBX,
        Self::SW_EXITCODE,
        Self::SW_EXITINFO1,
        Self::SW_EXITINFO2,
        Self::SW_SCRATCH,
        Self::XCR0,
    ];

    /// Byte in the page, and bit in it, of the field in the valid bitmap.
    const fn validity(self) -> (usize, u8) {
        let bit = self.offset / 8;
        (VALID_BITMAP + bit / 8, 1 << (bit % 8))
    }
}

/// Why an address cannot be used as a GHCB page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GhcbError {
    /// Not in RAM, the C-bit included.
    #[error("the GHCB address {0:#x} is not RAM")]
    NotRam(u64),
    /// The hypervisor cannot read what the guest wrote there.
    #[error("the GHCB page {0:#x} is {1}, not shared")]
    NotShared(u64, PageState),
}

/// A GHCB page, read once: a guest that changes it meanwhile changes nothing.
#[derive(Debug)]
pub struct Ghcb {
    gpa: u64,
    bytes: Box<[u8; SIZE]>,
    /// The valid bitmap the guest gave; that in `bytes` is the answer's.
    valid: [u8; VALID_BITMAP_SIZE],
}

impl Ghcb {
    /// Reads the page at `gpa`, a multiple of 4 KiB, as the hypervisor sees it.
    pub fn load(memory: &GuestMemory, gpa: u64) -> Result<Self, GhcbError> {
        let state = memory.state(gpa).ok_or(GhcbError::NotRam(gpa))?;
        if state != PageState::Shared {
            return Err(GhcbError::NotShared(gpa, state));
        }
        let mut bytes = Box::new([0; SIZE]);
        memory.read(View::Shared, gpa, bytes.as_mut_slice()).map_err(|_| GhcbError::NotRam(gpa))?;
        Ok(Self::new(gpa, bytes))
    }

    fn new(gpa: u64, mut bytes: Box<[u8; SIZE]>) -> Self {
        // What the guest reads back as valid is what the answer sets (`arch/x86/kvm/svm/sev.c:sev_es_sync_from_ghcb`).
        let mut valid = [0; VALID_BITMAP_SIZE];
        let bitmap = &mut bytes[VALID_BITMAP..VALID_BITMAP + VALID_BITMAP_SIZE];
        valid.copy_from_slice(bitmap);
        bitmap.fill(0);
        Self { gpa, bytes, valid }
    }

    /// Writes the page back. A page the request itself made private takes nothing.
    pub fn store(&self, memory: &GuestMemory) -> Result<(), MemoryError> {
        memory.store(View::Shared, self.gpa, self.bytes.as_slice())
    }

    /// GPA of the page.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// The guest marked the field valid.
    pub fn is_valid(&self, field: Field) -> bool {
        let (byte, bit) = field.validity();
        self.valid[byte - VALID_BITMAP] & bit != 0
    }

    /// What the field holds, valid or not.
    pub fn raw(&self, field: Field) -> u64 {
        let mut value = [0; 8];
        value[..field.len].copy_from_slice(&self.bytes[field.offset..field.offset + field.len]);
        u64::from_le_bytes(value)
    }

    /// What the field holds, if the guest marked it valid.
    pub fn get(&self, field: Field) -> Option<u64> {
        self.is_valid(field).then(|| self.raw(field))
    }

    /// Sets a field of the answer and marks it valid.
    pub fn set(&mut self, field: Field, value: u64) {
        self.bytes[field.offset..field.offset + field.len].copy_from_slice(&value.to_le_bytes()[..field.len]);
        let (byte, bit) = field.validity();
        self.bytes[byte] |= bit;
    }

    /// Protocol version of the guest.
    pub fn protocol_version(&self) -> u16 {
        u16::from_le_bytes([self.bytes[PROTOCOL_VERSION], self.bytes[PROTOCOL_VERSION + 1]])
    }

    /// Format of the page; 0 is this one.
    pub fn usage(&self) -> u32 {
        let mut value = [0; 4];
        value.copy_from_slice(&self.bytes[USAGE..USAGE + 4]);
        u32::from_le_bytes(value)
    }

    /// Offsets in this page of `len` bytes at GPA `scratch`, which protocol version 2 requires in the shared buffer
    /// (`arch/x86/kvm/svm/sev.c:setup_vmgexit_scratch`).
    pub fn scratch(&self, scratch: u64, len: usize) -> Option<Range<usize>> {
        let start = usize::try_from(scratch.checked_sub(self.gpa)?).ok()?;
        let end = start.checked_add(len)?;
        (start >= SHARED_BUFFER.start && end <= SHARED_BUFFER.end).then_some(start..end)
    }

    /// Bytes of the page.
    pub fn bytes(&self) -> &[u8; SIZE] {
        &self.bytes
    }

    /// Bytes of the page, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8; SIZE] {
        &mut self.bytes
    }
}

/// Marks a field valid in raw page bytes and fills it: what a guest does before an exit.
#[cfg(test)]
pub(super) fn put(bytes: &mut [u8; SIZE], field: Field, value: u64) {
    bytes[field.offset..field.offset + field.len].copy_from_slice(&value.to_le_bytes()[..field.len]);
    let (byte, bit) = field.validity();
    bytes[byte] |= bit;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ghcb(bytes: &[u8; SIZE]) -> Ghcb {
        Ghcb::new(0x10_0000, Box::new(*bytes))
    }

    #[test]
    fn a_field_counts_only_if_its_bit_is_set_and_the_answer_starts_with_none() {
        let mut bytes = [0; SIZE];
        bytes[0x1f8] = 5;
        assert_eq!(ghcb(&bytes).get(Field::RAX), None);
        // GHCB_BITMAP_IDX(rax) = 0x1f8 / 8 = 63.
        bytes[0x3f0 + 7] = 0x80;
        let mut page = ghcb(&bytes);
        assert_eq!(page.get(Field::RAX), Some(5));
        assert_eq!(page.bytes()[0x3f0..0x400], [0; 16]);
        page.set(Field::SW_EXITINFO2, 9);
        // 0x3a0 / 8 = 116.
        assert_eq!(page.bytes()[0x3f0 + 14], 1 << 4);
        assert_eq!(page.bytes()[0x3a0], 9);
    }

    #[test]
    fn scratch_stays_inside_the_shared_buffer() {
        let page = ghcb(&[0; SIZE]);
        assert_eq!(page.scratch(0x10_0800, 8), Some(0x800..0x808));
        assert_eq!(page.scratch(0x10_0800, 0x7f0), Some(0x800..0xff0));
        for (scratch, len) in [
            (0x10_07ff, 1),
            (0x10_0800, 0x7f1),
            (0x10_0ff0, 1),
            (0x0f_f800, 8),
            (u64::MAX, 8),
            (0x10_0800, usize::MAX),
        ] {
            assert_eq!(page.scratch(scratch, len), None, "{scratch:#x} {len:#x}");
        }
    }

    proptest! {
        #[test]
        fn what_the_guest_puts_is_what_is_read_and_nothing_else(index in 0..Field::ALL.len(), value: u64) {
            let field = Field::ALL[index];
            let mut bytes = [0; SIZE];
            put(&mut bytes, field, value);
            let page = ghcb(&bytes);
            let mask = if field.len == 8 { u64::MAX } else { (1 << (8 * field.len)) - 1 };
            prop_assert_eq!(page.get(field), Some(value & mask));
            for other in Field::ALL.into_iter().filter(|other| *other != field) {
                prop_assert_eq!(page.get(other), None);
                prop_assert_eq!(page.raw(other), 0);
            }
        }

        #[test]
        fn scratch_never_leaves_the_page(bytes in prop::collection::vec(any::<u8>(), SIZE), scratch: u64, len: usize) {
            let page = ghcb(&bytes.try_into().unwrap());
            if let Some(range) = page.scratch(scratch, len) {
                prop_assert!(range.end <= SHARED_BUFFER.end && range.start >= SHARED_BUFFER.start);
            }
        }
    }
}
