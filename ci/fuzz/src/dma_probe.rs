// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any accesses to the registers of `dma-probe` leave a device that carries out the next command, and a bounded record.

use types::View;
use vmm::device::dma_probe::DmaProbe;
use vmm::device::pci::PciBus;
use vmm::layout::{self, PAGE_SIZE};
use vmm::memory::dma::{DmaMemory, MOST_FORBIDDEN};
use vmm::memory::protected::{Architecture, Cause};

use crate::bench::{BIT, Bench, Program, SECRET, encode};

/// Accesses of one program.
const ACTS: usize = 32;
/// A shared page.
const SHARED: u64 = 0x40_0000;
/// The command register of configuration space, and its bits for a device that is used.
const COMMAND_REGISTER: u8 = 4;
const MEMORY_AND_MASTER: u32 = 6;
/// Registers.
const ADDRESS: u64 = 0x08;
const STATUS: u64 = 0x20;
/// STATUS: a command was carried out.
const DONE: u8 = 1;

/// The device on a bus, and a guest's memory.
struct Machine {
    bench: Bench,
    bus: PciBus,
    probe: DmaProbe,
}

impl Machine {
    fn store(&mut self, offset: u64, data: &[u8]) {
        if self.probe.write(offset, data) {
            let memory = DmaMemory::new(&self.bench.memory, Some((1 << BIT, View::Private)));
            self.probe.serve(&self.bus, &memory);
            assert!(memory.into_forbidden().accesses.len() <= MOST_FORBIDDEN);
        }
    }

    fn config(&mut self, register: u8, value: u32) {
        let select = 1 << 31 | 3 << 11 | u32::from(register & 0xfc);
        self.bus.write_config_port(0xcf8, &select.to_le_bytes());
        self.bus.write_config_port(0xcfc, &value.to_le_bytes());
    }

    /// One access; `None` where the program ends.
    fn act(&mut self, program: &mut Program<'_>) -> Option<()> {
        let op = program.byte()?;
        let len = usize::from(op >> 4 & 7) + 1;
        match op & 3 {
            0 => {
                self.probe.read(program.word()?);
            }
            1 => {
                let (offset, value) = (program.word()?, program.word()?);
                self.store(offset % 0x40, &value.to_le_bytes()[..len]);
            }
            2 => {
                let (register, value) = (program.byte()?, program.word()?);
                self.config(register, value as u32);
            }
            _ => {
                let (address, len, pattern) = (program.word()?, program.word()?, program.word()?);
                let len = (len % (4 * PAGE_SIZE)) as u32;
                self.carry_out(u32::from(op >> 2), address, len, pattern as u32);
            }
        }
        Some(())
    }

    fn carry_out(&mut self, command: u32, address: u64, len: u32, pattern: u32) {
        let words = [len, command, pattern, 1].map(u32::to_le_bytes);
        self.store(ADDRESS, &address.to_le_bytes());
        self.store(ADDRESS + 8, &words.concat());
    }
}

/// A byte for the architecture, then accesses.
pub fn run(bytes: &[u8]) {
    let mut program = Program(bytes);
    let first = program.byte().unwrap_or_default();
    let architecture = Architecture::ALL[usize::from(first) % Architecture::ALL.len()];
    let Some(bench) = Bench::new(architecture) else { return };
    let _ = bench.memory.apply(SHARED, 1, Cause::MakeShared);
    let mut bus = PciBus::new(layout::BAR32, layout::BAR64);
    let probe = DmaProbe::new(&mut bus);
    let mut machine = Machine { bench, bus, probe };
    machine.config(COMMAND_REGISTER, MEMORY_AND_MASTER);
    for _ in 0..ACTS {
        if machine.act(&mut program).is_none() {
            break;
        }
    }
    machine.config(COMMAND_REGISTER, MEMORY_AND_MASTER);
    machine.carry_out(1, SHARED, 16, 0);
    assert_eq!(machine.probe.read(STATUS), DONE, "the next command is carried out");
    machine.bench.check();
}

/// Commands that drivers give.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let command = |command: u8, address: u64, len: u64| {
        [&[0, 3 | command << 2][..], &encode(address), &encode(len), &encode(7)].concat()
    };
    vec![
        ("read".into(), command(1, SHARED, 64)),
        ("write".into(), command(2, SHARED, PAGE_SIZE)),
        ("private".into(), command(1, SECRET, 64)),
        ("encrypted".into(), command(2, SHARED | 1 << BIT, 64)),
        ("query".into(), command(3, SECRET, 0)),
        (
            "registers".into(),
            [&[0, 0x71][..], &encode(ADDRESS), &encode(SHARED), &[2, 4], &encode(0)].concat(),
        ),
    ]
}
