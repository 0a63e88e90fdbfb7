// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;
use types::Mode;

use super::*;
use crate::layout::MIN_RAM;
use crate::memory::ram::Ram;
use crate::platform::{HostFacts, Options, make};

fn memory(platform: Platform, ram: u64) -> GuestMemory {
    let options = Options { encryption_bit: Some(46), seed: 0, mode: Mode::Faithful, sept_ve_disable: true };
    let platform = make(platform, &HostFacts { physical_bits: 48 }, &options);
    GuestMemory::unenforced(Ram::new(ram).unwrap(), platform.content()).unwrap()
}

fn launch(unaccepted_percent: u8) -> Launch {
    Launch { rom: None, unaccepted_percent }
}

fn bytes(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[test]
fn nothing_or_everything_free_is_unaccepted_as_requested() {
    let memory = memory(Platform::Tdx, MIN_RAM);
    let kernel = 16 << 20..40 << 20;
    let used = std::slice::from_ref(&kernel);
    assert_eq!(unaccepted(&memory, launch(0), used), []);
    let efi = memory.ram().efi() & !(UNIT - 1);
    let all = [UNIT..16 << 20, 40 << 20..efi, layout::HIGH_RAM..memory.ram().end()];
    assert_eq!(unaccepted(&memory, launch(100), used), all);
    assert_eq!(unaccepted(&memory, launch(255), used), all);
    let half = unaccepted(&memory, launch(50), used);
    assert_eq!(bytes(&half), bytes(&all) / UNIT * 50 / 100 * UNIT);
    assert_eq!(half.last(), all.last(), "the highest first");
}

#[test]
fn each_platform_starts_with_the_states_its_firmware_leaves() {
    let kernel = 16 << 20..40 << 20;
    let used = std::slice::from_ref(&kernel);
    for &platform in Platform::ALL {
        let memory = memory(platform, MIN_RAM);
        states(&memory, platform, launch(100), used).unwrap();
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
    for rom in [PageState::Private, PageState::Shared, PageState::Unaccepted] {
        for platform in [Platform::Snp, Platform::Tdx] {
            let memory = memory(platform, MIN_RAM);
            states(&memory, platform, Launch { rom: Some(rom), unaccepted_percent: 0 }, &[]).unwrap();
            assert_eq!(memory.state(layout::SYSTEM_ROM), Some(rom));
            assert_eq!(memory.state(layout::HIGH_MEMORY), Some(PageState::Private));
        }
    }
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
        let all = unaccepted(&memory, launch(100), &used);
        let found = unaccepted(&memory, launch(percent), &used);
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
