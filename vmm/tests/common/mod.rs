// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the small guests of these tests share.
#![allow(dead_code, reason = "every test binary uses a part")]

pub mod script;

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use types::Platform;
use types::View::{self, Private, Shared};
use vmm::boot::firmware;
use vmm::boot::page_tables::SECOND_GIB;
use vmm::layout::{self, PAGE_SIZE};
use vmm::machine::{Machine, MachineConfig, Stop};
use vmm::memory::cipher::{PAGE, PageCipher};
use vmm::trace::RecordedAccess;

/// Bytes of a page.
pub type Page = [u8; PAGE];

/// The code by which a guest reports that it reached its end.
pub const PASS: Stop = Stop::DebugExit(0x4b);
/// Where the first alias is mapped; the next one is a page further.
pub const ALIAS: u64 = SECOND_GIB;
/// RAM in which guests leave what they found.
pub const RESULT: u64 = 0x20_0000;
/// RAM that tests play with.
pub const PLAYGROUND: u64 = 0x40_0000;
/// A page of the system ROM: firmware's.
pub const ROM_PAGE: u64 = layout::SYSTEM_ROM + 0x1000;
/// The memory key's seed.
pub const SEED: u64 = 0x5eed;

/// GDT with ring 0 and ring 3 segments, IDT, and their descriptors; see [`catch_exceptions`].
const GDT: u64 = 0x3_8000;
/// Where the IDT lies.
pub const IDT: u64 = 0x3_8100;
const GDT_POINTER: u64 = 0x3_8fe0;
const IDT_POINTER: u64 = 0x3_8ff0;
const HANDLERS: u64 = 0x3_9000;
const VECTORS: u64 = 32;

/// A machine of the smallest size.
pub fn machine(platform: Platform) -> Machine {
    Machine::new(&config(platform)).unwrap()
}

/// What [`machine`] makes.
pub fn config(platform: Platform) -> MachineConfig {
    MachineConfig { ram: layout::MIN_RAM, seed: SEED, ..MachineConfig::new(platform) }
}

/// A machine about to run `code`, firmware's pages in place, with `aliases` mapped from [`ALIAS`] on.
pub fn guest(platform: Platform, code: &[u8], aliases: &[(View, u64)]) -> Machine {
    let mut machine = machine(platform);
    boot(&mut machine, code, aliases);
    machine
}

/// Makes a machine run `code`, firmware's pages in place.
pub fn boot(machine: &mut Machine, code: &[u8], aliases: &[(View, u64)]) {
    firmware::write(machine.memory(), machine.platform().kind(), machine.layout()).unwrap();
    let aliases: Vec<u64> = aliases.iter().map(|(view, gpa)| machine.platform().alias(*view, *gpa)).collect();
    machine.boot_flat(code, &aliases).unwrap();
}

/// A SEV guest that looks at `gpa` through the shared view at [`ALIAS`] and the private one a page further.
pub fn two_views(code: &[u8], gpa: u64) -> Machine {
    guest(Platform::Sev, code, &[(Shared, gpa), (Private, gpa)])
}

/// Runs until something happens, 60 s at most.
pub fn run(machine: &mut Machine) -> Stop {
    run_for(machine, Duration::from_secs(60))
}

/// Runs until something happens or `time` has passed.
pub fn run_for(machine: &mut Machine, time: Duration) -> Stop {
    machine.run(Instant::now() + time, &AtomicBool::new(false)).unwrap()
}

/// Runs a guest that must pass.
#[track_caller]
pub fn pass(machine: &mut Machine) {
    assert_eq!(run(machine), PASS, "events: {:#?}", recorded(machine));
}

/// Its events, kept until the test ends so that they can be matched as a slice.
pub fn recorded(machine: &Machine) -> &'static [RecordedAccess] {
    machine.events().all().leak()
}

/// What the guest stored as its `index`-th quadword from [`RESULT`] on.
pub fn result(machine: &Machine, index: u64) -> u64 {
    u64::from_le_bytes(seen(machine, Private, RESULT + 8 * index))
}

/// What `view` shows.
pub fn seen<const N: usize>(machine: &Machine, view: View, gpa: u64) -> [u8; N] {
    let mut bytes = [0; N];
    machine.truth(view, gpa, &mut bytes);
    bytes
}

/// The page as memory holds it when it was written as `plain` through the private view.
pub fn encrypted(gpa: u64, plain: &Page) -> Page {
    let mut page = *plain;
    PageCipher::new(SEED).encrypt(gpa, &mut page);
    page
}

/// The page that must be written through the private view for the shared one to show `wanted`.
pub fn decrypted(gpa: u64, wanted: &Page) -> Page {
    let mut page = *wanted;
    PageCipher::new(SEED).decrypt(gpa, &mut page);
    page
}

/// A page that begins with `bytes`.
pub fn page(bytes: &[u8]) -> Page {
    let mut page = [0; PAGE];
    page[..bytes.len()].copy_from_slice(bytes);
    page
}

/// A page in which every block differs.
pub fn pattern() -> Page {
    std::array::from_fn(|i| (i / 16 + 7 * i) as u8)
}

/// Which 16-byte blocks of two pages differ.
pub fn changed_blocks(before: &Page, after: &Page) -> Vec<usize> {
    (0..PAGE / 16).filter(|b| before[b * 16..b * 16 + 16] != after[b * 16..b * 16 + 16]).collect()
}

/// Gives the guest a GDT and an IDT, which it loads by `lgdt [0x38fe0]` and `lidt [0x38ff0]`. An exception then
/// ends it with [`Stop::DebugExit`] of its vector. Selectors 0x23 and 0x2b are ring 3's data and code.
pub fn catch_exceptions(machine: &Machine) {
    let put = |gpa, bytes: &[u8]| machine.memory().write(gpa, bytes).unwrap();
    let segments: [u64; 6] =
        [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];
    for (segment, index) in segments.iter().zip(0..) {
        put(GDT + 8 * index, &segment.to_le_bytes());
    }
    put(IDT, &gates());
    for vector in 0..VECTORS {
        // mov al, VECTOR; mov dx, 0x501; out dx, al; hlt
        put(handler(vector), &[0xb0, vector as u8, 0x66, 0xba, 0x01, 0x05, 0xee, 0xf4]);
    }
    for (pointer, table, len) in [(GDT_POINTER, GDT, 48u16), (IDT_POINTER, IDT, VECTORS as u16 * 16)] {
        put(pointer, &(len - 1).to_le_bytes());
        put(pointer + 2, &table.to_le_bytes());
    }
}

/// The IDT of [`catch_exceptions`].
pub fn gates() -> Vec<u8> {
    let gate = |at: u64| [at & 0xffff | 0x10 << 16 | 0x8e00 << 32 | (at >> 16) << 48, 0];
    (0..VECTORS).flat_map(|vector| gate(handler(vector))).flat_map(u64::to_le_bytes).collect()
}

fn handler(vector: u64) -> u64 {
    HANDLERS + 16 * vector
}

/// Lets ring 3 use every mapping the guest starts with.
pub fn open_to_user(machine: &Machine) {
    const USER: u64 = 1 << 2;
    for table in 0..layout::PAGE_TABLE_PAGES {
        let gpa = layout::PAGE_TABLES + table * PAGE_SIZE;
        let mut entries: Page = seen(machine, Private, gpa);
        for entry in entries.chunks_exact_mut(8).filter(|entry| entry[0] & 1 != 0) {
            entry[0] |= USER as u8;
        }
        machine.memory().write(gpa, &entries).unwrap();
    }
}
