// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The form in which derived data is kept in files: little-endian numbers and byte strings, one after the other.
//!
//! Whoever keeps a file notices damage by a checksum; here nothing may panic or take memory without measure, whatever
//! the bytes are.

use crate::x86::opcode::Opcode;

/// Why stored bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// There is less than there should be.
    #[error("stored data end within {0}; remove the file, it will be computed again")]
    Truncated(&'static str),
    /// They contradict themselves.
    #[error("stored data have an impossible {0}; remove the file, it will be computed again")]
    Malformed(&'static str),
}

/// Appends values.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// A number of 32 bits.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A number of 64 bits.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes, after their number.
    pub fn bytes(&mut self, value: &[u8]) {
        self.u64(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Bytes as they are, of which the reader knows how many there are.
    pub fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    /// Numbers of 64 bits, after how many there are.
    pub fn u64s(&mut self, values: impl ExactSizeIterator<Item = u64>) {
        self.u64(values.len() as u64 * size_of::<u64>() as u64);
        values.for_each(|value| self.u64(value));
    }

    /// Numbers of 32 bits, after how many there are.
    pub fn u32s(&mut self, values: impl ExactSizeIterator<Item = u32>) {
        self.u64(values.len() as u64 * size_of::<u32>() as u64);
        values.for_each(|value| self.u32(value));
    }

    /// One of the four instructions.
    pub fn opcode(&mut self, opcode: Opcode) {
        self.u8(Opcode::ALL.iter().position(|known| *known == opcode).unwrap_or_default() as u8);
    }

    /// Whether something follows that may be missing.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Takes the values back in the same order.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// From the first byte on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], StoredError> {
        let (value, rest) = self.0.split_first_chunk().ok_or(StoredError::Truncated(what))?;
        self.0 = rest;
        Ok(*value)
    }

    /// One byte. Here as below, `what` names it in the error.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, StoredError> {
        self.array::<1>(what).map(|[value]| value)
    }

    /// A number of 32 bits.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, StoredError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A number of 64 bits.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, StoredError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Bytes after their number.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], StoredError> {
        let length = self.u64(what)?;
        let split = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
        let (value, rest) = split.ok_or(StoredError::Truncated(what))?;
        self.0 = rest;
        Ok(value)
    }

    fn numbers<const N: usize>(&mut self, what: &'static str) -> Result<&'a [[u8; N]], StoredError> {
        match self.bytes(what)?.as_chunks() {
            (numbers, []) => Ok(numbers),
            _ => Err(StoredError::Malformed(what)),
        }
    }

    /// Numbers of 64 bits after how many there are.
    pub fn u64s(
        &mut self,
        what: &'static str,
    ) -> Result<impl ExactSizeIterator<Item = u64> + use<'a>, StoredError> {
        Ok(self.numbers(what)?.iter().map(|number| u64::from_le_bytes(*number)))
    }

    /// Numbers of 32 bits after how many there are.
    pub fn u32s(
        &mut self,
        what: &'static str,
    ) -> Result<impl ExactSizeIterator<Item = u32> + use<'a>, StoredError> {
        Ok(self.numbers(what)?.iter().map(|number| u32::from_le_bytes(*number)))
    }

    /// One of the four instructions.
    pub fn opcode(&mut self) -> Result<Opcode, StoredError> {
        let index = self.u8("instruction")?;
        Opcode::ALL.get(usize::from(index)).copied().ok_or(StoredError::Malformed("instruction"))
    }

    /// What may be missing.
    pub fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, StoredError>,
    ) -> Result<Option<T>, StoredError> {
        match self.u8(what)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(StoredError::Malformed(what)),
        }
    }

    /// All that follows.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), StoredError> {
        if self.0.is_empty() { Ok(()) } else { Err(StoredError::Malformed("end")) }
    }
}
