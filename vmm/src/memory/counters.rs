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

impl MemoryCounters {
    /// What was done since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            faults: self.faults.saturating_sub(before.faults),
            declared_moves: self.declared_moves.saturating_sub(before.declared_moves),
            implicit_moves: self.implicit_moves.saturating_sub(before.implicit_moves),
            mismatches: self.mismatches.saturating_sub(before.mismatches),
            declared_pages: self.declared_pages.saturating_sub(before.declared_pages),
            conversions: self.conversions.saturating_sub(before.conversions),
            accepted: self.accepted.saturating_sub(before.accepted),
            smashed: self.smashed.saturating_sub(before.smashed),
        }
    }
}
