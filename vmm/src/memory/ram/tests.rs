// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of sizes, of the memory map in every form, and of where memory is.

use proptest::prelude::*;

use super::E820Type::{Acpi, Ram as Usable, Reserved};
use super::*;

const MIB: u64 = 1 << 20;

#[test]
fn sizes_out_of_range_are_refused_with_the_limit() {
    assert!(Ram::new(64 * MIB).unwrap_err().to_string().contains("at least 96 MiB"));
    assert!(Ram::new(1 << 40).unwrap_err().to_string().contains("at most 130048 MiB"));
    assert!(Ram::new(256 * MIB + 4096).unwrap_err().to_string().contains("2 MiB"));
}

#[test]
fn what_does_not_fit_below_the_device_hole_is_above_four_gib() {
    let ram = Ram::new(8 << 30).unwrap();
    assert_eq!((ram.low_end(), ram.high()), (layout::DEVICE_HOLE, 5 << 30));
    let without = GuestLayout { high_mib: 0, ..GuestLayout::default() };
    let ram = Ram::laid_out(32 * MIB, &without, Platform::None).unwrap();
    assert_eq!((ram.end(), ram.backed().len()), (32 * MIB, 2));
}

#[test]
fn the_usual_map_is_that_of_a_pc() {
    let ram = Ram::new(256 * MIB).unwrap();
    let kinds: Vec<_> = ram.e820().iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [Usable, Reserved, Reserved, Usable, Reserved, Acpi, Reserved, Usable]);
}

fn layouts() -> impl Strategy<Value = GuestLayout> {
    let places =
        (prop::sample::select(MapForm::ALL), prop::sample::select(RomArea::ALL), 0u32..200, any::<bool>());
    (places, prop::sample::select(TablePlace::ALL), 0u16..512).prop_map(
        |((map, rom, high, unlisted), table, offset)| {
            let high_mib = high * 2;
            let mut layout = GuestLayout { map, rom: Some(rom), high_mib, ..GuestLayout::default() };
            layout.unlisted_mib = if unlisted && high_mib > 2 { 2 } else { 0 };
            layout.unaccepted.table = table;
            layout.unaccepted.offset = if table == TablePlace::AcpiData { offset * 8 } else { 0 };
            layout
        },
    )
}

proptest! {
    #[test]
    fn every_map_is_sorted_and_lists_what_is_backed_but_for_what_is_unlisted(layout in layouts(), low in 16u64..300) {
        let ram = Ram::laid_out((low * 2 + u64::from(layout.high_mib)) * MIB, &layout, Platform::Tdx).unwrap();
        let map = ram.e820();
        for pair in map.windows(2) {
            prop_assert!(pair[0].start + pair[0].len <= pair[1].start);
        }
        for entry in map.iter().filter(|entry| entry.start != layout::ECAM) {
            prop_assert!(entry.len > 0);
            prop_assert!(ram.offset(entry.start).is_some() && ram.offset(entry.start + entry.len - 1).is_some());
        }
        let listed: u64 = map.iter().filter(|entry| entry.start != layout::ECAM).map(|entry| entry.len).sum();
        let backed: u64 = ram.backed().iter().map(|(_, len)| len).sum();
        // The option ROMs are in no entry; ragged pieces leave less than a page each.
        let missing = backed - listed - u64::from(layout.unlisted_mib) * MIB;
        let option_roms = if ram.has_rom() { layout::SYSTEM_ROM - layout::ROM } else { 0 };
        prop_assert!((option_roms..option_roms + 8 * PAGE_SIZE).contains(&missing), "{missing:#x}");
        prop_assert_eq!(map.len() <= 128, true, "boot_params has 128 entries");
    }

    #[test]
    fn offset_and_gpa_are_inverse(layout in layouts(), gpa in 0u64..HIGH_RAM + 512 * MIB) {
        let ram = Ram::laid_out(512 * MIB, &layout, Platform::Snp).unwrap();
        match ram.offset(gpa) {
            Some(offset) => {
                prop_assert!(offset < ram.mapped_size());
                prop_assert_eq!(ram.gpa(offset), gpa);
                prop_assert!(ram.backed().iter().any(|(s, l)| (*s..s + l).contains(&gpa)));
            }
            None => prop_assert!(!ram.backed().iter().any(|(s, l)| (*s..s + l).contains(&gpa))),
        }
    }
}
