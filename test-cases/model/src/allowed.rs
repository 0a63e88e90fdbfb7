// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which pages may be accessed: `arch/x86/mm/init.c:devmem_is_allowed()` under each policy.

use super::iomem::Intersection;
use super::page::PAGE;
use super::reason::{Reason, note};
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
    decide(world, gpa).0
}

/// The same with the reason.
fn decide(world: &World, gpa: u64) -> (Allowed, Reason) {
    // Patch v1 has the answer depend on the platform before anything else.
    if world.policy == Policy::RangeDeny && world.platform.is_confidential() {
        return (Allowed::No, Reason::RangeDeny);
    }
    let below_1m = gpa / PAGE < LOW_PAGES;
    let is_low = below_1m && world.policy != Policy::NoLow1m;
    if world.iomem.intersects_ram(gpa) != Intersection::Disjoint {
        return match (is_low, below_1m) {
            (true, _) => (Allowed::AsZeros, Reason::LowRam),
            (false, true) => (Allowed::No, Reason::RamNoLow1m),
            (false, false) => (Allowed::No, Reason::Ram),
        };
    }
    if is_low {
        return (Allowed::Yes, Reason::LowNotRam);
    }
    if world.iomem.is_exclusive(gpa, world.checks_iomem(), world.config.io_strict) {
        return (Allowed::No, if below_1m { Reason::RamNoLow1m } else { Reason::Claimed });
    }
    (Allowed::Yes, Reason::NotRam)
}

/// `drivers/char/mem.c:page_is_allowed()`: no check where `STRICT_DEVMEM` is off.
pub fn page_is_allowed(world: &World, gpa: u64) -> (Allowed, Reason) {
    if world.config.strict { decide(world, gpa) } else { (Allowed::Yes, Reason::NotStrict) }
}

/// `drivers/char/mem.c:range_is_allowed()`: every page, and 2 counts as a yes. Why it is allowed, or else refused.
pub fn range_is_allowed(world: &World, gpa: u64, len: u64) -> Result<Vec<Reason>, Reason> {
    let mut reasons = Vec::new();
    for page in 0..len.div_ceil(PAGE) {
        let (allowed, reason) = page_is_allowed(world, gpa + page * PAGE);
        if allowed == Allowed::No {
            return Err(reason);
        }
        note(&mut reasons, reason);
        // Without STRICT_DEVMEM no page is looked at.
        if !world.config.strict {
            break;
        }
    }
    Ok(reasons)
}

/// The same question for every page of a range, whatever the configuration
/// (`arch/x86/mm/pat/memtype.c:range_is_allowed`, before 6.16).
pub fn all_pages(world: &World, gpa: u64, len: u64) -> bool {
    (0..len.div_ceil(PAGE)).all(|page| devmem_is_allowed(world, gpa + page * PAGE) != Allowed::No)
}

/// Policy `mmap-zeros`: some page of the range is one that read(2) shows as zeros.
pub fn any_as_zeros(world: &World, gpa: u64, len: u64) -> bool {
    (0..len.div_ceil(PAGE)).any(|page| page_is_allowed(world, gpa + page * PAGE).0 == Allowed::AsZeros)
}
