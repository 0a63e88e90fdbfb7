// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Registers of KVM's I/O APIC (82093AA data sheet §3) at addresses where KVM does not emulate it.
//!
//! KVM has it at one guest physical address, without encryption bit. Linux maps it shared but on Hyper-V
//! (`arch/x86/kernel/apic/io_apic.c:io_apic_set_fixmap`), so a TD's accesses, with the shared bit in the address, come to the VMM.

use std::sync::Arc;

use kvm_bindings::{KVM_IRQCHIP_IOAPIC, kvm_ioapic_state, kvm_irqchip};
use kvm_ioctls::VmFd;

use crate::layout::{self, PAGE_SIZE};

/// §3.1.1: which register the window shows.
const SELECT: u64 = 0x00;
/// §3.1.2: the window.
const WINDOW: u64 = 0x10;
/// §3.2.1: identification, in bits 24 to 27.
const ID: u32 = 0;
/// §3.2.2: version, and number of the last entry of the table from bit 16 on.
const VERSION: u32 = 1;
/// §3.2.3: arbitration, which KVM answers as [`ID`].
const ARBITRATION: u32 = 2;
/// §3.2.4: the first of two registers for each entry of the redirection table.
const TABLE: u32 = 0x10;
/// KVM's version (`arch/x86/kvm/ioapic.h:IOAPIC_VERSION_ID`).
const VERSION_ID: u32 = 0x11;
const ID_SHIFT: u32 = 24;
const ID_BITS: u32 = 0xf;
const LAST_ENTRY_SHIFT: u32 = 16;
/// §3.2.4: delivery status, bit 12, and remote IRR, bit 14, can only be read.
const READ_ONLY: u64 = 1 << 12 | 1 << 14;
/// §3.2.4: the trigger mode is level; remote IRR is defined only then.
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;

/// The I/O APIC of a VM.
#[derive(Debug)]
pub(super) struct IoApic {
    vm: Arc<VmFd>,
}

impl IoApic {
    pub(super) fn new(vm: &Arc<VmFd>) -> Self {
        Self { vm: Arc::clone(vm) }
    }

    /// One of its registers is at `gpa`.
    pub(super) fn decodes(gpa: u64) -> bool {
        (layout::IOAPIC..layout::IOAPIC + PAGE_SIZE).contains(&gpa)
    }

    /// A load, which shows something only in the four bytes of a register; other addresses float high.
    pub(super) fn read(&self, gpa: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(state) = self.state() {
            let register = read(&state, gpa & !3).to_le_bytes();
            for (to, from) in data.iter_mut().zip(&register[(gpa & 3) as usize..]) {
                *to = *from;
            }
        }
    }

    /// A store, of which only one of a whole register has an effect.
    pub(super) fn write(&self, gpa: u64, data: &[u8]) {
        let Ok(value) = data.try_into().map(u32::from_le_bytes) else { return };
        if let Some(mut state) = self.state() {
            write(&mut state, gpa, value);
            let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_IOAPIC, ..Default::default() };
            chip.chip.ioapic = state;
            // A VM that has an I/O APIC takes its state.
            let _ = self.vm.set_irqchip(&chip);
        }
    }

    fn state(&self) -> Option<kvm_ioapic_state> {
        let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_IOAPIC, ..Default::default() };
        self.vm.get_irqchip(&mut chip).ok()?;
        // SAFETY: KVM has filled in this member, as `chip_id` names it, and any bytes are a valid one.
        Some(unsafe { chip.chip.ioapic })
    }
}

/// A register as the processor reads it (`arch/x86/kvm/ioapic.c:ioapic_read_indirect`).
fn read(state: &kvm_ioapic_state, gpa: u64) -> u32 {
    match gpa - layout::IOAPIC {
        SELECT => state.ioregsel,
        WINDOW => match state.ioregsel {
            ID | ARBITRATION => (state.id & ID_BITS) << ID_SHIFT,
            VERSION => (state.redirtbl.len() as u32 - 1) << LAST_ENTRY_SHIFT | VERSION_ID,
            register => entry(state, register).map_or(u32::MAX, |(bits, shift)| (bits >> shift) as u32),
        },
        _ => 0,
    }
}

/// Writes a register (`arch/x86/kvm/ioapic.c:ioapic_write_indirect`).
fn write(state: &mut kvm_ioapic_state, gpa: u64, value: u32) {
    match gpa - layout::IOAPIC {
        SELECT => state.ioregsel = value & 0xff,
        WINDOW => match state.ioregsel {
            ID => state.id = value >> ID_SHIFT & ID_BITS,
            register => {
                let Some((old, shift)) = entry(state, register) else { return };
                let half = u64::from(u32::MAX) << shift;
                let mut bits = old & !half | u64::from(value) << shift;
                bits = bits & !READ_ONLY | old & READ_ONLY;
                if bits & LEVEL == 0 {
                    bits &= !REMOTE_IRR;
                }
                if let Some(entry) = state.redirtbl.get_mut(((register - TABLE) / 2) as usize) {
                    entry.bits = bits;
                }
            }
        },
        _ => {}
    }
}

/// The entry of the redirection table that a register is half of, and where in it the half begins.
fn entry(state: &kvm_ioapic_state, register: u32) -> Option<(u64, u32)> {
    let half = register.checked_sub(TABLE)?;
    let entry = state.redirtbl.get((half / 2) as usize)?;
    // SAFETY: both members of the union are 8 bytes of any value.
    Some((unsafe { entry.bits }, half % 2 * u32::BITS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(state: &mut kvm_ioapic_state, register: u32, value: u32) {
        write(state, layout::IOAPIC + SELECT, register);
        write(state, layout::IOAPIC + WINDOW, value);
    }

    fn get(state: &mut kvm_ioapic_state, register: u32) -> u32 {
        write(state, layout::IOAPIC + SELECT, register);
        assert_eq!(read(state, layout::IOAPIC + SELECT), register);
        read(state, layout::IOAPIC + WINDOW)
    }

    #[test]
    fn it_has_an_id_a_version_and_24_entries() {
        let mut state = kvm_ioapic_state::default();
        set(&mut state, ID, 5 << 24);
        set(&mut state, VERSION, 0);
        assert_eq!(get(&mut state, ID), 5 << 24);
        assert_eq!(get(&mut state, VERSION), 0x0017_0011);
        assert_eq!(get(&mut state, TABLE + 48), u32::MAX);
        assert_eq!(read(&state, layout::IOAPIC + 0x20), 0);
    }

    proptest! {
        #[test]
        fn an_entry_keeps_what_is_written_but_for_its_status(pin in 0..24u32, low: u32, high: u32, irr: bool) {
            let mut state = kvm_ioapic_state::default();
            state.redirtbl[pin as usize].bits = if irr { REMOTE_IRR | LEVEL } else { 0 };
            let (first, second) = (TABLE + 2 * pin, TABLE + 2 * pin + 1);
            set(&mut state, second, high);
            set(&mut state, first, low);
            let level = u64::from(low) & LEVEL != 0;
            let status = if irr && level { REMOTE_IRR as u32 } else { 0 };
            prop_assert_eq!(get(&mut state, first), low & !(READ_ONLY as u32) | status);
            prop_assert_eq!(get(&mut state, second), high);
        }

        #[test]
        fn any_access_is_harmless(accesses in prop::collection::vec((0..PAGE_SIZE, any::<u32>()), 0..50)) {
            let mut state = kvm_ioapic_state::default();
            for (offset, value) in accesses {
                write(&mut state, layout::IOAPIC + offset, value);
                let _ = read(&state, layout::IOAPIC + offset);
            }
        }
    }
}
