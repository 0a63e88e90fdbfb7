// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `TDG.MR.REPORT`'s report: laid out as TDX has it, and obviously a fake.

/// Bytes of a `TDREPORT_STRUCT` (TDX Module ABI).
pub const SIZE: usize = 1024;
/// Bytes of the caller's data in it.
pub const DATA_SIZE: usize = 64;

/// Offset of the caller's data: REPORTMACSTRUCT.REPORTDATA.
const DATA: usize = 128;
/// Offset of the MAC, 32 bytes.
const MAC: usize = 224;
/// Offset of `TDINFO_STRUCT.ATTRIBUTES`.
const ATTRIBUTES: usize = 512;
/// Offset of `TDINFO_STRUCT.MRTD`, 48 bytes.
const MRTD: usize = 528;
/// REPORTMACSTRUCT.REPORTTYPE.TYPE of a TD.
const TYPE_TDX: u8 = 0x81;
/// Bytes of every measurement and the MAC.
const FAKE: &[u8; 32] = b"FAKE: copra simulates this TD...";

/// A report that carries the caller's data and no proof of anything.
pub fn fake(data: &[u8; DATA_SIZE], attributes: u64) -> [u8; SIZE] {
    let mut report = [0; SIZE];
    report[0] = TYPE_TDX;
    report[DATA..DATA + DATA_SIZE].copy_from_slice(data);
    report[MAC..MAC + FAKE.len()].copy_from_slice(FAKE);
    report[ATTRIBUTES..ATTRIBUTES + 8].copy_from_slice(&attributes.to_le_bytes());
    report[MRTD..MRTD + FAKE.len()].copy_from_slice(FAKE);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_returns_the_callers_data_and_names_itself_simulated() {
        let report = fake(&[7; DATA_SIZE], 1 << 28);
        assert_eq!(report[DATA..DATA + DATA_SIZE], [7; DATA_SIZE]);
        assert!(report[MAC..].starts_with(b"FAKE"));
    }
}
