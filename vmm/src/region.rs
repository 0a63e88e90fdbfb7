// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The classes of address a kernel distinguishes, by name, as this guest has them.

use crate::layout::{self, PAGE_SIZE};
use crate::memory::ram::Ram;
use crate::platform::Platform;

/// What stands behind a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionKind {
    /// Firmware's memory, with markers.
    Firmware,
    /// The kernel's RAM.
    Ram,
    /// A device answers.
    Device,
    /// Nothing answers: reads float high.
    Nothing,
}

/// A named range of guest physical addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Name cases use.
    pub name: &'static str,
    /// First GPA.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
    /// What stands there.
    pub kind: RegionKind,
    /// One line for people.
    pub what: &'static str,
}

/// Every region of a guest, in ascending order but for aliases.
pub fn regions(ram: &Ram, platform: &dyn Platform, physical_bits: u8) -> Vec<Region> {
    use RegionKind::{Device, Firmware, Nothing, Ram as Memory};
    let region = |name, gpa, len, kind, what| Region { name, gpa, len, kind, what };
    let mut all = vec![
        region("page0", 0, PAGE_SIZE, Firmware, "page 0, which the kernel turns into Reserved"),
        region("bda", layout::BDA, layout::BDA_END - layout::BDA, Firmware, "BIOS data area, inside page 0"),
        region(
            "low-ram",
            layout::COMMAND_LINE,
            PAGE_SIZE,
            Memory,
            "System RAM below 1 MiB: the kernel command line",
        ),
        region(
            "ebda",
            layout::EBDA,
            layout::VGA - layout::EBDA,
            Firmware,
            "extended BIOS data area; its page is part RAM",
        ),
        region("vga", layout::VGA, layout::ROM - layout::VGA, Device, "VGA window"),
        region("option-rom", 0xc_8000, 0x8000, Firmware, "option ROM area, in no e820 entry"),
        region(
            "rom",
            layout::SYSTEM_ROM,
            0x1_0000,
            Firmware,
            "system ROM, e820 reserved, SMBIOS entry point first",
        ),
        region("ram", 0x100_0000, PAGE_SIZE, Memory, "System RAM above 1 MiB: kernel text"),
        region("reserved", ram.reserved(), layout::RESERVED_SIZE, Firmware, "e820 reserved hole above 1 MiB"),
        region(
            "acpi-data",
            ram.acpi(),
            layout::ACPI_DATA_SIZE,
            Firmware,
            "e820 ACPI data: a confidential guest's SMBIOS structures",
        ),
        region("bar32", layout::BAR32, PAGE_SIZE, Device, "32-bit BAR of a PCI device without driver"),
        region(
            "mmio-claimed",
            layout::CLAIMED_MMIO,
            layout::CLAIMED_MMIO_SIZE,
            Device,
            "device memory marked busy",
        ),
        region("mmio-unclaimed", layout::UNCLAIMED_MMIO, 0x1_0000, Nothing, "device hole nobody claims"),
        region("lapic", layout::LAPIC, PAGE_SIZE, Device, "local APIC"),
        region("high-ram", layout::HIGH_RAM, layout::HIGH_RAM_SIZE, Memory, "System RAM above 4 GiB"),
        region("above-ram", ram.end(), 0x10_0000, Nothing, "above the top of RAM"),
        region("bar64", layout::BAR64, PAGE_SIZE, Device, "64-bit BAR of a PCI device without driver"),
        region(
            "beyond-maxphyaddr",
            1 << physical_bits,
            PAGE_SIZE,
            Nothing,
            "above the processor's physical address bits",
        ),
    ];
    if let Some(bit) = platform.encryption_bit() {
        all.push(region(
            "cbit-alias-ram",
            0x100_0000 | 1 << bit,
            PAGE_SIZE,
            Memory,
            "System RAM above 1 MiB, addressed with the encryption bit set",
        ));
    }
    all
}
