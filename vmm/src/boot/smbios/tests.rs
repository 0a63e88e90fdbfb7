// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables as a kernel and dmidecode read them.

use std::process::Command;

use proptest::prelude::*;

use super::*;

/// Where the table is in a dump that dmidecode reads.
const DUMP_TABLE: u32 = 32;

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A structure as found in the table.
struct Found {
    kind: u8,
    handle: u16,
    formatted: Vec<u8>,
    strings: Vec<String>,
}

/// Walks the table as `dmi_decode_table` of `drivers/firmware/dmi_scan.c` does.
fn walk(table: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut rest = table;
    while !rest.is_empty() {
        let length = rest[1] as usize;
        let end = length + rest[length..].windows(2).position(|w| w == [0, 0]).unwrap();
        let strings = &rest[length..end];
        found.push(Found {
            kind: rest[0],
            handle: u16::from_le_bytes([rest[2], rest[3]]),
            formatted: rest[..length].to_vec(),
            strings: strings
                .split(|&b| b == 0)
                .filter(|s| !s.is_empty())
                .map(|s| String::from_utf8(s.to_vec()).unwrap())
                .collect(),
        });
        rest = &rest[end + 2..];
    }
    found
}

#[test]
fn dmidecode_has_no_complaints() {
    if Command::new("dmidecode").arg("--version").output().is_err() {
        println!("skipped: dmidecode is not installed");
        return;
    }
    let smbios = build(&Params { platform: "sev", table_address: DUMP_TABLE, ram_mib: 2112 });
    let mut dump = smbios.entry_point;
    dump.resize(DUMP_TABLE as usize, 0);
    dump.extend_from_slice(&smbios.table);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), dump).unwrap();
    let output = Command::new("dmidecode").arg("--from-dump").arg(file.path()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{text}");
    for complaint in
        ["wrong", "invalid", "broken", "out of spec", "truncated", "bad index", "unexpected", "<", "warning"]
    {
        assert!(!text.to_lowercase().contains(complaint), "{complaint} in\n{text}");
    }
    for fact in [
        "SMBIOS 2.8 present.",
        "9 structures occupying",
        "Product Name: simulated SEV guest",
        "System is a virtual machine",
        "UUID: 636f7072-6100-8000-8000-000000000001",
        "Size: 2112 MB",
        "Range Size: 2112 MB",
        "End Of Table",
    ] {
        assert!(text.contains(fact), "no {fact} in\n{text}");
    }
}

#[test]
fn the_platform_is_named() {
    let product = |platform| {
        let smbios = build(&Params { platform, table_address: 0, ram_mib: 512 });
        walk(&smbios.table)[1].strings[1].clone()
    };
    assert_eq!(product("sev"), "simulated SEV guest");
    assert_eq!(product("none"), "guest without memory encryption");
}

proptest! {
    #[test]
    fn tables_are_well_formed(platform in "\\PC{0,80}", table_address: u32, ram_mib: u32) {
        let Smbios { entry_point, table } = build(&Params { platform: &platform, table_address, ram_mib });
        prop_assert_eq!(entry_point.len(), 0x1f);
        prop_assert_eq!(sum(&entry_point), 0);
        prop_assert_eq!(sum(&entry_point[0x10..]), 0);
        prop_assert_eq!(&entry_point[0x18..0x1c], &table_address.to_le_bytes());
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([entry_point[at], entry_point[at + 1]]));
        prop_assert_eq!(u16_at(0x16), table.len());

        let structures = walk(&table);
        prop_assert_eq!(u16_at(0x1c), structures.len());
        let kinds: Vec<_> = structures.iter().map(|s| s.kind).collect();
        prop_assert_eq!(kinds, [0, 1, 3, 4, 16, 17, 19, 32, 127]);
        let mut handles: Vec<_> = structures.iter().map(|s| s.handle).collect();
        handles.dedup();
        prop_assert_eq!(handles.len(), structures.len());
        let largest = structures
            .iter()
            .map(|s| s.formatted.len() + s.strings.iter().map(|s| s.len() + 1).sum::<usize>().max(1) + 1)
            .max();
        prop_assert_eq!(Some(u16_at(8)), largest);
        for structure in &structures {
            prop_assert!(structure.strings.iter().all(|s| s.len() <= MAX_STRING));
        }
        // Type 17, Size and Extended Size: the right amount by one of them.
        let device = &structures[5].formatted;
        let size = u32::from(u16::from_le_bytes([device[0x0c], device[0x0d]]));
        let extended = u32::from_le_bytes(device[0x1c..0x20].try_into().unwrap());
        prop_assert_eq!(if size == 0x7fff { extended } else { size }, ram_mib);
    }
}
