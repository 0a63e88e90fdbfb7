// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of guest physical memory that a kernel treats differently, and where one guest has them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::names::named;

named! {
    /// A part of guest physical memory that /dev/mem treats in a way of its own.
    pub enum Region ("region") {
        Page0 = "page0", "the first page: Reserved in the kernel's memory map, real-mode vectors and BIOS data area";
        Bda = "bda", "the BIOS data area, 0x400 to 0x4ff in page 0";
        Ebda = "ebda", "the extended BIOS data area at 0x9fc00, in a page that is RAM in part only";
        LowRam = "low-ram", "System RAM below 1 MiB; the boot loader's kernel command line is there";
        Vga = "vga", "the legacy VGA window at 0xa0000, a device";
        OptionRom = "option-rom", "the option ROM area at 0xc8000";
        Rom = "rom", "the system ROM area from 0xf0000: the SMBIOS entry point first";
        Ram = "ram", "System RAM above 1 MiB: the kernel's own text at 0x1000000";
        Reserved = "reserved", "memory above 1 MiB that the memory map calls Reserved";
        AcpiData = "acpi-data", "memory above 1 MiB that the memory map calls ACPI data";
        MmioClaimed = "mmio-claimed", "a device window below 4 GiB that a driver has claimed";
        MmioUnclaimed = "mmio-unclaimed", "a hole below 4 GiB that nothing claims";
        Bar32 = "bar32", "the memory BAR below 4 GiB of a PCI device without driver";
        Bar64 = "bar64", "the memory BAR above RAM of a PCI device without driver";
        Lapic = "lapic", "the local APIC at 0xfee00000";
        Unaccepted = "unaccepted", "System RAM that the guest has not accepted when its agent comes up";
        HighRam = "high-ram", "System RAM above 4 GiB";
        AboveRam = "above-ram", "the first addresses beyond the top of RAM";
        BeyondMaxphyaddr = "beyond-maxphyaddr", "addresses with more bits than the processor has";
        CbitAliasRam = "cbit-alias-ram", "the address of `ram` with the encryption or shared bit set (confidential guests only)";
    }
}

/// Where one guest has a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedRegion {
    /// The region.
    pub region: Region,
    /// Its first guest physical address.
    #[serde(serialize_with = "crate::json::address", deserialize_with = "crate::json::read_address")]
    pub gpa: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What it is on this guest, in a few words (`System RAM`, `Reserved`, `PCI 00:03.0 BAR 0`).
    pub kind: Cow<'static, str>,
}
