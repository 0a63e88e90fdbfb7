// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames, steps and outcomes between the runner and the agent inside the guest.
//!
//! The runner (host) and the agent (PID 1 of the guest) talk over a serial port on which every byte costs VM exits. So a
//! whole batch of steps is one frame, and bulk payloads do not travel over the serial port at all: they lie in a *window*, a
//! few pages of the agent's memory whose page frame numbers the agent reports, and which the host reads and writes while
//! the guest does not run, at the last byte of a frame.
//!
//! The agent sends a hello; from then on the host sends a frame and the agent answers it. Nothing else is ever sent.
//!
//! ```text
//! agent                                   host
//!   Hello(directory page, key)      ──►
//!                                   ◄──   Batch(steps)
//!   Results(outcomes)               ──►
//!                                   ◄──   Batch(steps) …
//! ```
//!
//! # Frame, byte by byte
//!
//! | bytes | what |
//! |---|---|
//! | 1 | `0xC5`, [`frame::SYNC`] |
//! | 1 | bits 7..6 version ([`VERSION`]); bit 5: the payload is in the window; bit 4: the answer may use the window; bits 3..0: [`Kind`] |
//! | 1 | sequence: from the agent, the low byte of the notification line counter |
//! | 1..3 | length of the payload, LEB128, at most [`MAX_PAYLOAD`]; absent if the payload is in the window |
//! | 1 | CRC-8 (0x07) of the bytes after `0xC5` so far |
//! | length | payload |
//! | 2 | CRC-16 (XMODEM) of the payload, little-endian; absent if there is no payload |
//!
//! Where the agent has a notification line, neither batch nor results need a frame: see [`window`].
//!
//! So a frame whose payload is in the window is four bytes. A receiver that finds a wrong version, check, kind or length
//! goes on searching at the byte after the false `0xC5`. The agent answers a frame it could not take with `Refused` (one
//! byte, [`Error`]); bytes that never looked like a frame are passed over in silence. An agent left with half a frame
//! for [`HALF_FRAME_MS`] drops it and refuses it as [`Error::Truncated`].
//!
//! # Numbers
//!
//! *LEB* is an unsigned LEB128 number; *SLEB* a signed one, zigzag first; *string* a LEB length and so many bytes.
//!
//! # Payloads
//!
//! - `Hello`: see [`Hello`].
//! - `Batch`: one byte of flags (bit 0: start with a new worker), LEB limit for one step in milliseconds (0: ten
//!   seconds), then the steps to the end of the payload. A step is one byte of code and its fields in the order in which
//!   [`Step`] declares them: `u8`, `bool` and the small enums are one byte; other integers LEB or SLEB; `&[u8]` a string.
//! - `Results`: one byte of flags (bit 0: the worker was started for this batch), then one outcome per step, in order. A
//!   batch that stopped early has fewer outcomes than steps. `Repeat` and the steps it repeats give one outcome together.
//! - `Refused`: one byte, the [`Error`].
//! - `Attach`, `Again`: nothing.
//!
//! # Outcomes
//!
//! One byte of tag, then:
//!
//! | tag | outcome | fields |
//! |---|---|---|
//! | 0 | the call returned 0 | – |
//! | 1 | the call returned | SLEB value |
//! | 2 | the call returned with data | SLEB value, *blob* |
//! | 3 | the same, the value being the length of the data | *blob* |
//! | 4 | the call failed | LEB errno |
//! | 5 | an auxiliary call of the step failed | [`Call`], LEB errno |
//! | 6 | a signal, caught | u8 signal, SLEB code, LEB address, *blob* of the data before it |
//! | 7 | the worker was killed by a signal | u8 signal |
//! | 8 | the worker exited by itself | u8 status |
//! | 9 | the step took too long; the worker was killed | u8: 1 if it would not even die |
//! | 10 | file status | LEB mode, rdev, size, uid, gid |
//! | 11 | no room for this outcome; not executed | – |
//! | 12 | the agent refused the step | [`Refusal`] |
//! | 13 | a sweep | u8 steps, then runs |
//!
//! A *blob* is LEB `length << 1 | cut`; if cut, LEB bytes kept and a little-endian 64-bit [`check::digest`] of the whole;
//! then chunks until the length (or the kept length) is reached: LEB `n << 1 | run`, and either n bytes or, for a run,
//! the one byte that repeats n times.
//!
//! A run of a sweep is a kind byte and a little-endian 32-bit count; kind 1: the outcomes of one iteration follow, which
//! `count` consecutive iterations gave; kind 2: an iteration that was not finished, its outcomes go to the end of the
//! payload; kind 0 (without a count): the end of the sweep.
//!
//! # Window
//!
//! See [`window`].
#![cfg_attr(not(any(feature = "std", test)), no_std)]

pub mod batch;
pub mod blob;
pub mod check;
pub mod frame;
mod hello;
#[cfg(any(feature = "std", test))]
mod link;
pub mod outcome;
mod step;
pub mod window;
pub mod wire;

#[cfg(any(feature = "std", test))]
pub use batch::Batch;
pub use frame::{Decoder, Frame, Kind, Payload};
pub use hello::{Hello, WindowAddress};
#[cfg(any(feature = "std", test))]
pub use link::{Event, GuestMemory, Link, LinkError, Position, Stats};
pub use outcome::{Call, FileStatus, Refusal};
#[cfg(any(feature = "std", test))]
pub use outcome::{Data, Outcome, Results, Run, Sweep};
pub use step::{Buffer, MAX_ARGUMENTS, Reset, Step, Via, Width, map_address};
pub use types::Errno;

/// Version of the protocol, in every frame's second byte.
pub const VERSION: u8 = 1;
/// Most bytes a payload may have, in the frame or in the window.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// Most data one step may give or take.
pub const MAX_DATA: usize = 60 << 10;
/// File descriptor slots of the worker.
pub const FILE_SLOTS: u8 = 32;
/// Mapping slots of the worker.
pub const MAP_SLOTS: u8 = 16;
/// Addresses between the places of two mapping slots; no step changes more of them at once.
pub const MAP_STRIDE: u64 = 1 << 36;
/// What the agent fills a buffer with before it has the kernel read into it.
pub const UNTOUCHED: u8 = 0xa5;
/// Most steps a [`Step::Repeat`] may cover.
pub const MAX_REPEATED: u8 = 32;
/// Longest path, without the terminating zero.
pub const MAX_PATH: usize = 4095;
/// Limit for one step where a batch gives none.
pub const DEFAULT_STEP_MS: u32 = 10_000;
/// How long the agent waits for the rest of a frame.
pub const HALF_FRAME_MS: u32 = 3_000;

/// What can be wrong with bytes received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Error {
    /// The bytes end too early.
    Truncated = 1,
    /// A number does not fit its type.
    Number = 2,
    /// A frame of another protocol version.
    Version = 3,
    /// The header's CRC-8 is wrong.
    HeaderCheck = 4,
    /// The payload's CRC-16, or the window's digest, is wrong.
    PayloadCheck = 5,
    /// A frame kind that does not exist, or that the receiver never gets.
    Kind = 6,
    /// A payload or its data is longer than allowed.
    TooLong = 7,
    /// An unknown step code.
    Step = 8,
    /// An unknown outcome tag.
    Outcome = 9,
    /// A field has a value it cannot have.
    Value = 10,
    /// The window is not usable.
    Window = 11,
    /// No process could be started to execute the steps.
    Worker = 12,
}

impl Error {
    /// Every error there is.
    pub const ALL: [Self; 12] = [
        Self::Truncated,
        Self::Number,
        Self::Version,
        Self::HeaderCheck,
        Self::PayloadCheck,
        Self::Kind,
        Self::TooLong,
        Self::Step,
        Self::Outcome,
        Self::Value,
        Self::Window,
        Self::Worker,
    ];

    /// The error a `Refused` frame names.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&error| error as u8 == code)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the bytes end too early",
            Self::Number => "a number does not fit its type",
            Self::Version => "a frame of another protocol version",
            Self::HeaderCheck => "wrong header checksum",
            Self::PayloadCheck => "wrong payload checksum",
            Self::Kind => "unexpected frame kind",
            Self::TooLong => "payload too long",
            Self::Step => "unknown step code",
            Self::Outcome => "unknown outcome tag",
            Self::Value => "a field has an impossible value",
            Self::Window => "the window is not usable",
            Self::Worker => "no process could be started",
        })
    }
}

impl core::error::Error for Error {}
