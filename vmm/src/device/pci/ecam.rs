// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Configuration space in memory: PCI Express Base Specification 5.0 §7.2.2 (ECAM).

use super::PciBus;
use crate::layout;

/// §7.2.2: distance of the device number from bit 0 of the address; below it 3 bits of function and 12 of register.
const DEVICE_SHIFT: u32 = 15;
/// Bits of function and register.
const REGISTER_MASK: u64 = (1 << DEVICE_SHIFT) - 1;

impl PciBus {
    /// `gpa` is configuration space.
    pub fn is_configuration(gpa: u64) -> bool {
        (layout::ECAM..layout::ECAM + layout::ECAM_SIZE).contains(&gpa)
    }

    /// Reads it; registers of functions that are not there, and those beyond the first 256 bytes, which only PCI Express
    /// functions have, float high.
    pub fn read_configuration(&self, gpa: u64) -> u8 {
        let register = |(device, register): (usize, u8)| Some(self.functions.get(device)?.read(register));
        place(gpa).and_then(register).unwrap_or(0xff)
    }

    /// Writes it.
    pub fn write_configuration(&mut self, gpa: u64, byte: u8) {
        if let Some((device, register)) = place(gpa)
            && let Some(function) = self.functions.get_mut(device)
        {
            function.write(register, byte);
        }
    }
}

/// Device number and register, of function 0 of a device on bus 0.
fn place(gpa: u64) -> Option<(usize, u8)> {
    let offset = gpa.checked_sub(layout::ECAM)?;
    let register = u8::try_from(offset & REGISTER_MASK).ok()?;
    let device = usize::try_from(offset >> DEVICE_SHIFT).ok()?;
    Some((device, register))
}
