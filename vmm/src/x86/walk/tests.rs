// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;
use types::{Mode, PageState};

use super::*;
use crate::layout::{self, LARGE_PAGE_SIZE};
use crate::memory::Content;
use crate::memory::GuestMemory;
use crate::memory::protected::Architecture;
use crate::memory::ram::Ram;
use crate::platform::{PlainPlatform, PlatformModel, Sev};

const BIT: u8 = 46;
const MASK: u64 = 1 << BIT;
/// Tables from the root down, one page each.
const ROOT: u64 = 0x10_0000;
const TARGET: u64 = 0x40_0000;
/// An address whose index is different at each level.
const ADDRESS: u64 = 1 << 48 | 2 << 39 | 3 << 30 | 4 << 21 | 5 << 12 | 0x678;
const ALL: u64 = PRESENT | WRITABLE | USER;

fn memory() -> GuestMemory {
    GuestMemory::unenforced(Ram::new(layout::MIN_RAM).unwrap(), Content::OneView).unwrap()
}

fn tables(levels: u32, platform: &dyn PlatformModel) -> PageTables {
    let cr4 = if levels == 5 { CR4_LA57 } else { 0 };
    // PCID bits, which are no address.
    platform.page_tables(&kvm_sregs { cr3: ROOT | 0xfff, cr4, ..Default::default() })
}

fn table(levels: u32, level: u32) -> u64 {
    ROOT + PAGE_SIZE * u64::from(levels - 1 - level)
}

fn put(memory: &GuestMemory, levels: u32, level: u32, entry: u64) {
    let index = ADDRESS >> (12 + 9 * level) & 0x1ff;
    memory.write(table(levels, level) + 8 * index, &entry.to_le_bytes()).unwrap();
}

/// Tables down to `leaf`'s level, with these rights on the way; every entry also has `mask`.
fn build(memory: &GuestMemory, levels: u32, leaf: u32, rights: u64, mask: u64) {
    for level in leaf + 1..levels {
        put(memory, levels, level, table(levels, level - 1) | mask | rights);
    }
    let large = if leaf > 0 { LARGE } else { 0 };
    put(memory, levels, leaf, TARGET | mask | rights | large);
}

#[test]
fn four_and_five_levels_lead_to_a_page_of_every_size() {
    for levels in [4, 5] {
        for leaf in 0..3 {
            let memory = memory();
            build(&memory, levels, leaf, ALL, 0);
            let size = PAGE_SIZE << (9 * leaf);
            let expected = TARGET & !(size - 1) | ADDRESS & (size - 1);
            let found = translate(&memory, &tables(levels, &PlainPlatform), ADDRESS).unwrap();
            assert_eq!((found.address, found.gpa, found.view), (expected, expected, View::Private));
            assert_eq!((found.page_size, found.writable, found.user), (size, true, true));
        }
    }
}

#[test]
fn a_page_size_bit_where_there_are_no_such_pages_is_no_leaf() {
    let memory = memory();
    build(&memory, 4, 0, ALL, 0);
    put(&memory, 4, 3, table(4, 2) | ALL | LARGE);
    assert_eq!(translate(&memory, &tables(4, &PlainPlatform), ADDRESS).map(|t| t.page_size), Some(PAGE_SIZE));
    // Bit 12 of a large entry is the PAT's, bit 63 is no-execute.
    build(&memory, 4, 1, ALL, 0);
    put(&memory, 4, 1, TARGET | ALL | LARGE | 1 << 12 | 1 << 63);
    let found = translate(&memory, &tables(4, &PlainPlatform), ADDRESS).unwrap();
    assert_eq!(found.gpa, TARGET & !(LARGE_PAGE_SIZE - 1) | ADDRESS & (LARGE_PAGE_SIZE - 1));
}

#[test]
fn a_level_that_is_not_present_ends_the_walk_and_rights_are_those_of_all_levels() {
    for missing in 0..4 {
        let memory = memory();
        build(&memory, 4, 0, ALL, 0);
        let kept = if missing == 0 { TARGET } else { table(4, missing - 1) };
        put(&memory, 4, missing, kept | WRITABLE | USER);
        assert_eq!(translate(&memory, &tables(4, &PlainPlatform), ADDRESS), None, "level {missing}");
        put(&memory, 4, missing, kept | PRESENT | USER);
        let found = translate(&memory, &tables(4, &PlainPlatform), ADDRESS).unwrap();
        assert_eq!((found.writable, found.user), (false, true), "level {missing}");
        put(&memory, 4, missing, kept | PRESENT | WRITABLE);
        let found = translate(&memory, &tables(4, &PlainPlatform), ADDRESS).unwrap();
        assert_eq!((found.writable, found.user), (true, false), "level {missing}");
    }
}

#[test]
fn an_encryption_bit_names_the_view_and_is_no_address() {
    let memory = memory();
    let sev = Sev::new(BIT, 0);
    build(&memory, 4, 0, ALL, MASK);
    let found = translate(&memory, &tables(4, &sev), ADDRESS).unwrap();
    let expected = TARGET | ADDRESS & 0xfff;
    assert_eq!((found.address, found.gpa, found.view), (expected | MASK, expected, View::Private));
    put(&memory, 4, 0, TARGET | ALL);
    let found = translate(&memory, &tables(4, &sev), ADDRESS).unwrap();
    assert_eq!((found.address, found.gpa, found.view), (expected, expected, View::Shared));
    // Without such a platform the bit is part of the address, and no RAM is there.
    put(&memory, 4, 1, table(4, 0) | ALL | MASK);
    assert_eq!(translate(&memory, &tables(4, &PlainPlatform), ADDRESS), None);
}

#[test]
fn tables_that_are_not_memory_lead_nowhere() {
    let memory = memory();
    for cr3 in [layout::VGA, layout::BAR32, !0, memory.ram().low_end()] {
        let sregs = kvm_sregs { cr3, ..Default::default() };
        assert_eq!(translate(&memory, &PlainPlatform.page_tables(&sregs), ADDRESS), None, "{cr3:#x}");
    }
    build(&memory, 4, 0, ALL, 0);
    put(&memory, 4, 1, layout::BAR32 | ALL);
    assert_eq!(translate(&memory, &tables(4, &PlainPlatform), ADDRESS), None);
}

#[test]
fn bytes_across_two_pages_are_both_pages_and_a_missing_one_spoils_them() {
    let memory = memory();
    let tables = tables(4, &PlainPlatform);
    build(&memory, 4, 0, ALL, 0);
    let border = (ADDRESS & !0xfff) + PAGE_SIZE;
    assert!(!write(&memory, &tables, border - 4, &[1; 8]));
    let next = table(4, 0) + 8 * (border >> 12 & 0x1ff);
    memory.write(next, &((TARGET + 0x5000) | ALL).to_le_bytes()).unwrap();
    assert!(write(&memory, &tables, border - 4, &[1, 2, 3, 4, 5, 6, 7, 8]));
    let mut bytes = [0; 4];
    memory.read(View::Private, TARGET + 0x5000, &mut bytes).unwrap();
    assert_eq!(bytes, [5, 6, 7, 8]);
    let mut bytes = [0; 8];
    assert!(read(&memory, &tables, border - 4, &mut bytes));
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(read(&memory, &tables, u64::MAX, &mut []) && !read(&memory, &tables, u64::MAX, &mut bytes));
}

#[test]
fn a_write_that_the_pages_state_forbids_fails_and_changes_nothing() {
    let content = Content::SeparateBacking { architecture: Architecture::Snp, mode: Mode::Faithful };
    let memory = GuestMemory::unenforced(Ram::new(layout::MIN_RAM).unwrap(), content).unwrap();
    let tables = tables(4, &Sev::new(BIT, 0));
    build(&memory, 4, 0, ALL, MASK);
    // CR3 without the bit: the root is looked for in the shared view, where it is not.
    assert_eq!(translate(&memory, &tables, ADDRESS), None);
    let sregs = kvm_sregs { cr3: ROOT | MASK, ..Default::default() };
    let tables = Sev::new(BIT, 0).page_tables(&sregs);
    assert!(write(&memory, &tables, ADDRESS, &[1; 8]));
    memory.launch_as(TARGET, PAGE_SIZE, PageState::Unaccepted).unwrap();
    assert!(!write(&memory, &tables, ADDRESS, &[1; 8]));
    memory.launch_as(TARGET, PAGE_SIZE, PageState::Shared).unwrap();
    assert!(!write(&memory, &tables, ADDRESS, &[1; 8]));
}

proptest! {
    #[test]
    fn no_table_and_no_address_does_harm(
        entries in prop::collection::vec((0u64..5 * 512, any::<u64>(), 0u64..6), 0..64),
        cr3: u64,
        address: u64,
        five: bool,
        plain: bool,
    ) {
        let memory = memory();
        for (index, random, table) in entries {
            // Half of them lead to another table.
            let entry = if random & 8 == 0 { random } else { (ROOT + PAGE_SIZE * table) | random & 0xfff | 1 };
            memory.write(ROOT + 8 * index, &entry.to_le_bytes()).unwrap();
        }
        let sev = Sev::new(BIT, 0);
        let platform: &dyn PlatformModel = if plain { &PlainPlatform } else { &sev };
        let walked = tables(if five { 5 } else { 4 }, platform);
        for tables in [walked, PageTables { cr3, ..walked }] {
            for address in [address, address & 0x1_ffff, !0] {
                if let Some(found) = translate(&memory, &tables, address) {
                    prop_assert_eq!(tables.split(found.address), (found.view, found.gpa));
                    prop_assert!([12, 21, 30].map(|bits| 1 << bits).contains(&found.page_size));
                }
                let mut bytes = [0; 20];
                let _ = read(&memory, &tables, address, &mut bytes);
                let _ = write(&memory, &tables, address, &bytes);
            }
        }
    }
}
