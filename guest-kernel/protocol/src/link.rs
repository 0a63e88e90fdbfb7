// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's end: bytes from the guest's serial port in, events out; batches in, bytes for the guest out.

mod directory;

use core::mem::offset_of;

use self::directory::Checked;
use crate::check::digest;
use crate::hello::WindowAddress;
use crate::window::{DOWN_PAGES, Directory, MAGIC, MAX_PAGES, PAGE, stamp};
use crate::{Batch, Decoder, Error, Frame, Hello, Kind, MAX_PAYLOAD, Payload, Results, frame::MAX_FRAME};

/// Guest memory, by guest physical address, as the guest's kernel keeps its own data: through the private view where
/// there are two.
pub trait GuestMemory {
    /// Fills `buffer`; false if any of it is not memory.
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> bool;
    /// Stores `bytes`; false if any of it is not memory.
    fn write(&mut self, address: u64, bytes: &[u8]) -> bool;
}

/// No access to guest memory: everything goes over the serial port.
impl GuestMemory for () {
    fn read(&mut self, _: u64, _: &mut [u8]) -> bool {
        false
    }
    fn write(&mut self, _: u64, _: &[u8]) -> bool {
        false
    }
}

/// What the agent sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is there (again). Send the first batch.
    Hello(Hello),
    /// What the last batch gave. Send the next.
    Results(Results),
    /// It did not understand the last frame. Send it again.
    Refused(Error),
    /// The last batch was executed, but its results could not be read. [`Link::again`] requests them over the serial port.
    Lost(LinkError),
}

/// What can go wrong on the host's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// Bytes that make no sense.
    Protocol(Error),
    /// A page of the window is not guest memory.
    NoMemory {
        /// Guest physical address.
        address: u64,
    },
    /// A page of the window is not the one that the agent reported.
    Moved {
        /// Guest physical address.
        address: u64,
    },
    /// The batch does not fit a frame.
    TooLong,
    /// A batch is already on its way.
    Busy,
}

impl From<Error> for LinkError {
    fn from(error: Error) -> Self {
        Self::Protocol(error)
    }
}

impl core::fmt::Display for LinkError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Protocol(error) => write!(f, "{error}"),
            Self::NoMemory { address } => write!(f, "window page {address:#x} is not guest memory"),
            Self::Moved { address } => write!(f, "window page {address:#x} is not the agent's any more"),
            Self::TooLong => write!(f, "the batch is longer than {MAX_PAYLOAD} bytes"),
            Self::Busy => write!(f, "a batch is already being executed"),
        }
    }
}

impl core::error::Error for LinkError {}

/// What went over the serial port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes from the agent.
    pub received: u64,
    /// Bytes to the agent.
    pub sent: u64,
    /// Frames from the agent.
    pub frames: u64,
    /// False starts and damaged frames from the agent.
    pub noise: u64,
    /// Batches sent over the serial port although the agent had a window.
    pub window_missed: u64,
    /// Results that the notification line announced.
    pub notifications: u64,
}

/// Where the worker is, from the directory page; see [`Link::position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Number of the step in its batch.
    pub step: u32,
    /// Iteration of a `Repeat`.
    pub iteration: u32,
    /// Value of the last `Marker`.
    pub marker: u64,
}

/// the host's end of the agent channel.
///
/// Feed it every byte the guest writes to the agent's port and every change of its notification line, at once and while the guest does
/// not run: when [`Link::receive`] or [`Link::on_notification`] gives an event, the window is valid until the guest runs on, and
/// [`Link::send`] belongs in the same stop.
///
/// A clone of it belongs to a snapshot of the guest.
#[derive(Clone, Debug)]
pub struct Link {
    decoder: Decoder<Vec<u8>>,
    window: Option<WindowAddress>,
    /// The agent has a notification line.
    notifies: bool,
    /// The order that is being executed, if it went without a frame.
    order: Option<u64>,
    /// Sequence number of the agent's last frame.
    notification: u8,
    sequence: u8,
    expected: Option<usize>,
    stats: Stats,
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    /// A channel without traffic yet.
    pub fn new() -> Self {
        Self {
            decoder: Decoder::new(vec![0; MAX_FRAME]),
            window: None,
            notifies: false,
            order: None,
            notification: 0,
            sequence: 0,
            expected: None,
            stats: Stats::default(),
        }
    }

    /// What went over the serial port so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether a batch is being executed.
    pub fn is_busy(&self) -> bool {
        self.expected.is_some()
    }

    /// Whether the agent reported a window.
    pub fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// Takes a byte the guest wrote.
    pub fn receive(&mut self, byte: u8, memory: &mut impl GuestMemory) -> Option<Event> {
        self.stats.received += 1;
        self.decoder.push(byte);
        let mut event = None;
        loop {
            // What the payload is needed for is done before the decoder continues.
            let (kind, sequence, payload) = match self.decoder.poll() {
                None => return event,
                Some(Err(_)) => {
                    self.stats.noise += 1;
                    continue;
                }
                Some(Ok(Frame { kind, sequence, payload, .. })) => (
                    kind,
                    sequence,
                    match payload {
                        Payload::Inline(bytes) => Some(bytes.to_vec()),
                        Payload::Window => None,
                    },
                ),
            };
            if self.is_forged(kind, memory) {
                self.stats.noise += 1;
                continue;
            }
            self.stats.frames += 1;
            self.notification = sequence;
            let payload = match payload {
                Some(payload) => Ok(payload),
                None => self.directory(memory, true).and_then(|directory| Self::read_up(&directory, memory)),
            };
            event = self.understand(kind, payload).or(event);
        }
    }

    /// An answer to an order by a frame, while the agent has not answered it: another program in the guest wrote to its port.
    /// Where the window is lost this cannot be known.
    fn is_forged(&self, kind: Kind, memory: &mut impl GuestMemory) -> bool {
        let Some(order) = self.order else { return false };
        matches!(kind, Kind::Results | Kind::Refused)
            && self
                .directory(memory, false)
                .is_ok_and(|directory| directory.word(offset_of!(Directory, answered)) != order)
    }

    /// The guest has changed its notification line.
    pub fn on_notification(&mut self, memory: &mut impl GuestMemory) -> Option<Event> {
        let order = self.order?;
        let directory = match self.directory(memory, false) {
            Ok(directory) => directory,
            Err(error) => return self.understand(Kind::Results, Err(error)),
        };
        // Programs in the guest can change the line too.
        if directory.word(offset_of!(Directory, answered)) != order {
            self.stats.noise += 1;
            return None;
        }
        self.stats.notifications += 1;
        self.notification = directory.notifications() as u8;
        let payload = Self::read_up(&directory, memory);
        self.understand(Kind::Results, payload)
    }

    /// The agent is replaced by another: the results of a batch do not come any more, and a greeting does.
    pub fn restart(&mut self) {
        self.expected = None;
        self.order = None;
    }

    fn understand(&mut self, kind: Kind, payload: Result<Vec<u8>, LinkError>) -> Option<Event> {
        let lost = |error: LinkError| Some(Event::Lost(error));
        match (kind, payload) {
            (Kind::Hello, Ok(payload)) => match Hello::decode(&payload) {
                Ok(hello) => {
                    self.window = hello.window;
                    self.notifies = hello.notifies;
                    // In the middle of a batch it only reports that the directory page has moved.
                    self.expected.is_none().then_some(Event::Hello(hello))
                }
                Err(error) => lost(error.into()),
            },
            (Kind::Results, Ok(payload)) => {
                let steps = self.expected?;
                match Results::decode(&payload, steps) {
                    Ok(results) => {
                        self.expected = None;
                        self.order = None;
                        Some(Event::Results(results))
                    }
                    Err(error) => lost(error.into()),
                }
            }
            (Kind::Refused, Ok(payload)) => {
                self.expected = None;
                self.order = None;
                let error = payload.first().and_then(|&code| Error::from_code(code));
                Some(Event::Refused(error.unwrap_or(Error::Value)))
            }
            (_, Err(error)) => lost(error),
            (_, Ok(_)) => {
                self.stats.noise += 1;
                None
            }
        }
    }

    /// Makes a batch ready: the payload in the window if there is one and it is sound, else in the frame. Returns the
    /// bytes to hand to the guest's serial port: none if the agent looks for an order before it reads from there. Call it
    /// after an event, while the guest does not run.
    pub fn send(&mut self, batch: &Batch, memory: &mut impl GuestMemory) -> Result<Vec<u8>, LinkError> {
        if self.expected.is_some() {
            return Err(LinkError::Busy);
        }
        let payload = batch.payload();
        if payload.len() > MAX_PAYLOAD {
            return Err(LinkError::TooLong);
        }
        self.order = None;
        let by_window = self.window.is_some() && self.write_down(&payload, memory).is_ok();
        self.stats.window_missed += u64::from(self.window.is_some() && !by_window);
        self.expected = Some(batch.steps());
        if self.order.is_some() {
            return Ok(Vec::new());
        }
        let payload = if by_window { Payload::Window } else { Payload::Inline(&payload) };
        Ok(self.frame(Kind::Batch, by_window, payload))
    }

    /// Requests the last results once more, over the serial port.
    pub fn again(&mut self) -> Vec<u8> {
        self.order = None;
        self.frame(Kind::Again, false, Payload::Inline(&[]))
    }

    /// Requests a new hello; what the agent was doing is dropped.
    pub fn attach(&mut self) -> Vec<u8> {
        self.restart();
        self.frame(Kind::Attach, false, Payload::Inline(&[]))
    }

    /// The step being executed. The guest may stop anywhere for this; if the directory page has moved since the last
    /// frame, there is no answer or an old one.
    pub fn position(&self, memory: &mut impl GuestMemory) -> Option<Position> {
        let directory = self.directory(memory, false).ok()?;
        let step = directory.word(offset_of!(Directory, step));
        Some(Position {
            step: step as u32,
            iteration: (step >> 32) as u32,
            marker: directory.word(offset_of!(Directory, marker)),
        })
    }

    fn frame(&mut self, kind: Kind, reply_by_window: bool, payload: Payload<'_>) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        Frame { kind, sequence: self.sequence, reply_by_window, payload }.encode(&mut bytes);
        self.stats.sent += bytes.len() as u64;
        bytes
    }

    fn directory(&self, memory: &mut impl GuestMemory, current: bool) -> Result<Checked, LinkError> {
        let reported = self.window.ok_or(Error::Window)?;
        let address = reported.frame_number.wrapping_mul(PAGE as u64);
        let mut page = vec![0; PAGE];
        if !memory.read(address, &mut page) {
            return Err(LinkError::NoMemory { address });
        }
        let directory = Checked { page };
        let sound = directory.word(offset_of!(Directory, magic)) == MAGIC
            && directory.key() as u32 == reported.key
            && (!current || directory.notifications() as u8 == self.notification);
        if sound { Ok(directory) } else { Err(LinkError::Moved { address }) }
    }

    fn read_up(directory: &Checked, memory: &mut impl GuestMemory) -> Result<Vec<u8>, LinkError> {
        let pages = directory.word(offset_of!(Directory, pages));
        let (down, up) = ((pages as u32) as usize, (pages >> 32) as usize);
        let len = directory.word(offset_of!(Directory, up_len)) as usize;
        if down.saturating_add(up) > MAX_PAGES || len > MAX_PAYLOAD || len > up * PAGE {
            return Err(Error::Window.into());
        }
        let mut payload = vec![0; len];
        for (index, part) in payload.chunks_mut(PAGE).enumerate() {
            let address = directory.page(down + index);
            if !memory.read(address, part) {
                return Err(LinkError::NoMemory { address });
            }
        }
        if digest(&payload) == directory.word(offset_of!(Directory, up_digest)) {
            Ok(payload)
        } else {
            Err(Error::PayloadCheck.into())
        }
    }

    fn write_down(&mut self, payload: &[u8], memory: &mut impl GuestMemory) -> Result<(), LinkError> {
        let directory = self.directory(memory, true)?;
        let down = (directory.word(offset_of!(Directory, pages)) as u32) as usize;
        if down > DOWN_PAGES || payload.len() > down * PAGE {
            return Err(Error::Window.into());
        }
        let pages = payload.len().div_ceil(PAGE);
        for index in 0..pages {
            let address = directory.page(index);
            let mut found = [0; 16];
            if !memory.read(address, &mut found) {
                return Err(LinkError::NoMemory { address });
            }
            if found != stamp(directory.key(), directory.notifications(), index) {
                return Err(LinkError::Moved { address });
            }
        }
        let home = self.window.ok_or(Error::Window)?.frame_number.wrapping_mul(PAGE as u64);
        let order = directory.word(offset_of!(Directory, order)).wrapping_add(u64::from(self.notifies));
        let words = [
            (home + offset_of!(Directory, down_len) as u64, payload.len() as u64),
            (home + offset_of!(Directory, down_digest) as u64, digest(payload)),
            (home + offset_of!(Directory, order) as u64, order),
        ];
        let parts = payload.chunks(PAGE).enumerate().map(|(index, part)| (directory.page(index), part));
        for (address, part) in parts {
            if !memory.write(address, part) {
                return Err(LinkError::NoMemory { address });
            }
        }
        for (address, word) in words {
            if !memory.write(address, &word.to_le_bytes()) {
                return Err(LinkError::NoMemory { address });
            }
        }
        self.order = self.notifies.then_some(order);
        Ok(())
    }
}
