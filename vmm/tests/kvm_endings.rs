// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a guest ends, or is ended.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use types::Platform::{self, None as Plain, Sev};
use types::View::Shared;
use vmm::guest_code;
use vmm::layout;
use vmm::machine::Stop;

use self::common::*;

guest_code!(exit_with_the_byte_at_result, "mov al, [0x200000]", "mov dx, 0x501", "out dx, al", "hlt");

#[test]
fn a_guest_ends_with_any_byte_it_likes() {
    for byte in [0, 1, 0x4b, 0xff] {
        let mut machine = guest(Plain, exit_with_the_byte_at_result(), &[]);
        machine.memory().write(RESULT, &[byte]).unwrap();
        assert_eq!(run(&mut machine), Stop::DebugExit(byte));
    }
}

guest_code!(halt, "cli", "2: hlt", "jmp 2b");

#[test]
fn a_halt_with_interrupts_off_is_the_end() {
    assert_eq!(run(&mut guest(Sev, halt(), &[])), Stop::Halted);
}

guest_code!(wait_for_an_interrupt, "sti", "2: hlt", "jmp 2b");

#[test]
fn a_halt_with_interrupts_on_is_not() {
    let mut machine = guest(Plain, wait_for_an_interrupt(), &[]);
    assert_eq!(run_for(&mut machine, Duration::from_secs(1)), Stop::Deadline);
}

guest_code!(breakpoint_without_an_idt, "push 0", "push 0", "lidt [rsp]", "int3");

#[test]
fn a_triple_fault_is_seen() {
    assert_eq!(run(&mut guest(Sev, breakpoint_without_an_idt(), &[])), Stop::TripleFault);
}

guest_code!(reset_by_keyboard_controller, "mov al, 0xfe", "out 0x64, al", "hlt");

#[test]
fn a_reset_through_the_keyboard_controller_is_seen() {
    let mut machine = guest(Plain, reset_by_keyboard_controller(), &[]);
    assert_eq!(run(&mut machine), Stop::Reset { port: layout::I8042_COMMAND });
}

guest_code!(reset_by_cf9, "mov dx, 0xcf9", "mov al, 2", "out dx, al", "mov al, 6", "out dx, al", "hlt");

#[test]
fn a_reset_through_cf9_is_seen_at_the_bit_that_resets() {
    let mut machine = guest(Plain, reset_by_cf9(), &[]);
    assert_eq!(run(&mut machine), Stop::Reset { port: layout::RESET_CONTROL });
    // Writes to the PCI address register's four ports may be gathered by KVM, but none is lost.
    let stats = machine.stats();
    assert_eq!(stats.port_io + stats.coalesced, 2);
}

guest_code!(
    other_sleep_types_then_s5,
    // What sleeps without the enable bit, and another state with it, do nothing.
    "mov dx, 0x604",
    "mov ax, 0x1401",
    "out dx, ax",
    "mov ax, 0x2c01",
    "out dx, ax",
    "xor eax, eax",
    "in ax, dx",
    "mov [0x200000], rax",
    "mov ax, 0x3401",
    "out dx, ax",
    "hlt",
);

#[test]
fn a_guest_that_enters_s5_is_off() {
    for platform in Platform::ALL {
        let mut machine = guest(*platform, other_sleep_types_then_s5(), &[]);
        assert_eq!(run(&mut machine), Stop::PowerOff, "{platform}");
        assert_eq!(result(&machine, 0), 0x0c01, "in ACPI mode, and awake");
        assert_eq!(machine.stats().port_io, 4);
    }
}

guest_code!(
    configuration_address_that_looks_like_a_reset,
    "mov dx, 0xcf8",
    "mov eax, 0x80000600",
    "out dx, eax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_pci_configuration_address_is_no_reset() {
    pass(&mut guest(Plain, configuration_address_that_looks_like_a_reset(), &[]));
}

guest_code!(spin, "2: jmp 2b");

#[test]
fn an_endless_loop_meets_its_deadline() {
    let mut machine = guest(Sev, spin(), &[]);
    let start = Instant::now();
    assert_eq!(run_for(&mut machine, Duration::from_millis(500)), Stop::Deadline);
    assert!(start.elapsed() >= Duration::from_millis(500), "the deadline came early");
}

guest_code!(spin_with_interrupts, "sti", "2: jmp 2b");

#[test]
fn only_a_guest_that_keeps_interrupts_off_shows_that_it_hangs() {
    let mut hung = guest(Sev, spin(), &[]);
    assert_eq!(run_for(&mut hung, Duration::from_secs(1)), Stop::Deadline);
    assert!(hung.interrupts_off_for() >= Duration::from_millis(500), "{:?}", hung.interrupts_off_for());
    let mut busy = guest(Sev, spin_with_interrupts(), &[]);
    assert_eq!(run_for(&mut busy, Duration::from_secs(1)), Stop::Deadline);
    assert_eq!(busy.interrupts_off_for(), Duration::ZERO);
}

guest_code!(spin_with_exits, "2: in al, 0x64", "jmp 2b");

#[test]
fn an_endless_loop_of_exits_meets_its_deadline() {
    let mut machine = guest(Sev, spin_with_exits(), &[]);
    assert_eq!(run_for(&mut machine, Duration::from_millis(500)), Stop::Deadline);
}

guest_code!(count_to_pass, "mov rcx, 200000000", "2: loop 2b", "mov al, 0x4b", "mov dx, 0x501", "out dx, al");

#[test]
fn a_guest_goes_on_after_a_deadline_where_it_stood() {
    let mut machine = guest(Plain, count_to_pass(), &[]);
    assert_eq!(run_for(&mut machine, Duration::ZERO), Stop::Deadline);
    pass(&mut machine);
}

#[test]
fn an_interrupt_flag_that_is_set_ends_the_run() {
    let mut machine = guest(Plain, spin(), &[]);
    let deadline = Instant::now() + Duration::from_secs(30);
    assert_eq!(machine.run(deadline, &AtomicBool::new(true)).unwrap(), Stop::Interrupted);
    let flag = Arc::new(AtomicBool::new(false));
    let setter = Arc::clone(&flag);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        setter.store(true, Ordering::Relaxed);
    });
    assert_eq!(machine.run(deadline, &flag).unwrap(), Stop::Interrupted);
    thread.join().unwrap();
}

guest_code!(jump_to_the_alias, "mov eax, 0x40000000", "jmp rax");

#[test]
fn code_in_a_device_window_or_nowhere_ends_the_guest_not_the_host() {
    for gpa in [layout::VGA, layout::BAR32, layout::UNCLAIMED_MMIO] {
        let mut machine = guest(Sev, jump_to_the_alias(), &[(Shared, gpa)]);
        let stop = run_for(&mut machine, Duration::from_secs(5));
        assert!(matches!(stop, Stop::Failed(_) | Stop::TripleFault), "{gpa:#x}: {stop:?}");
    }
}

guest_code!(
    say_and_die,
    "lea rsi, [rip + 3f]",
    "mov ecx, 5",
    "mov dx, 0x3f8",
    "rep outsb",
    "push 0",
    "push 0",
    "lidt [rsp]",
    "int3",
    "3: .ascii \"dying\"",
);

#[test]
fn the_last_words_before_a_triple_fault_are_kept() {
    let mut machine = guest(Plain, say_and_die(), &[]);
    assert_eq!(run(&mut machine), Stop::TripleFault);
    assert_eq!(machine.console().text(), "dying");
}

guest_code!(jump_to_the_last_byte_of_low_ram, "mov eax, 0x7ffffff", "jmp rax");

#[test]
fn running_off_the_end_of_ram_ends_the_guest_not_the_host() {
    let mut machine = guest(Plain, jump_to_the_last_byte_of_low_ram(), &[]);
    machine.memory().write(machine.ram().low_end() - 1, &[0x90]).unwrap();
    let stop = run_for(&mut machine, Duration::from_secs(5));
    assert!(matches!(stop, Stop::Failed(_) | Stop::TripleFault), "{stop:?}");
}
