// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the outer command sends to the one on the KVM host in QEMU on its standard input: the user's input, the size of the user's
//! terminal, and Ctrl-C, which are three things on a machine and one stream on the way. Under gdb the input is gdb's, and there is
//! such a stream back too.

use std::io::{self, Read, Write};

/// Bytes of input in one frame at most.
pub const MOST: usize = 32 << 10;

/// The last byte of a frame. The KVM host delays bytes at the end of its output that may begin the mark behind it, which has
/// hexadecimal digits (`scripts/kvm-host.d/attach`); gdb's packets end with some.
const TERMINATOR: u8 = b';';

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Input.
    Data(Vec<u8>),
    /// There is no more input.
    End,
    /// The terminal has these columns and rows.
    Size(u16, u16),
    /// Ctrl-C.
    Interrupt,
    /// Output of the command, beside what is for gdb.
    Output(Vec<u8>),
    /// The guest waits for gdb.
    Ready,
}

impl Frame {
    /// Writes it: kind, length of the content in two bytes, content, [`TERMINATOR`].
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, content) = match self {
            Self::Data(bytes) => (b'D', bytes.clone()),
            Self::End => (b'E', Vec::new()),
            Self::Size(columns, rows) => (b'S', [columns.to_le_bytes(), rows.to_le_bytes()].concat()),
            Self::Interrupt => (b'I', Vec::new()),
            Self::Output(bytes) => (b'O', bytes.clone()),
            Self::Ready => (b'R', Vec::new()),
        };
        let len = u16::try_from(content.len()).map_err(|_| io::Error::other("a frame is too long"))?;
        to.write_all(&[&[kind][..], &len.to_le_bytes(), &content, &[TERMINATOR]].concat())?;
        to.flush()
    }

    /// Reads the next one; `None` at the end of the stream, or where it is no frame.
    pub fn read(from: &mut impl Read) -> Option<Self> {
        let mut head = [0; 3];
        from.read_exact(&mut head).ok()?;
        let [kind, low, high] = head;
        let mut content = vec![0; usize::from(u16::from_le_bytes([low, high]))];
        from.read_exact(&mut content).ok()?;
        let mut end = [0];
        from.read_exact(&mut end).ok().filter(|()| end == [TERMINATOR])?;
        match (kind, content.as_slice()) {
            (b'D', _) => Some(Self::Data(content)),
            (b'E', []) => Some(Self::End),
            (b'S', [a, b, c, d]) => {
                Some(Self::Size(u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d])))
            }
            (b'I', []) => Some(Self::Interrupt),
            (b'O', _) => Some(Self::Output(content)),
            (b'R', []) => Some(Self::Ready),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100).prop_map(Frame::Data),
            Just(Frame::End),
            any::<(u16, u16)>().prop_map(|(columns, rows)| Frame::Size(columns, rows)),
            Just(Frame::Interrupt),
            prop::collection::vec(any::<u8>(), 0..100).prop_map(Frame::Output),
            Just(Frame::Ready),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back(frames in prop::collection::vec(frames(), 0..10)) {
            let mut stream = Vec::new();
            frames.iter().try_for_each(|frame| frame.write(&mut stream)).unwrap();
            let mut rest = stream.as_slice();
            let back: Vec<Frame> = std::iter::from_fn(|| Frame::read(&mut rest)).collect();
            prop_assert_eq!(back, frames);
        }

        #[test]
        fn any_bytes_are_frames_or_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = bytes.as_slice();
            while Frame::read(&mut rest).is_some() {}
        }
    }
}
