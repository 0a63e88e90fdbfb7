// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The part of a PC's clock chip that a kernel reads: that it is present and not busy.

/// Status register A: divider on, no update in progress (MC146818 data sheet).
const STATUS_A: u8 = 0x26;
/// Status register B: 24-hour mode.
const STATUS_B: u8 = 0x02;
/// Status register D: valid RAM and time.
const STATUS_D: u8 = 0x80;

/// CMOS index latch and registers.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Cmos {
    index: u8,
    date: Date,
}

/// A date and time, each part in BCD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Date {
    second: u8,
    minute: u8,
    hour: u8,
    day: u8,
    month: u8,
    year: u8,
    century: u8,
}

/// 2026-01-01 00:00:00: guests must not depend on when they run.
impl Default for Cmos {
    fn default() -> Self {
        Self { index: 0, date: Date::of_seconds(1_767_225_600) }
    }
}

const fn bcd(value: u64) -> u8 {
    (((value / 10 % 10) << 4) | (value % 10)) as u8
}

impl Date {
    /// Of seconds since 1970, in UTC.
    const fn of_seconds(seconds: u64) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        /// Days from March 1 of year 0 to 1970.
        const EPOCH: u64 = 719_468;
        /// Days in 400 years.
        const ERA: u64 = 146_097;
        // Years begin in March, so that February 29 is the last day of one.
        let days = seconds / DAY + EPOCH;
        let (era, day_of_era) = (days / ERA, days % ERA);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (ERA - 1)) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = 400 * era + year_of_era + (month <= 2) as u64;
        Self {
            second: bcd(seconds % 60),
            minute: bcd(seconds / 60 % 60),
            hour: bcd(seconds % DAY / 3600),
            day: bcd(day_of_year - (153 * from_march + 2) / 5 + 1),
            month: bcd(month),
            year: bcd(year % 100),
            century: bcd(year / 100),
        }
    }
}

impl Cmos {
    /// A clock at a time in seconds since 1970. It stands still: a kernel reads it once.
    pub fn at(seconds: u64) -> Self {
        Self { index: 0, date: Date::of_seconds(seconds) }
    }

    /// OUT 0x70.
    pub fn select(&mut self, index: u8) {
        self.index = index & 0x7f;
    }

    /// IN 0x71.
    pub fn read(&self) -> u8 {
        match self.index {
            0x0a => STATUS_A,
            0x0b => STATUS_B,
            0x0d => STATUS_D,
            0x00 => self.date.second,
            0x02 => self.date.minute,
            0x04 => self.date.hour,
            0x07 => self.date.day,
            0x08 => self.date.month,
            0x09 => self.date.year,
            0x32 => self.date.century,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registers(mut cmos: Cmos) -> [u8; 7] {
        [0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00].map(|index| {
            cmos.select(index);
            cmos.read()
        })
    }

    #[test]
    fn dates_are_in_bcd() {
        assert_eq!(registers(Cmos::default()), [0x20, 0x26, 0x01, 0x01, 0, 0, 0]);
        assert_eq!(registers(Cmos::at(0)), [0x19, 0x70, 0x01, 0x01, 0, 0, 0]);
        assert_eq!(registers(Cmos::at(951_782_399)), [0x20, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59]);
        assert_eq!(registers(Cmos::at(951_782_400)), [0x20, 0x00, 0x02, 0x29, 0, 0, 0]);
        assert_eq!(registers(Cmos::at(4_107_542_400)), [0x21, 0x00, 0x03, 0x01, 0, 0, 0]);
    }

    proptest! {
        /// Read back as a kernel does (`kernel/time/time.c:mktime64`).
        #[test]
        fn any_time_is_read_back(seconds in 0..(1u64 << 37)) {
            let value = |bcd: u8| u64::from(bcd >> 4) * 10 + u64::from(bcd & 0xf);
            let [century, year, month, day, hour, minute, second] = registers(Cmos::at(seconds)).map(value);
            let (year, month) = (century * 100 + year, month);
            let (year, month) = if month <= 2 { (year - 1, month + 10) } else { (year, month - 2) };
            let days = year / 4 - year / 100 + year / 400 + 367 * month / 12 + day + year * 365 - 719_499;
            prop_assert_eq!(((days * 24 + hour) * 60 + minute) * 60 + second, seconds);
        }
    }
}
