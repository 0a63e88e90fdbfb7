// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's first frame.

use crate::Error;
use crate::wire::{Reader, Sink};

/// What the agent reports of itself. On the wire: u8 flags (bit 0: is PID 1; bit 1: has a window; bit 2: notifies), then, with a
/// window, LEB page frame number of the directory page and the low 32 bits of its key, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Whether it is PID 1, not a test's child.
    pub is_init: bool,
    /// It answers by the notification line, and looks for an order each time it has answered: see [`crate::window`].
    pub notifies: bool,
    /// The window, if there is one.
    pub window: Option<WindowAddress>,
}

/// Where the window's directory page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAddress {
    /// Page frame number of the directory page.
    pub frame_number: u64,
    /// Low half of the key the directory page holds.
    pub key: u32,
}

impl Hello {
    /// Appends the payload.
    pub fn encode(&self, sink: &mut impl Sink) {
        let flag = |flag: bool, bit: u8| u8::from(flag) << bit;
        sink.byte(flag(self.is_init, 0) | flag(self.window.is_some(), 1) | flag(self.notifies, 2));
        if let Some(window) = self.window {
            sink.number(window.frame_number);
            sink.put(&window.key.to_le_bytes());
        }
    }

    /// Reads the payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let flags = reader.byte()?;
        let window = if flags & 2 == 0 {
            None
        } else {
            Some(WindowAddress { frame_number: reader.number()?, key: reader.word()? })
        };
        Ok(Self { is_init: flags & 1 != 0, notifies: flags & 4 != 0, window })
    }
}
