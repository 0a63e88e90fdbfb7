// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One virtual processor: its setup, its exits, its registers.

pub mod cpuid;
pub mod exception;
pub mod exit;
pub mod heartbeat;
pub mod long_mode;
pub mod mtrr;
pub mod walk;
