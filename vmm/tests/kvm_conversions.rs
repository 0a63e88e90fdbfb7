// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages that change from private to shared and back: announced, not announced, and by a guest that means harm.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use types::AccessKind::{self, Read, Write};
use types::Platform::Sev;
use types::View::{self, Private, Shared};
use vmm::guest_code;
use vmm::layout;
use vmm::machine::{Machine, Stop};

use self::common::*;

/// Page and kind of every event.
fn events(machine: &Machine) -> Vec<(u64, View, AccessKind)> {
    recorded(machine).iter().map(|e| (e.gpa, e.view, e.kind)).collect()
}

fn declared(machine: &Machine) -> View {
    machine.memory().declared(PLAYGROUND).unwrap()
}

guest_code!(
    store_shared_then_private,
    "mov byte ptr [0x40000000], 7",
    "mov al, 1",
    "mov dx, 0x501",
    "out dx, al",
    "mov byte ptr [0x40001000], 7",
    "mov al, 0x4b",
    "out dx, al",
);

#[test]
fn a_first_store_converts_a_page_of_ram_until_the_guest_announces() {
    for gpa in [PLAYGROUND, layout::HIGH_RAM, machine(Sev).ram().end() - 4096] {
        let mut machine = two_views(store_shared_then_private(), gpa);
        assert_eq!(run(&mut machine), Stop::DebugExit(1));
        assert_eq!(machine.memory().declared(gpa), Some(Shared));
        pass(&mut machine);
        assert_eq!(machine.memory().declared(gpa), Some(Private));
        assert_eq!((events(&machine), machine.memory().counters().implicit_moves), (vec![], 2));
    }
}

#[test]
fn firmwares_pages_are_not_converted_by_a_store() {
    let ram = *machine(Sev).ram();
    for gpa in
        [0, layout::EBDA & !0xfff, layout::ROM, ROM_PAGE, ram.reserved(), ram.acpi(), ram.low_end() - 4096]
    {
        let mut machine = two_views(store_shared_then_private(), gpa);
        assert_eq!(run(&mut machine), Stop::DebugExit(1));
        pass(&mut machine);
        assert_eq!(events(&machine), [(gpa, Shared, Write)]);
        assert_eq!(
            (machine.memory().declared(gpa), machine.memory().counters().implicit_moves),
            (Some(Private), 0)
        );
    }
}

guest_code!(
    load_shared_then_store_shared,
    "mov al, [0x40000000]",
    "mov byte ptr [0x40000000], 7",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_load_is_no_conversion() {
    let mut machine = two_views(load_shared_then_store_shared(), PLAYGROUND);
    pass(&mut machine);
    assert_eq!((events(&machine), declared(&machine)), (vec![(PLAYGROUND, Shared, Read)], Private));
}

guest_code!(
    announce_then_store,
    "mov ecx, 0x4b564d08",
    "mov eax, 1",
    "xor edx, edx",
    "wrmsr",
    "mov byte ptr [0x40000000], 7",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

guest_code!(
    declare_another_page_then_store,
    "mov eax, 12",
    "mov ebx, 0x500000",
    "mov ecx, 1",
    "xor edx, edx",
    "vmmcall",
    "mov byte ptr [0x40000000], 7",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_store_after_the_guest_announces_is_an_event() {
    for code in [announce_then_store(), declare_another_page_then_store()] {
        let mut machine = two_views(code, PLAYGROUND);
        pass(&mut machine);
        assert_eq!((events(&machine), declared(&machine)), (vec![(PLAYGROUND, Shared, Write)], Private));
    }
}

guest_code!(
    declare_and_use_both_ways,
    "mov eax, 12",
    "mov ebx, 0x400000",
    "mov ecx, 2",
    "xor edx, edx",
    "vmmcall",
    "mov rax, [0x40000000]",
    "mov [0x200000], rax",
    "mov dword ptr [0x40000000], 7",
    "mov eax, 12",
    "mov edx, 16",
    "vmmcall",
    "mov rax, [0x40001000]",
    "mov [0x200008], rax",
    "mov dword ptr [0x40001000], 7",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn declared_pages_are_used_without_an_event_and_declaring_alone_changes_no_byte() {
    let mut machine = two_views(declare_and_use_both_ways(), PLAYGROUND);
    machine.memory().write(PLAYGROUND, &pattern()).unwrap();
    pass(&mut machine);
    let mut shared = encrypted(PLAYGROUND, &pattern());
    assert_eq!(result(&machine, 0).to_le_bytes(), shared[..8]);
    shared[..4].copy_from_slice(&[7, 0, 0, 0]);
    assert_eq!(result(&machine, 1).to_le_bytes(), decrypted(PLAYGROUND, &shared)[..8]);
    assert_eq!(events(&machine), []);
    assert_eq!(machine.memory().counters().mismatches, 0);
}

guest_code!(
    // Four events: a load of the page, another page's store, the store that begins the conversion, a third page's.
    convert_in_place,
    "mov ecx, 0x4b564d08",
    "mov eax, 1",
    "xor edx, edx",
    "wrmsr",
    "mov al, [0x40000000]",
    "mov al, [0x40001000]",
    "mov byte ptr [0x40002000], 7",
    "mov byte ptr [0x40000000], 7",
    "mov al, 1",
    "mov dx, 0x501",
    "out dx, al",
    "mov eax, 12",
    "mov ebx, 0x400000",
    "mov ecx, 1",
    "xor edx, edx",
    "vmmcall",
    "mov byte ptr [0x40003000], 7",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_conversion_in_place_declared_afterwards_is_withdrawn_and_nothing_else_is() {
    let (other, third) = (PLAYGROUND + 0x10000, PLAYGROUND + 0x20000);
    let aliases = [(Shared, PLAYGROUND), (Private, PLAYGROUND), (Shared, other), (Shared, third)];
    let mut machine = guest(Sev, convert_in_place(), &aliases);
    assert_eq!(run(&mut machine), Stop::DebugExit(1));
    let (load, store) = ((PLAYGROUND, Shared, Read), (PLAYGROUND, Shared, Write));
    assert_eq!(events(&machine), [load, (other, Shared, Write), store]);
    pass(&mut machine);
    assert_eq!(events(&machine), [load, (other, Shared, Write), (third, Shared, Write)]);
    let numbers: Vec<_> = recorded(&machine).iter().map(|e| e.number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let counters = machine.memory().counters();
    assert_eq!((counters.mismatches, counters.implicit_moves), (3, 1));
}

guest_code!(
    store_shared_go_back_then_declare,
    "mov ecx, 0x4b564d08",
    "mov eax, 1",
    "xor edx, edx",
    "wrmsr",
    "mov byte ptr [0x40000000], 7",
    "mov al, [0x40001000]",
    "mov eax, 12",
    "mov ebx, 0x400000",
    "mov ecx, 1",
    "xor edx, edx",
    "vmmcall",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_wrong_store_is_not_forgiven_once_the_page_was_used_as_before() {
    let mut machine = two_views(store_shared_go_back_then_declare(), PLAYGROUND);
    pass(&mut machine);
    assert_eq!(events(&machine), [(PLAYGROUND, Shared, Write)]);
}

guest_code!(
    declare_many_and_sum_them,
    "mov eax, 12",
    "mov ebx, 0x400000",
    "mov ecx, 200",
    "xor edx, edx",
    "vmmcall",
    "mov esi, 0x40000000",
    "mov edi, 0x200000",
    "mov ecx, 200",
    "2: mov rax, [rsi]",
    "mov [rdi], rax",
    "add rsi, 4096",
    "add rdi, 8",
    "loop 2b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn neighbours_that_are_declared_follow_the_first_that_is_accessed_byte_for_byte() {
    let pages: Vec<u64> = (0..200).map(|n| PLAYGROUND + n * 4096).collect();
    let aliases: Vec<_> = pages.iter().map(|gpa| (Shared, *gpa)).collect();
    let mut machine = guest(Sev, declare_many_and_sum_them(), &aliases);
    let plain = |n: u64| page(&n.to_le_bytes());
    for (gpa, n) in pages.iter().zip(0..) {
        machine.memory().write(*gpa, &plain(n)).unwrap();
    }
    pass(&mut machine);
    for (gpa, n) in pages.iter().zip(0..) {
        assert_eq!(result(&machine, n).to_le_bytes(), encrypted(*gpa, &plain(n))[..8], "page {n}");
    }
    let counters = machine.memory().counters();
    assert_eq!((counters.declared_moves, counters.mismatches), (200, 0));
    assert!(counters.faults < 20, "{counters:?}");
}

guest_code!(
    // From the address at RESULT on, as many times as the next quadword holds: a byte into every second page.
    flip_every_second_page,
    "mov rdi, [0x200000]",
    "mov rcx, [0x200008]",
    "2: mov byte ptr [rdi], 7",
    "add rdi, 0x2000",
    "loop 2b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

guest_code!(
    announce_and_flip_every_second_page,
    "mov ecx, 0x4b564d08",
    "mov eax, 1",
    "xor edx, edx",
    "wrmsr",
    "mov rdi, [0x200000]",
    "mov rcx, [0x200008]",
    "2: mov byte ptr [rdi], 7",
    "add rdi, 0x2000",
    "loop 2b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

/// Where [`flipper`] maps all RAM shared, low RAM first.
const ALL_RAM: u64 = 0x8000_0000;

/// A guest that will flip every second page of `len` bytes of RAM from 4 MiB on.
fn flipper(code: &[u8], len: u64) -> Machine {
    const PRESENT_WRITABLE_LARGE: u64 = 0b1000_0011;
    let machine = guest(Sev, code, &[]);
    let low = machine.ram().low_end() / layout::LARGE_PAGE_SIZE;
    let entries: Vec<u8> = (0..machine.ram().mapped_size() / layout::LARGE_PAGE_SIZE)
        .map(|n| {
            if n < low {
                n * layout::LARGE_PAGE_SIZE
            } else {
                layout::HIGH_RAM + (n - low) * layout::LARGE_PAGE_SIZE
            }
        })
        .flat_map(|gpa| (gpa | PRESENT_WRITABLE_LARGE).to_le_bytes())
        .collect();
    let directory = 0x3_c000;
    let parent = layout::PAGE_TABLES + 4096 + 8 * (ALL_RAM >> 30);
    machine.memory().write(directory, &entries).unwrap();
    let link = machine.platform().alias(Private, directory) | 0b11;
    machine.memory().write(parent, &link.to_le_bytes()).unwrap();
    machine
        .memory()
        .write(RESULT, &[ALL_RAM + PLAYGROUND, len / 0x2000].map(u64::to_le_bytes).concat())
        .unwrap();
    machine
}

/// Mappings this process has.
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn a_guest_that_flips_every_second_page_of_all_ram_costs_a_bounded_number_of_mappings() {
    let all = machine(Sev).ram().mapped_size() - PLAYGROUND;
    let mut machine = flipper(flip_every_second_page(), all);
    let before = mappings();
    // 24,000 userfaults: seconds on a processor, half a minute on a busy emulated one.
    assert_eq!(run_for(&mut machine, Duration::from_secs(300)), PASS);
    let counters = machine.memory().counters();
    // The last 32 pages of low RAM are firmware's.
    assert_eq!((counters.implicit_moves, counters.mismatches), (all / 0x2000 - 16, 16));
    assert!(mappings() < before + 500, "{before} mappings before, {} after", mappings());
    assert_eq!(seen::<1>(&machine, Shared, machine.ram().end() - 0x2000), [7]);
}

#[test]
fn a_guest_that_does_so_against_its_own_word_is_recorded_page_by_page() {
    let len = 16 << 20;
    let mut machine = flipper(announce_and_flip_every_second_page(), len);
    let before = mappings();
    pass(&mut machine);
    let pages: Vec<_> =
        (PLAYGROUND..PLAYGROUND + len).step_by(0x2000).map(|gpa| (gpa, Shared, Write)).collect();
    assert_eq!(events(&machine), pages);
    assert!(mappings() < before + 500, "{before} mappings before, {} after", mappings());
}
