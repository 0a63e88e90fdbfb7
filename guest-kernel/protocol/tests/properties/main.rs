// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must hold for any bytes: what is written is read back, and nothing else ever goes wrong badly.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_wrap)]

mod frames;
mod guest;
mod results;
mod steps;
mod window;

use proptest::prelude::*;

fn one_of<T: Copy + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(values)
}
