// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where RAM lies: below the device hole, and a piece above 4 GiB.

use crate::layout::{self, HIGH_RAM, HIGH_RAM_SIZE, LARGE_PAGE_SIZE};

/// Why a RAM size cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The kernel, its swiotlb and its initramfs need more.
    #[error("{} MiB of guest RAM is too small: give at least {} MiB", .0 >> 20, layout::MIN_RAM >> 20)]
    TooSmall(u64),
    /// Low RAM would run into the device hole.
    #[error("{} MiB of guest RAM is too much: copra places at most {} MiB", .0 >> 20, layout::MAX_RAM >> 20)]
    TooLarge(u64),
    /// Memory slots with huge pages need whole 2 MiB pages.
    #[error("{} MiB of guest RAM is not a multiple of 2 MiB: give an even number", .0 >> 20)]
    Unaligned(u64),
}

/// How the guest uses a range of RAM, in e820's terms (`arch/x86/include/uapi/asm/e820.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum E820Type {
    /// Usable RAM.
    Ram = 1,
    /// Firmware's; Linux marks it Reserved in /proc/iomem.
    Reserved = 2,
    /// ACPI tables; Linux maps it encrypted (`arch/x86/mm/ioremap.c:__ioremap_check_encrypted`).
    Acpi = 3,
}

/// One entry of the memory map handed to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct E820Entry {
    /// First GPA.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Use.
    pub kind: E820Type,
}

/// The RAM of one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ram {
    low_end: u64,
}

impl Ram {
    /// `total` bytes, [`HIGH_RAM_SIZE`] of them above 4 GiB.
    pub fn new(total: u64) -> Result<Self, RamError> {
        if total < layout::MIN_RAM {
            return Err(RamError::TooSmall(total));
        }
        if total > layout::MAX_RAM {
            return Err(RamError::TooLarge(total));
        }
        if !total.is_multiple_of(LARGE_PAGE_SIZE) {
            return Err(RamError::Unaligned(total));
        }
        Ok(Self { low_end: total - HIGH_RAM_SIZE })
    }

    /// One past the last byte of low RAM.
    pub fn low_end(&self) -> u64 {
        self.low_end
    }

    /// One past the last byte of RAM.
    pub fn end(&self) -> u64 {
        HIGH_RAM + HIGH_RAM_SIZE
    }

    /// Bytes a host mapping needs: low RAM with the VGA window in it, then high RAM.
    pub fn mapped_size(&self) -> u64 {
        self.low_end + HIGH_RAM_SIZE
    }

    /// Start of the reserved hole above 1 MiB.
    pub fn reserved(&self) -> u64 {
        self.acpi() - layout::RESERVED_SIZE
    }

    /// Start of the ACPI data.
    pub fn acpi(&self) -> u64 {
        self.low_end - layout::ACPI_DATA_SIZE
    }

    /// Where the ACPI tables lie, the RSDP first.
    pub fn acpi_tables(&self) -> u64 {
        self.acpi() + layout::ACPI_TABLES_OFFSET
    }

    /// Where the EFI tables lie on platforms that need any: the end of low RAM the kernel may use.
    pub fn efi(&self) -> u64 {
        self.reserved() - layout::EFI_SIZE
    }

    /// Offset in a host mapping of the byte at `gpa`, if memory backs it.
    pub fn offset(&self, gpa: u64) -> Option<u64> {
        match gpa {
            layout::VGA..layout::ROM => None,
            _ if gpa < self.low_end => Some(gpa),
            _ if (HIGH_RAM..self.end()).contains(&gpa) => Some(gpa - HIGH_RAM + self.low_end),
            _ => None,
        }
    }

    /// GPA of the byte at `offset` in a host mapping.
    pub fn gpa(&self, offset: u64) -> u64 {
        if offset < self.low_end { offset } else { offset - self.low_end + HIGH_RAM }
    }

    /// GPA ranges memory backs, each contiguous in the host mapping.
    pub fn backed(&self) -> [(u64, u64); 3] {
        [(0, layout::VGA), (layout::ROM, self.low_end - layout::ROM), (HIGH_RAM, HIGH_RAM_SIZE)]
    }

    /// The memory map the guest is given.
    pub fn e820(&self) -> [E820Entry; 8] {
        let entry = |start, end: u64, kind| E820Entry { start, len: end - start, kind };
        [
            entry(0, layout::EBDA, E820Type::Ram),
            entry(layout::EBDA, layout::VGA, E820Type::Reserved),
            entry(layout::SYSTEM_ROM, layout::HIGH_MEMORY, E820Type::Reserved),
            entry(layout::HIGH_MEMORY, self.reserved(), E820Type::Ram),
            entry(self.reserved(), self.acpi(), E820Type::Reserved),
            entry(self.acpi(), self.low_end, E820Type::Acpi),
            entry(layout::ECAM, layout::ECAM + layout::ECAM_SIZE, E820Type::Reserved),
            entry(HIGH_RAM, self.end(), E820Type::Ram),
        ]
    }

    /// The page belongs to the guest's firmware: its contents are given, private, and not the kernel's to convert.
    pub fn is_firmware(&self, gpa: u64) -> bool {
        gpa < PAGE_0_END
            || (layout::EBDA & !0xfff..layout::HIGH_MEMORY).contains(&gpa)
            || (self.reserved()..self.low_end).contains(&gpa)
    }
}

/// Page 0 is e820 RAM that the kernel itself turns into Reserved (`arch/x86/kernel/setup.c:trim_bios_range`).
const PAGE_0_END: u64 = layout::PAGE_SIZE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_out_of_range_are_refused_with_the_limit() {
        assert!(Ram::new(64 << 20).unwrap_err().to_string().contains("at least 192 MiB"));
        assert!(Ram::new(4 << 30).unwrap_err().to_string().contains("at most 3136 MiB"));
        assert!(Ram::new((256 << 20) + 4096).unwrap_err().to_string().contains("2 MiB"));
    }

    #[test]
    fn the_map_is_sorted_and_covers_ram_and_configuration_space_except_the_window_and_the_option_roms() {
        let ram = Ram::new(256 << 20).unwrap();
        let map = ram.e820();
        for pair in map.windows(2) {
            assert!(pair[0].start + pair[0].len <= pair[1].start);
        }
        for entry in map.iter().filter(|entry| entry.start != layout::ECAM) {
            assert!(ram.offset(entry.start).is_some() && ram.offset(entry.start + entry.len - 1).is_some());
        }
    }

    proptest::proptest! {
        #[test]
        fn offset_and_gpa_are_inverse(gpa in 0u64..HIGH_RAM + 2 * HIGH_RAM_SIZE) {
            let ram = Ram::new(512 << 20).unwrap();
            match ram.offset(gpa) {
                Some(offset) => {
                    proptest::prop_assert!(offset < ram.mapped_size());
                    proptest::prop_assert_eq!(ram.gpa(offset), gpa);
                    proptest::prop_assert!(ram.backed().iter().any(|(s, l)| (*s..s + l).contains(&gpa)));
                }
                None => proptest::prop_assert!(!ram.backed().iter().any(|(s, l)| (*s..s + l).contains(&gpa))),
            }
        }
    }
}
