// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The result of an operation, the source of its bytes, and its effect on physical memory.

use protocol::{Call, Refusal};
use types::{Errno, Signal, View};

use super::reason::Reason;

/// The source of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel makes zeros of them.
    Zeros,
    /// Physical memory or a device, through a view.
    Physical {
        /// First address, without any encryption bit.
        gpa: u64,
        /// The view.
        view: View,
    },
    /// The private copy of a page that a store to a private mapping made.
    Copy {
        /// The number of the memory.
        memory: u32,
        /// Offset in it.
        offset: u64,
    },
    /// What the agent puts into a buffer before it has the kernel fill it.
    Untouched,
    /// A port that no device decodes: all ones.
    Floating,
    /// The configuration space of the PCI device that [`Node::Config`](super::Node::Config) is.
    Configuration {
        /// Offset in it.
        offset: u64,
    },
    /// The model makes no prediction.
    Unknown,
}

/// Consecutive bytes from one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Their source.
    pub source: Source,
    /// How many.
    pub len: u64,
}

/// What is done to memory, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Loads from `[gpa, gpa + len)`.
    Read {
        /// First address, without any encryption bit.
        gpa: u64,
        /// Bytes.
        len: u64,
        /// The view.
        view: View,
    },
    /// Stores at `gpa`.
    Write {
        /// First address, without any encryption bit.
        gpa: u64,
        /// What is stored.
        data: Vec<u8>,
        /// The view.
        view: View,
    },
    /// The page of a private mapping becomes a copy: the contents of the mapped page at that time.
    Copied {
        /// The number of the copies.
        memory: u32,
        /// Page of it, from 0.
        page: u64,
        /// The physical page that it copies.
        gpa: u64,
        /// The view its bytes were read through.
        view: View,
    },
    /// A mapping gets anonymous pages, all zero.
    Fresh {
        /// The number of that memory.
        memory: u32,
        /// How many.
        pages: u64,
    },
    /// fork(2): private memory is the child's under another number.
    Duplicated {
        /// The parent's.
        from: u32,
        /// The child's.
        to: u32,
    },
    /// A store to such a copy, or to anonymous pages.
    WriteCopy {
        /// The number of the memory.
        memory: u32,
        /// Offset in it.
        offset: u64,
        /// What is stored.
        data: Vec<u8>,
    },
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a number.
    Value(u64),
    /// With a number and bytes.
    Bytes {
        /// The count that the kernel returns.
        value: u64,
        /// The bytes that arrived in the buffer: fewer where part of it is not mapped.
        pieces: Vec<Piece>,
    },
    /// With an error.
    Failed {
        /// The error.
        errno: Errno,
        /// The call that gave it.
        call: Call,
    },
    /// A signal struck.
    Signal {
        /// Which.
        signal: Signal,
        /// `si_code`.
        code: i32,
        /// `si_addr`.
        address: u64,
        /// What was read before.
        pieces: Vec<Piece>,
    },
    /// The kernel itself faults; the task is ended by this signal and the kernel continues, with locks never released.
    Oops {
        /// Which.
        signal: Signal,
    },
    /// Not tried: nothing is open or mapped there.
    Refused(Refusal),
}

/// What must happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// The result.
    pub outcome: Outcome,
    /// The effects on memory, also of an operation that fails.
    pub effects: Vec<Effect>,
    /// What the kernel decided on the way, in order; where the operation fails, the last one is why. Empty where no reason is
    /// recorded.
    pub reasons: Vec<Reason>,
}

impl Prediction {
    /// No memory is accessed.
    pub const fn plain(outcome: Outcome) -> Self {
        Self { outcome, effects: Vec::new(), reasons: Vec::new() }
    }

    /// An error of the call itself, without a memory access.
    pub const fn failed(errno: Errno) -> Self {
        Self::plain(Outcome::failed(errno))
    }

    /// The same, decided by `reason`.
    #[must_use]
    pub fn because(mut self, reason: Reason) -> Self {
        self.reasons.push(reason);
        self
    }

    /// A number, without a memory access.
    pub const fn value(value: u64) -> Self {
        Self::plain(Outcome::Value(value))
    }
}

impl Outcome {
    /// An error of the call itself.
    pub const fn failed(errno: Errno) -> Self {
        Self::Failed { errno, call: Call::Own }
    }

    /// The bytes that arrived.
    pub fn pieces(&self) -> &[Piece] {
        match self {
            Self::Bytes { pieces, .. } | Self::Signal { pieces, .. } => pieces,
            _ => &[],
        }
    }
}

/// The first `len` bytes of pieces.
pub fn take_bytes(pieces: Vec<Piece>, len: u64) -> Vec<Piece> {
    let mut rest = len;
    pieces
        .into_iter()
        .map_while(|piece| {
            let len = piece.len.min(rest);
            rest -= len;
            (len > 0).then_some(Piece { len, ..piece })
        })
        .collect()
}

/// The pieces without their first `skip` bytes.
pub fn skip_bytes(pieces: Vec<Piece>, skip: u64) -> Vec<Piece> {
    let mut rest = skip;
    let cut = |piece: Piece| {
        let skipped = piece.len.min(rest);
        rest -= skipped;
        let source = match piece.source {
            Source::Physical { gpa, view } => Source::Physical { gpa: gpa + skipped, view },
            Source::Copy { memory, offset } => Source::Copy { memory, offset: offset + skipped },
            Source::Configuration { offset } => Source::Configuration { offset: offset + skipped },
            other => other,
        };
        (piece.len > skipped).then_some(Piece { source, len: piece.len - skipped })
    };
    pieces.into_iter().filter_map(cut).collect()
}
