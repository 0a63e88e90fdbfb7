// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the integration tests share.

pub mod elf;
pub mod host;
pub mod job;
pub mod outcome;
pub mod trouble;
