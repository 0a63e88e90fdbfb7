// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which pages may be accessed: `arch/x86/mm/init.c:devmem_is_allowed()` under each policy.

use super::iomem::Intersection;
use super::page::PAGE;
use super::world::World;
use types::Policy;

/// The kernel's answer, by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// 0.
    No,
    /// 1.
    Yes,
    /// 2: read(2) gives zeros, write(2) drops; mmap(2) takes it for a yes.
    AsZeros,
}

/// The pages of the first MiB have separate rules.
const LOW_PAGES: u64 = 256;

/// `devmem_is_allowed()` for the page at `gpa`. RAM is checked first, even if it is part of the page; then resources that a driver claimed.
pub fn devmem_is_allowed(world: &World, gpa: u64) -> Allowed {
    // Patch v1 has the answer depend on the platform before anything else.
    if world.policy == Policy::RangeDeny && world.platform.is_confidential() {
        return Allowed::No;
    }
    let is_low = gpa / PAGE < LOW_PAGES && world.policy != Policy::NoLow1m;
    if world.iomem.intersects_ram(gpa) != Intersection::Disjoint {
        return if is_low { Allowed::AsZeros } else { Allowed::No };
    }
    if world.iomem.is_exclusive(gpa, world.checks_iomem(), world.config.io_strict) && !is_low {
        return Allowed::No;
    }
    Allowed::Yes
}

/// `drivers/char/mem.c:page_is_allowed()`: no check where `STRICT_DEVMEM` is off.
pub fn page_is_allowed(world: &World, gpa: u64) -> Allowed {
    if world.config.strict { devmem_is_allowed(world, gpa) } else { Allowed::Yes }
}

/// `drivers/char/mem.c:range_is_allowed()`: every page, and 2 counts as a yes.
pub fn range_is_allowed(world: &World, gpa: u64, len: u64) -> bool {
    !world.config.strict || all_pages(world, gpa, len)
}

/// The same question for every page of a range, whatever the configuration
/// (`arch/x86/mm/pat/memtype.c:range_is_allowed`, before 6.16).
pub fn all_pages(world: &World, gpa: u64, len: u64) -> bool {
    (0..len.div_ceil(PAGE)).all(|page| devmem_is_allowed(world, gpa + page * PAGE) != Allowed::No)
}

/// Policy `mmap-zeros`: some page of the range is one that read(2) shows as zeros.
pub fn any_as_zeros(world: &World, gpa: u64, len: u64) -> bool {
    (0..len.div_ceil(PAGE)).any(|page| page_is_allowed(world, gpa + page * PAGE) == Allowed::AsZeros)
}
