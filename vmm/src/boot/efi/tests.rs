// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables as the kernel reads them.

use proptest::prelude::*;
use zerocopy::FromBytes;

use super::structures::MEMORY_WB;
use super::*;
use crate::layout::{self, LARGE_PAGE_SIZE};
use crate::memory::ram::Ram;

const UNIT: u64 = LARGE_PAGE_SIZE;

/// Reads a structure at a guest physical address.
fn read<T: FromBytes>(efi: &Efi, address: u64) -> T {
    let at = (address - efi.info.systab) as usize;
    T::read_from_bytes(&efi.bytes[at..at + size_of::<T>()]).unwrap()
}

/// The configuration table, as `efi_config_parse_tables` walks it.
fn find(efi: &Efi, guid: Guid) -> Option<u64> {
    let system: SystemTable = read(efi, efi.info.systab);
    (0..system.number_of_table_entries.get())
        .map(|index| read::<ConfigurationTable>(efi, system.configuration_table.get() + index * 24))
        .find(|entry| entry.vendor_guid == guid)
        .map(|entry| entry.vendor_table.get())
}

/// Kind and range of each descriptor, by the strides `efi_info` gives.
fn memory(efi: &Efi) -> Vec<(u32, Range<u64>)> {
    let count = efi.info.memmap_size / efi.info.memdesc_size;
    let descriptor = |index| {
        let address = efi.info.memmap + u64::from(index * efi.info.memdesc_size);
        let found: MemoryDescriptor = read(efi, address);
        assert_eq!(found.attribute.get(), MEMORY_WB);
        let start = found.physical_start.get();
        (found.kind.get(), start..start + found.number_of_pages.get() * PAGE_SIZE)
    };
    (0..count).map(descriptor).collect()
}

/// What the kernel takes for unaccepted, unit by unit.
fn units(efi: &Efi) -> Vec<u64> {
    let at = find(efi, UNACCEPTED_TABLE).unwrap();
    let table: UnacceptedTable = read(efi, at);
    assert_eq!((table.version.get(), at % PAGE_SIZE), (1, 0));
    assert!(table.size.get().is_multiple_of(8));
    let bit = |index: u64| read::<u8>(efi, at + 24 + index / 8) >> (index % 8) & 1 == 1;
    let unit = |index: u64| table.phys_base.get() + index * u64::from(table.unit_size.get());
    (0..table.size.get() * 8).filter(|index| bit(*index)).map(unit).collect()
}

#[test]
fn a_kernel_finds_its_way_from_efi_info_to_all_tables() {
    let ram = Ram::new(512 << 20).unwrap();
    let base = 0x1000_0000;
    let ranges = [base + (32 << 20)..ram.reserved() & !(UNIT - 1), layout::HIGH_RAM..ram.end()];
    let unaccepted = Unaccepted { phys_base: 0, unit_size: UNIT as u32, ranges: &ranges, table: None };
    let memory_map = ram.e820();
    let efi = build(&Params {
        base,
        memory: &memory_map,
        runtime: None,
        smbios: Some(layout::SYSTEM_ROM),
        acpi: Some(ram.acpi_tables()),
        unaccepted: Some(unaccepted),
    })
    .unwrap();
    let system: SystemTable = read(&efi, base);
    assert_eq!(&efi.bytes[..8], b"IBI SYST");
    assert_eq!(system.hdr.revision.get(), 0x0002_0046);
    let vendor: [u16; 6] = read(&efi, system.firmware_vendor.get());
    assert_eq!(String::from_utf16(&vendor).unwrap(), "copra\0");
    assert_eq!(find(&efi, SMBIOS_TABLE), Some(layout::SYSTEM_ROM));
    assert_eq!(find(&efi, ACPI_TABLE), Some(ram.acpi_tables()));
    let size = efi.bytes.len() as u64;
    let (low_end, reserved, acpi) = (ram.low_end(), ram.reserved(), ram.acpi());
    let expected = [
        (7, 0..0x9_f000),
        (0, 0x9_f000..0xa_0000),
        (0, 0xf_0000..0x10_0000),
        (7, 0x10_0000..base),
        (4, base..base + size),
        (7, base + size..reserved),
        (0, reserved..acpi),
        (9, acpi..low_end),
        (0, layout::ECAM..layout::ECAM + layout::ECAM_SIZE),
        (7, layout::HIGH_RAM..ram.end()),
    ];
    assert_eq!(memory(&efi), expected);
    let all = ranges.iter().flat_map(|r| (r.start..r.end).step_by(UNIT as usize));
    assert_eq!(units(&efi), all.collect::<Vec<_>>());
}

#[test]
fn runtime_data_is_marked_and_a_table_elsewhere_is_pointed_to() {
    let ram = Ram::new(512 << 20).unwrap();
    let memory_map = ram.e820();
    let high = layout::HIGH_RAM..ram.end();
    let ranges = std::slice::from_ref(&high);
    let table = ram.acpi() + 0xfb0;
    let efi = build(&Params {
        base: 0x1000_0000,
        memory: &memory_map,
        runtime: Some(ram.reserved()..ram.acpi()),
        smbios: Some(ram.reserved()),
        acpi: None,
        unaccepted: Some(Unaccepted { phys_base: 0, unit_size: UNIT as u32, ranges, table: Some(table) }),
    })
    .unwrap();
    assert_eq!(find(&efi, UNACCEPTED_TABLE), Some(table));
    let (at, bytes) = efi.unaccepted.as_ref().unwrap();
    let size = crate::memory::ram::unaccepted_table_size(ram.end(), UNIT);
    assert_eq!((*at, bytes.len() as u64), (table, size));
    let count = efi.info.memmap_size / efi.info.memdesc_size;
    let descriptors = (0..count)
        .map(|n| read::<MemoryDescriptor>(&efi, efi.info.memmap + u64::from(n * efi.info.memdesc_size)));
    let runtime: Vec<_> = descriptors.filter(|it| it.kind.get() == 6).collect();
    assert_eq!(runtime.len(), 1);
    assert_eq!((runtime[0].physical_start.get(), runtime[0].attribute.get()), (ram.reserved(), 1 << 63 | 8));
}

#[test]
fn guids_are_in_memory_as_efi_has_them() {
    let expected =
        [0x3c, 0xde, 0xd1, 0xd5, 0x5c, 0x10, 0xf9, 0x44, 0x9e, 0xa9, 0xbc, 0xef, 0x98, 0x12, 0x00, 0x31];
    assert_eq!(UNACCEPTED_TABLE.as_bytes(), expected);
    assert_eq!(ACPI_TABLE.as_bytes()[..8], [0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11]);
    assert_eq!(SMBIOS_TABLE.as_bytes()[..8], [0x31, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11]);
}

#[test]
fn efi_info_has_both_halves_of_addresses() {
    let entry = E820Entry { start: layout::HIGH_RAM, len: 64 << 20, kind: E820Type::Ram };
    let params = Params {
        base: layout::HIGH_RAM,
        memory: &[entry],
        runtime: None,
        smbios: None,
        acpi: None,
        unaccepted: None,
    };
    let efi = build(&params).unwrap();
    let info = efi.info.boot_params();
    let (signature, low, high) = (info.efi_loader_signature, info.efi_systab, info.efi_systab_hi);
    assert_eq!((signature.to_le_bytes(), low, high), (*b"EL64", 0, 1));
    assert_eq!(({ info.efi_memmap_hi }, u64::from(info.efi_memmap)), (1, efi.info.memmap & 0xffff_ffff));
    assert_eq!((find(&efi, SMBIOS_TABLE), find(&efi, UNACCEPTED_TABLE)), (None, None));
}

#[test]
fn the_checksum_is_right() {
    let entry = E820Entry { start: 0, len: 64 << 20, kind: E820Type::Ram };
    let params =
        Params { base: 0, memory: &[entry], runtime: None, smbios: Some(1), acpi: None, unaccepted: None };
    let mut table = build(&params).unwrap().bytes;
    table.truncate(size_of::<SystemTable>());
    let expected = u32::from_le_bytes(table[16..20].try_into().unwrap());
    table[16..20].fill(0);
    let mut crc = flate2::Crc::new();
    crc.update(&table);
    assert_eq!(crc.sum(), expected);
}

#[test]
fn what_linux_could_not_read_is_refused() {
    let memory = [
        E820Entry { start: 0, len: 64 << 20, kind: E820Type::Ram },
        E820Entry { start: 64 << 20, len: 64 << 20, kind: E820Type::Reserved },
    ];
    let params =
        Params { base: 0x1000, memory: &memory, runtime: None, smbios: None, acpi: None, unaccepted: None };
    for base in [0x1001, 64 << 20, (64 << 20) - PAGE_SIZE + 8, !(PAGE_SIZE - 1)] {
        let result = build(&Params { base, ..params.clone() });
        assert!(matches!(result, Err(EfiError::Place { .. })), "{base:#x}");
    }
    let with = |phys_base, unit_size, range: Range<u64>| {
        let ranges = [range];
        let unaccepted = Some(Unaccepted { phys_base, unit_size, ranges: &ranges, table: None });
        build(&Params { unaccepted, ..params.clone() }).unwrap_err()
    };
    let unit = UNIT as u32;
    assert_eq!(with(0, unit, 0..UNIT), EfiError::Unaccepted { base: 0x1000 });
    for (phys_base, unit_size) in [(0, 0), (0, 3 << 12), (0, 2048), (4096, unit)] {
        assert_eq!(with(phys_base, unit_size, UNIT..2 * UNIT), EfiError::Unit { unit_size, phys_base });
    }
    let backwards = Range { start: 4 * UNIT, end: 3 * UNIT };
    for range in
        [UNIT..3 * UNIT, 4 * UNIT..5 * UNIT - 1, 4 * UNIT + 1..5 * UNIT, backwards, 2 * UNIT..1 << 60]
    {
        let (start, end) = (range.start, range.end);
        assert_eq!(with(2 * UNIT, unit, range), EfiError::Range { start, end });
    }
}

proptest! {
    #[test]
    fn any_map_gives_sorted_pages_in_which_ram_is_ram(
        lengths in prop::collection::vec((0u64..0x5000, 0u64..0x40_0000, 0usize..3), 0..100),
    ) {
        let mut at = 16 << 20;
        let mut entries = vec![E820Entry { start: 0, len: at, kind: E820Type::Ram }];
        for (gap, len, kind) in lengths {
            let kind = [E820Type::Ram, E820Type::Reserved, E820Type::Acpi][kind];
            entries.push(E820Entry { start: at + gap, len, kind });
            at += gap + len;
        }
        let efi = build(&Params { base: 0x10_0000, memory: &entries, runtime: None, smbios: None, acpi: None, unaccepted: None }).unwrap();
        let map = memory(&efi);
        for pair in map.windows(2) {
            prop_assert!(pair[0].1.end <= pair[1].1.start);
        }
        prop_assert!((efi.bytes.len() as u64).is_multiple_of(PAGE_SIZE));
        prop_assert!(efi.info.memmap + u64::from(efi.info.memmap_size) <= 0x10_0000 + efi.bytes.len() as u64);
        let ram = |page: u64| {
            let holds = |e: &E820Entry| {
                e.kind == E820Type::Ram && e.start <= page && page + PAGE_SIZE <= e.start + e.len
            };
            entries.iter().any(holds)
        };
        for (kind, range) in &map {
            prop_assert!(!range.is_empty() && range.start % PAGE_SIZE == 0);
            for page in [range.start, range.end - PAGE_SIZE] {
                prop_assert_eq!(matches!(kind, 4 | 7), ram(page));
            }
        }
        // Nothing but what has no whole page is left out.
        let reserved = entries.iter().filter(|e| e.kind != E820Type::Ram && e.len > 0);
        for entry in reserved {
            prop_assert!(map.iter().any(|(_, r)| r.contains(&entry.start)));
        }
    }

    #[test]
    fn exactly_the_ranges_are_unaccepted(
        phys_base in 0u64..8,
        mut cuts in prop::collection::btree_set(8u64..2000, 0..20),
        shift in 12u32..22,
    ) {
        let unit = 1u64 << shift;
        if cuts.len() % 2 == 1 {
            cuts.pop_last();
        }
        let cuts: Vec<_> = cuts.into_iter().map(|c| c * unit).collect();
        let ranges: Vec<_> = cuts.chunks(2).map(|c| c[0]..c[1]).collect();
        let entry = E820Entry { start: 0, len: 8 << 30, kind: E820Type::Ram };
        let unaccepted =
            Some(Unaccepted { phys_base: phys_base * unit, unit_size: unit as u32, ranges: &ranges, table: None });
        let base = 4 << 30;
        let efi = build(&Params { base, memory: &[entry], runtime: None, smbios: None, acpi: None, unaccepted }).unwrap();
        let expected: Vec<_> = ranges.into_iter().flat_map(|r| r.step_by(unit as usize)).collect();
        prop_assert_eq!(units(&efi), expected);
    }

    #[test]
    fn no_numbers_disturb(
        base: u64, start: u64, len: u64, smbios: Option<u64>, phys_base: u64, unit_size: u32, from: u64, to: u64,
        shift in 0u32..64,
    ) {
        let memory = [
            E820Entry { start, len, kind: E820Type::Ram },
            E820Entry { start: len, len: start, kind: E820Type::Acpi },
        ];
        let ranges = [from >> shift..to >> shift, 0..0];
        let unaccepted = Some(Unaccepted { phys_base: phys_base >> shift, unit_size, ranges: &ranges, table: None });
        let _ = build(&Params { base, memory: &memory, runtime: None, smbios, acpi: None, unaccepted: unaccepted.clone() });
        let base = (start >> 12 << 12).saturating_add(PAGE_SIZE);
        let unaccepted = Some(Unaccepted { phys_base: 0, unit_size: 1 << (shift % 32), ranges: &ranges, table: None });
        let _ = build(&Params { base, memory: &memory, runtime: None, smbios, acpi: None, unaccepted });
        let _ = build(&Params { base, memory: &memory, runtime: None, smbios, acpi: None, unaccepted: None });
    }
}
