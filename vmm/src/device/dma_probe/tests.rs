// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device as a driver finds it, and as a hostile one does.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use types::{AccessKind, Mode, View};

use super::*;
use crate::memory::dma::{Forbidden, ForbiddenDma, MOST_FORBIDDEN};
use crate::memory::protected::{Architecture, Cause};
use crate::memory::ram::Ram;
use crate::memory::{Content, GuestMemory};

const PAGE: u64 = layout::PAGE_SIZE;
/// Two shared pages; the next one is private.
const SHARED: u64 = 0x40_0000;
const PRIVATE: u64 = SHARED + 2 * PAGE;
const BIT: u64 = 1 << 47;
/// Registers.
const ADDRESS: u64 = 0x08;
const LENGTH: u64 = 0x10;
const COMMAND: u64 = 0x14;
const PATTERN: u64 = 0x18;
const FORBIDDEN: u64 = 0x24;
const DIGEST: u64 = 0x28;
const STATE: u64 = 0x30;
/// Commands.
const READ: u32 = 1;
const WRITE: u32 = 2;
const QUERY: u32 = 3;

struct Machine {
    memory: GuestMemory,
    bus: PciBus,
    probe: DmaProbe,
}

impl Machine {
    fn snp() -> Self {
        let content = Content::SeparateBacking { architecture: Architecture::Snp, mode: Mode::Faithful };
        let memory = GuestMemory::unenforced(Ram::new(layout::MIN_RAM).unwrap(), content).unwrap();
        memory.apply(SHARED, 2, Cause::MakeShared).unwrap();
        let mut bus = PciBus::new(layout::BAR32, layout::BAR64);
        let probe = DmaProbe::new(&mut bus);
        let mut machine = Self { memory, bus, probe };
        machine.set_command_register(6);
        machine
    }

    fn config(&mut self, register: u8) -> u32 {
        self.bus.write_config_port(0xcf8, &(0x8000_1800 | u32::from(register)).to_le_bytes());
        let mut data = [0; 4];
        self.bus.read_config_port(0xcfc, &mut data);
        u32::from_le_bytes(data)
    }

    fn set_command_register(&mut self, bits: u16) {
        self.bus.write_config_port(0xcf8, &0x8000_1804u32.to_le_bytes());
        self.bus.write_config_port(0xcfc, &bits.to_le_bytes());
    }

    fn load(&self, register: u64) -> u64 {
        let at = layout::DMA_PROBE_BAR + register;
        let offset = self.probe.decode(&self.bus, at).unwrap();
        let bytes = [0, 1, 2, 3, 4, 5, 6, 7].map(|byte| self.probe.read(offset + byte));
        u64::from_le_bytes(bytes)
    }

    fn word(&self, register: u64) -> u32 {
        self.load(register) as u32
    }

    fn store(&mut self, register: u64, data: &[u8]) -> Forbidden {
        let memory = DmaMemory::new(&self.memory, Some((BIT, View::Private)));
        if self.probe.write(register, data) {
            self.probe.serve(&self.bus, &memory);
        }
        memory.into_forbidden()
    }

    fn carry_out(&mut self, command: u32, address: u64, len: u32, pattern: u32) -> Vec<ForbiddenDma> {
        self.store(ADDRESS, &address.to_le_bytes());
        for (register, value) in [(LENGTH, len), (COMMAND, command), (PATTERN, pattern)] {
            self.store(register, &value.to_le_bytes());
        }
        let forbidden = self.store(DOORBELL, &1u32.to_le_bytes());
        assert_eq!(forbidden.more, 0);
        forbidden.accesses
    }
}

fn pattern(number: u32, len: u32) -> Vec<u8> {
    (0..len).map(|index| pattern_byte(number, index)).collect()
}

fn digest(bytes: &[u8]) -> u64 {
    let mut digest = Digest::default();
    digest.add(bytes);
    digest.0
}

#[test]
fn the_function_is_that_of_the_specification() {
    let mut machine = Machine::snp();
    assert_eq!((machine.config(0), machine.config(8) >> 8), (0x10f0_1af4, 0xff_0000));
    let bar = u64::from(machine.config(0x10)) | u64::from(machine.config(0x14)) << 32;
    assert_eq!(bar, layout::DMA_PROBE_BAR | 0b100, "64 bits");
    let registers = [(0, 0x5041_4d44), (4, 1), (DOORBELL, 0), (STATUS, 0), (STATE, 0), (STATE + 4, 0)];
    for (register, value) in registers {
        assert_eq!(machine.word(register), value, "{register:#x}");
    }
    machine.store(0, &[0xff; 8]);
    machine.store(STATUS, &[0xff; 32]);
    assert_eq!((machine.load(0), machine.load(STATUS)), (0x1_5041_4d44, 0));
    machine.store(ADDRESS, &0x1122_3344_5566_7788u64.to_le_bytes());
    assert_eq!((machine.load(ADDRESS), machine.word(ADDRESS + 4)), (0x1122_3344_5566_7788, 0x1122_3344));
    // Published values of FNV-1a, and of the pattern.
    assert_eq!(
        [&b""[..], b"a", b"foobar"].map(digest),
        [0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8]
    );
    assert_eq!(pattern(0, 4), [0x00, 0x9e, 0x3c, 0xda]);
}

#[test]
fn shared_memory_is_written_and_read_with_a_digest() {
    let mut machine = Machine::snp();
    let (at, len) = (SHARED + 5, PAGE as u32 + 7);
    assert_eq!(machine.carry_out(WRITE, at, len, 9), []);
    assert_eq!((machine.word(STATUS), machine.word(FORBIDDEN)), (status::DONE, 0));
    let mut written = vec![0; len as usize];
    machine.memory.read(View::Shared, at, &mut written).unwrap();
    assert_eq!(written, pattern(9, len));
    assert_eq!(machine.load(DIGEST), digest(&written));
    machine.memory.store(View::Shared, SHARED, b"text").unwrap();
    assert_eq!(machine.carry_out(READ, SHARED, 4, 0), []);
    assert_eq!((machine.word(STATUS), machine.load(DIGEST)), (status::DONE, digest(b"text")));
}

#[test]
fn what_is_not_shared_is_a_forbidden_access_of_each_page() {
    let mut machine = Machine::snp();
    let accesses = machine.carry_out(READ, PRIVATE - 4, PAGE as u32 + 8, 0);
    let found: Vec<_> = accesses.iter().map(|it| (it.gpa, it.len, it.kind, it.chain)).collect();
    let page = PAGE as usize;
    let expected = [
        (PRIVATE, page - 4, AccessKind::Read, None),
        (PRIVATE + PAGE - 4, 4, AccessKind::Read, None),
        (PRIVATE + PAGE, 4, AccessKind::Read, None),
    ];
    assert_eq!(found, expected);
    assert_eq!((machine.word(STATUS), machine.word(FORBIDDEN)), (status::DONE, 3));
    let accesses = machine.carry_out(WRITE, SHARED | BIT, 4, 0);
    assert_eq!((accesses[0].gpa, accesses[0].view, machine.word(FORBIDDEN)), (SHARED, View::Private, 1));
}

#[test]
fn a_query_gives_the_state_and_accesses_nothing() {
    let mut machine = Machine::snp();
    for (address, state) in [(SHARED, 1), (SHARED | BIT, 1), (PRIVATE, 2), (1 << 40, 0), (u64::MAX, 0)] {
        assert_eq!(machine.carry_out(QUERY, address, 0, 0), []);
        assert_eq!((machine.word(STATUS), machine.word(STATE)), (status::DONE, state), "{address:#x}");
    }
    machine.memory.apply(PRIVATE, 1, Cause::MakeShared).unwrap();
    machine.carry_out(QUERY, PRIVATE, 0, 0);
    assert_eq!(machine.word(STATE), 1);
    // The next command's result has no trace of it.
    machine.carry_out(READ, SHARED, 1, 0);
    assert_eq!(machine.word(STATE), 0);
}

#[test]
fn a_malformed_command_accesses_nothing_and_the_next_one_is_carried_out() {
    let mut machine = Machine::snp();
    let malformed = [
        (0, PRIVATE, 4),
        (4, PRIVATE, 4),
        (u32::MAX, PRIVATE, 4),
        (READ, PRIVATE, 0),
        (WRITE, PRIVATE, MOST + 1),
        (WRITE, PRIVATE, u32::MAX),
        (WRITE, u64::MAX - 2, 4),
    ];
    for (command, address, len) in malformed {
        assert_eq!(machine.carry_out(command, address, len, 0), []);
        assert_eq!(machine.word(STATUS), status::MALFORMED, "{command} {address:#x} {len}");
        assert_eq!(machine.carry_out(WRITE, SHARED, 1, 0), []);
        assert_eq!(machine.word(STATUS), status::DONE);
    }
    machine.set_command_register(2);
    assert_eq!(machine.carry_out(READ, PRIVATE, 4, 0), []);
    assert_eq!(machine.word(STATUS), status::MALFORMED, "bus mastering is off");
}

#[test]
fn the_longest_command_is_bounded() {
    let mut machine = Machine::snp();
    let started = Instant::now();
    machine.store(ADDRESS, &u64::to_le_bytes(PRIVATE));
    machine.store(LENGTH, &MOST.to_le_bytes());
    machine.store(COMMAND, &READ.to_le_bytes());
    let forbidden = machine.store(DOORBELL, &[1]);
    let pages = u64::from(MOST) / PAGE;
    assert_eq!(forbidden.accesses.len(), MOST_FORBIDDEN.min(pages as usize));
    assert_eq!(forbidden.accesses.len() as u64 + forbidden.more, pages);
    assert_eq!(u64::from(machine.word(FORBIDDEN)), pages);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_stores_break_anything(
        stores in prop::collection::vec((0u64..0x40, prop::collection::vec(any::<u8>(), 1..9)), 0..24),
        offset in any::<u64>(),
    ) {
        let mut machine = Machine::snp();
        for (at, data) in &stores {
            let forbidden = machine.store(*at, data);
            prop_assert!(forbidden.accesses.len() <= MOST_FORBIDDEN);
            prop_assert!(machine.word(STATUS) <= status::MALFORMED);
        }
        machine.store(offset, &[0xff; 8]);
        machine.probe.read(offset);
        prop_assert_eq!(machine.load(0), 0x1_5041_4d44);
        prop_assert_eq!(machine.carry_out(WRITE, SHARED, 4, 1), vec![]);
        prop_assert_eq!(machine.word(STATUS), status::DONE);
    }

    #[test]
    fn what_is_written_is_read_with_the_same_digest(at in 0..PAGE, len in 1..PAGE as u32, number: u32) {
        let mut machine = Machine::snp();
        prop_assert_eq!(machine.carry_out(WRITE, SHARED + at, len, number), vec![]);
        let written = machine.load(DIGEST);
        prop_assert_eq!(machine.carry_out(READ, SHARED + at, len, 0), vec![]);
        prop_assert_eq!(machine.load(DIGEST), written);
        prop_assert_eq!(written, digest(&pattern(number, len)));
    }
}
