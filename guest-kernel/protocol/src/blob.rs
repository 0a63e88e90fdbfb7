// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Data in outcomes: constant stretches run-length coded, long data optionally cut and digested.

use crate::check::digest;
use crate::wire::Sink;

/// Shortest stretch of one byte that is worth a run.
const MIN_RUN: usize = 4;

/// Most bytes that `len` bytes of data can take on the wire.
pub const fn worst_case(len: usize) -> usize {
    len + 24
}

/// Appends data. With `keep`, at most so many bytes of it and, if there are more, the digest of all.
pub fn encode(sink: &mut impl Sink, data: &[u8], keep: Option<usize>) {
    let len = data.len() as u64;
    match keep {
        Some(keep) if data.len() > keep => {
            sink.number(len << 1 | 1);
            sink.number(keep as u64);
            sink.put(&digest(data).to_le_bytes());
            chunks(sink, data.get(..keep).unwrap_or_default());
        }
        _ => {
            sink.number(len << 1);
            chunks(sink, data);
        }
    }
}

fn chunks(sink: &mut impl Sink, data: &[u8]) {
    let mut literal = 0;
    let mut at = 0;
    while let Some(&byte) = data.get(at) {
        let run = data.iter().skip(at).take_while(|&&other| other == byte).count();
        if run >= MIN_RUN {
            literals(sink, data.get(literal..at).unwrap_or_default());
            sink.number((run as u64) << 1 | 1);
            sink.byte(byte);
            literal = at + run;
        }
        at += run;
    }
    literals(sink, data.get(literal..).unwrap_or_default());
}

fn literals(sink: &mut impl Sink, bytes: &[u8]) {
    if !bytes.is_empty() {
        sink.number((bytes.len() as u64) << 1);
        sink.put(bytes);
    }
}

#[cfg(any(feature = "std", test))]
pub use host::{Data, decode};

#[cfg(any(feature = "std", test))]
mod host {
    use crate::wire::Reader;
    use crate::{Error, MAX_DATA};

    /// Data of an outcome.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Data {
        /// The bytes, or the first of them.
        pub bytes: Vec<u8>,
        /// Where only the first are given: how many there were, and the [`crate::check::digest`] of them all.
        pub cut: Option<(usize, u64)>,
    }

    impl Data {
        /// How many bytes there were.
        pub fn len(&self) -> usize {
            self.cut.map_or(self.bytes.len(), |(len, _)| len)
        }

        /// Whether there were none.
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// Digest of all of them.
        pub fn digest(&self) -> u64 {
            self.cut.map_or_else(|| crate::check::digest(&self.bytes), |(_, digest)| digest)
        }
    }

    /// Reads data.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Data, Error> {
        let head = reader.number()?;
        let len = usize::try_from(head >> 1).map_err(|_| Error::Number)?;
        if len > MAX_DATA {
            return Err(Error::TooLong);
        }
        let (kept, cut) = if head & 1 == 0 {
            (len, None)
        } else {
            let kept = reader.narrow()?;
            if kept >= len {
                return Err(Error::Value);
            }
            (kept, Some((len, reader.quad()?)))
        };
        let mut bytes = Vec::new();
        while bytes.len() < kept {
            let chunk = reader.number()?;
            let count = usize::try_from(chunk >> 1).map_err(|_| Error::Number)?;
            if count == 0 || count > kept - bytes.len() {
                return Err(Error::Value);
            }
            if chunk & 1 == 0 {
                bytes.extend_from_slice(reader.take(count)?);
            } else {
                bytes.resize(bytes.len() + count, reader.byte()?);
            }
        }
        Ok(Data { bytes, cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Reader;
    use proptest::prelude::*;

    #[test]
    fn a_page_of_zeros_is_five_bytes() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &[0; 4096], None);
        assert_eq!(bytes.len(), 5);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_and_never_takes_more_than_said(
            pieces in prop::collection::vec((any::<u8>(), 1usize..9), 0..300),
            keep in prop::option::of(0usize..400),
        ) {
            let data: Vec<u8> = pieces.iter().flat_map(|&(byte, count)| vec![byte; count]).collect();
            let mut bytes = Vec::new();
            encode(&mut bytes, &data, keep);
            prop_assert!(bytes.len() <= worst_case(data.len().min(keep.unwrap_or(usize::MAX))));
            let back = decode(&mut Reader::new(&bytes)).unwrap();
            prop_assert_eq!(back.len(), data.len());
            prop_assert_eq!(back.digest(), digest(&data));
            prop_assert!(data.starts_with(&back.bytes));
            prop_assert_eq!(back.bytes.len(), data.len().min(keep.unwrap_or(usize::MAX)));
        }
    }
}
