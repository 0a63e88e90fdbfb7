// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest in place of a real one: memory, and an agent that notifies.

use protocol::check::digest;
use protocol::window::{DOWN_PAGES, Directory, MAGIC, PAGE, UP_PAGES, stamp};
use protocol::{Event, Frame, GuestMemory, Hello, Kind, Link, Payload, WindowAddress};

/// A guest's memory with an agent's window in it, its pages out of order.
pub struct Guest {
    pub memory: Vec<u8>,
    notifications: u64,
}

pub const KEY: u64 = 0x1122_3344_5566_7788;
pub const HOME: u64 = 3;

impl GuestMemory for Guest {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> bool {
        let from = address as usize;
        self.memory
            .get(from..from.saturating_add(buffer.len()))
            .map(|bytes| buffer.copy_from_slice(bytes))
            .is_some()
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        let from = address as usize;
        let place = self.memory.get_mut(from..from.saturating_add(bytes.len()));
        place.map(|place| place.copy_from_slice(bytes)).is_some()
    }
}

impl Guest {
    pub fn new() -> Self {
        Self { memory: vec![0xee; 64 * PAGE], notifications: 0 }
    }

    pub fn page(index: usize) -> usize {
        // 63, 61, 59 …: no two next to each other until the odd ones are used up.
        let index = index + 1;
        if index < 30 { 64 - 2 * index } else { 2 * (index - 30) + 5 }
    }

    pub fn word(&mut self, offset: usize, value: u64) {
        assert!(self.write(HOME * PAGE as u64 + offset as u64, &value.to_le_bytes()));
    }

    /// What the agent does before each frame.
    pub fn notify(&mut self, up: &[u8]) {
        use std::mem::offset_of;
        self.notifications += 1;
        let notifications = self.notifications;
        self.word(offset_of!(Directory, magic), MAGIC);
        self.word(offset_of!(Directory, key), KEY);
        self.word(offset_of!(Directory, notifications), notifications);
        self.word(offset_of!(Directory, pages), (DOWN_PAGES | UP_PAGES << 32) as u64);
        self.word(offset_of!(Directory, up_len), up.len() as u64);
        self.word(offset_of!(Directory, up_digest), digest(up));
        for index in 0..DOWN_PAGES + UP_PAGES {
            self.word(offset_of!(Directory, frame_numbers) + 8 * index, Self::page(index) as u64);
        }
        for index in 0..DOWN_PAGES {
            let place = (Self::page(index) * PAGE) as u64;
            assert!(self.write(place, &stamp(KEY, notifications, index)));
        }
        for (index, part) in up.chunks(PAGE).enumerate() {
            assert!(self.write((Self::page(DOWN_PAGES + index) * PAGE) as u64, part));
        }
    }

    pub fn send(&mut self, link: &mut Link, kind: Kind, payload: Payload<'_>) -> Option<Event> {
        let mut bytes = Vec::new();
        let sequence = self.notifications as u8;
        Frame { kind, sequence, reply_by_window: false, payload }.encode(&mut bytes);
        let mut event = None;
        for byte in bytes {
            assert_eq!(event, None, "only the last byte completes the frame");
            event = link.receive(byte, self);
        }
        event
    }

    pub fn hello(&mut self) -> Link {
        self.hello_of(false)
    }

    /// The greeting of an agent with or without a notification line.
    pub fn hello_of(&mut self, notifies: bool) -> Link {
        let mut link = Link::new();
        self.notify(&[]);
        let mut payload = Vec::new();
        let hello = Hello {
            is_init: true,
            notifies,
            window: Some(WindowAddress { frame_number: HOME, key: KEY as u32 }),
        };
        hello.encode(&mut payload);
        assert_eq!(self.send(&mut link, Kind::Hello, Payload::Inline(&payload)), Some(Event::Hello(hello)));
        link
    }

    pub fn read_word(&mut self, offset: usize) -> u64 {
        let mut word = [0; 8];
        assert!(self.read(HOME * PAGE as u64 + offset as u64, &mut word));
        u64::from_le_bytes(word)
    }

    pub fn down(&mut self) -> Vec<u8> {
        use std::mem::offset_of;
        let mut payload = vec![0; self.read_word(offset_of!(Directory, down_len)) as usize];
        for (index, part) in payload.chunks_mut(PAGE).enumerate() {
            assert!(self.read((Self::page(index) * PAGE) as u64, part));
        }
        payload
    }
}
