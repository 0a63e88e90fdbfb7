// SPDX-License-Identifier: Apache-2.0 OR MIT

use kvm_bindings::{kvm_dtable, kvm_segment};
use proptest::prelude::*;
use types::View;

use super::*;
use crate::boot::page_tables;
use crate::layout;
use crate::memory::Content;
use crate::memory::GuestMemory;
use crate::memory::ram::Ram;
use crate::platform::{PlainPlatform, PlatformModel, tdx::Tdx};

const IDT: u64 = 0x10_0000;
const TSS: u64 = 0x10_2000;
const STACK: u64 = 0x10_5008;
const RSP0: u64 = 0x10_8000;
const HANDLER: u64 = 0xffff_ffff_8123_4567;
const VE: u8 = 20;
const VC: u8 = 29;
const FLAGS: u64 = 2 | FLAG_TRAP | FLAG_INTERRUPT | FLAG_NESTED;
const TRAP_GATE: u8 = 0xf;

fn exception(vector: u8, error_code: Option<u32>) -> Exception {
    Exception { vector, error_code, address: None }
}

struct Cpu {
    memory: GuestMemory,
    regs: kvm_regs,
    sregs: kvm_sregs,
}

impl Cpu {
    /// In kernel mode, the first GiB mapped, every gate present.
    fn new() -> Self {
        Self::on(GuestMemory::unenforced(Ram::new(layout::MIN_RAM).unwrap(), Content::OneView).unwrap())
    }

    fn on(memory: GuestMemory) -> Self {
        let cr3 = page_tables::write(&memory, 0).unwrap();
        let regs = kvm_regs { rip: 0x1234, rsp: STACK, rflags: FLAGS, ..Default::default() };
        let segment = |selector, dpl| kvm_segment { selector, dpl, ..Default::default() };
        let sregs = kvm_sregs {
            cr3,
            cs: segment(0x10, 0),
            ss: segment(0x18, 0),
            tr: kvm_segment { base: TSS, type_: 11, ..Default::default() },
            idt: kvm_dtable { base: IDT, limit: 0xfff, ..Default::default() },
            ..Default::default()
        };
        let cpu = Self { memory, regs, sregs };
        for vector in 0..=255 {
            cpu.gate(vector, INTERRUPT_GATE, 0);
        }
        cpu.put(TSS + TSS_RSP0, RSP0);
        for ist in 1..8 {
            cpu.put(TSS + TSS_IST1 + 8 * (ist - 1), 0x11_0000 + 0x1000 * ist);
        }
        cpu
    }

    fn put(&self, gpa: u64, word: u64) {
        self.memory.write(gpa, &word.to_le_bytes()).unwrap();
    }

    fn gate(&self, vector: u8, kind: u8, ist: u64) {
        let low = HANDLER & 0xffff
            | 0x33 << 16
            | ist << 32
            | u64::from(kind) << 40
            | 1 << 47
            | (HANDLER >> 16 & 0xffff) << 48;
        self.put(IDT + 16 * u64::from(vector), low);
        self.put(IDT + 16 * u64::from(vector) + 8, HANDLER >> 32);
    }

    fn user(&mut self) {
        (self.sregs.ss.dpl, self.sregs.ss.selector) = (3, 0x2b);
        (self.sregs.cs.dpl, self.sregs.cs.selector) = (3, 0x23);
    }

    fn deliver(&mut self, exception: Exception) -> Result<(), Undeliverable> {
        let tables = PlainPlatform.page_tables(&self.sregs);
        deliver(&self.memory, &tables, &mut self.regs, &mut self.sregs, exception)
    }

    /// What is at RSP and above.
    fn frame<const N: usize>(&self) -> [u64; N] {
        std::array::from_fn(|i| {
            let mut word = [0; 8];
            self.memory.read(View::Private, self.regs.rsp + 8 * i as u64, &mut word).unwrap();
            u64::from_le_bytes(word)
        })
    }
}

#[test]
fn a_frame_on_the_same_stack_is_aligned_and_holds_the_old_rip_and_rsp() {
    let mut cpu = Cpu::new();
    cpu.deliver(exception(VE, None)).unwrap();
    assert_eq!((cpu.regs.rip, cpu.regs.rsp), (HANDLER, (STACK & !0xf) - 40));
    assert_eq!(cpu.frame(), [0x1234, 0x10, FLAGS | FLAG_RESUME, STACK, 0x18]);
    assert_eq!(cpu.regs.rflags, 2, "an interrupt gate clears IF, and TF and NT go with any");
    assert_eq!((cpu.sregs.cs.selector, cpu.sregs.cs.dpl, cpu.sregs.cs.l, cpu.sregs.cs.db), (0x33, 0, 1, 0));
    assert_eq!((cpu.sregs.ss.selector, cpu.sregs.cr2), (0x18, 0));
}

#[test]
fn an_error_code_is_below_the_frame_and_a_page_faults_address_in_cr2() {
    let mut cpu = Cpu::new();
    cpu.deliver(exception(VC, Some(0x404))).unwrap();
    assert_eq!(cpu.regs.rsp, (STACK & !0xf) - 48);
    assert_eq!(cpu.frame(), [0x404, 0x1234, 0x10, FLAGS | FLAG_RESUME, STACK, 0x18]);
    let mut cpu = Cpu::new();
    cpu.deliver(Exception::page_fault(0x77_7000)).unwrap();
    assert_eq!((cpu.sregs.cr2, cpu.frame::<1>()), (0x77_7000, [0]));
}

#[test]
fn a_trap_gate_leaves_interrupts_on() {
    let mut cpu = Cpu::new();
    cpu.gate(VE, TRAP_GATE, 0);
    cpu.deliver(exception(VE, None)).unwrap();
    assert_eq!(cpu.regs.rflags, 2 | FLAG_INTERRUPT);
}

#[test]
fn from_user_mode_the_stack_is_the_kernels_and_its_segment_null() {
    let mut cpu = Cpu::new();
    cpu.user();
    cpu.deliver(exception(VE, None)).unwrap();
    assert_eq!(cpu.regs.rsp, RSP0 - 40);
    assert_eq!(cpu.frame(), [0x1234, 0x23, FLAGS | FLAG_RESUME, STACK, 0x2b]);
    assert_eq!((cpu.sregs.ss.selector, cpu.sregs.ss.dpl, cpu.sregs.cs.dpl), (0, 0, 0));
}

#[test]
fn an_interrupt_stack_is_used_from_kernel_and_user_mode_alike() {
    for user in [false, true] {
        for ist in 1..8 {
            let mut cpu = Cpu::new();
            cpu.gate(VC, INTERRUPT_GATE, ist);
            if user {
                cpu.user();
            }
            cpu.deliver(exception(VC, Some(1))).unwrap();
            assert_eq!(cpu.regs.rsp, 0x11_0000 + 0x1000 * ist - 48);
        }
    }
}

#[track_caller]
fn undeliverable(mut cpu: Cpu, because: &str) {
    let (regs, sregs) = (cpu.regs, cpu.sregs);
    let refused = cpu.deliver(exception(VE, None));
    let Err(Undeliverable { vector: VE, why }) = refused else { panic!("{refused:?}") };
    assert!(why.contains(because), "{why}");
    assert_eq!((cpu.regs, cpu.sregs), (regs, sregs), "nothing was done by halves");
}

#[test]
fn a_table_that_is_too_short_not_mapped_or_empty_takes_no_exception() {
    for (limit, fits) in [(0, false), (16 * 20, false), (16 * 21 - 2, false), (16 * 21 - 1, true)] {
        let mut cpu = Cpu::new();
        cpu.sregs.idt.limit = limit;
        if fits { cpu.deliver(exception(VE, None)).unwrap() } else { undeliverable(cpu, "beyond the end") }
    }
    // Past the last address comes the first, which holds zeros.
    let last = u64::MAX - 16 * u64::from(VE);
    for (base, why) in
        [(1 << 40, "not mapped"), (u64::MAX, "not present"), (last, "not mapped"), (last - 8, "not mapped")]
    {
        let mut cpu = Cpu::new();
        cpu.sregs.idt.base = base;
        undeliverable(cpu, why);
    }
    let cpu = Cpu::new();
    cpu.put(IDT + 16 * u64::from(VE), 0);
    undeliverable(cpu, "not present");
}

#[test]
fn a_stack_that_is_not_there_takes_no_frame() {
    let mut cpu = Cpu::new();
    cpu.regs.rsp = 1 << 40;
    undeliverable(cpu, "stack");
    let mut cpu = Cpu::new();
    cpu.regs.rsp = 0;
    undeliverable(cpu, "stack");
    // Past the last address comes the first, where no stack is named.
    for (base, why) in [(1 << 40, "task state"), (u64::MAX, "stack"), (u64::MAX - 3, "stack")] {
        let mut cpu = Cpu::new();
        cpu.user();
        cpu.sregs.tr.base = base;
        undeliverable(cpu, why);
        let mut cpu = Cpu::new();
        cpu.gate(VE, INTERRUPT_GATE, 7);
        cpu.sregs.tr.base = base;
        undeliverable(cpu, why);
    }
    let mut cpu = Cpu::new();
    cpu.sregs.cr3 = layout::BAR32;
    undeliverable(cpu, "gate is not mapped");
}

#[test]
fn a_stack_in_memory_not_accepted_takes_no_frame() {
    let tdx = Tdx::new(46, types::Mode::Faithful, false);
    let content = PlatformModel::content(&tdx);
    let memory = GuestMemory::unenforced(Ram::new(layout::MIN_RAM).unwrap(), content).unwrap();
    let mut cpu = Cpu::on(memory);
    cpu.memory.launch_as((STACK - 16) & !0xfff, 4096, types::PageState::Unaccepted).unwrap();
    let tables = tdx.page_tables(&cpu.sregs);
    let refused = deliver(&cpu.memory, &tables, &mut cpu.regs, &mut cpu.sregs, exception(VE, None));
    assert!(matches!(refused, Err(Undeliverable { vector: VE, .. })), "{refused:?}");
}

proptest! {
    #[test]
    fn no_state_of_a_processor_does_harm(
        words in prop::array::uniform8(prop_oneof![any::<u64>(), 0x10_0000u64..0x10_a000, u64::MAX - 64..=u64::MAX]),
        limit: u16,
        vector: u8,
        error_code: Option<u32>,
        dpl in 0u8..4,
        gate: [u64; 2],
    ) {
        let mut cpu = Cpu::new();
        cpu.put(IDT + 16 * u64::from(vector), gate[0]);
        cpu.put(IDT + 16 * u64::from(vector) + 8, gate[1]);
        (cpu.regs.rip, cpu.regs.rsp, cpu.regs.rflags) = (words[0], words[1], words[2]);
        (cpu.sregs.tr.base, cpu.sregs.ss.dpl) = (words[3], dpl);
        if words[4] & 1 == 0 {
            cpu.sregs.idt.base = words[4];
        }
        if words[5].is_multiple_of(8) {
            cpu.sregs.cr3 = words[5];
        }
        cpu.sregs.idt.limit = limit;
        let _ = cpu.deliver(exception(vector, error_code));
    }
}
