// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ACPI tables (ACPI Specification 6.5) of a PC: one processor, interrupt controllers, two serial ports, a clock, a PCI bus
//! with memory-mapped configuration space, registers to switch off and to reset by.
//!
//! The hardware is not the reduced one of §4.1: of that Linux uses neither interval timer nor legacy interrupts
//! (`arch/x86/kernel/acpi/boot.c:acpi_generic_reduced_hw_init`), so a kernel without `SERIAL_8250_PNP` would have no serial ports.
//!
//! They lie in e820 ACPI data. Linux maps those private on every platform: at first through `early_memremap`
//! (`arch/x86/kernel/acpi/boot.c:__acpi_map_table`), later through `ioremap_cache`
//! (`drivers/acpi/osl.c:acpi_os_map_iomem`), which is private where the memory map calls a range ACPI data
//! (`arch/x86/mm/ioremap.c:__ioremap_check_encrypted`).

mod dsdt;
#[cfg(test)]
mod tests;

use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

use crate::layout;

/// Who made the tables.
const OEM_ID: [u8; 6] = *b"COPRA ";
/// Of which machine they are.
const OEM_TABLE_ID: [u8; 8] = *b"COPRAVM ";
/// Version of these tables.
const OEM_REVISION: u32 = 1;
/// ACPI 6.5 §5.2.9.3, IA-PC boot architecture flags: no VGA adapter may be probed for.
const NO_VGA: u16 = 1 << 2;
/// Identifier of the I/O APIC that KVM's is created with (`arch/x86/kvm/ioapic.c:kvm_ioapic_reset`).
const IOAPIC_ID: u8 = 0;
/// Every table begins at a multiple of this, as the FACS has to (§5.2.10).
const ALIGNMENT: usize = 64;
/// Where in every table its checksum is (§5.2.6).
const CHECKSUM: usize = 9;
/// §5.2.12: where in a MADT its flags are, and the one that there are 8259 interrupt controllers too.
const MADT_FLAGS: usize = 40;
const PCAT_COMPAT: u8 = 1;

/// Builds all tables, to lie at `base`, the RSDP first.
pub fn build(base: u64) -> Vec<u8> {
    let mut tables = Placed { base, bytes: vec![0; Rsdp::len()] };
    let dsdt = tables.add(&dsdt::build());
    let facs = tables.add(&serialize(&FACS::new()));
    let fadt = tables.add(&serialize(&fadt(dsdt, facs)));
    let madt = tables.add(&madt());
    let mcfg = tables.add(&serialize(&mcfg()));
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    for table in [fadt, madt, mcfg] {
        xsdt.add_entry(table);
    }
    let xsdt = tables.add(&serialize(&xsdt));
    let rsdp = serialize(&Rsdp::new(OEM_ID, xsdt));
    tables.bytes[..rsdp.len()].copy_from_slice(&rsdp);
    tables.bytes
}

/// Tables behind each other.
struct Placed {
    base: u64,
    bytes: Vec<u8>,
}

impl Placed {
    /// Adds a table and gives its address.
    fn add(&mut self, table: &[u8]) -> u64 {
        let at = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(table);
        self.base + at as u64
    }
}

fn serialize(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn ports(address: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bits, 0, access, address.into())
}

/// §5.2.9. There is no power management timer, no general purpose event, and no way into another mode than ACPI's.
fn fadt(dsdt: u64, facs: u64) -> FADT {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .firmware_ctrl_64(facs)
        // Neither button is in the event registers, and the clock does not wake the machine.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::Wbinvd)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    fadt.sci_int = u16::from(layout::ACPI_IRQ).into();
    fadt.iapc_boot_arch = NO_VGA.into();
    fadt.pm1a_evt_blk = u32::from(layout::PM1_EVENTS).into();
    fadt.pm1_evt_len = 4;
    fadt.x_pm1a_evt_blk = ports(layout::PM1_EVENTS, 32, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = u32::from(layout::PM1_CONTROL).into();
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_cnt_blk = ports(layout::PM1_CONTROL, 16, AccessSize::WordAccess);
    fadt.reset_reg = ports(layout::RESET_CONTROL, 8, AccessSize::ByteAccess);
    fadt.reset_value = layout::RESET_VALUE;
    fadt.finalize()
}

/// §5.2.12. The processor's local APIC, and the I/O APIC whose pins are the ISA interrupts; ACPI's own is level-triggered.
fn madt() -> Vec<u8> {
    let local = LocalInterruptController::Address(layout::LAPIC as u32);
    let mut madt = MADT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION, local);
    madt.add_structure(ProcessorLocalApic::new(0, 0, EnabledStatus::Enabled));
    madt.add_structure(IoApic::new(IOAPIC_ID, layout::IOAPIC as u32, 0));
    madt.add_structure(SourceOverride::new(layout::ACPI_IRQ));
    let mut bytes = serialize(&madt);
    bytes[MADT_FLAGS] |= PCAT_COMPAT;
    bytes[CHECKSUM] = bytes[CHECKSUM].wrapping_sub(PCAT_COMPAT);
    bytes
}

/// §5.2.12.5: an ISA interrupt that is not edge-triggered.
#[derive(Clone, IntoBytes, Immutable)]
#[repr(C)]
struct SourceOverride {
    kind: u8,
    length: u8,
    bus: u8,
    source: u8,
    interrupt: U32,
    flags: U16,
}

impl SourceOverride {
    /// Polarity active high, 0b01, and trigger mode level, 0b11.
    const HIGH_LEVEL: u16 = 0b1101;

    fn new(irq: u8) -> Self {
        Self {
            kind: 2,
            length: size_of::<Self>() as u8,
            bus: 0,
            source: irq,
            interrupt: u32::from(irq).into(),
            flags: Self::HIGH_LEVEL.into(),
        }
    }
}

impl Aml for SourceOverride {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.as_bytes());
    }
}

/// PCI Firmware Specification 3.3 §4.1.2: where the configuration space of bus 0 lies.
fn mcfg() -> MCFG {
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    mcfg.add_ecam(layout::ECAM, 0, 0, layout::ECAM_LAST_BUS);
    mcfg
}
