//! One virtual processor: its setup, its exits, its registers.

pub mod cpuid;
pub mod exit;
pub mod heartbeat;
pub mod long_mode;
