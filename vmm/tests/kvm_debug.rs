// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A debugger's breakpoints, steps, registers and memory, on guests whose page states stay enforced.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use types::Platform::{self, None as Plain, Sev, Tdx};
use types::View::{Private, Shared};
use types::{AccessKind, Mode};
use vmm::guest_code;
use vmm::layout::FLAT_CODE;
use vmm::machine::debug::{DebugStop, Watched};
use vmm::machine::{Machine, MachineConfig, Stop};
use vmm::x86::cpuid::host_is_tcg;

use self::common::*;

const BREAKPOINT: Stop = Stop::Debug(DebugStop::Breakpoint);
const STEP: Stop = Stop::Debug(DebugStop::Step);

// Offsets of instructions: 0, 5, 10 (the function's call), then at 15 the end; the function is at 24.
guest_code!(
    calls_a_function,
    "mov edi, 7",
    "mov esi, 5",
    "call 3f",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
    "hlt",
    "nop",
    "3: lea rax, [rdi + rsi]",
    "mov [0x200000], rax",
    "ret",
);
const FUNCTION: u64 = FLAT_CODE + 24;
/// Bytes of `lea rax, [rdi + rsi]`.
const LEA: u64 = 4;

/// A machine with a debugger.
fn debugged(mut machine: Machine) -> Machine {
    let _ = machine.start_debugging().unwrap();
    machine
}

fn rip(machine: &Machine) -> u64 {
    machine.debug_registers().unwrap().general.rip
}

/// Executes one instruction; RIP after it.
fn step(machine: &mut Machine) -> u64 {
    machine.set_stepping(true).unwrap();
    assert_eq!(run(machine), STEP);
    machine.set_stepping(false).unwrap();
    rip(machine)
}

#[test]
fn a_breakpoint_stops_at_its_instruction_and_the_guest_goes_on_from_there() {
    for platform in Platform::ALL.iter().copied() {
        let mut machine = debugged(guest(platform, calls_a_function(), &[]));
        machine.add_breakpoint(FUNCTION).unwrap();
        let mut code = [0; 8];
        assert_eq!(machine.read_virtual(FUNCTION, &mut code), 8);
        assert_eq!(code, calls_a_function()[24..32], "the breakpoint is not in what is read");
        assert_eq!(run(&mut machine), BREAKPOINT, "{platform}");
        let mut registers = machine.debug_registers().unwrap();
        assert_eq!(registers.general.rip, FUNCTION);
        assert_eq!((registers.general.rdi, registers.general.rsi), (7, 5));
        let mut caller = [0; 8];
        machine.read_virtual(registers.general.rsp, &mut caller);
        assert_eq!(u64::from_le_bytes(caller), FLAT_CODE + 15);
        registers.general.rdi = 100;
        registers.float.xmm[3] = [9; 16];
        machine.set_debug_registers(&registers).unwrap();
        assert!(machine.remove_breakpoint(FUNCTION).unwrap());
        assert_eq!(step(&mut machine), FUNCTION + LEA);
        let registers = machine.debug_registers().unwrap();
        assert_eq!((registers.general.rax, registers.float.xmm[3]), (105, [9; 16]));
        machine.stop_debugging().unwrap();
        pass(&mut machine);
        assert_eq!(result(&machine, 0), 105);
        assert!(recorded(&machine).is_empty());
    }
}

// An OUT to a device and a load from one, both of which leave the guest.
guest_code!(
    leaves_at_each_instruction,
    "mov dx, 0x3f8",
    "mov al, 0x41",
    "out dx, al",
    "in al, dx",
    "mov eax, [0x40000000]",
    "nop",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn every_step_is_one_instruction_also_where_it_leaves_the_guest() {
    let mut machine = debugged(guest(Plain, leaves_at_each_instruction(), &[(Private, 0xf000_0000)]));
    let steps: Vec<u64> = (0..6).map(|_| step(&mut machine) - FLAT_CODE).collect();
    assert_eq!(steps, [4, 6, 7, 8, 15, 16]);
    pass(&mut machine);
}

// TDG.MEM.PAGE.ACCEPT of a page that is accepted already: an instruction that the VMM executes.
guest_code!(
    calls_the_module,
    "mov eax, 6",
    "mov ecx, 0x400000",
    ".byte 0x66, 0x0f, 0x01, 0xcc",
    "nop",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_step_over_a_rewritten_instruction_ends_behind_it() {
    let mut machine = debugged(guest(Tdx, calls_the_module(), &[]));
    let steps: Vec<u64> = (0..4).map(|_| step(&mut machine) - FLAT_CODE).collect();
    assert_eq!(steps, [5, 10, 14, 15]);
    pass(&mut machine);
}

guest_code!(has_an_int3_of_its_own, "lgdt [0x38fe0]", "lidt [0x38ff0]", "nop", "int3", "hlt",);

#[test]
fn an_int3_of_the_guests_own_reaches_its_handler() {
    let mut machine = debugged(guest(Plain, has_an_int3_of_its_own(), &[]));
    catch_exceptions(&machine);
    machine.add_breakpoint(FLAT_CODE + 16).unwrap();
    assert_eq!(run(&mut machine), BREAKPOINT);
    machine.remove_breakpoint(FLAT_CODE + 16).unwrap();
    machine.add_breakpoint(FLAT_CODE).unwrap();
    assert_eq!(run(&mut machine), Stop::DebugExit(3));
    let stack = machine.debug_registers().unwrap().general.rsp;
    let mut saved = [0; 8];
    machine.read_virtual(stack, &mut saved);
    assert_eq!(u64::from_le_bytes(saved), FLAT_CODE + 18, "the handler finds RIP behind INT3");
}

guest_code!(loops, "2: inc rax", "jmp 2b");

#[test]
fn a_running_guest_stops_on_request_from_another_thread() {
    let mut machine = guest(Plain, loops(), &[]);
    let request = machine.start_debugging().unwrap();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        request.stop();
    });
    assert_eq!(run(&mut machine), Stop::Debug(DebugStop::Requested));
    thread.join().unwrap();
    assert!((FLAT_CODE..FLAT_CODE + 5).contains(&rip(&machine)));
}

guest_code!(
    loads_through_the_other_view,
    "mov rbx, 0x40000000",
    "nop",
    "mov rax, [rbx]",
    "mov [0x200000], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_forbidden_access_stops_at_its_instruction_and_reads_by_the_debugger_make_none() {
    for platform in [Sev, Tdx] {
        let config = MachineConfig { mode: Mode::Record, ..config(platform) };
        let mut machine = Machine::new(&config).unwrap();
        boot(&mut machine, loads_through_the_other_view(), &[(Shared, PLAYGROUND), (Private, PLAYGROUND)]);
        machine.memory().write(PLAYGROUND, &pattern()).unwrap();
        let mut machine = debugged(machine);
        let seen_by = |machine: &Machine, address| {
            let mut bytes = [0; 16];
            assert_eq!(machine.read_virtual(address, &mut bytes), 16);
            bytes
        };
        let (other, own) = (seen_by(&machine, ALIAS), seen_by(&machine, ALIAS + 0x1000));
        assert_eq!(own, pattern()[..16]);
        assert_eq!(other, seen::<16>(&machine, Shared, PLAYGROUND), "as the guest would see it");
        if platform == Sev {
            assert_eq!(other, encrypted(PLAYGROUND, &pattern())[..16], "ciphertext");
        }
        assert!(!machine.write_virtual(ALIAS, &[1]), "the page's state forbids that view");
        assert!(machine.write_virtual(ALIAS + 0x1000, &own));
        assert_eq!(run(&mut machine), Stop::Debug(DebugStop::Access), "{platform}");
        assert_eq!(recorded(&machine).len(), 1, "{platform}");
        let load = recorded(&machine)[0].at.as_ref().unwrap().rip;
        assert_eq!(rip(&machine), load, "RIP is still at the load");
        pass(&mut machine);
        assert_eq!(recorded(&machine).len(), 1, "the load is not counted twice");
    }
}

#[test]
fn debug_registers_stop_before_execution_and_after_a_store() {
    if host_is_tcg() {
        println!("skipped: QEMU's SVM gives a guest no debug registers");
        return;
    }
    let mut machine = debugged(guest(Plain, calls_a_function(), &[]));
    let function = Watched { address: FUNCTION, len: 1, kind: None };
    let store = Watched { address: RESULT, len: 8, kind: Some(AccessKind::Write) };
    machine.watch_memory(function).unwrap();
    machine.watch_memory(store).unwrap();
    assert_eq!(run(&mut machine), Stop::Debug(DebugStop::HardwareBreakpoint));
    assert_eq!(rip(&machine), FUNCTION);
    assert!(machine.unwatch_memory(function).unwrap());
    assert_eq!(run(&mut machine), Stop::Debug(DebugStop::Watchpoint(store)));
    assert_eq!(result(&machine, 0), 12);
    assert!(machine.unwatch_memory(store).unwrap());
    assert!(!machine.unwatch_memory(store).unwrap());
    pass(&mut machine);
}
