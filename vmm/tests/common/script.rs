// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that executes a table in its memory: tests write accesses and calls, and read back the results.

use std::fmt::Write as _;

use types::View::{self, Private};
use vmm::guest_code;
use vmm::layout::PAGE_SIZE;
use vmm::machine::{Machine, MachineConfig};

use super::{Page, boot, catch_exceptions, recorded, seen};

/// Where the table lies, 16 quadwords per step; results of a step are in it afterwards.
pub const SCRIPT: u64 = 0x100_0000;
/// Pages of input for calls that take one.
pub const LISTS: u64 = 0x180_0000;
/// Where the hypercall page is put.
pub const CALL_PAGE: u64 = 0x1f0_0000;
/// The step's own quadwords: result of a load or call, RIP of an access, error code and RIP of an
/// exception.
const VALUE: usize = 2;
const RIP: usize = 3;
const ERROR_CODE: usize = 14;
const FAULT: usize = 15;

guest_code!(
    interpreter,
    "mov ebp, 0x1000000",
    "20: mov eax, [rbp]",
    "cmp eax, 1",
    "je 31f",
    "cmp eax, 2",
    "je 32f",
    "cmp eax, 3",
    "je 33f",
    "cmp eax, 4",
    "je 34f",
    "cmp eax, 5",
    "je 35f",
    "cmp eax, 6",
    "je 36f",
    "cmp eax, 7",
    "je 37f",
    "cmp eax, 8",
    "je 38f",
    "cmp eax, 9",
    "je 39f",
    "cmp eax, 10",
    "je 52f",
    "cmp eax, 11",
    "je 53f",
    "cmp eax, 12",
    "je 55f",
    "cmp eax, 13",
    "je 56f",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
    "jmp 20b",
    "21: add rbp, 128",
    "jmp 20b",
    // Load.
    "31: mov rcx, [rbp + 8]",
    "lea rdx, [rip + 42f]",
    "mov [rbp + 24], rdx",
    "42: mov rax, [rcx]",
    "mov [rbp + 16], rax",
    "jmp 21b",
    // Store.
    "32: mov rcx, [rbp + 8]",
    "mov rax, [rbp + 16]",
    "lea rdx, [rip + 43f]",
    "mov [rbp + 24], rdx",
    "43: mov [rcx], rax",
    "jmp 21b",
    // Copies a page.
    "33: mov rsi, [rbp + 8]",
    "mov rdi, [rbp + 16]",
    "mov ecx, 512",
    "rep movsq",
    "jmp 21b",
    // Fills a page.
    "34: mov rdi, [rbp + 8]",
    "mov rax, [rbp + 16]",
    "mov ecx, 512",
    "rep stosq",
    "jmp 21b",
    // TDCALL with every register that may carry something.
    "35: mov rax, [rbp + 8]",
    "mov rcx, [rbp + 16]",
    "mov rdx, [rbp + 24]",
    "mov rbx, [rbp + 32]",
    "mov rsi, [rbp + 40]",
    "mov rdi, [rbp + 48]",
    "mov r8, [rbp + 56]",
    "mov r9, [rbp + 64]",
    "mov r10, [rbp + 72]",
    "mov r11, [rbp + 80]",
    "mov r12, [rbp + 88]",
    "mov r13, [rbp + 96]",
    "mov r14, [rbp + 104]",
    "mov r15, [rbp + 112]",
    ".byte 0x66, 0x0f, 0x01, 0xcc",
    "mov [rbp + 8], rax",
    "mov [rbp + 16], rcx",
    "mov [rbp + 24], rdx",
    "mov [rbp + 32], rbx",
    "mov [rbp + 40], rsi",
    "mov [rbp + 48], rdi",
    "mov [rbp + 56], r8",
    "mov [rbp + 64], r9",
    "mov [rbp + 72], r10",
    "mov [rbp + 80], r11",
    "mov [rbp + 88], r12",
    "mov [rbp + 96], r13",
    "mov [rbp + 104], r14",
    "mov [rbp + 112], r15",
    "jmp 21b",
    // Comes out with a byte.
    "36: mov al, [rbp + 8]",
    "mov dx, 0x501",
    "out dx, al",
    "jmp 21b",
    // Calls an address.
    "37: mov rax, [rbp + 8]",
    "mov rcx, [rbp + 16]",
    "mov rdx, [rbp + 24]",
    "call rax",
    "mov [rbp + 16], rax",
    "jmp 21b",
    "38: mov ecx, [rbp + 8]",
    "mov eax, [rbp + 16]",
    "mov edx, [rbp + 20]",
    "wrmsr",
    "jmp 21b",
    "39: mov edx, [rbp + 8]",
    "mov eax, [rbp + 16]",
    "out dx, eax",
    "jmp 21b",
    // Goes back, so many times.
    "52: mov rax, [rbp + 8]",
    "dec qword ptr [rbp + 16]",
    "jz 21b",
    "mov rbp, rax",
    "jmp 20b",
    // PVALIDATE; the flags come back too.
    "55: mov rax, [rbp + 8]",
    "mov rcx, [rbp + 16]",
    "mov rdx, [rbp + 24]",
    ".byte 0xf2, 0x0f, 0x01, 0xff",
    "pushfq",
    "pop rdx",
    "mov [rbp + 16], rax",
    "mov [rbp + 24], rdx",
    "jmp 21b",
    // VMGEXIT with a value in the GHCB MSR, and what is there afterwards.
    "56: mov ecx, 0xc0010130",
    "mov eax, [rbp + 16]",
    "mov edx, [rbp + 20]",
    "wrmsr",
    ".byte 0xf3, 0x0f, 0x01, 0xd9",
    "rdmsr",
    "mov [rbp + 16], eax",
    "mov [rbp + 20], edx",
    "jmp 21b",
    // Catches exceptions; a #VE or #VC notes where it came, and its error code, and goes on with the next step.
    "53: lgdt [0x38fe0]",
    "lidt [0x38ff0]",
    "lea rax, [rip + 54f]",
    "mov [0x38100 + 20 * 16], ax",
    "shr rax, 16",
    "mov [0x38100 + 20 * 16 + 6], ax",
    "lea rax, [rip + 57f]",
    "mov [0x38100 + 29 * 16], ax",
    "shr rax, 16",
    "mov [0x38100 + 29 * 16 + 6], ax",
    "jmp 21b",
    "57: pop qword ptr [rbp + 112]",
    "54: pop qword ptr [rbp + 120]",
    "mov rsp, [rsp + 16]",
    "jmp 21b",
);

/// Steps for the guest, numbered from 0 on.
#[derive(Default)]
pub struct Script {
    steps: Vec<[u64; 16]>,
    lists: Vec<Page>,
}

/// Registers of a TDCALL, in a step from quadword 1 on.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, words: &[u64]) -> usize {
        let mut step = [0; 16];
        step[..words.len()].copy_from_slice(words);
        self.steps.push(step);
        self.steps.len() - 1
    }

    pub fn load(&mut self, address: u64) -> usize {
        self.push(&[1, address])
    }

    pub fn store(&mut self, address: u64, value: u64) -> usize {
        self.push(&[2, address, value])
    }

    pub fn copy_page(&mut self, from: u64, to: u64) -> usize {
        self.push(&[3, from, to])
    }

    pub fn fill_page(&mut self, address: u64, value: u64) -> usize {
        self.push(&[4, address, value])
    }

    pub fn tdcall(&mut self, r: Registers) -> usize {
        self.push(&[5, r.rax, r.rcx, r.rdx, 0, 0, 0, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15])
    }

    /// `TDG.MEM.PAGE.ACCEPT`.
    pub fn accept(&mut self, gpa: u64, level: u64) -> usize {
        self.tdcall(Registers { rax: 6, rcx: gpa | level, ..Registers::default() })
    }

    /// `TDG.VP.VMCALL<MapGPA>`.
    pub fn map_gpa(&mut self, address: u64, len: u64) -> usize {
        self.tdcall(Registers { r11: 0x10001, r12: address, r13: len, ..Registers::default() })
    }

    /// `TDG.VP.VEINFO.GET`.
    pub fn veinfo(&mut self) -> usize {
        self.tdcall(Registers { rax: 3, ..Registers::default() })
    }

    /// Ends the run with this byte; the next run goes on behind it.
    pub fn stop(&mut self, code: u8) -> usize {
        self.push(&[6, u64::from(code)])
    }

    pub fn call(&mut self, address: u64, rcx: u64, rdx: u64) -> usize {
        self.push(&[7, address, rcx, rdx])
    }

    pub fn wrmsr(&mut self, index: u32, value: u64) -> usize {
        self.push(&[8, u64::from(index), value])
    }

    pub fn out(&mut self, port: u16, value: u64) -> usize {
        self.push(&[9, u64::from(port), value])
    }

    /// Does everything from `step` on so many times in all.
    pub fn repeat_from(&mut self, step: usize, times: u64) -> usize {
        self.push(&[10, SCRIPT + 128 * step as u64, times])
    }

    pub fn catch_exceptions(&mut self) -> usize {
        self.push(&[11])
    }

    /// PVALIDATE of a virtual address.
    pub fn pvalidate(&mut self, address: u64, size: u64, validate: bool) -> usize {
        self.push(&[12, address, size, u64::from(validate)])
    }

    /// A call by SEV's GHCB MSR protocol.
    pub fn ghcb_msr(&mut self, value: u64) -> usize {
        self.push(&[13, 0, value])
    }

    /// Turns Hyper-V's hypercall page on.
    pub fn enable_call_page(&mut self) -> usize {
        self.wrmsr(0x4000_0000, 0x8100_0000_0000_0000);
        self.wrmsr(0x4000_0001, CALL_PAGE | 1)
    }

    /// `HvCallModifySparseGpaPageHostVisibility` for these pages.
    pub fn visibility(&mut self, pages: &[u64], visible: bool) -> usize {
        let list = LISTS + PAGE_SIZE * self.lists.len() as u64;
        let head = [u64::MAX, if visible { 3 } else { 0 }];
        let words = head.into_iter().chain(pages.iter().map(|gpa| gpa / PAGE_SIZE));
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        self.lists.push(super::page(&bytes));
        self.call(CALL_PAGE, 0xdb | (pages.len() as u64) << 32, list)
    }

    /// A machine about to do all this, with `aliases` mapped from [`super::ALIAS`] on.
    pub fn machine(&self, config: &MachineConfig, aliases: &[(View, u64)]) -> Machine {
        let mut machine = Machine::new(config).unwrap();
        boot(&mut machine, interpreter(), aliases);
        catch_exceptions(&machine);
        self.load_into(&machine);
        machine
    }

    /// Replaces the table; a guest that has not started, or loops at its end, does this next.
    pub fn load_into(&self, machine: &Machine) {
        let bytes: Vec<u8> = self.steps.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        machine.memory().write(SCRIPT, &bytes).unwrap();
        machine.memory().write(SCRIPT + bytes.len() as u64, &[0; 128]).unwrap();
        for (list, index) in self.lists.iter().zip(0..) {
            machine.memory().write(LISTS + PAGE_SIZE * index, list).unwrap();
        }
    }
}

fn step(machine: &Machine, index: usize) -> [u64; 16] {
    let bytes: [u8; 128] = seen(machine, Private, SCRIPT + 128 * index as u64);
    std::array::from_fn(|i| u64::from_le_bytes(std::array::from_fn(|j| bytes[8 * i + j])))
}

/// What a load or a call gave.
pub fn value(machine: &Machine, index: usize) -> u64 {
    step(machine, index)[VALUE]
}

/// Address of the load or store of a step.
pub fn rip(machine: &Machine, index: usize) -> u64 {
    step(machine, index)[RIP]
}

/// Where a #VE or #VC came in this step; 0 if none came.
pub fn fault(machine: &Machine, index: usize) -> u64 {
    step(machine, index)[FAULT]
}

/// The error code of the #VC that came in this step.
pub fn error_code(machine: &Machine, index: usize) -> u64 {
    step(machine, index)[ERROR_CODE]
}

/// What PVALIDATE left in EAX, and whether it set the carry flag.
pub fn validated(machine: &Machine, index: usize) -> (u64, bool) {
    let [_, _, eax, flags, ..] = step(machine, index);
    (eax & 0xffff_ffff, flags & 1 == 1)
}

/// What a TDCALL left in the registers.
pub fn registers(machine: &Machine, index: usize) -> Registers {
    let [_, rax, rcx, rdx, _, _, _, r8, r9, r10, r11, r12, r13, r14, r15, _] = step(machine, index);
    Registers { rax, rcx, rdx, r8, r9, r10, r11, r12, r13, r14, r15 }
}

/// What went wrong in a machine, for the message of a failed test.
pub fn account(machine: &Machine) -> String {
    let mut text = String::new();
    for event in recorded(machine).iter().take(8) {
        let _ = writeln!(text, "{event}");
    }
    for call in machine.bad_calls().all().iter().take(8) {
        let _ = writeln!(text, "{call}");
    }
    text
}
