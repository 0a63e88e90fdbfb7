// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages.

/// Bytes of a page.
pub const PAGE: u64 = 4096;
