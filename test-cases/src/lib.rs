// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `copra` command, and the forms in which it reports.

// What a guest chose reaches a terminal without control characters only: see `command/print.rs` and `report/plain.rs`.
#![warn(clippy::print_stdout)]

pub mod cli;
pub mod command;
pub mod exit;
pub mod list;
pub mod matrix;
pub mod report;
pub mod spec;
