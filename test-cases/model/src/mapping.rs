// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parameters of mmap(2), and what a file's mmap function makes of them.

use types::View;

use super::cache_mode::CacheMode;

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
}
