// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's own mappings of physical memory, and the view in which they map it.

use types::{PageState, Platform, View};

use super::cache_mode::CacheMode;
use super::iomem::{Description, Intersection, Resource};
use super::memtype::{MemoryTypes, pages};
use super::page::PAGE;
use super::reason::Reason;
use super::world::World;

/// Single pages a Hyper-V paravisor answers for, which are mapped private
/// (`arch/x86/hyperv/ivm.c:hv_is_private_mmio`): the IOAPIC and the TPM.
const PARAVISOR: [u64; 2] = [0xfec0_0000, 0xfed4_0000];

/// `arch/x86/mm/ioremap.c:xlate_dev_mem_ptr()`: the view of the page at `gpa` that read(2) and write(2) go through. It is
/// `memremap(page, PAGE_SIZE, MEMREMAP_WB)`.
pub fn xlate(world: &World, types: &MemoryTypes, gpa: u64) -> Result<(View, Reason), Reason> {
    let page = gpa & !(PAGE - 1);
    match world.iomem.intersects_ram(page) {
        // WARN_ONCE and NULL.
        Intersection::Mixed => Err(Reason::PartRam),
        // `try_ram_remap()`: the direct map, which follows the page's owner.
        Intersection::Intersects => {
            let view = match world.page_state(page) {
                PageState::Shared => View::Shared,
                PageState::Private | PageState::Unaccepted => View::Private,
            };
            Ok((view, Reason::DirectMap))
        }
        // `arch_memremap_wb()`: ioremap_cache() before 6.15, ioremap_encrypted() since.
        Intersection::Disjoint => {
            let since = world.maps_encrypted().then_some(Reason::MemremapEncrypted);
            ioremap(world, types, page, PAGE, CacheMode::WriteBack, since)
        }
    }
}

/// `arch/x86/mm/ioremap.c:__ioremap_caller()`: the view of a mapping of `[gpa, gpa + len)`, with the reason; or why it is
/// refused. `encrypted`: why the caller requests it encrypted, if it does.
pub fn ioremap(
    world: &World,
    types: &MemoryTypes,
    gpa: u64,
    len: u64,
    mode: CacheMode,
    encrypted: Option<Reason>,
) -> Result<(View, Reason), Reason> {
    let last = gpa.checked_add(len).and_then(|end| end.checked_sub(1)).ok_or(Reason::IoremapAddress)?;
    if len == 0 || !world.is_valid(gpa) {
        return Err(Reason::IoremapAddress);
    }
    // `__ioremap_check_mem()` walks every busy resource of the range: an encrypted one makes the whole range encrypted.
    let mut encrypted = encrypted;
    for resource in world.iomem.busy(gpa, last) {
        if is_used_ram(world, resource, gpa, last) {
            // WARN_ONCE("ioremap on RAM") and NULL.
            return Err(Reason::IoremapRam);
        }
        if resource.description == Description::Special {
            encrypted = encrypted.or(Some(Reason::IoremapSpecial));
        }
    }
    // `__ioremap_check_other()` checks the first address only.
    if world.platform == Platform::Vbs && PARAVISOR.contains(&(gpa & !(PAGE - 1))) {
        encrypted = encrypted.or(Some(Reason::Paravisor));
    }
    let (start, end) = pages(world.without_bit(gpa), len);
    if !types.admits(world, start, end, mode) {
        return Err(Reason::CacheConflict);
    }
    Ok(match encrypted {
        _ if !world.platform.is_confidential() => (View::Private, Reason::Ioremap),
        Some(reason) => (View::Private, reason),
        None => (world.decrypted(), Reason::IoremapShared),
    })
}

/// `__ioremap_check_ram()`: RAM whose pages the page allocator has. The first MiB is reserved for good
/// (`arch/x86/realmode/init.c:reserve_real_mode`), and so is the kernel's image.
fn is_used_ram(world: &World, resource: &Resource, gpa: u64, last: u64) -> bool {
    if !resource.ram || resource.depth > 0 {
        return false;
    }
    let from = resource.start.max(gpa).next_multiple_of(PAGE);
    let to = (resource.end.min(last) + 1) & !(PAGE - 1);
    let is_image = |page: u64| {
        let mut image = world.iomem.resources().iter().filter(|r| r.name.starts_with("Kernel "));
        image.any(|r| r.start <= page && page <= r.end)
    };
    (from..to).step_by(PAGE as usize).any(|page| page >= 0x10_0000 && !is_image(page))
}
