// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Layouts at random: only what a platform's specifications let firmware do.

use types::{
    GuestLayout, MapForm, Platform, RomArea, SmbiosPlace, TablePlace, Tables, UnacceptedLayout,
    UnacceptedPattern,
};

use super::NamedLayout;
use crate::random::Random;

/// MiB of guest memory to choose from; a stock kernel boots in all of them.
const MEMORY_MIB: [u64; 6] = [256, 318, 384, 512, 770, 1024];
/// MiB above 4 GiB.
const HIGH_MIB: [u32; 5] = [0, 2, 34, 64, 130];
/// KiB for each bit of the table of unaccepted memory.
const UNIT_KIB: [u32; 5] = [4, 64, 2048, 4096, 32768];
/// Offsets of that table in its page: the first, one in the midst, and two from which a small table crosses the page's end.
const OFFSETS: [u16; 4] = [0, 0x7f8, 0xfb0, 0xff8];

/// A layout for a guest of `platform`, and a size of its memory. Each field is the usual one half of the time, so that few facts
/// come together.
pub fn draw(random: &mut Random, platform: Platform) -> NamedLayout {
    loop {
        let named = one(random, platform);
        if named.check(platform, 0).is_ok() {
            return named;
        }
    }
}

fn one(random: &mut Random, platform: Platform) -> NamedLayout {
    let usual = GuestLayout::default();
    let mut layout = GuestLayout {
        efi: maybe(random, &[true, false]),
        rom: maybe(random, rom_areas(platform)),
        smbios: maybe(random, SmbiosPlace::ALL),
        map: maybe(random, MapForm::ALL).unwrap_or(usual.map),
        high_mib: maybe(random, &HIGH_MIB).unwrap_or(usual.high_mib),
        unlisted_mib: 0,
        tables: maybe(random, Tables::ALL).unwrap_or(usual.tables),
        unaccepted: usual.unaccepted,
    };
    if layout.high_mib > 2 && random.once_in(4) {
        layout.unlisted_mib = 2;
    }
    if layout.has_unaccepted(platform) {
        layout.unaccepted = unaccepted(random);
    }
    NamedLayout {
        name: "random".to_owned(),
        title: "A layout drawn at random".to_owned(),
        why: String::new(),
        platforms: vec![platform],
        memory_mib: random.pick(&MEMORY_MIB),
        layout,
    }
}

/// What the ROM area can be without a fault of the firmware: Linux scans it through the private view in confidential guests but
/// those of SNP (`arch/x86/kernel/probe_roms.c:probe_roms`), so it is memory that firmware has accepted.
fn rom_areas(platform: Platform) -> &'static [RomArea] {
    use RomArea::{Absent, Shared, Unaccepted, Validated};
    match platform {
        Platform::None => &[Validated, Absent],
        Platform::Snp => &[Validated, Unaccepted, Shared, Absent],
        Platform::Sev | Platform::Tdx | Platform::Vbs => &[Validated],
    }
}

fn unaccepted(random: &mut Random) -> UnacceptedLayout {
    let usual = UnacceptedLayout::default();
    let table = maybe(random, TablePlace::ALL).unwrap_or(usual.table);
    let offset = if table == TablePlace::AcpiData { random.pick(&OFFSETS).unwrap_or(0) } else { 0 };
    UnacceptedLayout {
        percent: if random.once_in(2) { usual.percent } else { random.below(101) as u8 },
        unit_kib: maybe(random, &UNIT_KIB).unwrap_or(usual.unit_kib),
        pattern: maybe(random, UnacceptedPattern::ALL).unwrap_or(usual.pattern),
        table,
        offset,
    }
}

/// One of them, half of the time.
fn maybe<T: Copy>(random: &mut Random, from: &[T]) -> Option<T> {
    if random.once_in(2) { random.pick(from) } else { None }
}
