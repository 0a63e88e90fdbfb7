// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cases, verdicts and reports.

// What a guest chose reaches a terminal without control characters only: see `command/print.rs` and `report/plain.rs`.
#![warn(clippy::print_stdout)]

pub mod audit;
pub mod boot;
pub mod calls;
pub mod capability;
pub mod case;
pub mod class;
pub mod cli;
pub mod command;
pub mod engine;
pub mod exit;
pub mod explore;
pub mod identify;
pub mod judge;
pub mod library;
pub mod list;
pub mod matrix;
pub mod model;
pub mod observation;
pub mod place;
pub mod policy;
pub mod release;
pub mod report;
pub mod requirements;
pub mod runner;
pub mod session;
pub mod setup;
