// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine that the platform's unit tests run on: RAM without enforcement, simulated ports, devices and MSRs.

use kvm_bindings::kvm_regs;
use types::{Mode, PageState, VcpuId, View};

use super::ghcb::SIZE;
use super::msr_protocol::{Message, OPERATION_SHARED};
use super::{MSR_GHCB, Snp};
use crate::layout::{LARGE_PAGE_SIZE, MIN_RAM, PAGE_SIZE};
use crate::memory::protected::Architecture;
use crate::memory::ram::Ram;
use crate::memory::{Content, GuestMemory, MemoryError};
use crate::platform::PlatformModel;
use crate::platform::failure::tests::refuser;
use crate::platform::failure::{Conversion, Refusal, Refuser};
use crate::platform::services::{Next, Services};
use crate::x86::cpuid::Leaf;
use crate::x86::opcode::Opcode;

/// Position of the C-bit here.
pub(super) const C_BIT: u8 = 38;
/// Set in an address that names the private view.
pub(super) const PRIVATE: u64 = 1 << C_BIT;
/// GPA of the GHCB here.
pub(super) const GHCB: u64 = 0x10_0000;

/// Virtual addresses below 2^48 equal physical ones; reads of ports, devices and MSRs return the number read.
#[derive(Debug)]
pub(super) struct Bench {
    pub memory: GuestMemory,
    pub bad_calls: Vec<(&'static str, String)>,
    /// Port, size, value of every OUT.
    pub outs: Vec<(u16, usize, u32)>,
    pub idles: usize,
    /// Conversions that fail.
    pub refuser: Refuser,
}

impl Bench {
    pub fn new() -> Result<Self, MemoryError> {
        let content = Content::SeparateBacking { architecture: Architecture::Snp, mode: Mode::Faithful };
        let memory = GuestMemory::unenforced(Ram::new(MIN_RAM)?, content)?;
        Ok(Self { memory, bad_calls: Vec::new(), outs: Vec::new(), idles: 0, refuser: Refuser::default() })
    }

    /// Conversions fail by these rules from now on.
    pub fn fail(&mut self, rules: &[&str]) {
        self.refuser = refuser(rules);
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

    /// VMGEXIT with this page at [`GHCB`]; `page` is the answer afterwards.
    pub fn exit(&mut self, snp: &mut Snp, page: &mut [u8; SIZE]) -> Next {
        let _ = self.memory.store(View::Shared, GHCB, page);
        let (next, _) = self.msr(snp, GHCB);
        let _ = self.memory.read(View::Shared, GHCB, page);
        next
    }

    /// Every page has a state, a 2 MiB RMP entry has one state, and the counters agree with the pages.
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
        assert!(self.bad_calls.len() <= 3 * (steps + 1), "{:?}", self.bad_calls);
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

    fn refuse(&mut self, conversion: &Conversion) -> Option<Refusal> {
        self.refuser.decide(conversion)
    }

    fn report_bad_call(&mut self, call: &'static str, why: String) {
        self.bad_calls.push((call, why));
    }
}
