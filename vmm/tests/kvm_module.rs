// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls to the platform's module and hypervisor, on real KVM: the real instructions, and what hostile guests make of them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use types::PageState;
use types::Platform::{Tdx, Vbs};
use types::View::{Private, Shared};
use vmm::guest_code;
use vmm::layout::{self, PAGE_SIZE};
use vmm::machine::{Machine, Stop};
use vmm::platform::services::Termination;
use vmm::x86::cpuid::host_is_tcg;

use self::common::script::{self, CALL_PAGE, LISTS, Registers, SCRIPT, Script, registers, value};
use self::common::*;

const OPERAND_INVALID: u64 = 0x8000_0000_0000_0000;
const ALIGN_ERROR: u64 = 0x8000_0000_0000_0002;
/// KVM's answer to an unknown hypercall, negative (`include/uapi/linux/kvm_para.h`).
const KVM_ENOSYS: u64 = 1000;
/// Malformed calls kept at most.
const KEPT: usize = 4096;

fn bit() -> u64 {
    1 << machine(Tdx).platform().encryption_bit().unwrap()
}

/// No page changed hands.
fn nothing_changed(machine: &Machine) -> bool {
    machine.memory().counters() == vmm::memory::MemoryCounters::default()
}

#[test]
fn the_module_answers_the_calls_a_kernel_starts_with() {
    let mut script = Script::new();
    let info = script.tdcall(Registers { rax: 1, ..Registers::default() });
    let flags =
        script.tdcall(Registers { rax: 7, rdx: 0x1110_0003_0000_0016, r8: 7, ..Registers::default() });
    let cpuid =
        script.tdcall(Registers { r11: 10, r12: 0x21, r13: 0, r14: 9, r15: 9, ..Registers::default() });
    let out = script.tdcall(Registers {
        r11: 30,
        r12: 1,
        r13: 1,
        r14: u64::from(layout::COM1),
        r15: u64::from(b'x'),
        ..Registers::default()
    });
    let halt = script.tdcall(Registers { r11: 12, ..Registers::default() });
    let other = script.tdcall(Registers { r10: 11, ..Registers::default() });
    let mut machine = script.machine(&config(Tdx), &[]);
    pass(&mut machine);
    let at = |step| registers(&machine, step);
    let width = u64::from(machine.platform().encryption_bit().unwrap()) + 1;
    assert_eq!((at(info).rax, at(info).rcx, at(info).rdx, at(info).r8), (0, width, 1 << 28, 1 << 32 | 1));
    assert_eq!((at(flags).rax, at(flags).r8), (0, 0));
    let text = |word: u64| (word as u32).to_le_bytes();
    assert_eq!([text(at(cpuid).r13), text(at(cpuid).r15), text(at(cpuid).r14)].concat(), b"IntelTDX    ");
    assert_eq!((at(out).rax, at(out).r10, machine.console().text().as_str()), (0, 0, "x"));
    assert_eq!((at(halt).rax, at(halt).r10), (0, 0));
    assert_eq!((at(other).rax, at(other).r10), (0, KVM_ENOSYS.wrapping_neg()));
    assert_eq!((machine.stats().calls, machine.bad_calls().all()), (6, &[][..]));
}

#[test]
fn a_call_may_end_the_guest_with_its_own_words() {
    let mut script = Script::new();
    let word = |text: &[u8; 8]| u64::from_le_bytes(*text);
    script.tdcall(Registers {
        r11: 0x10003,
        r12: 3,
        r14: word(b"TD misco"),
        r15: word(b"nfigured"),
        ..Registers::default()
    });
    let mut machine = script.machine(&config(Tdx), &[]);
    let text = "TD misconfigured".to_owned();
    assert_eq!(run(&mut machine), Stop::Terminated(Termination::FatalError { code: 3, text }));
}

#[test]
fn an_out_to_a_calls_port_from_another_address_is_refused_and_reported() {
    let mut script = Script::new();
    let ports = [0xf1, 0xf2, 0xf3, 0xf4, 0xf5];
    for port in ports {
        // TDG.MEM.PAGE.ACCEPT, were it one.
        script.out(port, 6);
    }
    let mut machine = script.machine(&config(Tdx), &[]);
    pass(&mut machine);
    let [refused] = machine.bad_calls().all() else { panic!("{}", script::account(&machine)) };
    assert_eq!(refused.call, "TDCALL");
    assert!(refused.why.contains("0xf1") && refused.why.contains("CPL 0"), "{refused}");
    assert!(nothing_changed(&machine));
    assert_eq!(machine.stats().calls, 0);
}

guest_code!(
    call_from_ring_3,
    "lgdt [0x38fe0]",
    "lea rax, [rip + 2f]",
    "mov [0x200000], rax",
    "push 0x23",
    "push 0x2f000",
    "push 0x3002",
    "push 0x2b",
    "push rax",
    "iretq",
    // MapGPA of a page to shared, at a site of the kernel's own; then the bare port.
    "2: mov eax, 0",
    "mov r10d, 0",
    "mov r11d, 0x10001",
    "mov r12, [0x200008]",
    "mov r13d, 0x1000",
    ".byte 0x66, 0x0f, 0x01, 0xcc",
    "mov [0x200010], r10",
    "mov ebx, 7",
    "out 0xf1, eax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn user_mode_makes_no_call_even_at_a_site_of_the_kernels() {
    let mut machine = guest(Tdx, call_from_ring_3(), &[]);
    catch_exceptions(&machine);
    open_to_user(&machine);
    machine.memory().write(RESULT + 8, &(PLAYGROUND | bit()).to_le_bytes()).unwrap();
    machine.memory().write(PLAYGROUND, &pattern()).unwrap();
    pass(&mut machine);
    let [site, bare] = machine.bad_calls().all() else { panic!("{}", script::account(&machine)) };
    assert!(site.why.contains("CPL 3") && bare.why.contains("CPL 3"), "{site} {bare}");
    assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Private));
    assert!(seen::<4096>(&machine, Private, PLAYGROUND) == pattern());
    assert!(nothing_changed(&machine));
}

#[test]
fn a_device_accessed_through_the_private_view_ends_a_td() {
    for gpa in [layout::BAR32, layout::BAR64, layout::VGA, layout::UNCLAIMED_MMIO] {
        for write in [false, true] {
            let mut script = Script::new();
            if write {
                script.store(ALIAS, 1)
            } else {
                script.load(ALIAS)
            };
            let mut machine = script.machine(&config(Tdx), &[(Private, gpa)]);
            assert_eq!(run(&mut machine), Stop::Terminated(Termination::NoMemory { gpa }), "write: {write}");
            assert_eq!(recorded(&machine).len(), 1);
        }
    }
}

#[test]
fn a_device_accessed_through_the_shared_view_answers_and_so_does_the_call_for_it() {
    let mut script = Script::new();
    let direct = script.load(ALIAS + 0x10);
    let mmio = |len, write, gpa, value| Registers {
        r11: 48,
        r12: len,
        r13: write,
        r14: gpa,
        r15: value,
        ..Registers::default()
    };
    let called = script.tdcall(mmio(8, 0, (layout::BAR32 + 0x10) | bit(), 0));
    let ram = script.tdcall(mmio(8, 0, PLAYGROUND | bit(), 0));
    let odd = script.tdcall(mmio(3, 0, layout::BAR32 | bit(), 0));
    let mut machine = script.machine(&config(Tdx), &[(Shared, layout::BAR32)]);
    pass(&mut machine);
    let answer = registers(&machine, called);
    assert_eq!((answer.r10, answer.r11), (0, value(&machine, direct)));
    assert_eq!([ram, odd].map(|step| registers(&machine, step).r10), [OPERAND_INVALID; 2]);
    assert_eq!(machine.bad_calls().all().len(), 2);
}

#[test]
fn memory_that_is_none_is_never_made_private_and_shared_is_passed_over() {
    let ram = *machine(Tdx).ram();
    let mut script = Script::new();
    let private = script.map_gpa(layout::BAR32, PAGE_SIZE);
    let across = script.map_gpa(layout::VGA - PAGE_SIZE, 2 * PAGE_SIZE);
    let passed = script.map_gpa((layout::VGA - PAGE_SIZE) | bit(), layout::ROM - layout::VGA + 2 * PAGE_SIZE);
    let unaligned = script.map_gpa(PLAYGROUND + 1, PAGE_SIZE);
    let beyond = script.map_gpa(PLAYGROUND, bit());
    let end = script.map_gpa((ram.low_end() - PAGE_SIZE) | bit(), 2 * PAGE_SIZE);
    let mut machine = script.machine(&config(Tdx), &[]);
    pass(&mut machine);
    let answers = [private, across, passed, unaligned, beyond, end].map(|step| registers(&machine, step).r10);
    assert_eq!(answers, [OPERAND_INVALID, OPERAND_INVALID, 0, ALIGN_ERROR, OPERAND_INVALID, 0]);
    assert_eq!(registers(&machine, across).r11, layout::VGA);
    let shared = [layout::VGA - PAGE_SIZE, layout::ROM, ram.low_end() - PAGE_SIZE];
    assert!(shared.iter().all(|gpa| machine.memory().state(*gpa) == Some(PageState::Shared)));
    assert_eq!(machine.memory().counters().conversions, 3);
    assert_eq!(machine.memory().state(layout::ROM + PAGE_SIZE), Some(PageState::Private));
}

#[test]
fn accepting_what_is_no_memory_ends_the_td() {
    let mut script = Script::new();
    script.accept(layout::BAR64, 0);
    let mut machine = script.machine(&config(Tdx), &[]);
    let gpa = layout::BAR64;
    assert_eq!(run(&mut machine), Stop::Terminated(Termination::NoMemory { gpa }));
}

#[test]
fn a_report_holds_the_callers_data_and_no_proof() {
    let mut script = Script::new();
    let report = |rcx, rdx, r8| Registers { rax: 4, rcx, rdx, r8, ..Registers::default() };
    let good = script.tdcall(report(PLAYGROUND, PLAYGROUND + 0x1000, 0));
    let refused = [
        script.tdcall(report(PLAYGROUND + 8, PLAYGROUND + 0x1000, 0)),
        script.tdcall(report(PLAYGROUND, PLAYGROUND + 0x1008, 0)),
        script.tdcall(report(PLAYGROUND, PLAYGROUND + 0x1000, 1)),
        script.tdcall(report(layout::BAR32, PLAYGROUND + 0x1000, 0)),
    ];
    let mut machine = script.machine(&config(Tdx), &[]);
    machine.memory().write(PLAYGROUND + 0x1000, &[0xab; 64]).unwrap();
    pass(&mut machine);
    assert_eq!(registers(&machine, good).rax, 0);
    assert_eq!(seen::<64>(&machine, Private, PLAYGROUND + 128), [0xab; 64]);
    let invalid = |operand: u64| 0xc000_0100_0000_0000 | operand;
    assert_eq!(refused.map(|step| registers(&machine, step).rax), [1, 2, 8, 1].map(invalid));
}

#[test]
fn the_hypercall_page_appears_when_it_is_enabled_and_only_it_calls() {
    let mut script = Script::new();
    script.stop(1);
    script.enable_call_page();
    script.stop(2);
    let called = script.visibility(&[PLAYGROUND], true);
    // The same code elsewhere, and the same page turned off.
    script.call(CALL_PAGE + PAGE_SIZE, 0xdb | 1 << 32, LISTS);
    script.wrmsr(0x4000_0001, 0);
    script.call(CALL_PAGE, 0xdb | 1 << 32, LISTS);
    let mut machine = script.machine(&config(Vbs), &[]);
    machine.memory().write(CALL_PAGE + PAGE_SIZE, &[0xe7, 0xf5, 0xc3]).unwrap();
    assert_eq!(run(&mut machine), Stop::DebugExit(1));
    assert_eq!(seen::<3>(&machine, Private, CALL_PAGE), [0; 3]);
    assert_eq!(run(&mut machine), Stop::DebugExit(2));
    assert_eq!(seen::<3>(&machine, Private, CALL_PAGE), [0xe7, 0xf5, 0xc3]);
    pass(&mut machine);
    assert_eq!(value(&machine, called), 1 << 32);
    let [refused] = machine.bad_calls().all() else { panic!("{}", script::account(&machine)) };
    assert_eq!((refused.call, refused.rip), ("hypercall page", CALL_PAGE + PAGE_SIZE));
    assert_eq!((machine.stats().calls, machine.memory().counters().conversions), (1, 1));
}

#[test]
fn a_guest_that_was_saved_shows_its_type_in_another_machine() {
    let mut script = Script::new();
    script.enable_call_page();
    script.visibility(&[PLAYGROUND], true);
    let mut machine = script.machine(&config(Vbs), &[]);
    assert!(machine.guest_type_evidence().is_err());
    pass(&mut machine);
    let evidence = machine.guest_type_evidence().unwrap();
    let saved = machine.save().unwrap();
    let other = saved.start(&config(Vbs), None).unwrap();
    assert_eq!(other.guest_type_evidence().unwrap(), evidence);
}

#[test]
fn a_hypercall_page_where_there_is_no_memory_is_refused_by_an_exception() {
    const GENERAL_PROTECTION: u8 = 13;
    let mut script = Script::new();
    script.catch_exceptions();
    script.wrmsr(0x4000_0001, layout::BAR32 | 1);
    let mut machine = script.machine(&config(Vbs), &[]);
    assert_eq!(run(&mut machine), Stop::DebugExit(GENERAL_PROTECTION));
    assert_eq!(machine.platform().hypercall_page(), None);
}

/// Every leaf and function there is, with operands that hurt, again and again; the registers of one round are the
/// next one's answers.
#[test]
fn a_flood_of_hostile_calls_stays_bounded_in_time_and_memory() {
    const ROUNDS: u64 = 100;
    let operands = [0, 7, bit() - PAGE_SIZE, PLAYGROUND | 1, u64::MAX, 1 << 63, layout::BAR32 | bit()];
    let mut script = Script::new();
    for leaf in (0..10).chain([0xffff, 1 << 40]) {
        for (operand, other) in operands.iter().zip(operands.iter().rev()) {
            // Accepting what is no memory ends a TD; that is another test's.
            let rcx = if leaf == 6 { operand | 0xff8 } else { *operand };
            let r = Registers { rax: leaf, rcx, rdx: *other, r8: *other, r10: 1, ..Registers::default() };
            script.tdcall(r);
        }
    }
    for function in [10, 30, 31, 48, 54, 0x10000, 0x10001, 0x10002, 0x10004, 0x20000] {
        for (operand, other) in operands.iter().zip(operands.iter().rev()) {
            let r = Registers {
                r11: function,
                r12: *operand,
                r13: *other,
                r14: *operand,
                ..Registers::default()
            };
            script.tdcall(r);
        }
    }
    let calls = script.repeat_from(0, ROUNDS);
    let mut machine = script.machine(&config(Tdx), &[]);
    let start = Instant::now();
    let stop = run_for(&mut machine, Duration::from_secs(120));
    assert_eq!(stop, PASS, "{}", script::account(&machine));
    let limit = Duration::from_secs(if host_is_tcg() { 90 } else { 10 });
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    assert_eq!(machine.stats().calls, ROUNDS * calls as u64);
    assert_eq!(machine.bad_calls().all().len(), KEPT);
    let code: u64 = u64::from_le_bytes(seen(&machine, Private, SCRIPT));
    assert_eq!(code, 5, "the guest's own memory is as it was");
}

#[test]
fn a_flood_of_hostile_hypercalls_stays_bounded_in_time_and_memory() {
    const ROUNDS: u64 = 50;
    const LISTED: u64 = 510;
    let mut script = Script::new();
    let lists: Vec<u64> = (0..LISTED).map(|i| PLAYGROUND + PAGE_SIZE * i).collect();
    script.enable_call_page();
    let mut calls = vec![(0xdb | LISTED << 32, LISTS), (0xdb | LISTED << 32, LISTS + PAGE_SIZE)];
    let start = script.visibility(&lists, true);
    script.visibility(&lists, false);
    calls.extend([
        (u64::MAX, u64::MAX),
        (0xdb, LISTS),
        (0xdb | 0xfff << 32, LISTS),
        (0xdb | 1 << 32, layout::BAR32),
        (0xdb | 1 << 32 | 1 << 48, LISTS),
        (0xdb | 1 << 32 | 1 << 16, LISTS),
        (0xdb | LISTED << 32, LISTS + 8),
        (0xdb | 2 << 32, u64::MAX - 7),
        (0x5c, LISTS),
    ]);
    for (rcx, rdx) in &calls[2..] {
        script.call(CALL_PAGE, *rcx, *rdx);
    }
    // The answer is where the input was.
    for ((rcx, _), index) in calls.iter().zip(0..) {
        script.store(SCRIPT + 128 * (start as u64 + index) + 16, *rcx);
    }
    script.repeat_from(start, ROUNDS);
    let mut machine = script.machine(&config(Vbs), &[]);
    let began = Instant::now();
    pass(&mut machine);
    assert!(began.elapsed() < Duration::from_secs(if host_is_tcg() { 60 } else { 5 }));
    assert_eq!(machine.memory().counters().conversions, 2 * LISTED * ROUNDS);
    assert_eq!(machine.stats().calls, ROUNDS * calls.len() as u64);
    assert!(machine.bad_calls().all().len() <= KEPT);
    assert!(lists.iter().all(|gpa| machine.memory().state(*gpa) == Some(PageState::Private)));
}
