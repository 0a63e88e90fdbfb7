// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of a sweep.

use crate::wire::{Sink, Slice};

/// Bytes of the head of a run.
pub const HEAD: usize = 5;
pub(crate) const END: u8 = 0;
pub(crate) const RUN: u8 = 1;
pub(crate) const PARTIAL: u8 = 2;

/// Appends the beginning: how many steps an iteration has.
pub fn begin(sink: &mut impl Sink, steps: u8) {
    sink.put(&[super::SWEEP, steps]);
}

/// Appends the head of an iteration that is not finished yet.
pub fn iteration(sink: &mut impl Sink) {
    sink.put(&[PARTIAL, 0, 0, 0, 0]);
}

/// Turns that head into the head of a run, or counts a run up.
pub fn run(sink: &mut Slice<'_>, head: usize, count: u32) {
    let [a, b, c, d] = count.to_le_bytes();
    sink.patch(head, &[RUN, a, b, c, d]);
}

/// Turns the head of an iteration that will not come into the end.
pub fn end(sink: &mut Slice<'_>, head: usize) {
    sink.patch(head, &[END]);
    sink.truncate(head + 1);
}
