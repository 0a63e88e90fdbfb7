// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Services for platforms under test, and programs of calls made of fuzzed bytes.

use types::{Mode, PageState, VcpuId, View};
use vmm::layout::{self, LARGE_PAGE_SIZE, PAGE_SIZE};
use vmm::memory::protected::Architecture;
use vmm::memory::ram::Ram;
use vmm::memory::{Content, GuestMemory};
use vmm::platform::failure::{Conversion, Refusal};
use vmm::platform::services::Services;
use vmm::x86::cpuid::Leaf;

/// Position of the bit that selects the view.
pub const BIT: u8 = 46;
/// A page whose contents must never be seen through the other view.
pub const SECRET: u64 = 0x60_0000;
const SECRET_BYTE: u8 = 0x5e;

/// Bytes of RAM above 4 GiB in the usual layout.
const HIGH_RAM_SIZE: u64 = 64 << 20;
/// Addresses at which something begins or ends.
const PLACES: [u64; 12] = [
    0,
    layout::VGA - PAGE_SIZE,
    layout::VGA,
    layout::ROM,
    0x40_0000,
    SECRET,
    (128 << 20) - PAGE_SIZE,
    128 << 20,
    layout::BAR32,
    layout::HIGH_RAM,
    layout::HIGH_RAM + HIGH_RAM_SIZE - LARGE_PAGE_SIZE,
    1 << BIT,
];

/// RAM without enforcement; reads of ports, devices and MSRs return the number read.
pub struct Bench {
    /// RAM.
    pub memory: GuestMemory,
    /// Malformed calls reported so far.
    pub bad_calls: usize,
}

impl Bench {
    /// The smallest RAM, private but for 4 MiB in its middle. `None` only where the host has no memory left.
    pub fn new(architecture: Architecture) -> Option<Self> {
        let content = Content::SeparateBacking { architecture, mode: Mode::Faithful };
        let memory = GuestMemory::unenforced(Ram::new(layout::MIN_RAM).ok()?, content).ok()?;
        if architecture != Architecture::Vbs {
            memory.launch_as(0x80_0000, 2 * LARGE_PAGE_SIZE, PageState::Unaccepted).ok()?;
        }
        memory.write(SECRET, &[SECRET_BYTE; 64]).ok()?;
        Some(Self { memory, bad_calls: 0 })
    }

    /// Every page is something, the sums are right, and no contents have changed views.
    pub fn check(&self) {
        let mut unaccepted = 0;
        for (start, len) in self.memory.ram().backed() {
            for gpa in (start..start + len).step_by(PAGE_SIZE as usize) {
                let state = self.memory.state(gpa);
                assert!(state.is_some(), "{gpa:#x} has no state");
                unaccepted += u64::from(state == Some(PageState::Unaccepted)) * PAGE_SIZE;
            }
        }
        assert_eq!(self.memory.unaccepted(), unaccepted);
        assert!(self.memory.take_failure().is_none());
        let mut bytes = [0; 64];
        self.memory.read(View::Shared, SECRET, &mut bytes).expect("it is RAM");
        assert_ne!(bytes, [SECRET_BYTE; 64], "the host sees what was private");
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

    fn port_read(&mut self, port: u16, size: usize) -> u32 {
        assert!(matches!(size, 1 | 2 | 4));
        u32::from(port)
    }

    fn port_write(&mut self, _port: u16, size: usize, _value: u32) {
        assert!(matches!(size, 1 | 2 | 4));
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) -> bool {
        assert!(matches!(data.len(), 1 | 2 | 4 | 8));
        self.memory.ram().offset(gpa).is_none()
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> bool {
        assert!(matches!(data.len(), 1 | 2 | 4 | 8));
        self.memory.ram().offset(gpa).is_none()
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        Leaf { eax: leaf, ebx: subleaf, ecx: 0, edx: 0 }
    }

    fn read_msr(&mut self, index: u32) -> Option<u64> {
        index.is_multiple_of(2).then_some(u64::from(index))
    }

    fn write_msr(&mut self, index: u32, _value: u64) -> bool {
        index.is_multiple_of(2)
    }

    fn idle(&mut self) {}

    fn refuse(&mut self, _conversion: &Conversion) -> Option<Refusal> {
        None
    }

    fn report_bad_call(&mut self, call: &'static str, why: String) {
        assert!(!call.is_empty() && !why.is_empty());
        self.bad_calls += 1;
    }
}

/// Takes numbers from fuzzed bytes.
pub struct Program<'a>(pub &'a [u8]);

impl Program<'_> {
    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number that may well mean something: small, a place, a power of two, or any.
    pub fn word(&mut self) -> Option<u64> {
        let tag = self.byte()?;
        let low = u64::from(tag & 0x3f);
        Some(match tag >> 6 {
            0 => low,
            1 => PLACES[low as usize % PLACES.len()].wrapping_add(u64::from(self.byte()?) << (low / 12 * 3)),
            2 => 1 << low | u64::from(self.byte()?),
            _ => {
                let (bytes, rest) = self.0.split_first_chunk()?;
                self.0 = rest;
                u64::from_le_bytes(*bytes)
            }
        })
    }
}

/// The bytes of which [`Program::word`] makes this number.
pub fn encode(word: u64) -> Vec<u8> {
    if word < 64 { vec![word as u8] } else { [&[0xff][..], &word.to_le_bytes()].concat() }
}
