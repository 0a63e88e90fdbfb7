// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes in, bytes out: LEB128 numbers, byte strings, and the sinks they are written to.

use crate::Error;

/// Where encoded bytes go: a slice in the agent, a `Vec` on the host.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn byte(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    /// Appends an unsigned number as LEB128: seven bits a byte, low bits first, bit 7 set on all but the last.
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// Appends a signed number: zigzag, then LEB128.
    fn signed(&mut self, value: i64) {
        self.number((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    /// Appends a byte string: its length, then its bytes.
    fn string(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.put(bytes);
    }
}

#[cfg(feature = "std")]
impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A sink of fixed size. What does not fit is dropped whole and remembered in [`Slice::overflowed`].
#[derive(Debug)]
pub struct Slice<'a> {
    bytes: &'a mut [u8],
    len: usize,
    overflowed: bool,
}

impl<'a> Slice<'a> {
    /// An empty sink over `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, len: 0, overflowed: false }
    }

    /// A sink that goes on after the first `len` bytes of `bytes`.
    pub fn resume(bytes: &'a mut [u8], len: usize) -> Self {
        let len = len.min(bytes.len());
        Self { bytes, len, overflowed: false }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// Whether something did not fit.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// What was written so far.
    pub fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Forgets everything after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Overwrites bytes already written.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) {
        let end = at.saturating_add(bytes.len());
        if end <= self.len
            && let Some(place) = self.bytes.get_mut(at..end)
        {
            place.copy_from_slice(bytes);
        } else {
            self.overflowed = true;
        }
    }
}

impl Sink for Slice<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        } else {
            self.overflowed = true;
        }
    }
}

/// Reads what a [`Sink`] was given, front to back.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Error> {
        let (&byte, rest) = self.rest.split_first().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    /// The next little-endian 32-bit word.
    pub fn word(&mut self) -> Result<u32, Error> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)))
    }

    /// The next little-endian 64-bit word.
    pub fn quad(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)))
    }

    /// The next LEB128 number.
    pub fn number(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Error::Number);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Number)
    }

    /// The next LEB128 number, which must fit the narrower type.
    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Error> {
        T::try_from(self.number()?).map_err(|_| Error::Number)
    }

    /// The next signed number.
    pub fn signed(&mut self) -> Result<i64, Error> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The next byte string.
    pub fn string(&mut self) -> Result<&'a [u8], Error> {
        let len = self.narrow()?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_the_edges() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            bytes.number(value);
            assert_eq!(Reader::new(&bytes).number(), Ok(value));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut bytes = Vec::new();
            bytes.signed(value);
            assert_eq!(Reader::new(&bytes).signed(), Ok(value));
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x02;
        assert_eq!(Reader::new(&bytes).number(), Err(Error::Number));
        assert_eq!(Reader::new(&[0x80; 12]).number(), Err(Error::Number));
        assert_eq!(Reader::new(&[0x80; 3]).number(), Err(Error::Truncated));
    }

    #[test]
    fn what_does_not_fit_is_dropped_whole() {
        let mut bytes = [0; 4];
        let mut sink = Slice::new(&mut bytes);
        sink.put(&[1, 2, 3]);
        sink.put(&[4, 5]);
        assert!(sink.overflowed());
        assert_eq!(sink.written(), [1, 2, 3]);
        assert_eq!(sink.room(), 1);
    }
}
