// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's own tables for following stacks: `arch/x86/include/asm/orc_types.h`, `arch/x86/kernel/unwind_orc.c`.

use crate::boot::image::Vmlinux;
use crate::stored::{Reader, StoredError, Writer};

/// `scripts/orc_hash.sh`: what `.orc_header` has for entries as they are since 6.4. Kernels before 6.4 lack it.
pub(super) const HEADER: [u8; 20] = [
    0xfe, 0x5d, 0x32, 0xbf, 0x58, 0x1b, 0xd6, 0x3b, 0x2c, 0xa9, 0xa5, 0xc6, 0x5b, 0xa5, 0xa6, 0x25, 0xea,
    0xb3, 0xfe, 0x24,
];
/// The same for entries with the registers numbered as in 7.3.
pub(super) const HEADER_RENUMBERED: [u8; 20] = [
    0x13, 0x7c, 0x36, 0xad, 0x76, 0x27, 0xc4, 0xdd, 0x55, 0x93, 0x21, 0x76, 0xbb, 0x0e, 0xcd, 0xbd, 0x50,
    0x41, 0xfc, 0x82,
];
/// Of one entry's `.orc_unwind_ip`.
const IP_SIZE: usize = 4;
/// Of one entry's `.orc_unwind`: `struct orc_entry`.
const ENTRY_SIZE: usize = 6;

/// The tables: for each range of code, where the caller's stack is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orc {
    /// `.orc_unwind_ip`: where ranges begin, each as distance from its own address; ascending.
    ips: Vec<u8>,
    /// Address of `ips` in memory.
    address: u64,
    /// `.orc_unwind`.
    entries: Vec<u8>,
    layout: Layout,
}

/// How the bits of an entry lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Until 6.2: `type:2`, `end:1`.
    Short,
    /// Since 6.4: `type:3`, `signal:1`. (6.3 is between the two, and not known here.)
    Long,
    /// The same with other numbers for the registers, as in 7.3.
    Renumbered,
}

/// What the stack is at an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub sp_offset: i64,
    pub sp_base: Base,
    pub bp_offset: i64,
    pub bp_base: Base,
    pub kind: Kind,
    /// Whether what is found is the next instruction, and not behind a call.
    pub signal: bool,
}

/// What an offset counts from: `ORC_REG_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Undefined,
    PreviousSp,
    Ax,
    Dx,
    Di,
    Bp,
    Sp,
    R10,
    R13,
    BpIndirect,
    SpIndirect,
    Unknown,
}

/// What is on the stack: `ORC_TYPE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Undefined,
    EndOfStack,
    /// A return address, below the caller's stack pointer.
    Call,
    /// `struct pt_regs`.
    Registers,
    /// Only what the processor pushes.
    PartialRegisters,
    Unknown,
}

impl Orc {
    /// The tables of a kernel; `None` if it has none (`CONFIG_UNWINDER_ORC`), or in a form that is not known.
    pub fn of(kernel: &Vmlinux<'_>) -> Option<Self> {
        let (ips, entries) = (kernel.section(".orc_unwind_ip")?, kernel.section(".orc_unwind")?);
        let (ip_chunks, entry_chunks) = (ips.bytes.as_chunks().0, entries.bytes.as_chunks().0);
        if ip_chunks.is_empty() || ip_chunks.len() != entry_chunks.len() {
            return None;
        }
        // scripts/sorttable.c sorts when the kernel is built.
        let starts = ip_chunks.iter().enumerate().map(|(index, &ip)| start(ips.address, index, ip));
        let header = kernel.section(".orc_header").map(|section| section.bytes);
        let layout = match header {
            Some(header) if header == HEADER => Layout::Long,
            Some(header) if header == HEADER_RENUMBERED => Layout::Renumbered,
            _ => Layout::guess(entry_chunks)?,
        };
        starts.is_sorted().then(|| Self {
            ips: ips.bytes.to_vec(),
            address: ips.address,
            entries: entries.bytes.to_vec(),
            layout,
        })
    }

    /// Appends the tables.
    pub(crate) fn encode(&self, to: &mut Writer) {
        to.u8(Layout::ALL.iter().position(|known| *known == self.layout).unwrap_or_default() as u8);
        to.u64(self.address);
        to.bytes(&self.ips);
        to.bytes(&self.entries);
    }

    /// Takes the tables back.
    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredError> {
        let layout = from.u8("form of the unwind tables")?;
        let layout = Layout::ALL.get(usize::from(layout)).copied();
        let layout = layout.ok_or(StoredError::Malformed("form of the unwind tables"))?;
        let address = from.u64("address of the unwind tables")?;
        let (ips, entries) = (from.bytes("unwind tables")?.to_vec(), from.bytes("unwind tables")?.to_vec());
        let count = ips.len() / IP_SIZE;
        if count == 0 || ips.len() != count * IP_SIZE || entries.len() != count * ENTRY_SIZE {
            return Err(StoredError::Malformed("number of unwind entries"));
        }
        Ok(Self { ips, address, entries, layout })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.ips.len() / IP_SIZE
    }

    /// Whether there is none; there always is one.
    pub fn is_empty(&self) -> bool {
        self.ips.is_empty()
    }

    /// The entry for an address in the kernel's code: the last that begins there or before
    /// (`arch/x86/kernel/unwind_orc.c:__orc_find`).
    pub(super) fn find(&self, address: u64) -> Option<Entry> {
        let ips: &[[u8; IP_SIZE]] = self.ips.as_chunks().0;
        let (mut low, mut high) = (0, ips.len());
        while low < high {
            let middle = low.midpoint(high);
            if start(self.address, middle, ips[middle]) <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let entries: &[[u8; ENTRY_SIZE]] = self.entries.as_chunks().0;
        Some(self.layout.decode(*entries.get(low.checked_sub(1)?)?))
    }
}

/// `arch/x86/kernel/unwind_orc.c:orc_ip`.
fn start(table: u64, index: usize, distance: [u8; IP_SIZE]) -> u64 {
    let place = table.wrapping_add((index * IP_SIZE) as u64);
    place.wrapping_add_signed(i32::from_le_bytes(distance).into())
}

/// `type` and what follows it, in the last 16 bits of an entry.
fn tail(entry: [u8; ENTRY_SIZE]) -> u8 {
    entry[5]
}

impl Layout {
    const ALL: [Self; 3] = [Self::Short, Self::Long, Self::Renumbered];

    /// Most of what a kernel's code does is call, so the commonest number must be the one for calls.
    fn guess(entries: &[[u8; ENTRY_SIZE]]) -> Option<Self> {
        let all_below = |limit: u8| entries.iter().all(|&entry| tail(entry) < limit);
        let most_are =
            |number: u8| entries.iter().filter(|&&entry| tail(entry) == number).count() * 2 > entries.len();
        if most_are(0) && all_below(1 << 3) {
            Some(Self::Short)
        } else if most_are(2) && all_below(1 << 4) {
            // Most code finds its caller by the stack pointer: number 5, or 3 in the other numbering.
            let based_on = |number: u8| entries.iter().filter(|entry| entry[4] & 0xf == number).count();
            Some(if based_on(5) >= based_on(3) { Self::Long } else { Self::Renumbered })
        } else {
            None
        }
    }

    fn decode(self, entry: [u8; ENTRY_SIZE]) -> Entry {
        let [sp_low, sp_high, bp_low, bp_high, bases, tail] = entry;
        let sp_base = self.base(bases & 0xf);
        let (kind, signal) = match self {
            Self::Long | Self::Renumbered => {
                let kind = match tail & 7 {
                    0 => Kind::Undefined,
                    1 => Kind::EndOfStack,
                    2 => Kind::Call,
                    3 => Kind::Registers,
                    4 => Kind::PartialRegisters,
                    _ => Kind::Unknown,
                };
                (kind, tail & 8 != 0)
            }
            Self::Short => match (sp_base, tail & 3, tail & 4 != 0) {
                (Base::Undefined, _, true) => (Kind::EndOfStack, false),
                (Base::Undefined, _, false) => (Kind::Undefined, false),
                (_, 0, _) => (Kind::Call, false),
                (_, 1, _) => (Kind::Registers, true),
                (_, 2, _) => (Kind::PartialRegisters, true),
                _ => (Kind::Unknown, false),
            },
        };
        Entry {
            sp_offset: i16::from_le_bytes([sp_low, sp_high]).into(),
            sp_base,
            bp_offset: i16::from_le_bytes([bp_low, bp_high]).into(),
            bp_base: self.base(bases >> 4),
            kind,
            signal,
        }
    }

    /// What a number represents: `ORC_REG_*`.
    fn base(self, number: u8) -> Base {
        use Base::{Ax, Bp, BpIndirect, Di, Dx, PreviousSp, R10, R13, Sp, SpIndirect, Undefined, Unknown};
        const SINCE_4_14: [Base; 10] =
            [Undefined, PreviousSp, Dx, Di, Bp, Sp, R10, R13, BpIndirect, SpIndirect];
        const RENUMBERED: [Base; 11] =
            [Undefined, Ax, Dx, Sp, Bp, Di, R10, R13, PreviousSp, SpIndirect, BpIndirect];
        let numbers: &[Base] = if self == Self::Renumbered { &RENUMBERED } else { &SINCE_4_14 };
        numbers.get(usize::from(number)).copied().unwrap_or(Unknown)
    }
}
