// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EFI's tables as a 64-bit kernel reads them (UEFI Specification 2.10; `include/linux/efi.h`), under the
//! specification's names.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// §4.3.1: `EFI_SYSTEM_TABLE_SIGNATURE`.
pub(super) const SYSTEM_TABLE_SIGNATURE: u64 = 0x5453_5953_2049_4249;
/// §4.3.1: EFI 2.7, the minor version times 10.
pub(super) const REVISION: u32 = (2 << 16) + 70;
/// §7.2.3: `EFI_MEMORY_DESCRIPTOR_VERSION`.
pub(super) const DESCRIPTOR_VERSION: u32 = 1;
/// §7.2.3: `EFI_MEMORY_WB`. Without it `add_efi_memmap` takes RAM for reserved
/// (`arch/x86/platform/efi/efi.c:do_add_efi_memmap`).
pub(super) const MEMORY_WB: u64 = 8;
/// §7.2.3: `EFI_MEMORY_RUNTIME`: used after the kernel has taken over.
pub(super) const MEMORY_RUNTIME: u64 = 1 << 63;
/// The version of [`UnacceptedTable`] that Linux reads (`drivers/firmware/efi/efi.c:efi_config_parse_tables`).
pub(super) const UNACCEPTED_VERSION: u32 = 1;
/// `SMBIOS_TABLE_GUID` (§4.6.1): the 32-bit entry point.
pub(super) const SMBIOS_TABLE: Guid =
    Guid::new(0xeb9d_2d31, 0x2d88, 0x11d3, [0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d]);
/// `EFI_ACPI_20_TABLE_GUID` (§4.6.1): the RSDP of ACPI 2.0 and later.
pub(super) const ACPI_TABLE: Guid =
    Guid::new(0x8868_e871, 0xe4f1, 0x11d3, [0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81]);
/// `LINUX_EFI_UNACCEPTED_MEM_TABLE_GUID`; Linux' own EFI stub makes this table for the kernel.
pub(super) const UNACCEPTED_TABLE: Guid =
    Guid::new(0xd5d1_de3c, 0x105c, 0x44f9, [0x9e, 0xa9, 0xbc, 0xef, 0x98, 0x12, 0x00, 0x31]);

/// §7.2.3: what memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum MemoryType {
    /// The firmware's for ever.
    Reserved = 0,
    /// The firmware's until the kernel takes over.
    BootServicesData = 4,
    /// The firmware's, and used by its runtime services.
    RuntimeServicesData = 6,
    /// Free.
    Conventional = 7,
    /// Free after ACPI's tables have been read.
    AcpiReclaim = 9,
}

impl MemoryType {
    /// The attributes of a range of this type.
    pub(super) const fn attributes(self) -> u64 {
        match self {
            Self::RuntimeServicesData => MEMORY_WB | MEMORY_RUNTIME,
            _ => MEMORY_WB,
        }
    }
}

/// Appendix A: mixed-endian, as all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Guid {
    pub data1: U32,
    pub data2: U16,
    pub data3: U16,
    pub data4: [u8; 8],
}

impl Guid {
    const fn new(data1: u32, data2: u16, data3: u16, data4: [u8; 8]) -> Self {
        Self { data1: U32::new(data1), data2: U16::new(data2), data3: U16::new(data3), data4 }
    }
}

/// §4.2.1.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct TableHeader {
    pub signature: U64,
    pub revision: U32,
    pub header_size: U32,
    /// Of the whole table, with this field zero.
    pub crc32: U32,
    pub reserved: U32,
}

/// §4.3.1. There are no consoles and no services.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct SystemTable {
    pub hdr: TableHeader,
    pub firmware_vendor: U64,
    pub firmware_revision: U32,
    pub padding: U32,
    pub consoles: [U64; 6],
    pub runtime_services: U64,
    pub boot_services: U64,
    pub number_of_table_entries: U64,
    pub configuration_table: U64,
}

const _: () = {
    assert!(offset_of!(SystemTable, firmware_vendor) == 24);
    assert!(offset_of!(SystemTable, number_of_table_entries) == 104);
    assert!(offset_of!(SystemTable, configuration_table) == 112);
    assert!(size_of::<SystemTable>() == 120);
};

/// §4.6: an entry of the configuration table.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct ConfigurationTable {
    pub vendor_guid: Guid,
    pub vendor_table: U64,
}

const _: () = assert!(size_of::<ConfigurationTable>() == 24);

/// §7.2.3, and 8 bytes more: real firmware makes its descriptors longer than they are (EDK II,
/// `CoreGetMemoryMap`), so that no reader relies on their size.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct MemoryDescriptor {
    pub kind: U32,
    pub padding: U32,
    pub physical_start: U64,
    pub virtual_start: U64,
    pub number_of_pages: U64,
    pub attribute: U64,
    pub beyond: U64,
}

const _: () = {
    assert!(offset_of!(MemoryDescriptor, attribute) == 32);
    assert!(size_of::<MemoryDescriptor>() == 48);
};

/// `struct efi_unaccepted_memory`; the bitmap follows.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct UnacceptedTable {
    pub version: U32,
    /// Bytes per bit.
    pub unit_size: U32,
    /// What the first bit represents.
    pub phys_base: U64,
    /// Bytes of bitmap.
    pub size: U64,
}

const _: () = assert!(size_of::<UnacceptedTable>() == 24);
