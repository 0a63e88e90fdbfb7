// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rule sets for /dev/mem in confidential guests that were proposed, and what stands today. There is no other list.

use crate::names::named;

named! {
    /// A rule set a kernel follows for /dev/mem and its neighbours.
    pub enum Policy ("policy") {
        Upstream = "upstream", "the kernel as released: STRICT_DEVMEM and nothing about confidential guests";
        OpenEperm = "open-eperm", "open(2) of /dev/mem and /dev/port is refused in confidential guests (patch v3 to v5)";
        RangeDeny = "range-deny", "devmem_is_allowed() refuses every page in confidential guests; open(2) still works";
        LockdownCc = "lockdown-cc", "confidential guests always have the lockdown bits for /dev/mem and PCI access set";
        LockdownAll = "lockdown-all", "lockdown=integrity, on every platform";
        NoLow1m = "no-low-1m", "devmem_is_allowed() without the exceptions for the first MiB, on every platform";
        NoDevmem = "no-devmem", "the kernel has no /dev/mem at all (DEVMEM excludes ARCH_HAS_CC_PLATFORM)";
        MmapZeros = "mmap-zeros", "mmap(2) maps zeros where read(2) gives zeros, on every platform";
    }
}

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
