// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a page is cached (`arch/x86/include/asm/pgtable_types.h:page_cache_mode`).

/// A way of caching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheMode {
    /// `_PAGE_CACHE_MODE_WB`.
    WriteBack,
    /// `_PAGE_CACHE_MODE_UC_MINUS`.
    Uncached,
}
