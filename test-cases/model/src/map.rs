// SPDX-License-Identifier: Apache-2.0 OR MIT
//! mmap(2), mprotect(2), mremap(2) and munmap(2).

use std::collections::BTreeSet;

use protocol::{MAP_SLOTS, MAP_STRIDE, Refusal, map_address};
use types::{Errno, Policy, View};

use super::allowed::{all_pages, any_as_zeros, range_is_allowed};
use super::anonymous;
use super::cache_mode::CacheMode;
use super::mapping::{Mapped, MmapArgs, Refused};
use super::memtype::MemoryTypes;
use super::op::Node;
use super::page::PAGE;
use super::pci;
use super::prediction::{Outcome, Prediction};
use super::reason::Reason;
use super::space::{Area, EXEC, Entry, WRITE};
use super::task::{OpenFile, Slot, Task};
use super::world::World;

/// `TASK_SIZE` with four levels of page tables.
const TASK_SIZE: u64 = (1 << 47) - PAGE;

/// mmap(2) into a slot; the old mapping is removed first, even if the call fails.
pub fn mmap(world: &World, task: &mut Task, slot: u8, file: u8, args: &MmapArgs) -> Prediction {
    if !task.process.files.contains_key(&file) {
        return Prediction::plain(Outcome::Refused(Refusal::File));
    }
    if task.process.maps.contains_key(&slot) {
        munmap(world, task, slot);
    }
    place(world, task, slot, file, args, map_address(slot))
}

/// mmap(2) with `MAP_FIXED` where another slot's mapping is. What is mapped there goes once `do_mmap()` has nothing against
/// the call, even if the driver then has.
pub fn mmap_over(
    world: &World,
    task: &mut Task,
    slot: u8,
    over: u8,
    file: u8,
    args: &MmapArgs,
) -> Prediction {
    if !task.process.files.contains_key(&file) {
        return Prediction::plain(Outcome::Refused(Refusal::File));
    }
    let Some(address) = task.process.maps.get(&over).map(|slot| slot.address) else {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    };
    if args.len > MAP_STRIDE {
        return Prediction::plain(Outcome::Refused(Refusal::Length));
    }
    if slot != over && task.process.maps.contains_key(&slot) {
        munmap(world, task, slot);
    }
    place(world, task, slot, file, args, address)
}

/// The call itself.
fn place(world: &World, task: &mut Task, slot: u8, file: u8, args: &MmapArgs, address: u64) -> Prediction {
    // `arch/x86/kernel/sys_x86_64.c`, before the descriptor is looked up.
    if !args.offset.is_multiple_of(PAGE) {
        return Prediction::failed(Errno::EINVAL);
    }
    let file = match task.open_file(file) {
        Ok(file) => file.clone(),
        Err(outcome) => return Prediction::plain(outcome),
    };
    let shared = match do_mmap(&file, args) {
        Ok(shared) => shared,
        Err(errno) => return Prediction::failed(errno),
    };
    let len = args.len.next_multiple_of(PAGE);
    task.unmap(world, address, address + len);
    let mapped = match file.node {
        Node::Mem => mmap_mem(world, &mut task.types, &file, args),
        Node::Bar => pci::mmap(world, &mut task.types, args),
        // These files cannot be mapped; each file system returns its own errno: `fs/proc/inode.c:pde_mmap()`,
        // `fs/kernfs/file.c:kernfs_fop_mmap()`.
        Node::Kcore => Err(Errno::EIO.into()),
        Node::Config => Err(Errno::ENODEV.into()),
        // Refused before.
        Node::Port | Node::Msr => return Prediction::failed(Errno::ENODEV),
    };
    let mapped = match mapped {
        Ok(mapped) => mapped,
        Err(Refused { errno, reason }) => {
            let reasons = reason.into_iter().collect();
            return Prediction { reasons, ..Prediction::failed(errno) };
        }
    };
    let number = task.number();
    let area = Area {
        start: address,
        len,
        gpa: mapped.gpa,
        requested_offset: if file.node == Node::Mem { args.offset } else { mapped.gpa },
        prot: args.prot,
        may_write: !shared || file.writable,
        may_exec: !is_noexec(file.node),
        shared,
        mode: mapped.mode,
        view: mapped.view,
        own: mapped.own,
        memory: number,
        origin: 0,
        copied: BTreeSet::new(),
        // `fs/kernfs/file.c:kernfs_vm_ops` has `page_mkwrite`, `drivers/char/mem.c:mmap_mem_ops` has not.
        notifies: file.node == Node::Bar,
        stored: BTreeSet::new(),
        guarded: BTreeSet::new(),
        decided: mapped.reasons.last().copied(),
        tracked: (!mapped.own).then_some(Entry { mapping: number, start: mapped.gpa, end: mapped.gpa + len }),
    };
    let effects = if area.own { vec![anonymous::fresh(&area)] } else { Vec::new() };
    task.process.space.insert(area);
    task.process.maps.insert(slot, Slot { address, len: args.len });
    Prediction { outcome: Outcome::Value(address), effects, reasons: mapped.reasons }
}

/// `SB_I_NOEXEC`: `fs/proc/root.c:proc_fill_super()`, `fs/kernfs/mount.c:kernfs_fill_super()`. devtmpfs has it only if it is
/// mounted so.
const fn is_noexec(node: Node) -> bool {
    matches!(node, Node::Kcore | Node::Bar | Node::Config)
}

/// `mm/mmap.c:do_mmap()` up to the driver, in its order. Whether it is shared.
fn do_mmap(file: &OpenFile, args: &MmapArgs) -> Result<bool, Errno> {
    if args.len == 0 {
        return Err(Errno::EINVAL);
    }
    // PAGE_ALIGN() wrapped around to 0, or `__get_unmapped_area()` has no such room.
    let len = args.len.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
    if len > TASK_SIZE {
        return Err(Errno::ENOMEM);
    }
    // `file_mmap_ok()`: offset and length together must fit 64 bits, even with unsigned offsets.
    let biggest = match file.node {
        Node::Mem => 0_u64.wrapping_sub(len),
        Node::Port | Node::Msr => u64::MAX - len,
        // Regular files: `s_maxbytes`, which is `MAX_LFS_FILESIZE`.
        Node::Bar | Node::Config | Node::Kcore => i64::MAX.cast_unsigned() - len,
    };
    if args.offset / PAGE > biggest / PAGE {
        return Err(Errno::EOVERFLOW);
    }
    let shared = match args.flags & 0xf {
        // MAP_SHARED, MAP_SHARED_VALIDATE without any flag to validate, MAP_PRIVATE.
        1 | 3 => true,
        2 => false,
        _ => return Err(Errno::EINVAL),
    };
    if shared && args.prot & WRITE != 0 && !file.writable || !file.readable {
        return Err(Errno::EACCES);
    }
    if args.prot & EXEC != 0 && is_noexec(file.node) {
        return Err(Errno::EPERM);
    }
    // A file without `f_op->mmap`: nothing was unmapped for it yet.
    if matches!(file.node, Node::Port | Node::Msr) {
        return Err(Errno::ENODEV);
    }
    Ok(shared)
}

/// `drivers/char/mem.c:mmap_mem()`, in its order. The protection plays no part in it.
fn mmap_mem(
    world: &World,
    types: &mut MemoryTypes,
    file: &OpenFile,
    args: &MmapArgs,
) -> Result<Mapped, Refused> {
    let len = args.len.next_multiple_of(PAGE);
    // `valid_mmap_phys_addr_range()`: the last byte must have an address.
    let beyond = Refused::because(Errno::EINVAL, Reason::PhysicalBits);
    let last = args.offset.checked_add(len - 1).ok_or(beyond)?;
    if !world.is_valid(last) {
        return Err(beyond);
    }
    let mut reasons =
        range_is_allowed(world, args.offset, len).map_err(|reason| Refused::because(Errno::EPERM, reason))?;
    // `pfn_pte()` keeps the encryption bit out of the page table entries. `phys_mem_access_encrypted()`
    // (`arch/x86/mm/ioremap.c`) has all of it encrypted but persistent memory.
    let (gpa, view) = (world.without_bit(args.offset), View::Private);
    if world.policy == Policy::MmapZeros && any_as_zeros(world, args.offset, len) {
        reasons.push(Reason::MmapZeros);
        return Ok(Mapped { gpa, mode: CacheMode::WriteBack, view, own: true, reasons });
    }
    if reasons.contains(&Reason::LowRam) {
        reasons.push(Reason::LowRamMapped);
    }
    if world.checks_aliasing() && !all_pages(world, args.offset, len) {
        return Err(Refused::because(Errno::EINVAL, Reason::Aliasing));
    }
    // `phys_mem_access_prot_allowed()` takes the cache mode from O_DSYNC, `remap_pfn_range()` reserves it.
    let requested = if file.uncached { CacheMode::Uncached } else { CacheMode::WriteBack };
    let got = types.reserve_mapping(world, args.offset, args.offset + len, requested, false);
    let mode = got.map_err(|_| Refused::because(Errno::EAGAIN, Reason::CacheConflict))?;
    if gpa != args.offset {
        reasons.push(Reason::BitMasked);
    }
    reasons.push(if world.platform.is_confidential() { Reason::MappedPrivate } else { Reason::Mapped });
    Ok(Mapped { gpa, mode, view, own: false, reasons })
}

/// munmap(2) of the range a slot has, whatever is there.
pub fn munmap(world: &World, task: &mut Task, slot: u8) -> Prediction {
    let Some(Slot { address, len }) = task.process.maps.remove(&slot) else {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    };
    task.unmap(world, address, address + len.next_multiple_of(PAGE));
    Prediction::value(0)
}

/// `mm/mprotect.c:do_mprotect_pkey()`: area by area, up to the first that is missing or does not permit the requested protection.
pub fn mprotect(task: &mut Task, slot: u8, offset: u64, len: u64, prot: u32) -> Prediction {
    let Some(place) = task.process.maps.get(&slot) else {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    };
    if offset > MAP_STRIDE || len > MAP_STRIDE {
        return Prediction::plain(Outcome::Refused(Refusal::Length));
    }
    let start = place.address + offset;
    if !start.is_multiple_of(PAGE) {
        return Prediction::failed(Errno::EINVAL);
    }
    let end = start + len.next_multiple_of(PAGE);
    let mut at = start;
    while at < end {
        let Some(area) = task.process.space.at(at) else { return Prediction::failed(Errno::ENOMEM) };
        // `newflags & ~(newflags >> 4)`.
        if prot & WRITE != 0 && !area.may_write || prot & EXEC != 0 && !area.may_exec {
            return Prediction::failed(Errno::EACCES);
        }
        let until = end.min(area.end());
        if area.prot == prot {
            // `mprotect_fixup()`: an area that has these flags already is not split.
            at = until;
            continue;
        }
        for mut part in task.process.space.take(at, until) {
            at = part.end();
            part.protect(prot);
            task.process.space.insert(part);
        }
    }
    Prediction::value(0)
}

/// `mm/mremap.c`: to another length in place, or with that length to where another slot's mapping would be.
pub fn mremap(world: &World, task: &mut Task, slot: u8, to: u8, len: u64) -> Prediction {
    let Some(&Slot { address, len: old }) = task.process.maps.get(&slot) else {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    };
    if to >= MAP_SLOTS {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    }
    if len > MAP_STRIDE {
        return Prediction::plain(Outcome::Refused(Refusal::Length));
    }
    if to != slot && task.process.maps.contains_key(&to) {
        munmap(world, task, to);
    }
    let (old, new) = (old.next_multiple_of(PAGE), len.next_multiple_of(PAGE));
    if new == 0 {
        return Prediction::failed(Errno::EINVAL);
    }
    if task.process.space.at(address).is_none() {
        return Prediction::failed(Errno::EFAULT);
    }
    let target = map_address(to);
    if to != slot {
        // `mremap_to()`.
        if address + old > target && target + new > address {
            return Prediction::failed(Errno::EINVAL);
        }
        task.unmap(world, target, target + new);
    }
    if new < old {
        task.unmap(world, address + new, address + old);
    }
    let kept = old.min(new);
    let Some(area) = task.process.space.at(address).cloned() else {
        return Prediction::failed(Errno::EFAULT);
    };
    // `vma_to_resize()`: one area, and neither `VM_DONTEXPAND` nor `VM_PFNMAP` grows.
    if (to != slot || new > old) && address + kept > area.end() || new > old && !area.own {
        return Prediction::failed(Errno::EFAULT);
    }
    if new > old {
        task.process.space.insert(Area { len: area.len + new - old, ..area.clone() });
    }
    if to != slot {
        // `move_vma()`: the page tables move, and with them what is noted of the caching.
        for part in task.process.space.take(address, address + new) {
            task.process.space.insert(Area { start: target, ..part });
        }
        task.process.maps.remove(&slot);
    }
    let address = if to == slot { address } else { target };
    task.process.maps.insert(to, Slot { address, len });
    Prediction::value(address)
}
