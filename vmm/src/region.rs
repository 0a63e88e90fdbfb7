// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The classes of address a kernel distinguishes, by name, as this guest has them.

use std::borrow::Cow;

use types::{PlacedRegion, Region};

use crate::layout::{self, PAGE_SIZE};
use crate::memory::ram::Ram;
use crate::platform::PlatformModel;

/// Every region of a guest, in ascending order but for aliases.
pub fn regions(ram: &Ram, platform: &dyn PlatformModel, physical_bits: u8) -> Vec<PlacedRegion> {
    let region = |region, gpa, len, kind| PlacedRegion { region, gpa, len, kind: Cow::Borrowed(kind) };
    let mut all = vec![
        region(Region::Page0, 0, PAGE_SIZE, "page 0, which the kernel turns into Reserved"),
        region(Region::Bda, layout::BDA, layout::BDA_END - layout::BDA, "BIOS data area, inside page 0"),
        region(
            Region::LowRam,
            layout::COMMAND_LINE,
            PAGE_SIZE,
            "System RAM below 1 MiB: the kernel command line",
        ),
        region(
            Region::Ebda,
            layout::EBDA,
            layout::VGA - layout::EBDA,
            "extended BIOS data area; its page is part RAM",
        ),
        region(Region::Vga, layout::VGA, layout::ROM - layout::VGA, "VGA window"),
        region(Region::OptionRom, 0xc_8000, 0x8000, "option ROM area, in no e820 entry"),
        region(
            Region::Rom,
            layout::SYSTEM_ROM,
            0x1_0000,
            "system ROM, e820 reserved, SMBIOS entry point first",
        ),
        region(Region::Ram, 0x100_0000, PAGE_SIZE, "System RAM above 1 MiB: kernel text"),
        region(Region::Reserved, ram.reserved(), layout::RESERVED_SIZE, "e820 reserved hole above 1 MiB"),
        region(
            Region::AcpiData,
            ram.acpi(),
            layout::ACPI_DATA_SIZE,
            "e820 ACPI data: a confidential guest's SMBIOS structures",
        ),
        region(Region::Bar32, layout::BAR32, PAGE_SIZE, "32-bit BAR of a PCI device without driver"),
        region(
            Region::MmioClaimed,
            layout::CLAIMED_MMIO,
            layout::CLAIMED_MMIO_SIZE,
            "device memory marked busy",
        ),
        region(Region::MmioUnclaimed, layout::UNCLAIMED_MMIO, 0x1_0000, "unclaimed device hole"),
        region(Region::Lapic, layout::LAPIC, PAGE_SIZE, "local APIC"),
        region(Region::AboveRam, ram.end(), 0x10_0000, "above the top of RAM"),
        region(Region::Bar64, layout::BAR64, PAGE_SIZE, "64-bit BAR of a PCI device without driver"),
        region(
            Region::BeyondMaxphyaddr,
            1 << physical_bits,
            PAGE_SIZE,
            "above the processor's physical address bits",
        ),
    ];
    if ram.high() > 0 {
        let above = all.iter().position(|placed| placed.region == Region::AboveRam).unwrap_or(all.len());
        all.insert(above, region(Region::HighRam, layout::HIGH_RAM, ram.high(), "System RAM above 4 GiB"));
    }
    if let Some(bit) = platform.encryption_bit() {
        all.push(region(
            Region::CbitAliasRam,
            0x100_0000 | 1 << bit,
            PAGE_SIZE,
            "System RAM above 1 MiB, addressed with the encryption bit set",
        ));
    }
    all
}
