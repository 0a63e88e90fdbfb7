// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses that something comes between, or that KVM makes in two parts: each is one event, at its own instruction.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::Mode;
use types::Platform::{Sev, Snp, Tdx, Vbs};
use types::View::Shared;
use vmm::guest_code;
use vmm::layout::PAGE_SIZE;
use vmm::machine::{Machine, MachineConfig};

use self::common::*;

/// Pages the guest loads from.
const PAGES: usize = 65;
/// Address of the handler of the guest's timer interrupt: vector 0x1e of [`catch_exceptions`].
const TIMER_HANDLER: u64 = 0x3_9000 + 16 * 0x1e;

// Before each load the local APIC's timer is set to expire while the VMM has the load in its hands.
guest_code!(
    load_with_a_timer_running,
    "lgdt [0x38fe0]",
    "lidt [0x38ff0]",
    "mov ecx, 0x1b",
    "rdmsr",
    "or eax, 0xc00",
    "wrmsr",
    "xor edx, edx",
    "mov ecx, 0x80f",
    "mov eax, 0x1ff",
    "wrmsr",
    "mov ecx, 0x83e",
    "mov eax, 0xb",
    "wrmsr",
    "mov ecx, 0x832",
    "mov eax, 0x1e",
    "wrmsr",
    "lea rax, [rip + 2f]",
    "mov [0x200000], rax",
    "sti",
    "mov ebx, 0x40000000",
    "mov ebp, 65",
    "3: mov ecx, 0x838",
    "mov eax, 50000",
    "xor edx, edx",
    "wrmsr",
    "2: mov eax, [rbx]",
    "add ebx, 0x1000",
    "dec ebp",
    "jnz 3b",
    "cli",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

/// Leaves the guest once by a port, counts at 0x200008, ends the interrupt (EOI by x2APIC) and returns.
#[rustfmt::skip]
const HANDLER: [u8; 29] = [
    0x50, 0x51, 0x52,                               // push rax; push rcx; push rdx
    0xe6, 0x80,                                     // out 0x80, al
    0x48, 0xff, 0x04, 0x25, 0x08, 0x00, 0x20, 0x00, // inc qword ptr [0x200008]
    0xb9, 0x0b, 0x08, 0x00, 0x00,                   // mov ecx, 0x80b
    0x31, 0xc0, 0x31, 0xd2,                         // xor eax, eax; xor edx, edx
    0x0f, 0x30,                                     // wrmsr
    0x5a, 0x59, 0x58,                               // pop rdx; pop rcx; pop rax
    0x48, 0xcf,                                     // iretq
];

#[test]
fn a_load_that_an_interrupt_comes_before_is_one_event() {
    for platform in [Tdx, Vbs] {
        let config = MachineConfig { mode: Mode::Record, ..config(platform) };
        let mut machine = Machine::new(&config).unwrap();
        let pages: Vec<u64> = (0..PAGES as u64).map(|page| PLAYGROUND + page * PAGE_SIZE).collect();
        let aliases: Vec<_> = pages.iter().map(|gpa| (Shared, *gpa)).collect();
        boot(&mut machine, load_with_a_timer_running(), &aliases);
        catch_exceptions(&machine);
        machine.memory().write(TIMER_HANDLER, &HANDLER).unwrap();
        pass(&mut machine);
        assert!(result(&machine, 1) > 0, "no interrupt came");
        let events = recorded(&machine);
        assert_eq!(events.iter().map(|event| event.gpa).collect::<Vec<_>>(), pages);
        for event in events {
            let at = event.at.as_ref().unwrap();
            assert_eq!((at.rip, at.exact), (result(&machine, 0), true), "{event}");
        }
    }
}

guest_code!(
    output_across_two_pages,
    "mov esi, 0x40000ffe",
    "mov dx, 0x80",
    "outsd",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn both_pages_of_an_access_that_kvm_makes_itself_are_recorded() {
    let pages = [PLAYGROUND, PLAYGROUND + PAGE_SIZE];
    for platform in [Sev, Tdx] {
        let config = MachineConfig { mode: Mode::Record, ..config(platform) };
        let mut machine = Machine::new(&config).unwrap();
        boot(&mut machine, output_across_two_pages(), &pages.map(|gpa| (Shared, gpa)));
        pass(&mut machine);
        let mut seen: Vec<u64> = recorded(&machine).iter().map(|event| event.gpa).collect();
        seen.sort_unstable();
        assert_eq!(seen, pages, "{platform:?}");
    }
}

// Two loops over the same pages, without an exit between them.
guest_code!(
    scan_twice,
    "lea rax, [rip + 2f]",
    "mov [0x200000], rax",
    "lea rax, [rip + 3f]",
    "mov [0x200008], rax",
    "mov ebx, 0x40000000",
    "mov ecx, 65",
    "2: mov eax, [rbx]",
    "mov eax, [rbx + 8]",
    "add ebx, 0x1000",
    "loop 2b",
    "mov ebx, 0x40000000",
    "mov ecx, 65",
    "3: mov eax, [rbx]",
    "add ebx, 0x1000",
    "loop 3b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn each_of_two_instructions_that_scan_the_same_pages_is_recorded_at_each_page() {
    let pages: Vec<u64> = (0..PAGES as u64).map(|page| PLAYGROUND + page * PAGE_SIZE).collect();
    let aliases: Vec<_> = pages.iter().map(|gpa| (Shared, *gpa)).collect();
    for platform in [Snp, Tdx, Vbs] {
        let config = MachineConfig { mode: Mode::Record, ..config(platform) };
        let mut machine = Machine::new(&config).unwrap();
        boot(&mut machine, scan_twice(), &aliases);
        pass(&mut machine);
        let seen: Vec<(u64, u64)> =
            recorded(&machine).iter().map(|event| (event.gpa, event.at.as_ref().unwrap().rip)).collect();
        let scan = |rip| pages.iter().map(move |gpa| (*gpa, rip));
        let expected: Vec<_> = scan(result(&machine, 0)).chain(scan(result(&machine, 1))).collect();
        assert_eq!(seen, expected, "{platform}");
    }
}

// Loads from one page for as long as the heartbeat needs to end KVM_RUN several times, with console output meanwhile.
guest_code!(
    load_for_long,
    "mov ebp, 40",
    "2: mov ecx, 20000000",
    "3: loop 3b",
    "mov eax, [0x40000000]",
    "mov al, 0x2e",
    "mov dx, 0x3f8",
    "out dx, al",
    "mov eax, [0x40000004]",
    "dec ebp",
    "jnz 2b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn time_makes_no_second_event_of_the_accesses_between_two_exits() {
    for platform in [Snp, Tdx, Vbs] {
        let config = MachineConfig { mode: Mode::Record, ..config(platform) };
        let mut machine = Machine::new(&config).unwrap();
        boot(&mut machine, load_for_long(), &[(Shared, PLAYGROUND)]);
        pass(&mut machine);
        assert!(machine.stats().interruptions > 1, "no signal came");
        let counts: Vec<u64> = recorded(&machine).iter().map(|event| event.count).collect();
        assert_eq!(counts, [1], "{platform}: {:#?}", recorded(&machine));
    }
}

// A copy from page to page: each iteration needs two pages that may not be accessed, and there are two of each.
guest_code!(
    copy_between_forbidden_pages,
    "mov esi, 0x40000ff0",
    "mov edi, 0x40002ff4",
    "mov ecx, 8",
    "rep movsd",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn an_instruction_that_needs_several_forbidden_pages_at_once_completes() {
    let pages: Vec<u64> = (0..4).map(|page| PLAYGROUND + page * PAGE_SIZE).collect();
    let aliases: Vec<_> = pages.iter().map(|gpa| (Shared, *gpa)).collect();
    for platform in [Snp, Tdx, Vbs] {
        let config = MachineConfig { mode: Mode::Record, ..config(platform) };
        let mut machine = Machine::new(&config).unwrap();
        boot(&mut machine, copy_between_forbidden_pages(), &aliases);
        pass(&mut machine);
        let mut seen: Vec<u64> = recorded(&machine).iter().map(|event| event.gpa).collect();
        assert!(seen.len() <= 8, "{platform}: {seen:x?}");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, pages, "{platform}");
    }
}
