// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guests of tests, which no kernel has booted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "fixed content for tests"
)]

use std::collections::BTreeMap;

use types::{Platform, Policy};

use super::iomem::Iomem;
use super::lockdown::Level;
use super::world::Memory;
use super::world::{KernelConfig, World};
use crate::release::Release;

/// 512 MiB as copra lays them out, as Linux 6.12 shows them.
pub const IOMEM: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
000a0000-000bffff : PCI Bus 0000:00
000f0000-000fffff : Reserved
  000f0000-000fffff : System ROM
00100000-1bfdffff : System RAM
  01000000-01ffffff : Kernel code
1bfe0000-1bfeffff : Reserved
1bff0000-1bffffff : ACPI Tables
e0000000-e000ffff : 0000:00:01.0
e1000000-e100ffff : reserved
100000000-103ffffff : System RAM
2000000000-200000ffff : 0000:00:02.0
";

/// The bit that selects the view.
pub const BIT: u8 = 39;

/// A guest whose kernel has every option that the model distinguishes.
pub fn world(platform: Platform, policy: Policy) -> World {
    World {
        config: KernelConfig {
            devmem: true,
            devport: true,
            strict: true,
            io_strict: true,
            pat: true,
            kcore: true,
            msr: true,
            iopl: true,
            lockdown: true,
            user_ns: true,
            unix: true,
        },
        policy,
        platform,
        release: Release { major: 6, minor: 12 },
        lockdown: Level::None,
        iomem_checks: None,
        physical_bits: 40,
        protection_keys: false,
        encryption_bit: platform.is_confidential().then_some(BIT),
        iomem: Iomem::parse(IOMEM).unwrap(),
        memory: Memory {
            backed: vec![0..0xa_0000, 0xc_0000..0x1c00_0000, 1 << 32..0x1_0400_0000],
            page_states: BTreeMap::new(),
            top: 0x1_0400_0000,
        },
        uncached: std::iter::once(0xc000_0000..1 << 32).collect(),
        kept: Vec::new(),
    }
}

/// An ordinary guest of the stock kernel, for the tests of others.
pub fn plain_world() -> World {
    world(Platform::None, Policy::Upstream)
}
