// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where RAM lies: below the device hole, and a piece above 4 GiB.

use std::ops::Range;

use types::{GuestLayout, MapForm, Platform, RomArea, TablePlace};

use crate::layout::{self, HIGH_RAM, LARGE_PAGE_SIZE, PAGE_SIZE};

/// Why a RAM size cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The kernel, its swiotlb and its initramfs need more.
    #[error("{} MiB of guest RAM is too small: give at least {} MiB", .total >> 20, .least >> 20)]
    TooSmall {
        /// Bytes given.
        total: u64,
        /// Bytes needed.
        least: u64,
    },
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
    high: u64,
    unlisted: u64,
    rom: bool,
    map: MapForm,
    /// Bytes of ACPI data for the table of unaccepted memory.
    table: u64,
    /// Bytes of EFI tables.
    efi: u64,
}

impl Ram {
    /// `total` bytes, as in a guest of the usual layout.
    pub fn new(total: u64) -> Result<Self, RamError> {
        Self::laid_out(total, &GuestLayout::default(), Platform::None)
    }

    /// `total` bytes of a guest of `platform`, as its layout places them; what does not fit below the device hole is above
    /// 4 GiB.
    pub fn laid_out(total: u64, layout: &GuestLayout, platform: Platform) -> Result<Self, RamError> {
        let high = u64::from(layout.high_mib) << 20;
        let least = layout::LEAST_LOW_RAM + high;
        if total < least {
            return Err(RamError::TooSmall { total, least });
        }
        if total > layout::MAX_RAM {
            return Err(RamError::TooLarge(total));
        }
        if !total.is_multiple_of(LARGE_PAGE_SIZE) {
            return Err(RamError::Unaligned(total));
        }
        let low_end = (total - high).min(layout::DEVICE_HOLE);
        let mut ram = Self {
            low_end,
            high: total - low_end,
            unlisted: u64::from(layout.unlisted_mib) << 20,
            rom: layout.rom != Some(RomArea::Absent),
            map: layout.map,
            table: 0,
            efi: layout::EFI_SIZE,
        };
        if layout.has_unaccepted(platform) {
            let unit = u64::from(layout.unaccepted.unit_kib) << 10;
            let size = u64::from(layout.unaccepted.offset) + unaccepted_table_size(ram.end(), unit);
            let size = size.next_multiple_of(PAGE_SIZE);
            match layout.unaccepted.table {
                TablePlace::AcpiData => ram.table = size,
                TablePlace::Ram => ram.efi = ram.efi.max(layout::EFI_OTHERS_SIZE + size),
            }
        }
        Ok(ram)
    }

    /// One past the last byte of low RAM.
    pub fn low_end(&self) -> u64 {
        self.low_end
    }

    /// One past the last byte of RAM.
    pub fn end(&self) -> u64 {
        if self.high == 0 { self.low_end } else { HIGH_RAM + self.high }
    }

    /// Bytes of RAM above 4 GiB.
    pub fn high(&self) -> u64 {
        self.high
    }

    /// There is memory in the option ROM and system ROM area.
    pub fn has_rom(&self) -> bool {
        self.rom
    }

    /// Bytes a host mapping needs: low RAM with the VGA window in it, then high RAM.
    pub fn mapped_size(&self) -> u64 {
        self.low_end + self.high
    }

    /// Start of the reserved hole above 1 MiB.
    pub fn reserved(&self) -> u64 {
        self.acpi() - layout::RESERVED_SIZE
    }

    /// Start of the ACPI data.
    pub fn acpi(&self) -> u64 {
        self.low_end - layout::ACPI_DATA_SIZE
    }

    /// Bytes kept for EFI tables.
    pub fn efi_size(&self) -> u64 {
        self.efi
    }

    /// ACPI data kept for the table of unaccepted memory; empty where it has another place.
    pub fn unaccepted_table(&self) -> Range<u64> {
        self.reserved() - self.table..self.reserved()
    }

    /// Where the ACPI tables lie, the RSDP first.
    pub fn acpi_tables(&self) -> u64 {
        self.acpi() + layout::ACPI_TABLES_OFFSET
    }

    /// Where the EFI tables lie on platforms that need any: the end of low RAM the kernel may use.
    pub fn efi(&self) -> u64 {
        self.unaccepted_table().start - self.efi
    }

    /// Offset in a host mapping of the byte at `gpa`, if memory backs it.
    pub fn offset(&self, gpa: u64) -> Option<u64> {
        match gpa {
            layout::VGA..layout::ROM => None,
            layout::ROM..layout::HIGH_MEMORY if !self.rom => None,
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
    pub fn backed(&self) -> Vec<(u64, u64)> {
        let above = if self.rom { layout::ROM } else { layout::HIGH_MEMORY };
        let low = [(0, layout::VGA), (above, self.low_end - above)];
        low.into_iter().chain((self.high > 0).then_some((HIGH_RAM, self.high))).collect()
    }

    /// The memory map the guest is given, ascending.
    pub fn e820(&self) -> Vec<E820Entry> {
        let entry =
            |range: Range<u64>, kind| E820Entry { start: range.start, len: range.end - range.start, kind };
        let mut map =
            vec![entry(0..layout::EBDA, E820Type::Ram), entry(layout::EBDA..layout::VGA, E820Type::Reserved)];
        if self.rom {
            map.push(entry(layout::SYSTEM_ROM..layout::HIGH_MEMORY, E820Type::Reserved));
        }
        self.add_ram(&mut map, layout::HIGH_MEMORY..self.unaccepted_table().start);
        if self.table > 0 {
            map.push(entry(self.unaccepted_table(), E820Type::Acpi));
        }
        map.extend([
            entry(self.reserved()..self.acpi(), E820Type::Reserved),
            entry(self.acpi()..self.low_end, E820Type::Acpi),
            entry(layout::ECAM..layout::ECAM + layout::ECAM_SIZE, E820Type::Reserved),
        ]);
        if self.high > self.unlisted {
            self.add_ram(&mut map, HIGH_RAM..self.end() - self.unlisted);
        }
        map
    }

    /// Adds usable RAM in the form of this map: the places of the cuts are far from what a boot loader uses.
    fn add_ram(&self, map: &mut Vec<E820Entry>, ram: Range<u64>) {
        let mut add = |start: u64, end: u64, kind| map.push(E820Entry { start, len: end - start, kind });
        let cuts = CUTS.iter().map(|cut| ram.start + cut).filter(|cut| cut + 2 * PAGE_SIZE < ram.end);
        let mut from = ram.start;
        for cut in cuts {
            match self.map {
                MapForm::Plain | MapForm::Descending => break,
                MapForm::Holes => {
                    add(from, cut, E820Type::Ram);
                    add(cut, cut + PAGE_SIZE, E820Type::Reserved);
                    from = cut + PAGE_SIZE;
                }
                MapForm::Ragged => {
                    add(from, cut + RAGGED_END, E820Type::Ram);
                    from = cut + RAGGED_START;
                }
            }
        }
        add(from, ram.end, E820Type::Ram);
    }

    /// The page belongs to the guest's firmware: its contents are given, private, and not the kernel's to convert.
    pub fn is_firmware(&self, gpa: u64) -> bool {
        gpa < PAGE_0_END
            || (layout::EBDA & !0xfff..layout::HIGH_MEMORY).contains(&gpa)
            || (self.reserved()..self.low_end).contains(&gpa)
    }
}

/// Bytes of `struct efi_unaccepted_memory` before its bitmap.
const UNACCEPTED_HEADER: u64 = 24;

/// Bytes of a table of unaccepted memory in units of `unit` bytes that reaches to `end`. The bitmap has whole words of 64 bits.
pub fn unaccepted_table_size(end: u64, unit: u64) -> u64 {
    UNACCEPTED_HEADER + end.div_ceil(unit).div_ceil(64) * 8
}

/// Where RAM is cut in a memory map that is not plain, from the start of a piece of it: pages at the beginning, in the midst and
/// at the end of units of 2 MiB.
const CUTS: [u64; 4] = [0x50_5000, 0x60_0000, 0x9f_f000, 0xb0_2000];
/// Where in its page a ragged piece of RAM ends.
const RAGGED_END: u64 = 0x123;
/// Where in that page the next one starts.
const RAGGED_START: u64 = 0xa01;

/// Page 0 is e820 RAM that the kernel itself turns into Reserved (`arch/x86/kernel/setup.c:trim_bios_range`).
const PAGE_0_END: u64 = PAGE_SIZE;

#[cfg(test)]
mod tests;
