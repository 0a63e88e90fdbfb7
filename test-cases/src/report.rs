// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The forms in which a run is reported.

pub mod count;
pub mod diff;
mod facts;
#[cfg(test)]
mod golden;
pub mod json;
pub mod junit;
pub mod ktap;
pub mod page;
pub mod plain;
pub mod repeat;
pub mod shell;
pub mod style;
pub mod terminal;
pub mod totals;
