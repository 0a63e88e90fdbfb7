// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `dma-probe`, a device for tests of a kernel's DMA API: it reads and writes the guest memory that a driver names.
//!
//! PCI function 1af4:10f0 with a 64-bit memory BAR 0, no interrupt, and these registers in it, little-endian. What is not
//! listed reads as zero and keeps nothing.
//!
//! | offset | bytes | register | |
//! |---|---|---|---|
//! | 0x00 | 4 | ID | reads 0x50414d44, "DMAP" |
//! | 0x04 | 4 | VERSION | reads 1 |
//! | 0x08 | 8 | ADDRESS | DMA address of the first byte |
//! | 0x10 | 4 | LENGTH | bytes, from 1 to 0x1000000 |
//! | 0x14 | 4 | COMMAND | 1: read memory, 2: write memory, 3: query the state of the page at ADDRESS |
//! | 0x18 | 4 | PATTERN | which bytes are written: byte `i` is the highest byte of `(PATTERN + i) * 0x9e3779b1` modulo 2^32 |
//! | 0x1c | 4 | DOORBELL | a store carries out COMMAND before it completes; reads as zero |
//! | 0x20 | 4 | STATUS | 0: no command was carried out, 1: done, 2: the command is malformed or bus mastering is off, and memory was not accessed, 3: the host failed |
//! | 0x24 | 4 | FORBIDDEN | accesses by the last command to what is not shared memory, each of one page |
//! | 0x28 | 8 | DIGEST | FNV-1a (64 bits) of the bytes read or written by the last command |
//! | 0x30 | 4 | STATE | after a query: 0: no RAM, 1: shared, as all RAM of a guest without encryption, 2: private, 3: unaccepted |
//!
//! It accesses memory as virtio devices do ([`crate::memory::dma`]). A query accesses nothing: the encryption bit in ADDRESS is
//! ignored, and no access is recorded.

use types::{AccessTarget, PageState};
use vm_memory::{Bytes, GuestAddress};

use super::pci::{BAR_SIZE, PciBus};
use crate::layout;
use crate::memory::dma::DmaMemory;

/// ID.
const ID: u32 = u32::from_le_bytes(*b"DMAP");
/// VERSION.
const VERSION: u32 = 1;
/// Most that LENGTH may be.
const MOST: u32 = 1 << 24;
/// Bytes accessed at a time.
const CHUNK: usize = layout::PAGE_SIZE as usize;
/// Offset of ADDRESS, the first register that keeps what is stored.
const KEPT: u64 = 0x08;
/// Offset of DOORBELL, which follows the last one.
const DOORBELL: u64 = 0x1c;
/// Offset of STATUS.
const STATUS: u64 = 0x20;
/// Bytes of all registers.
const REGISTERS: usize = 0x34;

/// STATUS.
mod status {
    pub const DONE: u32 = 1;
    pub const MALFORMED: u32 = 2;
    pub const FAILED: u32 = 3;
}

/// The device.
#[derive(Debug)]
pub struct DmaProbe {
    /// Its number on the bus.
    number: usize,
    /// ADDRESS to PATTERN, as they are stored.
    kept: [u8; (DOORBELL - KEPT) as usize],
    last: Outcome,
}

/// What the last command gave.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    status: u32,
    forbidden: u32,
    digest: u64,
    state: u32,
}

/// A well-formed command.
#[derive(Debug, Clone, Copy)]
enum Command {
    Read { address: u64, len: usize },
    Write { address: u64, len: usize, pattern: u32 },
    Query { address: u64 },
}

impl DmaProbe {
    /// Puts the device on the bus.
    pub fn new(bus: &mut PciBus) -> Self {
        let number = bus.add_dma_probe(layout::DMA_PROBE_BAR);
        Self { number, kept: [0; _], last: Outcome::default() }
    }

    /// The offset in its BAR, if it answers at `gpa`.
    pub fn decode(&self, bus: &PciBus, gpa: u64) -> Option<u64> {
        let offset = gpa.checked_sub(bus.bar_of(self.number)?)?;
        (offset < BAR_SIZE).then_some(offset)
    }

    /// The byte of a register at an offset in the BAR. Reading has no effect.
    pub fn read(&self, offset: u64) -> u8 {
        let Outcome { status, forbidden, digest, state } = self.last;
        let mut registers = [0; REGISTERS];
        let mut put = |at: u64, bytes: &[u8]| registers[at as usize..][..bytes.len()].copy_from_slice(bytes);
        put(0, &ID.to_le_bytes());
        put(4, &VERSION.to_le_bytes());
        put(KEPT, &self.kept);
        put(STATUS, &status.to_le_bytes());
        put(STATUS + 4, &forbidden.to_le_bytes());
        put(STATUS + 8, &digest.to_le_bytes());
        put(STATUS + 16, &state.to_le_bytes());
        usize::try_from(offset).ok().and_then(|at| registers.get(at)).copied().unwrap_or_default()
    }

    /// Store at an offset in the BAR. Returns whether it is to DOORBELL.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        let mut rung = false;
        for (at, byte) in (offset..).zip(data) {
            let kept = at.checked_sub(KEPT).and_then(|at| self.kept.get_mut(usize::try_from(at).ok()?));
            if let Some(kept) = kept {
                *kept = *byte;
            }
            rung |= (DOORBELL..STATUS).contains(&at);
        }
        rung
    }

    /// Carries out the command.
    pub fn serve(&mut self, bus: &PciBus, memory: &DmaMemory<'_>) {
        self.last = Outcome::default();
        let command = if bus.is_master(self.number) { self.command() } else { None };
        let Some(command) = command else {
            self.last.status = status::MALFORMED;
            return;
        };
        let before = memory.forbidden();
        let mut digest = Digest::default();
        let done = match command {
            Command::Read { address, len } => read(memory, address, len, &mut digest),
            Command::Write { address, len, pattern } => write(memory, address, len, pattern, &mut digest),
            Command::Query { address } => {
                self.last.state = match memory.state(address) {
                    AccessTarget::Device => 0,
                    AccessTarget::Page(PageState::Shared) | AccessTarget::Refused => 1,
                    AccessTarget::Page(PageState::Private) => 2,
                    AccessTarget::Page(PageState::Unaccepted) => 3,
                };
                Ok(())
            }
        };
        self.last.status = if done.is_ok() { status::DONE } else { status::FAILED };
        self.last.forbidden = u32::try_from(memory.forbidden() - before).unwrap_or(u32::MAX);
        self.last.digest = digest.0;
    }

    /// What the registers request, if it is well-formed.
    fn command(&self) -> Option<Command> {
        let word = |at: u64| {
            let bytes = self.kept.get((at - KEPT) as usize..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let address = u64::from(word(KEPT)?) | u64::from(word(KEPT + 4)?) << 32;
        let (len, command, pattern) = (word(0x10)?, word(0x14)?, word(0x18)?);
        if command == 3 {
            return Some(Command::Query { address });
        }
        address.checked_add(u64::from(len))?;
        let len = (1..=MOST).contains(&len).then_some(len as usize)?;
        match command {
            1 => Some(Command::Read { address, len }),
            2 => Some(Command::Write { address, len, pattern }),
            _ => None,
        }
    }
}

fn read(
    memory: &DmaMemory<'_>,
    address: u64,
    len: usize,
    digest: &mut Digest,
) -> Result<(), vm_memory::GuestMemoryError> {
    let mut bytes = [0; CHUNK];
    for at in (0..len).step_by(CHUNK) {
        let part = &mut bytes[..CHUNK.min(len - at)];
        memory.read_slice(part, GuestAddress(address + at as u64))?;
        digest.add(part);
    }
    Ok(())
}

fn write(
    memory: &DmaMemory<'_>,
    address: u64,
    len: usize,
    pattern: u32,
    digest: &mut Digest,
) -> Result<(), vm_memory::GuestMemoryError> {
    let mut bytes = [0; CHUNK];
    for at in (0..len).step_by(CHUNK) {
        let part = &mut bytes[..CHUNK.min(len - at)];
        (at as u32..).zip(part.iter_mut()).for_each(|(index, byte)| *byte = pattern_byte(pattern, index));
        memory.write_slice(part, GuestAddress(address + at as u64))?;
        digest.add(part);
    }
    Ok(())
}

/// A byte of a pattern.
fn pattern_byte(pattern: u32, index: u32) -> u8 {
    // 2^32 divided by the golden ratio: neighbours differ.
    (pattern.wrapping_add(index).wrapping_mul(0x9e37_79b1) >> 24) as u8
}

/// FNV-1a (draft-eastlake-fnv §2).
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        self.0 =
            bytes.iter().fold(self.0, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    }
}

#[cfg(test)]
mod tests;
