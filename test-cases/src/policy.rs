// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rule sets for /dev/mem in confidential guests that were proposed, and what stands today.

use types::names::named;

macro_rules! policy {
    ($($policies:tt)+) => {
        named! {
            /// A rule set a kernel follows for /dev/mem and its neighbours.
            pub enum Policy ("policy") { $($policies)+ }
        }
    };
}
guest_kernel::policies!(policy);

impl Policy {
    /// The policy a kernel really follows that was built with these options: what has its check in `devmem_is_allowed()`, or
    /// makes it with `IS_ENABLED(CONFIG_STRICT_DEVMEM)` as patch v3 to v5 do, is nothing without `STRICT_DEVMEM`.
    #[must_use]
    pub const fn in_force(self, strict_devmem: bool) -> Self {
        match self {
            Self::OpenEperm | Self::RangeDeny | Self::NoLow1m | Self::MmapZeros if !strict_devmem => {
                Self::Upstream
            }
            _ => self,
        }
    }
}
