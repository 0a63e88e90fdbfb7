// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames on the serial port, and the decoder that finds them among other bytes.

use crate::check::{crc8, crc16};
use crate::wire::{Reader, Sink};
use crate::{Error, MAX_PAYLOAD, VERSION};

/// The first byte of every frame; not ASCII, so kernel messages hardly ever contain it.
pub const SYNC: u8 = 0xc5;

/// The longest frame: header, payload and both checks.
pub const MAX_FRAME: usize = 7 + MAX_PAYLOAD + 2;

const IN_WINDOW: u8 = 1 << 5;
const REPLY_BY_WINDOW: u8 = 1 << 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Agent to host: here I am ([`crate::Hello`]).
    Hello = 1,
    /// Agent to host: what a batch of steps gave.
    Results = 2,
    /// Agent to host: the last frame was not understood; the payload is one byte, [`Error`].
    Refused = 3,
    /// Host to agent: steps to execute.
    Batch = 8,
    /// Host to agent: send a hello again.
    Attach = 9,
    /// Host to agent: send the last results again.
    Again = 10,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 6] =
        [Self::Hello, Self::Results, Self::Refused, Self::Batch, Self::Attach, Self::Again];

    fn from_bits(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == bits)
    }
}

/// Where a frame's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// In the frame.
    Inline(&'a [u8]),
    /// In the window; the directory page holds length and digest.
    Window,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// From the agent: low byte of the notification counter. From the host: a number the answer does not repeat.
    pub sequence: u8,
    /// Host to agent: the answer may use the window.
    pub reply_by_window: bool,
    /// What it carries.
    pub payload: Payload<'a>,
}

impl Frame<'_> {
    /// Writes the frame. An inline payload longer than [`MAX_PAYLOAD`] is the caller's mistake and cannot be decoded.
    pub fn encode(&self, sink: &mut impl Sink) {
        let mut flags = VERSION << 6 | self.kind as u8;
        if self.reply_by_window {
            flags |= REPLY_BY_WINDOW;
        }
        let mut header = [0; 6];
        let mut writer = crate::wire::Slice::new(&mut header);
        match self.payload {
            Payload::Window => {
                writer.put(&[flags | IN_WINDOW, self.sequence]);
            }
            Payload::Inline(bytes) => {
                writer.put(&[flags, self.sequence]);
                writer.number(bytes.len() as u64);
            }
        }
        let header = writer.written();
        sink.byte(SYNC);
        sink.put(header);
        sink.byte(crc8(header));
        if let Payload::Inline(bytes) = self.payload
            && !bytes.is_empty()
        {
            sink.put(bytes);
            sink.put(&crc16(bytes).to_le_bytes());
        }
    }
}

/// Where a frame's parts lie in the decoder's buffer, counted from its first byte.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: Kind,
    sequence: u8,
    flags: u8,
    payload: usize,
    len: usize,
    total: usize,
}

/// Reads the header at the front of `bytes`; `Ok(None)`: more bytes are needed.
fn shape(bytes: &[u8]) -> Result<Option<Shape>, Error> {
    let mut reader = Reader::new(bytes);
    let parsed = (|| {
        reader.byte()?;
        let flags = reader.byte()?;
        if flags >> 6 != VERSION {
            return Err(Error::Version);
        }
        let sequence = reader.byte()?;
        let len = if flags & IN_WINDOW == 0 { length(&mut reader)? } else { 0 };
        let checked = bytes.len() - reader.rest().len();
        let header = bytes.get(1..checked).unwrap_or_default();
        if reader.byte()? != crc8(header) {
            return Err(Error::HeaderCheck);
        }
        let kind = Kind::from_bits(flags & 0x0f).ok_or(Error::Kind)?;
        let payload = checked + 1;
        let total = payload + len + if len == 0 { 0 } else { 2 };
        Ok(Shape { kind, sequence, flags, payload, len, total })
    })();
    match parsed {
        Ok(shape) => Ok(Some(shape)),
        Err(Error::Truncated) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A payload length: at most three LEB128 bytes, at most [`MAX_PAYLOAD`]; wrong ones are refused at the earliest byte.
fn length(reader: &mut Reader<'_>) -> Result<usize, Error> {
    let mut len = 0;
    for shift in [0, 7, 14] {
        let byte = reader.byte()?;
        len |= usize::from(byte & 0x7f) << shift;
        if len > MAX_PAYLOAD {
            return Err(Error::TooLong);
        }
        if byte & 0x80 == 0 {
            return Ok(len);
        }
    }
    Err(Error::TooLong)
}

/// Finds frames in a stream of bytes, cut anywhere, among garbage. Needs [`MAX_FRAME`] bytes of buffer and no other
/// memory.
///
/// After a false start it searches again from the byte after the false [`SYNC`], so a true frame that the false one
/// seemed to contain is found. Push a byte, then call [`Decoder::poll`] until it gives `None`.
#[derive(Clone, Debug)]
pub struct Decoder<B> {
    buffer: B,
    start: usize,
    end: usize,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Decoder<B> {
    /// A decoder that works in `buffer`, of at least [`MAX_FRAME`] bytes.
    pub fn new(buffer: B) -> Self {
        Self { buffer, start: 0, end: 0 }
    }

    /// Whether a frame has begun and is not complete.
    pub fn is_pending(&self) -> bool {
        self.start != self.end
    }

    /// Forgets the bytes of an incomplete frame.
    pub fn reset(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Takes one byte from the serial port.
    pub fn push(&mut self, byte: u8) {
        if self.start == self.end {
            if byte != SYNC {
                return;
            }
            self.reset();
        }
        if self.end >= self.buffer.as_ref().len() {
            if self.start == 0 {
                self.skip();
            }
            self.buffer.as_mut().copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if let Some(place) = self.buffer.as_mut().get_mut(self.end) {
            *place = byte;
            self.end += 1;
        }
    }

    /// Drops the frame that seemed to begin at `start` and goes to the next [`SYNC`].
    fn skip(&mut self) {
        let from = (self.start + 1).min(self.end);
        let bytes = self.buffer.as_ref().get(from..self.end).unwrap_or_default();
        self.start = from + bytes.iter().position(|&byte| byte == SYNC).unwrap_or(bytes.len());
    }

    /// The next frame or mistake among the bytes pushed so far.
    pub fn poll(&mut self) -> Option<Result<Frame<'_>, Error>> {
        if self.start == self.end {
            return None;
        }
        let bytes = self.buffer.as_ref().get(self.start..self.end).unwrap_or_default();
        let shape = match shape(bytes) {
            Ok(Some(shape)) if bytes.len() >= shape.total => shape,
            Ok(_) => return None,
            Err(error) => {
                self.skip();
                return Some(Err(error));
            }
        };
        let after = shape.payload + shape.len;
        if shape.len != 0 {
            let payload = bytes.get(shape.payload..after).unwrap_or_default();
            if bytes.get(after..shape.total) != Some(&crc16(payload).to_le_bytes()) {
                self.skip();
                return Some(Err(Error::PayloadCheck));
            }
        }
        let start = self.start;
        self.start += shape.total;
        // Bytes between this frame and the next SYNC belong to no frame.
        if self.start < self.end && self.buffer.as_ref().get(self.start) != Some(&SYNC) {
            self.skip();
        }
        let payload = if shape.flags & IN_WINDOW == 0 {
            Payload::Inline(
                self.buffer.as_ref().get(start + shape.payload..start + after).unwrap_or_default(),
            )
        } else {
            Payload::Window
        };
        Some(Ok(Frame {
            kind: shape.kind,
            sequence: shape.sequence,
            reply_by_window: shape.flags & REPLY_BY_WINDOW != 0,
            payload,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(frame: &Frame<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_window_frame_is_four_bytes_and_the_wire_form_is_fixed() {
        let frame =
            Frame { kind: Kind::Results, sequence: 7, reply_by_window: false, payload: Payload::Window };
        assert_eq!(bytes_of(&frame), [SYNC, 0x62, 7, crc8(&[0x62, 7])]);
        let frame =
            Frame { kind: Kind::Batch, sequence: 1, reply_by_window: true, payload: Payload::Inline(b"ab") };
        let check = crc16(b"ab").to_le_bytes();
        assert_eq!(bytes_of(&frame), [SYNC, 0x58, 1, 2, crc8(&[0x58, 1, 2]), b'a', b'b', check[0], check[1]]);
    }

    #[test]
    fn a_false_start_does_not_swallow_the_frame_after_it() {
        let frame = Frame {
            kind: Kind::Hello,
            sequence: 3,
            reply_by_window: false,
            payload: Payload::Inline(b"hello"),
        };
        let mut stream = b"[  1.0] oops\n".to_vec();
        // A well-formed header that promises more payload than comes before the true frame ends.
        let header = [0x42, 0, 9];
        stream.push(SYNC);
        stream.extend_from_slice(&header);
        stream.push(crc8(&header));
        frame.encode(&mut stream);
        let mut decoder = Decoder::new(vec![0; MAX_FRAME]);
        let mut found = 0;
        for byte in stream {
            decoder.push(byte);
            while let Some(result) = decoder.poll() {
                found += usize::from(result == Ok(frame));
            }
        }
        assert_eq!(found, 1);
    }

    #[test]
    fn an_old_agent_is_recognised_by_its_version() {
        let mut decoder = Decoder::new(vec![0; MAX_FRAME]);
        for byte in [SYNC, 0x82, 0] {
            decoder.push(byte);
        }
        assert_eq!(decoder.poll(), Some(Err(Error::Version)));
        assert_eq!(decoder.poll(), None);
        assert!(!decoder.is_pending());
    }
}
