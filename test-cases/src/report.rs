// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The forms in which a run is reported.

#[cfg(test)]
mod golden;
pub mod json;
pub mod junit;
pub mod ktap;
pub mod plain;
pub mod style;
pub mod terminal;
