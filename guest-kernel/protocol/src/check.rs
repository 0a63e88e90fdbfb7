// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks: CRC-8 for frame headers, CRC-16 for payloads on the wire, a fast digest for bulk data.

/// CRC-8/SMBUS (polynomial 0x07, start 0), bit by bit: headers are five bytes long.
pub fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc: u8, &byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x07 })
    })
}

/// CRC-16/XMODEM (polynomial 0x1021, start 0).
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        let mut x = (crc >> 8) as u8 ^ byte;
        x ^= x >> 4;
        crc << 8 ^ u16::from(x) << 12 ^ u16::from(x) << 5 ^ u16::from(x)
    })
}

/// A 64-bit digest of bulk data, eight bytes at a time. Not cryptographic: it distinguishes equal from different, and a window
/// page that was read from the wrong place from the right one.
pub fn digest(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = (bytes.len() as u64 ^ 0x636f_7072_6121_0001).wrapping_mul(MULTIPLIER);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = (state ^ u64::from_le_bytes(*word)).wrapping_mul(MULTIPLIER).rotate_left(29);
    }
    let mut last = [0; 8];
    for (place, &byte) in last.iter_mut().zip(rest) {
        *place = byte;
    }
    state = (state ^ u64::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    state ^ state >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(crc8(b"123456789"), 0xf4);
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn a_digest_sees_every_byte_and_the_length() {
        let bytes = [0x5a; 29];
        let whole = digest(&bytes);
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] ^= 1;
            assert_ne!(digest(&other), whole, "byte {at}");
        }
        assert_ne!(digest(&[0; 8]), digest(&[0; 16]));
        assert_ne!(digest(&[]), digest(&[0]));
    }
}
