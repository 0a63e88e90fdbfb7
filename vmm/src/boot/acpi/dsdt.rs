// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Differentiated System Description Table: which devices there are that cannot be enumerated, and what they use.

use std::ops::Range;

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package,
    ResourceTemplate, Scope, ZERO,
};
use acpi_tables::sdt::Sdt;

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::layout::{self, SLEEP_TYPE_S5};

/// Bytes of the header that every table begins with (§5.2.6).
const HEADER_LENGTH: u32 = 36;
/// Revision 2: integers have 64 bits (§5.2.11.1).
const REVISION: u8 = 2;
/// Ports of a serial port.
const SERIAL_PORTS: u8 = 8;

/// Ports of the clock: index and data.
const CLOCK_PORTS: u8 = 2;
/// Ports of PCI configuration mechanism #1.
const CONFIG_PORTS: u8 = 8;

/// The whole table.
pub(super) fn build() -> Vec<u8> {
    let mut table = Sdt::new(*b"DSDT", HEADER_LENGTH, REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    let mut aml = Vec::new();
    // §7.4.2: the sleep types of S5 for the control registers 1a and 1b.
    Name::new("_S5_".into(), &Package::new(vec![&SLEEP_TYPE_S5, &ZERO])).to_aml_bytes(&mut aml);
    root_bridge(&mut aml);
    configuration_space(&mut aml);
    // Without an interrupt: the clock has no alarm.
    let clock = IO::new(layout::CMOS_INDEX, layout::CMOS_INDEX, 1, CLOCK_PORTS);
    device(&mut aml, "RTC_", "PNP0B00", &[], vec![&clock]);
    serial_port(&mut aml, "COM1", 1, layout::COM1, layout::COM1_IRQ);
    serial_port(&mut aml, "COM2", 2, layout::COM2, layout::COM2_IRQ);
    table.append_slice(&aml);
    table.as_slice().to_vec()
}

/// A device below `\_SB`, with its identifier and resources.
fn device(aml: &mut Vec<u8>, name: &str, id: &str, more: &[&dyn Aml], resources: Vec<&dyn Aml>) {
    let id = Name::new("_HID".into(), &EISAName::new(id));
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(resources));
    let mut members: Vec<&dyn Aml> = vec![&id];
    members.extend_from_slice(more);
    members.push(&resources);
    Scope::new("\\_SB_".into(), vec![&Device::new(name.into(), members)]).to_aml_bytes(aml);
}

/// PCI bus 0. What its devices' BARs are in belongs to a window: Linux moves a BAR that is in none
/// (`drivers/pci/setup-res.c:pci_claim_resource`).
fn root_bridge(aml: &mut Vec<u8>) {
    let config = layout::PCI_CONFIG_ADDRESS;
    let behind_config = config + u16::from(CONFIG_PORTS);
    let memory32 = |range: Range<u64>| {
        let (first, last) = (range.start as u32, (range.end - 1) as u32);
        AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None)
    };
    let memory64 = |range: Range<u64>| {
        AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, range.start, range.end - 1, None)
    };
    let buses = AddressSpace::new_bus_number(0, u16::from(layout::ECAM_LAST_BUS));
    let ports_below = AddressSpace::new_io(0, config - 1, None);
    let ports_above = AddressSpace::new_io(behind_config, u16::MAX, None);
    let compatible = Name::new("_CID".into(), &EISAName::new("PNP0A03"));
    device(
        aml,
        "PCI0",
        "PNP0A08",
        &[&compatible, &Name::new("_BBN".into(), &ZERO)],
        vec![
            &buses,
            &IO::new(config, config, 1, CONFIG_PORTS),
            &ports_below,
            &ports_above,
            &memory32(layout::VGA..layout::ROM),
            &memory32(layout::PCI_WINDOW_32),
            &memory64(layout::PCI_WINDOW_64),
        ],
    );
}

/// PCI Firmware Specification 3.3 §4.1.2: memory-mapped configuration space is a resource of the motherboard.
fn configuration_space(aml: &mut Vec<u8>) {
    let memory = Memory32Fixed::new(true, layout::ECAM as u32, layout::ECAM_SIZE as u32);
    device(aml, "ECAM", "PNP0C02", &[&Name::new("_UID".into(), &ZERO)], vec![&memory]);
}

/// A 16550A.
fn serial_port(aml: &mut Vec<u8>, name: &str, number: u8, port: u16, irq: u32) {
    let ports = IO::new(port, port, 1, SERIAL_PORTS);
    // A consumer's, edge-triggered, active high, not shared: as ISA interrupts are.
    let interrupt = Interrupt::new(true, true, false, false, irq);
    device(aml, name, "PNP0501", &[&Name::new("_UID".into(), &number)], vec![&ports, &interrupt]);
}
