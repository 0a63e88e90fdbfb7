// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ACPI's power management registers: event and control block 1a (ACPI Specification 6.5 §4.8.3). No event is ever raised; the
//! guest switches itself off here (`drivers/acpi/acpica/hwsleep.c:acpi_hw_legacy_sleep`).

use crate::layout::{self, SLEEP_TYPE_S5};

/// §4.8.3.1.1: status; a written bit clears it, and none is ever set. The enable register is behind it.
const STATUS: usize = 0;
const ENABLE: usize = 2;
/// §4.8.3.2.1: the control register, in the same block here.
const CONTROL: usize = (layout::PM1_CONTROL - layout::PM1_EVENTS) as usize;
/// Bytes of all.
const LENGTH: usize = CONTROL + 2;
/// `SCI_EN`: the hardware is in ACPI mode, as it always is here.
const ACPI_MODE: u8 = 1;
/// In the high byte of the control register: where the sleep type is, and its bits.
const TYPE_SHIFT: u32 = 2;
const TYPE_BITS: u8 = 0b111;
/// There too: `SLP_EN`, sleep now. It can only be written.
const SLEEP: u8 = 1 << 5;

/// The registers.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
pub struct PowerManagement {
    registers: [u8; LENGTH],
}

impl PowerManagement {
    /// IN from a port in the block.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        for (to, from) in data.iter_mut().zip(&self.registers[index(port)..]) {
            *to = *from;
        }
        if let Some(control) = CONTROL.checked_sub(index(port)).and_then(|at| data.get_mut(at)) {
            *control |= ACPI_MODE;
        }
    }

    /// OUT to a port in the block. True if this switches the machine off; there are no other sleep states.
    #[must_use]
    pub fn write(&mut self, port: u16, data: &[u8]) -> bool {
        let mut off = false;
        for (index, byte) in (index(port)..LENGTH).zip(data) {
            match index {
                STATUS..ENABLE => {}
                _ if index == LENGTH - 1 => {
                    off |= byte & SLEEP != 0 && byte >> TYPE_SHIFT & TYPE_BITS == SLEEP_TYPE_S5;
                    self.registers[index] = byte & !SLEEP;
                }
                _ => self.registers[index] = *byte,
            }
        }
        off
    }
}

fn index(port: u16) -> usize {
    usize::from(port.saturating_sub(layout::PM1_EVENTS)).min(LENGTH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_s5_with_its_enable_bit_switches_off() {
        let mut power = PowerManagement::default();
        let off = |control: &u16| power.write(layout::PM1_CONTROL, &control.to_le_bytes());
        let all: Vec<u16> = (0..=u16::MAX).filter(off).collect();
        assert!(all.iter().all(|control| control >> 10 & 0b1111 == 0b1101), "SLP_EN and type 5");
        assert_eq!(all.len(), 1 << 12, "whatever the other bits are");
    }

    #[test]
    fn registers_keep_what_is_written_but_status_and_acpi_mode() {
        let mut power = PowerManagement::default();
        assert!(!power.write(layout::PM1_EVENTS, &[0xff, 0xff, 0x21, 0x05]));
        assert!(!power.write(layout::PM1_CONTROL, &[0, 0x14]));
        let mut all = [0; LENGTH];
        power.read(layout::PM1_EVENTS, &mut all);
        assert_eq!(all, [0, 0, 0x21, 0x05, ACPI_MODE, 0x14]);
        let mut control = [0; 2];
        power.read(layout::PM1_CONTROL, &mut control);
        assert_eq!(control, [ACPI_MODE, 0x14]);
    }

    proptest! {
        #[test]
        fn any_access_is_harmless(port in layout::PM1_EVENTS..layout::PM1_CONTROL + 2, data in prop::collection::vec(any::<u8>(), 0..8)) {
            let mut power = PowerManagement::default();
            let _ = power.write(port, &data);
            let mut seen = data;
            power.read(port, &mut seen);
        }
    }
}
