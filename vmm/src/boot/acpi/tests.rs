// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables as a kernel and Intel's disassembler read them.

use std::collections::BTreeMap;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// Bytes of the header that every table but the RSDP begins with (§5.2.6).
const HEADER: usize = 36;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Finds every table by its signature, as `drivers/acpi/acpica/tbutils.c:acpi_tb_parse_root_table` does, and checks it.
fn tables(bytes: &[u8], base: u64) -> BTreeMap<[u8; 4], Vec<u8>> {
    let table = |address: u64| {
        let at = (address - base) as usize;
        let table = bytes[at..at + u32_at(bytes, at + 4) as usize].to_vec();
        assert_eq!(sum(&table), 0);
        assert_eq!(table[10..16], OEM_ID);
        table
    };
    let rsdp = &bytes[..36];
    assert_eq!(rsdp[..8], *b"RSD PTR ");
    assert_eq!((sum(&rsdp[..20]), sum(rsdp), rsdp[15]), (0, 0, 2));
    let xsdt = table(u64_at(rsdp, 24));
    assert_eq!(xsdt[..4], *b"XSDT");
    let mut all: BTreeMap<[u8; 4], Vec<u8>> = BTreeMap::new();
    for entry in xsdt[HEADER..].chunks(8) {
        let found = table(u64_at(entry, 0));
        all.insert(found[..4].try_into().unwrap(), found);
    }
    let facs = u64_at(&all[b"FACP"], 132);
    assert!(facs.is_multiple_of(64), "{facs:#x}");
    assert_eq!(bytes[(facs - base) as usize..][..8], *b"FACS\x40\0\0\0");
    let dsdt = table(u64_at(&all[b"FACP"], 140));
    assert_eq!(dsdt[..4], *b"DSDT");
    all.insert(*b"DSDT", dsdt);
    all
}

fn some() -> BTreeMap<[u8; 4], Vec<u8>> {
    const BASE: u64 = 0x0bff_a000;
    tables(&build(BASE), BASE)
}

#[test]
fn power_and_reset_registers_are_those_of_the_devices() {
    let fadt = &some()[b"FACP"];
    assert_eq!(fadt.len(), 276);
    let flags = u32_at(fadt, 112);
    assert_eq!(flags & (Flags::HwReducedAcpi as u32), 0);
    assert_eq!(flags & (Flags::ResetRegSup as u32), 1 << 10);
    // Space, width, offset, access size, address.
    let register = |at: usize| (fadt[at..at + 4].to_vec(), u64_at(fadt, at + 4));
    let port = |port: u16, width, access| (vec![1, width, 0, access], u64::from(port));
    assert_eq!(register(116), port(layout::RESET_CONTROL, 8, 1));
    assert_eq!(fadt[128], layout::RESET_VALUE);
    // §5.2.9: where a block has two addresses, they are the same.
    assert_eq!((register(148), fadt[88]), (port(layout::PM1_EVENTS, 32, 2), 4));
    assert_eq!(u32_at(fadt, 56), u32::from(layout::PM1_EVENTS));
    assert_eq!((register(172), fadt[89]), (port(layout::PM1_CONTROL, 16, 2), 2));
    assert_eq!(u32_at(fadt, 64), u32::from(layout::PM1_CONTROL));
    // No second block, no timer, no general purpose events, no SMI.
    assert!([48, 60, 68, 72, 76, 80, 84].iter().all(|at| u32_at(fadt, *at) == 0));
}

#[test]
fn interrupt_controllers_are_where_kvm_has_them() {
    let madt = &some()[b"APIC"];
    assert_eq!(u64::from(u32_at(madt, HEADER)), layout::LAPIC);
    assert_eq!(u32_at(madt, HEADER + 4), 1, "and the 8259s");
    // Local APIC 0 of processor 0, enabled; I/O APIC 0, its first interrupt is 0.
    assert_eq!(madt[44..52], [0, 8, 0, 0, 1, 0, 0, 0]);
    assert_eq!(madt[52..56], [1, 12, 0, 0]);
    assert_eq!((u64::from(u32_at(madt, 56)), u32_at(madt, 60)), (layout::IOAPIC, 0));
    // ISA interrupt 9 is interrupt 9, level-triggered and active high.
    assert_eq!(madt[64..], [2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0]);
}

#[test]
fn configuration_space_is_that_of_bus_0() {
    let mcfg = &some()[b"MCFG"];
    assert_eq!(u64_at(mcfg, 44), layout::ECAM);
    assert_eq!(mcfg[52..56], [0, 0, 0, layout::ECAM_LAST_BUS]);
    assert_eq!(mcfg.len(), 60);
}

#[test]
fn windows_of_the_root_bridge_contain_all_bars_and_no_other_device() {
    let devices = [layout::BAR32, layout::CLAIMED_MMIO];
    assert!(devices.iter().all(|gpa| layout::PCI_WINDOW_32.contains(gpa)));
    assert!([layout::BAR64, layout::VIRTIO_BARS].iter().all(|gpa| layout::PCI_WINDOW_64.contains(gpa)));
    for gpa in [layout::UNCLAIMED_MMIO, layout::ECAM, layout::IOAPIC, layout::LAPIC, layout::KVM_TSS] {
        assert!(!layout::PCI_WINDOW_32.contains(&gpa), "{gpa:#x}");
    }
    const { assert!(layout::ECAM + layout::ECAM_SIZE <= layout::IOAPIC) };
}

/// Bodies of the devices that are named in AML: `Device` is 0x5b 0x82, a length, and a name (§20.2.5.2).
fn device(aml: &[u8], name: [u8; 4]) -> &[u8] {
    let start = (0..aml.len())
        .find(|at| {
            aml[*at..].starts_with(&[0x5b, 0x82]) && aml[at + 3..at + 8].windows(4).any(|four| *four == name)
        })
        .unwrap();
    let lead = aml[start + 2];
    // §20.2.4: one byte of length, or two of which the first has four bits.
    let length = match lead >> 6 {
        0 => usize::from(lead & 0x3f),
        1 => usize::from(lead & 0xf) | usize::from(aml[start + 3]) << 4,
        _ => unreachable!(),
    };
    &aml[start + 2..start + 2 + length]
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn devices_have_their_ports_and_interrupts() {
    let dsdt = &some()[b"DSDT"];
    for (name, port, irq) in
        [(*b"COM1", layout::COM1, layout::COM1_IRQ), (*b"COM2", layout::COM2, layout::COM2_IRQ)]
    {
        let serial = device(dsdt, name);
        let [low, high] = port.to_le_bytes();
        // §6.4.2.5: eight ports, decoded by 16 bits. §6.4.3.6: edge-triggered, active high, exclusive.
        assert!(contains(serial, &[0x47, 1, low, high, low, high, 1, 8]), "{serial:02x?}");
        assert!(contains(serial, &[0x89, 6, 0, 0b0011, 1, irq as u8, 0, 0, 0]), "{serial:02x?}");
    }
    let bridge = device(dsdt, *b"PCI0");
    // §6.4.3.5.2: a window of 32-bit addresses.
    let window = layout::PCI_WINDOW_32;
    let [first, last] = [window.start as u32, (window.end - 1) as u32].map(u32::to_le_bytes);
    assert!(contains(bridge, &[first, last].concat()), "{bridge:02x?}");
    let window = layout::PCI_WINDOW_64;
    assert!(
        contains(bridge, &[window.start, window.end - 1].map(u64::to_le_bytes).concat()),
        "{bridge:02x?}"
    );
    // §7.4.2.6: Name (_S5_, Package (2) {5, 0}).
    assert!(contains(dsdt, &[b"\x08_S5_\x12".as_slice(), &[5, 2, 0x0a, 5, 0]].concat()), "{dsdt:02x?}");
}

#[test]
fn intels_disassembler_has_no_complaint() {
    if Command::new("iasl").arg("-v").output().is_err() {
        println!("skipped: iasl is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (signature, table) in some() {
        let name = String::from_utf8(signature.to_vec()).unwrap();
        let (file, source) =
            (folder.path().join(format!("{name}.dat")), folder.path().join(format!("{name}.dsl")));
        std::fs::write(&file, table).unwrap();
        let output = Command::new("iasl").arg("-d").arg(&file).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let source = std::fs::read_to_string(&source).unwrap_or_default();
        assert!(output.status.success() && !source.is_empty(), "{name}: {text}");
        for complaint in ["error", "warning", "invalid", "unknown"] {
            assert!(!text.to_lowercase().contains(complaint), "{name}: {complaint} in\n{text}");
            assert!(!source.to_lowercase().contains(complaint), "{name}: {complaint} in\n{source}");
        }
    }
}

proptest! {
    #[test]
    fn tables_are_right_wherever_they_lie(page in 0u64..1 << 40) {
        let base = page << 12;
        let all = tables(&build(base), base);
        let signatures: Vec<&[u8; 4]> = all.keys().collect();
        prop_assert_eq!(signatures, [b"APIC", b"DSDT", b"FACP", b"MCFG"]);
    }
}
