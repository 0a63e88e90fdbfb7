// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Drives the platform with arbitrary requests, on memory that nobody enforces and a machine that is not there.

use kvm_bindings::kvm_regs;
use types::{Mode, PageState, VcpuId, View};

use super::events::Event;
use super::ghcb::{self, Field, SHARED_BUFFER, SIZE};
use super::msr_protocol::{Message, OPERATION_SHARED};
use super::{MSR_GHCB, Snp, psc};
use crate::layout::{LARGE_PAGE_SIZE, MIN_RAM, PAGE_SIZE};
use crate::memory::protected::Architecture;
use crate::memory::ram::Ram;
use crate::memory::{Content, GuestMemory, MemoryError};
use crate::platform::PlatformModel;
use crate::platform::services::{Next, Services};
use crate::x86::cpuid::Leaf;
use crate::x86::opcode::Opcode;

/// Position of the C-bit here.
pub(super) const C_BIT: u8 = 38;
/// Set in an address that names the private view.
pub(super) const PRIVATE: u64 = 1 << C_BIT;
/// Where the GHCB stands here.
pub(super) const GHCB: u64 = 0x10_0000;
/// RFLAGS bit 1, always set.
const RESERVED_FLAG: u64 = 2;
/// Requests taken from one input.
const MAX_STEPS: usize = 32;

/// Every address maps to itself below 2^48; ports, devices and MSRs give their own numbers back.
#[derive(Debug)]
pub(super) struct Bench {
    pub memory: GuestMemory,
    pub complaints: Vec<(&'static str, String)>,
    /// Port, size, value of every OUT.
    pub outs: Vec<(u16, usize, u32)>,
    pub idles: usize,
}

impl Bench {
    pub fn new() -> Result<Self, MemoryError> {
        let content = Content::SeparateBacking { architecture: Architecture::Snp, mode: Mode::Faithful };
        let memory = GuestMemory::unenforced(Ram::new(MIN_RAM)?, content)?;
        Ok(Self { memory, complaints: Vec::new(), outs: Vec::new(), idles: 0 })
    }

    /// VMGEXIT with this in the GHCB MSR; gives what it holds afterwards.
    pub fn msr(&mut self, snp: &mut Snp, value: u64) -> (Next, u64) {
        let _ = snp.write_msr(VcpuId::BOOT, MSR_GHCB, value, &self.memory);
        let next = snp.instruction(Opcode::Vmgexit, &mut kvm_regs::default(), self);
        (next, snp.read_msr(VcpuId::BOOT, MSR_GHCB).unwrap_or_default())
    }

    /// Shares the page at [`GHCB`] and registers it.
    pub fn set_up_ghcb(&mut self, snp: &mut Snp) {
        let frame = GHCB / PAGE_SIZE;
        self.msr(snp, Message::PageStateRequest { frame, operation: OPERATION_SHARED }.encode());
        self.msr(snp, Message::RegisterGhcbRequest { frame }.encode());
    }

    /// VMGEXIT with this page at [`GHCB`]; the answer stands in `page` afterwards.
    pub fn exit(&mut self, snp: &mut Snp, page: &mut [u8; SIZE]) -> Next {
        let _ = self.memory.store(View::Shared, GHCB, page);
        let (next, _) = self.msr(snp, GHCB);
        let _ = self.memory.read(View::Shared, GHCB, page);
        next
    }

    /// Nothing a guest asks for may leave the RMP or the machine in a state that means nothing.
    pub fn check(&self, steps: usize) {
        let page = |gpa: u64| self.memory.state(gpa);
        let mut unaccepted = 0;
        for (start, len) in self.memory.ram().backed() {
            for gpa in (start..start + len).step_by(PAGE_SIZE as usize) {
                let state = page(gpa);
                assert!(state.is_some(), "page {gpa:#x} has no state");
                unaccepted += u64::from(state == Some(PageState::Unaccepted)) * PAGE_SIZE;
                if self.memory.is_large_entry(gpa) {
                    let first = gpa & !(LARGE_PAGE_SIZE - 1);
                    assert_eq!(state, page(first), "a 2 MiB entry with two states at {gpa:#x}");
                }
            }
        }
        assert_eq!(unaccepted, self.memory.unaccepted());
        assert!(self.idles <= steps);
        assert!(self.complaints.len() <= 3 * (steps + 1), "{:?}", self.complaints);
        assert!(self.outs.iter().all(|(_, size, value)| u64::from(*value) >> (8 * size) == 0));
    }
}

impl Services for Bench {
    fn vcpu(&self) -> VcpuId {
        VcpuId::BOOT
    }

    fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    fn translate(&self, virtual_address: u64) -> Option<u64> {
        (virtual_address >> 48 == 0).then_some(virtual_address)
    }

    fn port_read(&mut self, port: u16, _size: usize) -> u32 {
        u32::from(port) << 16 | u32::from(port)
    }

    fn port_write(&mut self, port: u16, size: usize, value: u32) {
        self.outs.push((port, size, value));
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) -> bool {
        data.copy_from_slice(&gpa.to_le_bytes()[..data.len()]);
        self.memory.ram().offset(gpa).is_none()
    }

    fn mmio_write(&mut self, gpa: u64, _data: &[u8]) -> bool {
        self.memory.ram().offset(gpa).is_none()
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        Leaf { eax: leaf, ebx: subleaf, ecx: 0xc, edx: 0xd }
    }

    fn read_msr(&mut self, index: u32) -> Option<u64> {
        (index != u32::MAX).then_some(u64::from(index) << 32 | 7)
    }

    fn write_msr(&mut self, index: u32, _value: u64) -> bool {
        index != u32::MAX
    }

    fn idle(&mut self) {
        self.idles += 1;
    }

    fn complain(&mut self, call: &'static str, why: String) {
        self.complaints.push((call, why));
    }
}

/// Bytes handed out from the front, zeros when they are used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let len = N.min(self.0.len());
        let (front, rest) = self.0.split_at(len);
        taken[..len].copy_from_slice(front);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    /// Any value, or one of the kind that gets far: a private page of RAM, a small number, a place in the GHCB.
    fn value(&mut self) -> u64 {
        match self.byte() % 5 {
            0 => u64::from_le_bytes(self.bytes()),
            1 => PRIVATE | (u64::from(u16::from_le_bytes(self.bytes())) * PAGE_SIZE),
            2 => PRIVATE | (u64::from(self.byte()) * LARGE_PAGE_SIZE),
            3 => u64::from(self.byte()),
            _ => GHCB + u64::from(u16::from_le_bytes(self.bytes()) % 0x1000),
        }
    }
}

/// Carries out the requests `bytes` stand for.
///
/// # Panics
/// If one leaves behind a state that means nothing.
pub fn fuzz_vmgexit(bytes: &[u8]) {
    // A host without address space to spare says nothing about the platform.
    let Ok(mut bench) = Bench::new() else { return };
    let mut snp = Snp::new(C_BIT, Mode::Faithful);
    bench.set_up_ghcb(&mut snp);
    let mut input = Input(bytes);
    let mut steps = 0;
    while steps < MAX_STEPS && !input.0.is_empty() {
        steps += 1;
        if let Next::End(_) = step(&mut input, &mut snp, &mut bench) {
            break;
        }
    }
    bench.check(steps);
}

fn step(input: &mut Input<'_>, snp: &mut Snp, bench: &mut Bench) -> Next {
    match input.byte() % 7 {
        0 => bench.msr(snp, u64::from_le_bytes(input.bytes())).0,
        tag @ (1 | 2) => {
            let opcode = if tag == 1 { Opcode::Pvalidate } else { Opcode::Rmpadjust };
            let (rax, rcx, rdx) = (input.value(), input.value(), input.value());
            let mut regs = kvm_regs { rax, rcx, rdx, rflags: RESERVED_FLAG, ..Default::default() };
            let next = snp.instruction(opcode, &mut regs, bench);
            assert_eq!((regs.rcx, regs.rdx), (rcx, rdx), "{opcode} changes RAX and RFLAGS only");
            let faulted = matches!(next, Next::Fault(_));
            assert!(
                !faulted || (regs.rax, regs.rflags) == (rax, RESERVED_FLAG),
                "{opcode} that faults changes nothing"
            );
            next
        }
        3 => {
            let mut page = [0; SIZE];
            let event = Event::ALL[usize::from(input.byte()) % Event::ALL.len()];
            ghcb::put(&mut page, Field::SW_EXITCODE, event.code());
            let present = u16::from_le_bytes(input.bytes());
            for (index, field) in Field::ALL.into_iter().enumerate() {
                if field != Field::SW_EXITCODE && present >> index & 1 == 0 {
                    ghcb::put(&mut page, field, input.value());
                }
            }
            page[SHARED_BUFFER.start..SHARED_BUFFER.start + 64].copy_from_slice(&input.bytes::<64>());
            bench.exit(snp, &mut page)
        }
        4 => bench.exit(snp, &mut input.bytes()),
        5 => {
            let mut page = [0; SIZE];
            for (field, value) in [
                (Field::SW_EXITCODE, Event::PageStateChange.code()),
                (Field::SW_EXITINFO1, 0),
                (Field::SW_EXITINFO2, 0),
                (Field::SW_SCRATCH, GHCB + SHARED_BUFFER.start as u64),
            ] {
                ghcb::put(&mut page, field, value);
            }
            let list = &mut page[SHARED_BUFFER];
            list[..psc::HEADER_SIZE].copy_from_slice(&[input.byte(), 0, input.byte(), 0, 0, 0, 0, 0]);
            for bytes in list[psc::HEADER_SIZE..].chunks_exact_mut(psc::ENTRY_SIZE).take(8) {
                let shape = input.byte();
                let frame = u64::from(u16::from_le_bytes(input.bytes()));
                let large = shape & 0x10 != 0;
                let frame = if large { frame & !0x1ff } else { frame };
                let done = if shape & 0x20 != 0 { u16::from(input.byte()) } else { 0 };
                let entry = psc::Entry { done, frame, operation: shape & 0x07, large };
                bytes.copy_from_slice(&entry.encode().to_le_bytes());
            }
            bench.exit(snp, &mut page)
        }
        _ => {
            bench.set_up_ghcb(snp);
            Next::Resume
        }
    }
}
