// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The part of a PC's clock chip that a kernel reads: that it is present and not busy.

/// Status register A: divider on, no update in progress (MC146818 data sheet).
const STATUS_A: u8 = 0x26;
/// Status register B: 24-hour mode.
const STATUS_B: u8 = 0x02;
/// Status register D: valid RAM and time.
const STATUS_D: u8 = 0x80;

/// CMOS index latch and registers.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
pub struct Cmos {
    index: u8,
}

impl Cmos {
    /// OUT 0x70.
    pub fn select(&mut self, index: u8) {
        self.index = index & 0x7f;
    }

    /// IN 0x71. The date is 2026-01-01 00:00:00 in BCD: guests must not depend on when they run.
    pub fn read(&self) -> u8 {
        match self.index {
            0x0a => STATUS_A,
            0x0b => STATUS_B,
            0x0d => STATUS_D,
            0x07 | 0x08 => 0x01,
            0x09 => 0x26,
            0x32 => 0x20,
            _ => 0,
        }
    }
}
