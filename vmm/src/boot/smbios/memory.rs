// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The structures about memory, and the last two.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

use super::structures::{Header, OTHER};

/// Handle of the memory array, to which the others refer.
const MEMORY_ARRAY: u16 = 0x1000;
/// §7.17, §7.18: no error information structure is provided.
const NO_ERROR_INFORMATION: u16 = 0xfffe;

/// §7.17: Physical Memory Array (type 16).
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct MemoryArray {
    pub header: Header,
    pub location: u8,
    pub use_: u8,
    pub memory_error_correction: u8,
    pub maximum_capacity: U32,
    pub memory_error_information_handle: U16,
    pub number_of_memory_devices: U16,
    pub extended_maximum_capacity: U64,
}

const _: () = assert!(offset_of!(MemoryArray, maximum_capacity) == 7 && size_of::<MemoryArray>() == 0x17);

impl MemoryArray {
    pub(super) fn new(kib: u64) -> Self {
        /// §7.17.2: "System memory".
        const SYSTEM_MEMORY: u8 = 3;
        /// §7.17.3: "None".
        const NO_CORRECTION: u8 = 3;
        /// §7.17: the extended field holds the capacity, in bytes; as well the first capacity that needs it.
        const EXTENDED: u32 = 0x8000_0000;
        let (capacity, extended) = narrow(kib, EXTENDED);
        Self {
            header: Header::of::<Self>(16, MEMORY_ARRAY),
            location: OTHER,
            use_: SYSTEM_MEMORY,
            memory_error_correction: NO_CORRECTION,
            maximum_capacity: capacity.into(),
            memory_error_information_handle: NO_ERROR_INFORMATION.into(),
            number_of_memory_devices: 1.into(),
            extended_maximum_capacity: (extended << 10).into(),
        }
    }
}

/// The value for a field, and for the wider one that takes its place from `limit` on.
fn narrow(value: u64, limit: u32) -> (u32, u64) {
    if value < u64::from(limit) { (value as u32, 0) } else { (limit, value) }
}

/// §7.18: Memory Device (type 17).
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct MemoryDevice {
    pub header: Header,
    pub physical_memory_array_handle: U16,
    pub memory_error_information_handle: U16,
    pub total_width: U16,
    pub data_width: U16,
    pub size: U16,
    pub form_factor: u8,
    pub device_set: u8,
    pub device_locator: u8,
    pub bank_locator: u8,
    pub memory_type: u8,
    pub type_detail: U16,
    pub speed: U16,
    pub manufacturer: u8,
    pub serial_number: u8,
    pub asset_tag: u8,
    pub part_number: u8,
    pub attributes: u8,
    pub extended_size: U32,
    pub configured_memory_speed: U16,
    pub minimum_voltage: U16,
    pub maximum_voltage: U16,
    pub configured_voltage: U16,
}

const _: () = assert!(offset_of!(MemoryDevice, extended_size) == 0x1c && size_of::<MemoryDevice>() == 0x28);

impl MemoryDevice {
    pub(super) fn new(mib: u32) -> Self {
        /// §7.18.1: "DIMM".
        const DIMM: u8 = 9;
        /// §7.18.2: "RAM".
        const RAM: u8 = 7;
        /// §7.18.3: "Other".
        const OTHER_DETAIL: u16 = 1 << 1;
        /// §7.18: unknown width.
        const UNKNOWN_WIDTH: u16 = 0xffff;
        /// §7.18: the extended field holds the size, in MiB; as well the first size that needs it.
        const EXTENDED: u32 = 0x7fff;
        let (size, extended) = narrow(u64::from(mib), EXTENDED);
        Self {
            header: Header::of::<Self>(17, 0x1100),
            physical_memory_array_handle: MEMORY_ARRAY.into(),
            memory_error_information_handle: NO_ERROR_INFORMATION.into(),
            total_width: UNKNOWN_WIDTH.into(),
            data_width: UNKNOWN_WIDTH.into(),
            size: (size as u16).into(),
            form_factor: DIMM,
            device_set: 0,
            device_locator: 1,
            bank_locator: 0,
            memory_type: RAM,
            type_detail: OTHER_DETAIL.into(),
            speed: 0.into(),
            manufacturer: 2,
            serial_number: 0,
            asset_tag: 0,
            part_number: 0,
            attributes: 0,
            extended_size: (extended as u32).into(),
            configured_memory_speed: 0.into(),
            minimum_voltage: 0.into(),
            maximum_voltage: 0.into(),
            configured_voltage: 0.into(),
        }
    }
}

/// §7.20: Memory Array Mapped Address (type 19).
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct MemoryMapping {
    pub header: Header,
    pub starting_address: U32,
    pub ending_address: U32,
    pub memory_array_handle: U16,
    pub partition_width: u8,
    pub extended_starting_address: U64,
    pub extended_ending_address: U64,
}

const _: () =
    assert!(offset_of!(MemoryMapping, partition_width) == 0x0e && size_of::<MemoryMapping>() == 0x1f);

impl MemoryMapping {
    /// As if there were no holes: those are in the e820 map.
    pub(super) fn new(kib: u64) -> Self {
        /// §7.20: the extended fields hold the addresses, in bytes.
        const EXTENDED: u32 = 0xffff_ffff;
        let last = kib.max(1) - 1;
        let (start, end, extended_end) = match narrow(last, EXTENDED) {
            (EXTENDED, last) => (EXTENDED, EXTENDED, (last << 10) + 0x3ff),
            (last, _) => (0, last, 0),
        };
        Self {
            header: Header::of::<Self>(19, 0x1300),
            starting_address: start.into(),
            ending_address: end.into(),
            memory_array_handle: MEMORY_ARRAY.into(),
            partition_width: 1,
            extended_starting_address: 0.into(),
            extended_ending_address: extended_end.into(),
        }
    }
}

/// §7.33: System Boot Information (type 32).
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct BootInformation {
    pub header: Header,
    pub reserved: [u8; 6],
    pub boot_status: u8,
}

const _: () = assert!(size_of::<BootInformation>() == 0x0b);

impl BootInformation {
    pub(super) fn new() -> Self {
        Self { header: Header::of::<Self>(32, 0x2000), reserved: [0; 6], boot_status: 0 }
    }
}

/// §7.45: End-of-Table (type 127).
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct EndOfTable {
    pub header: Header,
}

impl EndOfTable {
    pub(super) fn new() -> Self {
        Self { header: Header::of::<Self>(127, 0x7f00) }
    }
}
