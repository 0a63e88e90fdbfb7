// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What came of a step.

use types::Errno;

use crate::blob;
use crate::wire::Sink;

#[cfg(any(feature = "std", test))]
mod host;
#[cfg(any(feature = "std", test))]
mod results;
pub mod sweep;

#[cfg(any(feature = "std", test))]
pub use crate::blob::Data;
#[cfg(any(feature = "std", test))]
pub use host::{Outcome, Run, Sweep};
#[cfg(any(feature = "std", test))]
pub use results::Results;

pub(crate) const ZERO: u8 = 0;
pub(crate) const VALUE: u8 = 1;
pub(crate) const DATA: u8 = 2;
pub(crate) const ALL_DATA: u8 = 3;
pub(crate) const ERRNO: u8 = 4;
pub(crate) const ERRNO_AT: u8 = 5;
pub(crate) const SIGNAL: u8 = 6;
pub(crate) const KILLED: u8 = 7;
pub(crate) const EXITED: u8 = 8;
pub(crate) const TIMEOUT: u8 = 9;
pub(crate) const STATUS: u8 = 10;
pub(crate) const NO_ROOM: u8 = 11;
pub(crate) const REFUSED: u8 = 12;
pub(crate) const SWEEP: u8 = 13;

/// Flag of the results: the worker was started for this batch.
pub const FRESH: u8 = 1;
/// Bytes of the up half that only the supervisor may use, for the outcome of a step that ended its worker.
pub const RESERVE: usize = 16;

/// Which call of a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Call {
    /// The one the step is about.
    Own = 0,
    /// The `open` before it.
    Open = 1,
    /// Forking and stopping the child.
    Child = 2,
    /// Preparing buffers.
    Memory = 3,
}

/// Why the agent did not execute a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The bytes are no step; nor is anything after them executed.
    Malformed = 1,
    /// No such slot, or nothing is open there.
    File = 2,
    /// No such map slot, or nothing is mapped there.
    Map = 3,
    /// More data than one step may give or take, or not a multiple of the width.
    Length = 4,
    /// A path that is too long or contains a zero byte.
    Path = 5,
    /// A width that the port instructions do not have.
    Width = 6,
    /// A system call that would make a second worker.
    Syscall = 7,
}

impl Call {
    /// Every one there is.
    pub const ALL: [Self; 4] = [Self::Own, Self::Open, Self::Child, Self::Memory];
}

impl Refusal {
    /// Every one there is.
    pub const ALL: [Self; 7] =
        [Self::Malformed, Self::File, Self::Map, Self::Length, Self::Path, Self::Width, Self::Syscall];
}

/// What `stat` returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// Type and permissions.
    pub mode: u32,
    /// Device number of a device node, as the kernel packs it.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Appends: the call returned a value.
pub fn value(sink: &mut impl Sink, value: i64) {
    if value == 0 {
        sink.byte(ZERO);
    } else {
        sink.byte(VALUE);
        sink.signed(value);
    }
}

/// Appends: the call returned a value with data; see [`blob::encode`] for `keep`.
pub fn data(sink: &mut impl Sink, value: i64, data: &[u8], keep: Option<usize>) {
    if value == data.len().cast_signed() as i64 {
        sink.byte(ALL_DATA);
    } else {
        sink.byte(DATA);
        sink.signed(value);
    }
    blob::encode(sink, data, keep);
}

/// Appends: a call failed.
pub fn errno(sink: &mut impl Sink, call: Call, errno: Errno) {
    if call == Call::Own {
        sink.byte(ERRNO);
    } else {
        sink.byte(ERRNO_AT);
        sink.byte(call as u8);
    }
    sink.number(u64::from(errno.0));
}

/// Appends: a signal was caught, after some data.
pub fn signal(sink: &mut impl Sink, signal: u8, code: i32, address: u64, data: &[u8], keep: Option<usize>) {
    sink.byte(SIGNAL);
    sink.byte(signal);
    sink.signed(i64::from(code));
    sink.number(address);
    blob::encode(sink, data, keep);
}

/// Appends: file status.
pub fn file_status(sink: &mut impl Sink, status: &FileStatus) {
    sink.byte(STATUS);
    sink.number(u64::from(status.mode));
    sink.number(status.rdev);
    sink.number(status.size);
    sink.number(u64::from(status.uid));
    sink.number(u64::from(status.gid));
}

/// Appends: the worker was killed.
pub fn killed(sink: &mut impl Sink, signal: u8) {
    sink.put(&[KILLED, signal]);
}

/// Appends: the worker exited by itself.
pub fn exited(sink: &mut impl Sink, status: u8) {
    sink.put(&[EXITED, status]);
}

/// Appends: the step took too long.
pub fn timeout(sink: &mut impl Sink, undead: bool) {
    sink.put(&[TIMEOUT, u8::from(undead)]);
}

/// Appends: no room.
pub fn no_room(sink: &mut impl Sink) {
    sink.byte(NO_ROOM);
}

/// Appends: refused.
pub fn refused(sink: &mut impl Sink, refusal: Refusal) {
    sink.put(&[REFUSED, refusal as u8]);
}
