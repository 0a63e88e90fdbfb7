// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stacks as kernels leave them, and as they never would.

use proptest::prelude::*;

use super::*;
use crate::boot::image::{extract_vmlinux, synth};

/// Where the synthetic kernel's code is linked to.
const TEXT: u64 = synth::VIRTUAL + synth::TEXT;
const TEXT_SIZE: usize = 0x1000;
/// A task's stack: its lowest address.
const STACK: u64 = 0xffff_c900_0000_4000;
/// Where the tables are linked to.
const ORC_IP: u64 = synth::VIRTUAL + 0x200_0000;
/// `SHF_ALLOC | SHF_EXECINSTR`
const CODE: u64 = 6;

/// Bases of an entry: those of SP in the low half.
const SP: u8 = 5;
const BP: u8 = 4;
const SP_INDIRECT: u8 = 9;
const R10: u8 = 6;
const BP_FROM_STACK: u8 = 1 << 4;

/// Since 6.4.
const UNDEFINED: u8 = 0;
const END: u8 = 1;
const CALL: u8 = 2;
const REGS: u8 = 3 | 8;
const PARTIAL: u8 = 4 | 8;

/// `struct orc_entry`, and where it begins to hold.
type Entry = (u64, i16, i16, u8, u8);

/// 0x000: the end; 0x100: nothing on the stack but a return address; 0x200: 16 bytes of locals; 0x300: a frame with
/// RBP; 0x400: an interrupt's entry; 0x500: the same with the processor's part only; 0x600: no way on;
/// 0x700: an entry that needs R10 of what was interrupted; 0x800: a stack that the other one's pointer is on.
const ENTRIES: [Entry; 9] = [
    (0x000, 0, 0, 0, END),
    (0x100, 8, 0, SP, CALL),
    (0x200, 24, 0, SP, CALL),
    (0x300, 16, -16, BP | BP_FROM_STACK, CALL),
    (0x400, 0, 0, SP, REGS),
    (0x500, 0, 0, SP, PARTIAL),
    (0x600, 0, 0, 0, UNDEFINED),
    (0x700, 0, 0, R10, CALL),
    (0x800, 8, 0, SP_INDIRECT, CALL),
];

/// The tables as sections.
fn sections(entries: &[Entry]) -> (Vec<u8>, Vec<u8>) {
    let (mut ips, mut table) = (vec![], vec![]);
    for (index, (at, sp, bp, bases, tail)) in entries.iter().enumerate() {
        let place = ORC_IP + index as u64 * 4;
        ips.extend(((TEXT + at).wrapping_sub(place) as u32).to_le_bytes());
        table.extend(sp.to_le_bytes());
        table.extend(bp.to_le_bytes());
        table.extend([*bases, *tail]);
    }
    (ips, table)
}

fn unwinder_with(ips: &[u8], entries: &[u8], header: Option<&[u8]>) -> Unwinder {
    let text = vec![0; TEXT_SIZE];
    let mut all: Vec<(&str, u64, u64, &[u8])> = vec![(".text", TEXT, CODE, &text)];
    all.extend([(".orc_unwind_ip", ORC_IP, 2, ips), (".orc_unwind", ORC_IP + 0x1000, 2, entries)]);
    all.extend(header.map(|header| (".orc_header", ORC_IP - 0x100, 2, header)));
    Unwinder::new(&extract_vmlinux(&synth::elf_with_sections(&all)).unwrap())
}

/// As a kernel since 6.4; calls must be the commonest.
fn unwinder() -> Unwinder {
    let mut all = ENTRIES.to_vec();
    all.extend((0..20).map(|i| (0x900 + i * 8, 8, 0, SP, CALL)));
    let (ips, entries) = sections(&all);
    unwinder_with(&ips, &entries, None)
}

/// Without tables.
fn scanner() -> Unwinder {
    unwinder_with(&[], &[], None)
}

/// Ranges of memory.
struct Memory(Vec<(u64, Vec<u8>)>);

impl Memory {
    /// The kernel's code, all calls of 16 bytes' distance, and a stack.
    fn new(words: &[u64]) -> Self {
        let mut text = vec![0x90; TEXT_SIZE];
        for at in (0x10..TEXT_SIZE).step_by(0x10) {
            // call TEXT + 0x100
            let distance = 0x100 - i32::try_from(at).unwrap();
            text[at - 5] = 0xe8;
            text[at - 4..at].copy_from_slice(&distance.to_le_bytes());
        }
        let mut stack = vec![0; THREAD_SIZE as usize];
        let at = stack.len() - words.len() * 8;
        for (index, word) in words.iter().enumerate() {
            stack[at + index * 8..at + index * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        Self(vec![(TEXT, text), (STACK, stack)])
    }
}

impl KernelMemory for Memory {
    fn read(&self, virtual_address: u64, buffer: &mut [u8]) -> bool {
        self.0.iter().any(|(start, bytes)| {
            let Some(offset) = virtual_address.checked_sub(*start) else { return false };
            let found = bytes.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
            found.is_some_and(|found| {
                buffer.copy_from_slice(found);
                true
            })
        })
    }
}

/// The stack pointer from which on so many words are on the stack.
fn rsp(words: &[u64]) -> u64 {
    STACK + THREAD_SIZE - words.len() as u64 * 8
}

#[track_caller]
fn assert_frames(found: &Backtrace, method: UnwindMethod, expected: &[(u64, Origin)]) {
    let frames: Vec<_> = found.frames.iter().map(|f| (f.address.wrapping_sub(TEXT), f.origin)).collect();
    assert_eq!(frames, expected);
    assert_eq!(found.method, method);
}

use Origin::{Call, Instruction, StackValue};

#[test]
fn calls_to_the_end_of_the_stack() {
    let rbp = rsp(&[0; 4]);
    // From 0x104: a return address into 0x200; two words and one into 0x300; RBP is saved there.
    let words = [TEXT + 0x210, 1, 2, TEXT + 0x320, 3, 4, rbp, TEXT + 0x050, 5, 6];
    let rbp = rsp(&words) + 6 * 8;
    let registers = Registers { rip: TEXT + 0x104, rsp: rsp(&words), rbp };
    let found = unwinder().backtrace(&Memory::new(&words), registers);
    let expected = [(0x104, Instruction), (0x210, Call), (0x320, Call), (0x50, Call)];
    assert_frames(&found, UnwindMethod::Orc, &expected);
    assert_eq!(found.addresses().next(), Some(TEXT + 0x104));

    // A call that never returns is the last instruction of its function.
    let words = [TEXT + 0x300, 1, 2, TEXT + 0x010];
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    let found = unwinder().backtrace(&Memory::new(&words), registers);
    assert_frames(&found, UnwindMethod::Orc, &[(0x100, Instruction), (0x300, Call), (0x10, Call)]);
    let symbols = SymbolTable::from_map(&format!(
        "{:x} T start\n{:x} T leaf\n{:x} t panics\n{:x} T next\n{:x} T _etext\n",
        TEXT,
        TEXT + 0x100,
        TEXT + 0x200,
        TEXT + 0x300,
        TEXT + 0x1000
    ));
    assert_eq!(found.with(&symbols).to_string(), "leaf+0x0\npanics+0x100\nstart+0x10");
    let foreign = Frame { address: 0x1234, origin: StackValue };
    assert_eq!(foreign.with(&symbols).to_string(), "? 0x1234");

    // Through a null pointer.
    let words = [TEXT + 0x040];
    let registers = Registers { rip: 0, rsp: rsp(&words), rbp: 0 };
    let found = unwinder().backtrace(&Memory::new(&words), registers);
    assert_eq!(found.addresses().collect::<Vec<_>>(), [0, TEXT + 0x40]);
}

/// `struct pt_regs` with RBP, R10, RIP, CS and RSP.
fn pt_regs(bp: u64, r10: u64, ip: u64, cs: u64, sp: u64) -> Vec<u64> {
    let mut registers = vec![0; 21];
    (registers[4], registers[7], registers[16], registers[17], registers[19]) = (bp, r10, ip, cs, sp);
    registers
}

#[test]
fn interrupts_and_system_calls() {
    // What was interrupted is at its first instruction, and returns to the end.
    let interrupted = [TEXT + 0x020];
    let regs = pt_regs(7, 0, TEXT + 0x100, 0x10, rsp(&interrupted));
    let words = [&[TEXT + 0x410][..], &regs, &interrupted].concat();
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    let expected = [(0x100, Instruction), (0x410, Call), (0x100, Instruction), (0x20, Call)];
    assert_frames(&unwinder().backtrace(&Memory::new(&words), registers), UnwindMethod::Orc, &expected);

    // Only what the processor pushes.
    let words = [&[TEXT + 0x510][..], &regs[16..], &interrupted].concat();
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    let expected = [(0x100, Instruction), (0x510, Call), (0x100, Instruction), (0x20, Call)];
    assert_frames(&unwinder().backtrace(&Memory::new(&words), registers), UnwindMethod::Orc, &expected);

    // User space is the end, whatever is there.
    let regs = pt_regs(7, 0, 0x40_1000, 0x33, 0x7fff_0000);
    let words = [&[TEXT + 0x410][..], &regs].concat();
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    let expected = [(0x100, Instruction), (0x410, Call)];
    assert_frames(&unwinder().backtrace(&Memory::new(&words), registers), UnwindMethod::Orc, &expected);

    // A frame found by an interrupted function's R10.
    let after = [TEXT + 0x020, 0];
    let regs = pt_regs(7, rsp(&after) + 8, TEXT + 0x710, 0x10, rsp(&[0, 0, 0]));
    let words = [&[TEXT + 0x410][..], &regs, &[0], &after].concat();
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    let expected = [(0x100, Instruction), (0x410, Call), (0x710, Instruction), (0x20, Call)];
    assert_frames(&unwinder().backtrace(&Memory::new(&words), registers), UnwindMethod::Orc, &expected);
}

#[test]
fn another_stack() {
    // An interrupt's stack, from which a pointer leads back to the task's.
    let task = [TEXT + 0x020];
    let irq_stack = STACK + 2 * THREAD_SIZE;
    let mut memory = Memory::new(&task);
    memory.0.push((irq_stack, rsp(&task).to_le_bytes().to_vec()));
    // SP_INDIRECT: the word at RSP, and 8 more.
    let registers = Registers { rip: TEXT + 0x800, rsp: irq_stack, rbp: 0 };
    assert_frames(
        &unwinder().backtrace(&memory, registers),
        UnwindMethod::Orc,
        &[(0x800, Instruction), (0x20, Call)],
    );
}

#[test]
fn a_lost_walk_goes_on_as_a_scan() {
    // 0x600 has no way on.
    let words = [TEXT + 0x610, 1, TEXT + 0x220, TEXT + 0x221, 0x1234, TEXT + 0x030];
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    let found = unwinder().backtrace(&Memory::new(&words), registers);
    let expected = [(0x100, Instruction), (0x610, Call), (0x220, StackValue), (0x30, StackValue)];
    assert_frames(&found, UnwindMethod::OrcThenScan, &expected);

    // Nothing more on the stack.
    let words = [TEXT + 0x610, 1, 2];
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    let found = unwinder().backtrace(&Memory::new(&words), registers);
    assert_frames(&found, UnwindMethod::Orc, &[(0x100, Instruction), (0x610, Call)]);

    // A stack that leads back to itself.
    let registers = Registers { rip: TEXT + 0x300, rsp: rsp(&words), rbp: rsp(&words) - 16 };
    let found = unwinder().backtrace(&Memory::new(&words), registers);
    assert_frames(&found, UnwindMethod::StackScan, &[(0x300, Instruction), (0x610, StackValue)]);

    // Modules have tables of their own, which are not known.
    let words = [0xffff_ffff_c000_1234, TEXT + 0x040];
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    let found = unwinder().backtrace(&Memory::new(&words), registers);
    assert_frames(&found, UnwindMethod::StackScan, &[(0x100, Instruction), (0x40, StackValue)]);

    // No stack at all.
    for rsp in [0, 0x7fff_0000, STACK - 8, u64::MAX, u64::MAX - 7] {
        let registers = Registers { rip: TEXT + 0x100, rsp, rbp: 0 };
        let found = unwinder().backtrace(&Memory::new(&[]), registers);
        assert_frames(&found, UnwindMethod::StackScan, &[(0x100, Instruction)]);
    }
}

#[test]
fn frames_are_bounded() {
    let words = [TEXT + 0x110; 1000];
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    for (unwinder, method) in [(unwinder(), UnwindMethod::Orc), (scanner(), UnwindMethod::StackScan)] {
        let found = unwinder.backtrace(&Memory::new(&words), registers);
        assert_eq!(found.frames.len(), MAX_FRAMES);
        assert_eq!(found.method, method);
    }
}

#[test]
fn calls_are_recognised() {
    let calls: [&[u8]; 10] = [
        &[0xe8, 0x00, 0x00, 0x00, 0x00],             // call next
        &[0xff, 0xd0],                               // call *%rax
        &[0x41, 0xff, 0xd3],                         // call *%r11
        &[0xff, 0x10],                               // call *(%rax)
        &[0xff, 0x14, 0xc5],                         // only the beginning of call *disp32(,%rax,8)
        &[0xff, 0x50, 0x18],                         // call *0x18(%rax)
        &[0xff, 0x54, 0x24, 0x08],                   // call *0x8(%rsp)
        &[0xff, 0x15, 1, 2, 3, 4],                   // call *disp32(%rip)
        &[0xff, 0x94, 0x24, 1, 2, 3, 4],             // call *disp32(%rsp)
        &[0xff, 0x14, 0xc5, 0x00, 0x00, 0x00, 0x81], // call *disp32(,%rax,8)
    ];
    let others: [&[u8]; 5] = [
        &[0xe8, 0x00, 0x00, 0x00, 0x70],       // call out of the kernel
        &[0xff, 0xe0],                         // jmp *%rax
        &[0xff, 0x50, 0x18, 0x90],             // a call, but not the last instruction
        &[0xff, 0x15, 1, 2, 3],                // too short
        &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00], // a long nop
    ];
    let is_call = |bytes: &[u8]| {
        let mut memory = Memory::new(&[TEXT + 0x800]);
        let text = &mut memory.0[0].1;
        text[0x7f0..0x800].fill(0x90);
        text[0x800 - bytes.len()..0x800].copy_from_slice(bytes);
        let registers = Registers { rip: TEXT, rsp: rsp(&[0]), rbp: 0 };
        scanner().backtrace(&memory, registers).frames.len() == 2
    };
    for (number, bytes) in calls.iter().enumerate() {
        assert_eq!(is_call(bytes), number != 4, "{bytes:x?}");
    }
    assert!(others.iter().all(|bytes| !is_call(bytes)));
}

#[test]
fn layouts_are_distinguished() {
    let header: Vec<u8> = (0..20).collect();
    // Too few calls to decide, unless the header does.
    let (ips, long) = sections(&ENTRIES[3..7]);
    assert!(!unwinder_with(&ips, &long, None).has_orc());
    assert!(!unwinder_with(&ips, &long, Some(&header)).has_orc());
    assert!(unwinder_with(&ips, &long, Some(&orc::HEADER)).has_orc());
    assert!(!scanner().has_orc());
    assert!(!unwinder_with(&ips, &long[6..], Some(&orc::HEADER)).has_orc());
    assert!(!unwinder_with(&ips[..15], &long[..23], None).has_orc());
    let (unsorted, _) = sections(&[(0x20, 8, 0, SP, CALL), (0x10, 8, 0, SP, CALL)]);
    assert!(!unwinder_with(&unsorted, &long[..12], Some(&orc::HEADER)).has_orc());

    // Until 6.2: calls are 0, registers 1, the end is its own bit.
    let mut short =
        vec![(0x000, 0, 0, 0, 4), (0x100, 8, 0, SP, 0), (0x400, 0, 0, SP, 1), (0x600, 0, 0, 0, 0)];
    short.extend((0..9).map(|i| (0x700 + i * 8, 8, 0, SP, 0)));
    let (ips, entries) = sections(&short);
    let interrupted = [TEXT + 0x020];
    let regs = pt_regs(7, 0, TEXT + 0x100, 0x10, rsp(&interrupted));
    let words = [&[TEXT + 0x410][..], &regs, &interrupted].concat();
    let registers = Registers { rip: TEXT + 0x100, rsp: rsp(&words), rbp: 0 };
    let found = unwinder_with(&ips, &entries, None).backtrace(&Memory::new(&words), registers);
    let expected = [(0x100, Instruction), (0x410, Call), (0x100, Instruction), (0x20, Call)];
    assert_frames(&found, UnwindMethod::Orc, &expected);
    // Bits that neither has.
    short[2].4 = 0x10;
    let (ips, entries) = sections(&short);
    assert!(!unwinder_with(&ips, &entries, None).has_orc());
}

#[test]
fn registers_numbered_anew_lead_to_the_same_callers() {
    // arch/x86/include/asm/orc_types.h in 6.12, and as in 7.3: PREV_SP, BP, SP, R10, SP_INDIRECT.
    let anew = |number: u8| [0, 8, 2, 5, 4, 3, 6, 7, 10, 9][usize::from(number)];
    let mut old = ENTRIES.to_vec();
    old.extend((0..20).map(|i| (0x900 + i * 8, 8, 0, SP, CALL)));
    let new = old
        .iter()
        .map(|&(at, sp, bp, bases, tail)| (at, sp, bp, anew(bases & 0xf) | anew(bases >> 4) << 4, tail));
    let (ips, entries) = sections(&new.collect::<Vec<_>>());
    let words = [TEXT + 0x210, 1, 2, TEXT + 0x320, 3, 4, 0, TEXT + 0x050, 5, 6];
    let registers = Registers { rip: TEXT + 0x104, rsp: rsp(&words), rbp: rsp(&words) + 6 * 8 };
    let expected = unwinder().backtrace(&Memory::new(&words), registers);
    assert_eq!(expected.method, UnwindMethod::Orc);
    for header in [Some(&orc::HEADER_RENUMBERED[..]), None] {
        let found = unwinder_with(&ips, &entries, header).backtrace(&Memory::new(&words), registers);
        assert_eq!(found, expected);
    }
}

/// Words that lead somewhere.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0..TEXT_SIZE as u64).prop_map(|offset| TEXT + offset),
        (0..TEXT_SIZE as u64 / 16).prop_map(|offset| TEXT + offset * 16),
        (0..THREAD_SIZE).prop_map(|offset| STACK + offset),
        (0..THREAD_SIZE / 8).prop_map(|offset| STACK + offset * 8),
        prop::sample::select(vec![0, 1, 0x10, 0x33, u64::MAX, u64::MAX - 8, KERNEL_HALF]),
    ]
}

proptest! {
    #[test]
    fn arbitrary_stacks_and_tables_are_survived(
        words in prop::collection::vec(word(), 0..200),
        (rip, rsp, rbp) in (word(), word(), word()),
        entries in prop::collection::vec((0..0x1000_u64, any::<i16>(), -64..64_i16, any::<u8>(), 0..16_u8), 1..100),
    ) {
        let mut entries = entries;
        entries.sort_unstable();
        let (ips, table) = sections(&entries);
        for unwinder in [unwinder(), scanner(), unwinder_with(&ips, &table, Some(&orc::HEADER))] {
            let found = unwinder.backtrace(&Memory::new(&words), Registers { rip, rsp, rbp });
            prop_assert!((1..=MAX_FRAMES).contains(&found.frames.len()));
            prop_assert_eq!(found.frames[0].address, rip);
            let stack_values = found.frames.iter().any(|frame| frame.origin == StackValue);
            prop_assert_eq!(stack_values, found.method != UnwindMethod::Orc && found.frames.len() > 1);
            prop_assert!(!found.with(&SymbolTable::default()).to_string().is_empty());
        }
    }

    #[test]
    fn arbitrary_sections_are_survived(
        ips in prop::collection::vec(any::<u8>(), 0..100),
        table in prop::collection::vec(any::<u8>(), 0..150),
        rip in word(),
    ) {
        let found = unwinder_with(&ips, &table, Some(&orc::HEADER))
            .backtrace(&Memory::new(&[]), Registers { rip, rsp: STACK, rbp: STACK });
        prop_assert!(found.frames.len() <= MAX_FRAMES);
    }
}
