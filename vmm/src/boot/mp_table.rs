// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An MP table (Intel's `MultiProcessor` Specification 1.4, chapter 4): one processor, an ISA and a PCI bus, an I/O APIC whose pins are
//! the ISA interrupts. `arch/x86/kernel/mpparse.c` reads it where there are no ACPI tables.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

use crate::layout;

/// §4.1: the floating pointer structure's length in units of 16 bytes.
const PARAGRAPHS: u8 = 1;
/// §4: version 1.4.
const REVISION: u8 = 4;
/// Numbers of the buses.
const PCI_BUS: u8 = 0;
const ISA_BUS: u8 = 1;
/// Identifier of KVM's I/O APIC.
const IOAPIC_ID: u8 = 0;
/// The versions that KVM's APICs have (`arch/x86/kvm/lapic.c:APIC_VERSION`, `ioapic.h:IOAPIC_VERSION_ID`).
const APIC_VERSION: u8 = 0x14;
const IOAPIC_VERSION: u8 = 0x11;
/// §4.3.1: the processor is usable, and the one that boots.
const ENABLED_BOOT: u8 = 0b11;
/// §4.3.1: an APIC and a floating-point unit.
const FEATURES: u32 = 1 << 9 | 1;
/// Types of entries, §4.3.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;
/// §4.3.4: kinds of interrupt.
const VECTORED: u8 = 0;
const NMI: u8 = 1;
const EXTERNAL: u8 = 3;
/// The interval timer's pin at the I/O APIC, and the pin of the other interrupt controllers.
const TIMER_PIN: u8 = 2;
/// Interrupts of an ISA bus; the second one is the cascade.
const ISA_IRQS: u8 = 16;

/// §4.1.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Pointer {
    signature: [u8; 4],
    table: U32,
    length: u8,
    revision: u8,
    checksum: u8,
    features: [u8; 5],
}

/// §4.2.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    signature: [u8; 4],
    length: U16,
    revision: u8,
    checksum: u8,
    oem: [u8; 8],
    product: [u8; 12],
    oem_table: U32,
    oem_table_size: U16,
    entries: U16,
    local_apic: U32,
    extended_length: U16,
    extended_checksum: u8,
    reserved: u8,
}

/// §4.3.1.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Processor {
    kind: u8,
    apic: u8,
    version: u8,
    flags: u8,
    signature: U32,
    features: U32,
    reserved: [U32; 2],
}

/// §4.3.4 and §4.3.5.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Interrupt {
    entry: u8,
    kind: u8,
    flags: U16,
    bus: u8,
    source: u8,
    apic: u8,
    pin: u8,
}

/// The pointer with the table behind it, to lie at `base`.
pub fn build(base: u64) -> Vec<u8> {
    let mut entries: Vec<Vec<u8>> = vec![
        Processor {
            kind: PROCESSOR,
            apic: 0,
            version: APIC_VERSION,
            flags: ENABLED_BOOT,
            signature: 0.into(),
            features: FEATURES.into(),
            reserved: [0.into(); 2],
        }
        .as_bytes()
        .to_vec(),
        [&[BUS, PCI_BUS][..], b"PCI   "].concat(),
        [&[BUS, ISA_BUS][..], b"ISA   "].concat(),
        [&[IO_APIC, IOAPIC_ID, IOAPIC_VERSION, 1][..], &(layout::IOAPIC as u32).to_le_bytes()].concat(),
    ];
    let interrupt = |entry, kind, source, apic, pin| {
        Interrupt { entry, kind, flags: 0.into(), bus: ISA_BUS, source, apic, pin }.as_bytes().to_vec()
    };
    for irq in (0..ISA_IRQS).filter(|irq| *irq != TIMER_PIN) {
        let pin = if irq == 0 { TIMER_PIN } else { irq };
        entries.push(interrupt(IO_INTERRUPT, VECTORED, irq, IOAPIC_ID, pin));
    }
    // §3.6.2.2: the 8259 at LINT0 of the processor, NMI at LINT1 of all.
    entries.push(interrupt(LOCAL_INTERRUPT, EXTERNAL, 0, 0, 0));
    entries.push(interrupt(LOCAL_INTERRUPT, NMI, 0, u8::MAX, 1));

    let body = entries.concat();
    let mut header = Header {
        signature: *b"PCMP",
        length: ((size_of::<Header>() + body.len()) as u16).into(),
        revision: REVISION,
        checksum: 0,
        oem: *b"COPRA   ",
        product: *b"COPRAVM     ",
        oem_table: 0.into(),
        oem_table_size: 0.into(),
        entries: (entries.len() as u16).into(),
        local_apic: (layout::LAPIC as u32).into(),
        extended_length: 0.into(),
        extended_checksum: 0,
        reserved: 0,
    };
    header.checksum = checksum(&[header.as_bytes(), &body].concat());
    let mut pointer = Pointer {
        signature: *b"_MP_",
        table: (base as u32 + size_of::<Pointer>() as u32).into(),
        length: PARAGRAPHS,
        revision: REVISION,
        checksum: 0,
        features: [0; 5],
    };
    pointer.checksum = checksum(pointer.as_bytes());
    [pointer.as_bytes(), header.as_bytes(), &body].concat()
}

/// The byte with which all of them sum up to 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_structures_have_the_sizes_and_checksums_of_the_specification() {
        let bytes = build(layout::MP_TABLE);
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((&bytes[..4], sum(&bytes[..16])), (&b"_MP_"[..], 0));
        assert_eq!(
            u64::from(u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])),
            layout::MP_TABLE + 16
        );
        let table = &bytes[16..];
        let length = usize::from(u16::from_le_bytes([table[4], table[5]]));
        assert_eq!((&table[..4], length, sum(table)), (&b"PCMP"[..], table.len(), 0));
        // Walked as Linux does: 20 bytes for a processor, 8 for all others (§4.3).
        let (mut at, mut count) = (size_of::<Header>(), 0);
        while at < table.len() {
            at += if table[at] == PROCESSOR { 20 } else { 8 };
            count += 1;
        }
        assert_eq!((at, count), (table.len(), u16::from_le_bytes([table[34], table[35]])));
        assert!(layout::MP_TABLE + bytes.len() as u64 <= layout::HIGH_MEMORY);
    }
}
