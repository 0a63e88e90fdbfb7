// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent itself, driven over a socket on this machine's kernel: no guest, no serial port.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_wrap)]

mod batches;
mod faults;
mod files;
mod harness;
mod line;
mod mappings;
mod processes;
mod programs;
mod sweeps;
mod workers;
