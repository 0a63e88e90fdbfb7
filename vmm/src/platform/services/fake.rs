// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Services for unit tests: memory without enforcement, and devices that record what is written to them.

use types::{Mode, VcpuId};

use super::Services;
use crate::layout::MIN_RAM;
use crate::memory::protected::Architecture;
use crate::memory::ram::Ram;
use crate::memory::{Content, GuestMemory};
use crate::platform::failure::tests::refuser;
use crate::platform::failure::{Conversion, Refusal, Refuser};
use crate::x86::cpuid::Leaf;

/// An MSR that does not exist.
pub const NO_MSR: u32 = 0xdead;

/// Services and what was requested of them.
#[derive(Debug)]
pub struct Fake {
    /// RAM.
    pub memory: GuestMemory,
    /// Call, what was wrong with it.
    pub bad_calls: Vec<(&'static str, String)>,
    /// Port, size, value.
    pub outs: Vec<(u16, usize, u32)>,
    /// GPA, bytes.
    pub stores: Vec<(u64, Vec<u8>)>,
    /// Index, value.
    pub msrs: Vec<(u32, u64)>,
    /// Waits.
    pub idles: usize,
    /// Conversions that fail.
    pub refuser: Refuser,
}

#[allow(clippy::missing_panics_doc, reason = "tests panic")]
impl Fake {
    /// RAM of the smallest size, all private.
    pub fn new(architecture: Architecture) -> Self {
        let content = Content::SeparateBacking { architecture, mode: Mode::Faithful };
        let memory = GuestMemory::unenforced(Ram::new(MIN_RAM).unwrap(), content).unwrap();
        Self {
            memory,
            bad_calls: Vec::new(),
            outs: Vec::new(),
            stores: Vec::new(),
            msrs: Vec::new(),
            idles: 0,
            refuser: Refuser::default(),
        }
    }

    /// RAM of one content and two views.
    pub fn of_sev(rules: &[&str]) -> Self {
        let memory =
            GuestMemory::new(Ram::new(MIN_RAM).unwrap(), Content::EncryptedAlias { seed: 0 }).unwrap();
        Self { memory, ..Self::failing(Architecture::Tdx, rules) }
    }

    /// The same, with conversions that fail by these rules.
    pub fn failing(architecture: Architecture, rules: &[&str]) -> Self {
        Self { refuser: refuser(rules), ..Self::new(architecture) }
    }
}

impl Services for Fake {
    fn vcpu(&self) -> VcpuId {
        VcpuId::BOOT
    }

    fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    fn translate(&self, virtual_address: u64) -> Option<u64> {
        Some(virtual_address)
    }

    fn port_read(&mut self, port: u16, size: usize) -> u32 {
        u32::from(port) << 8 | size as u32
    }

    fn port_write(&mut self, port: u16, size: usize, value: u32) {
        self.outs.push((port, size, value));
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) -> bool {
        data.fill(0xd7);
        self.memory.ram().offset(gpa).is_none()
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> bool {
        self.stores.push((gpa, data.to_vec()));
        self.memory.ram().offset(gpa).is_none()
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        Leaf { eax: leaf, ebx: subleaf, ecx: 3, edx: 4 }
    }

    fn read_msr(&mut self, index: u32) -> Option<u64> {
        (index != NO_MSR).then_some(u64::from(index) << 32 | 5)
    }

    fn write_msr(&mut self, index: u32, value: u64) -> bool {
        self.msrs.push((index, value));
        index != NO_MSR
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
