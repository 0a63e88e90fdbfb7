// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What enforcement cost.

/// What enforcement did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryCounters {
    /// Userfaults taken.
    pub faults: u64,
    /// Pages moved between views because the guest had declared it.
    pub declared_moves: u64,
    /// Pages moved because the guest began to write them through the other view.
    pub implicit_moves: u64,
    /// Accesses that the page's state, or the view the guest declared, forbids.
    pub mismatches: u64,
    /// Pages the guest declared shared or private.
    pub declared_pages: u64,
    /// Pages made shared or private at the guest's request.
    pub conversions: u64,
    /// Pages the guest accepted or validated.
    pub accepted: u64,
    /// 2 MiB entries split for a 4 KiB request.
    pub smashed: u64,
}
