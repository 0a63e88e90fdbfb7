// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;
use types::{MapForm, Mode, RomArea, TablePlace, View};

use super::*;
use crate::layout::MIN_RAM;
use crate::memory::ram::Ram;
use crate::platform::{HostFacts, Options, make};

fn memory(platform: Platform, ram: u64) -> GuestMemory {
    let options = Options { encryption_bit: Some(46), seed: 0, mode: Mode::Faithful, sept_ve_disable: true };
    let platform = make(platform, &HostFacts { physical_bits: 48 }, &options);
    GuestMemory::unenforced(Ram::new(ram).unwrap(), platform.content()).unwrap()
}

const UNIT: u64 = LARGE_PAGE_SIZE;

fn layout_of(percent: u8) -> GuestLayout {
    let mut guest = GuestLayout::default();
    guest.unaccepted.percent = percent;
    guest
}

fn bytes(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[test]
fn nothing_or_everything_free_is_unaccepted_as_requested() {
    let memory = memory(Platform::Tdx, MIN_RAM);
    let kernel = 16 << 20..40 << 20;
    let used = std::slice::from_ref(&kernel);
    assert_eq!(unaccepted(&memory, &layout_of(0), used), []);
    let efi = memory.ram().efi() & !(UNIT - 1);
    let all = [UNIT..16 << 20, 40 << 20..efi, layout::HIGH_RAM..memory.ram().end()];
    assert_eq!(unaccepted(&memory, &layout_of(100), used), all);
    assert_eq!(unaccepted(&memory, &layout_of(255), used), all);
    let half = unaccepted(&memory, &layout_of(50), used);
    assert_eq!(bytes(&half), bytes(&all) / UNIT * 50 / 100 * UNIT);
    assert_eq!(half.last(), all.last(), "the highest first");
}

#[test]
fn each_platform_starts_with_the_states_its_firmware_leaves() {
    let kernel = 16 << 20..40 << 20;
    let used = std::slice::from_ref(&kernel);
    for &platform in Platform::ALL {
        let memory = memory(platform, MIN_RAM);
        states(&memory, platform, &layout_of(100), used).unwrap();
        let at = |gpa| memory.state(gpa);
        let (free, rom) = match platform {
            Platform::None | Platform::Sev => (None, None),
            Platform::Snp => (Some(PageState::Unaccepted), Some(PageState::Unaccepted)),
            Platform::Tdx => (Some(PageState::Unaccepted), Some(PageState::Private)),
            Platform::Vbs => (Some(PageState::Private), Some(PageState::Private)),
        };
        assert_eq!((at(64 << 20), at(layout::HIGH_RAM)), (free, free), "{platform}");
        assert_eq!((at(layout::ROM), at(layout::HIGH_MEMORY - 1)), (rom, rom), "{platform}");
        let kept = free.map(|_| PageState::Private);
        for gpa in [0, layout::HIGH_MEMORY, used[0].start, used[0].end - 1, memory.ram().efi()] {
            assert_eq!(at(gpa), kept, "{platform} {gpa:#x}");
        }
        assert_eq!(memory.is_large_entry(64 << 20), platform.accepts_memory());
    }
}

#[test]
fn the_rom_area_is_what_was_requested() {
    for rom in [RomArea::Validated, RomArea::Shared, RomArea::Unaccepted] {
        for platform in [Platform::Snp, Platform::Tdx] {
            let memory = memory(platform, MIN_RAM);
            states(&memory, platform, &GuestLayout { rom: Some(rom), ..layout_of(0) }, &[]).unwrap();
            assert_eq!(memory.state(layout::SYSTEM_ROM), rom.state());
            assert_eq!(memory.state(layout::HIGH_MEMORY), Some(PageState::Private));
        }
    }
}

fn laid_out(guest: &GuestLayout, platform: Platform) -> GuestMemory {
    let options = Options { encryption_bit: Some(46), seed: 0, mode: Mode::Faithful, sept_ve_disable: true };
    let content = make(platform, &HostFacts { physical_bits: 48 }, &options).content();
    GuestMemory::unenforced(Ram::laid_out(512 << 20, guest, platform).unwrap(), content).unwrap()
}

#[test]
fn a_rom_area_that_is_absent_has_no_page() {
    let guest = GuestLayout { rom: Some(RomArea::Absent), ..GuestLayout::default() };
    let memory = laid_out(&guest, Platform::Snp);
    firmware::write(&memory, Platform::Snp, &guest).unwrap();
    states(&memory, Platform::Snp, &guest, &[]).unwrap();
    assert_eq!(memory.state(layout::SYSTEM_ROM), None);
    assert!(memory.ram().e820().iter().all(|entry| entry.start != layout::SYSTEM_ROM));
}

#[test]
fn the_unaccepted_table_lies_at_its_offset_in_acpi_data_and_crosses_into_the_next_page() {
    let mut guest = GuestLayout::default();
    (guest.unaccepted.table, guest.unaccepted.offset) = (TablePlace::AcpiData, 0xfb0);
    let memory = laid_out(&guest, Platform::Tdx);
    let place = memory.ram().unaccepted_table();
    assert_eq!(place.end - place.start, 2 * PAGE_SIZE);
    let entry = memory.ram().e820().into_iter().find(|entry| entry.start == place.start).unwrap();
    assert_eq!((entry.kind, entry.len), (E820Type::Acpi, 2 * PAGE_SIZE));
    efi(&memory, Platform::Tdx, &guest, &[]).unwrap().unwrap();
    let mut version = [0; 4];
    memory.read(View::Private, place.start + 0xfb0, &mut version).unwrap();
    assert_eq!(u32::from_le_bytes(version), 1);
}

#[test]
fn units_that_hold_what_is_not_ram_are_accepted() {
    for map in [MapForm::Holes, MapForm::Ragged] {
        let guest = GuestLayout { map, ..GuestLayout::default() };
        let memory = laid_out(&guest, Platform::Snp);
        let listed = |gpa: u64| {
            let ram = memory.ram().e820().into_iter().filter(|entry| entry.kind == E820Type::Ram);
            ram.into_iter().any(|entry| entry.start <= gpa && gpa < entry.start + entry.len)
        };
        let found = unaccepted(&memory, &guest, &[]);
        assert!(!found.is_empty());
        for range in found {
            assert!((range.start..range.end).step_by(256).all(listed), "{map} {range:x?}");
        }
    }
}

#[test]
fn patterns_select_from_either_end_or_every_other_unit() {
    let of = |pattern, percent| {
        let mut guest = layout_of(percent);
        guest.unaccepted.pattern = pattern;
        unaccepted(&memory(Platform::Tdx, MIN_RAM), &guest, &[])
    };
    assert_eq!(of(UnacceptedPattern::Lowest, 10)[0].start, UNIT);
    assert!(of(UnacceptedPattern::AboveFourGib, 100).iter().all(|range| range.start >= layout::HIGH_RAM));
    assert!(of(UnacceptedPattern::Alternate, 100).iter().all(|range| range.end - range.start == UNIT));
}

proptest! {
    #[test]
    fn what_holds_something_is_never_unaccepted_and_the_share_is_kept(
        ram in (MIN_RAM / UNIT..600 * (1 << 20) / UNIT).prop_map(|units| units * UNIT),
        used in prop::collection::vec((0u64..0x1_0800_0000, 1u64..0x400_0000), 0..5),
        percent in 0u8..=110,
    ) {
        let memory = memory(Platform::Tdx, ram);
        let used: Vec<Range<u64>> = used.into_iter().map(|(start, len)| page_range(start, len)).collect();
        let all = unaccepted(&memory, &layout_of(100), &used);
        let found = unaccepted(&memory, &layout_of(percent), &used);
        let units = bytes(&all) / UNIT * u64::from(percent.min(100)) / 100;
        prop_assert_eq!(bytes(&found), units * UNIT);
        for pair in found.windows(2) {
            prop_assert!(pair[0].end < pair[1].start, "ascending and joined");
        }
        let ram = memory.ram();
        for range in &found {
            prop_assert!(range.start % UNIT == 0 && range.end % UNIT == 0 && range.start >= layout::HIGH_MEMORY);
            prop_assert!(used.iter().all(|u| u.end <= range.start || range.end <= u.start));
            prop_assert!(range.end <= ram.efi() || (range.start >= layout::HIGH_RAM && range.end <= ram.end()));
            prop_assert!(all.iter().any(|a| a.start <= range.start && range.end <= a.end));
        }
    }
}
