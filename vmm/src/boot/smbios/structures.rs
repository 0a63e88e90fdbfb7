// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The formatted parts of SMBIOS structures, those about memory apart; fields have the specification's names and
//! order. A field that holds a string holds its number among the structure's strings.
#![expect(clippy::struct_field_names, reason = "the specification's names")]

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

/// §7: "unknown" in most enumerations.
const UNKNOWN: u8 = 2;
/// §7: "other" in most enumerations.
pub(super) const OTHER: u8 = 1;
/// §7.4.3: "none".
const NONE: u8 = 3;
/// §6.1.2: what every structure begins with.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub kind: u8,
    pub length: u8,
    pub handle: U16,
}

impl Header {
    /// The header of a formatted part of type `T`.
    pub(super) const fn of<T>(kind: u8, handle: u16) -> Self {
        Self { kind, length: size_of::<T>() as u8, handle: U16::new(handle) }
    }
}

/// §5.2.1: SMBIOS 2.1 (32-bit) entry point, the intermediate one included.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct EntryPoint {
    pub anchor_string: [u8; 4],
    pub checksum: u8,
    pub length: u8,
    pub major_version: u8,
    pub minor_version: u8,
    pub maximum_structure_size: U16,
    pub entry_point_revision: u8,
    pub formatted_area: [u8; 5],
    pub intermediate_anchor_string: [u8; 5],
    pub intermediate_checksum: u8,
    pub structure_table_length: U16,
    pub structure_table_address: U32,
    pub number_of_structures: U16,
    pub bcd_revision: u8,
}

const _: () = {
    assert!(offset_of!(EntryPoint, intermediate_anchor_string) == 0x10);
    assert!(offset_of!(EntryPoint, structure_table_address) == 0x18);
    assert!(offset_of!(EntryPoint, bcd_revision) == 0x1e);
    assert!(size_of::<EntryPoint>() == 0x1f);
};

impl EntryPoint {
    /// With both checksums.
    pub(super) fn new(version: (u8, u8), largest: u16, length: u16, address: u32, count: u16) -> Self {
        let mut entry = Self {
            anchor_string: *b"_SM_",
            checksum: 0,
            length: size_of::<Self>() as u8,
            major_version: version.0,
            minor_version: version.1,
            maximum_structure_size: largest.into(),
            entry_point_revision: 0,
            formatted_area: [0; 5],
            intermediate_anchor_string: *b"_DMI_",
            intermediate_checksum: 0,
            structure_table_length: length.into(),
            structure_table_address: address.into(),
            number_of_structures: count.into(),
            bcd_revision: version.0 << 4 | version.1,
        };
        let intermediate = offset_of!(Self, intermediate_anchor_string);
        entry.intermediate_checksum = checksum(&entry.as_bytes()[intermediate..]);
        entry.checksum = checksum(entry.as_bytes());
        entry
    }
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// §7.1: BIOS Information (type 0).
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Bios {
    pub header: Header,
    pub vendor: u8,
    pub bios_version: u8,
    pub bios_starting_address_segment: U16,
    pub bios_release_date: u8,
    pub bios_rom_size: u8,
    pub bios_characteristics: U64,
    pub bios_characteristics_extension: [u8; 2],
    pub system_bios_major_release: u8,
    pub system_bios_minor_release: u8,
    pub embedded_controller_major_release: u8,
    pub embedded_controller_minor_release: u8,
}

const _: () = assert!(offset_of!(Bios, bios_characteristics) == 0x0a && size_of::<Bios>() == 0x18);

impl Bios {
    pub(super) fn new() -> Self {
        /// §7.1.1: "BIOS Characteristics are not supported".
        const NOT_SUPPORTED: u64 = 1 << 3;
        /// §7.1.2.2: "SMBIOS table describes a virtual machine".
        const VIRTUAL_MACHINE: u8 = 1 << 4;
        /// §7.1: there is no such release number.
        const NO_RELEASE: u8 = 0xff;
        Self {
            header: Header::of::<Self>(0, 0),
            vendor: 1,
            bios_version: 2,
            bios_starting_address_segment: 0xf000.into(),
            bios_release_date: 3,
            bios_rom_size: 0,
            bios_characteristics: NOT_SUPPORTED.into(),
            bios_characteristics_extension: [0, VIRTUAL_MACHINE],
            system_bios_major_release: NO_RELEASE,
            system_bios_minor_release: NO_RELEASE,
            embedded_controller_major_release: NO_RELEASE,
            embedded_controller_minor_release: NO_RELEASE,
        }
    }
}

/// §7.2: System Information (type 1).
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct System {
    pub header: Header,
    pub manufacturer: u8,
    pub product_name: u8,
    pub version: u8,
    pub serial_number: u8,
    pub uuid: [u8; 16],
    pub wake_up_type: u8,
    pub sku_number: u8,
    pub family: u8,
}

const _: () = assert!(offset_of!(System, uuid) == 0x08 && size_of::<System>() == 0x1b);

impl System {
    pub(super) fn new(uuid: u128) -> Self {
        /// §7.2.2: "Power Switch".
        const POWER_SWITCH: u8 = 6;
        // §7.2.1: the first three fields of a UUID are in little-endian order.
        let mut uuid = uuid.to_be_bytes();
        uuid[..4].reverse();
        uuid[4..6].reverse();
        uuid[6..8].reverse();
        Self {
            header: Header::of::<Self>(1, 0x0100),
            manufacturer: 1,
            product_name: 2,
            version: 3,
            serial_number: 0,
            uuid,
            wake_up_type: POWER_SWITCH,
            sku_number: 0,
            family: 0,
        }
    }
}

/// §7.4: System Enclosure or Chassis (type 3).
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Chassis {
    pub header: Header,
    pub manufacturer: u8,
    pub kind: u8,
    pub version: u8,
    pub serial_number: u8,
    pub asset_tag_number: u8,
    pub boot_up_state: u8,
    pub power_supply_state: u8,
    pub thermal_state: u8,
    pub security_status: u8,
    pub oem_defined: U32,
    pub height: u8,
    pub number_of_power_cords: u8,
    pub contained_element_count: u8,
    pub contained_element_record_length: u8,
    pub sku_number: u8,
}

const _: () = assert!(offset_of!(Chassis, oem_defined) == 0x0d && size_of::<Chassis>() == 0x16);

impl Chassis {
    pub(super) fn new() -> Self {
        Self {
            header: Header::of::<Self>(3, 0x0300),
            manufacturer: 1,
            kind: OTHER,
            version: 0,
            serial_number: 0,
            asset_tag_number: 0,
            boot_up_state: UNKNOWN,
            power_supply_state: UNKNOWN,
            thermal_state: UNKNOWN,
            security_status: NONE,
            oem_defined: 0.into(),
            height: 0,
            number_of_power_cords: 0,
            contained_element_count: 0,
            contained_element_record_length: 0,
            sku_number: 0,
        }
    }
}

/// §7.5: Processor Information (type 4).
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Processor {
    pub header: Header,
    pub socket_designation: u8,
    pub processor_type: u8,
    pub processor_family: u8,
    pub processor_manufacturer: u8,
    pub processor_id: U64,
    pub processor_version: u8,
    pub voltage: u8,
    pub external_clock: U16,
    pub max_speed: U16,
    pub current_speed: U16,
    pub status: u8,
    pub processor_upgrade: u8,
    pub l1_cache_handle: U16,
    pub l2_cache_handle: U16,
    pub l3_cache_handle: U16,
    pub serial_number: u8,
    pub asset_tag: u8,
    pub part_number: u8,
    pub core_count: u8,
    pub core_enabled: u8,
    pub thread_count: u8,
    pub processor_characteristics: U16,
    pub processor_family_2: U16,
}

const _: () = assert!(offset_of!(Processor, l1_cache_handle) == 0x1a && size_of::<Processor>() == 0x2a);

impl Processor {
    pub(super) fn new() -> Self {
        /// §7.5.1: "Central Processor".
        const CENTRAL: u8 = 3;
        /// §7.5: the socket is populated, and the CPU is enabled.
        const POPULATED_ENABLED: u8 = 0x41;
        /// §7.5.9: "64-bit Capable".
        const CAPABLE_OF_64_BIT: u16 = 1 << 2;
        /// §7.5.3: no cache structure is provided.
        const NO_CACHE: u16 = 0xffff;
        Self {
            header: Header::of::<Self>(4, 0x0400),
            socket_designation: 1,
            processor_type: CENTRAL,
            processor_family: OTHER,
            processor_manufacturer: 2,
            processor_id: 0.into(),
            processor_version: 3,
            voltage: 0,
            external_clock: 0.into(),
            max_speed: 0.into(),
            current_speed: 0.into(),
            status: POPULATED_ENABLED,
            processor_upgrade: OTHER,
            l1_cache_handle: NO_CACHE.into(),
            l2_cache_handle: NO_CACHE.into(),
            l3_cache_handle: NO_CACHE.into(),
            serial_number: 0,
            asset_tag: 0,
            part_number: 0,
            core_count: 1,
            core_enabled: 1,
            thread_count: 1,
            processor_characteristics: CAPABLE_OF_64_BIT.into(),
            processor_family_2: u16::from(OTHER).into(),
        }
    }
}
