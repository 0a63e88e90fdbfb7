// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parameters of mmap(2), and what a file's mmap function makes of them.

use types::{Errno, View};

use super::cache_mode::CacheMode;
use super::reason::Reason;

/// The parameters of one call.
#[derive(Debug, Clone, Copy)]
pub struct MmapArgs {
    /// Offset in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// `MAP_*`.
    pub flags: u32,
}

/// What a driver mapped.
pub struct Mapped {
    /// First physical address, without any encryption bit.
    pub gpa: u64,
    /// The caching.
    pub mode: CacheMode,
    /// The view.
    pub view: View,
    /// Anonymous memory instead.
    pub own: bool,
    /// Why it is mapped, and so.
    pub reasons: Vec<Reason>,
}

/// The errno of a driver that maps nothing, and why.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    /// The error.
    pub errno: Errno,
    /// Why; `None` where no reason is recorded.
    pub reason: Option<Reason>,
}

impl Refused {
    /// An error with its reason.
    pub const fn because(errno: Errno, reason: Reason) -> Self {
        Self { errno, reason: Some(reason) }
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self { errno, reason: None }
    }
}
