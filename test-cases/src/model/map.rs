//! mmap(2) and munmap(2).

use std::collections::BTreeSet;

use protocol::{Refusal, map_address};
use vmm::memory::View;

use super::PAGE;
use super::allowed::{all_pages, any_as_zeros, range_is_allowed};
use super::memtype::{CacheMode, MemoryTypes};
use super::op::Node;
use super::own;
use super::pci;
use super::prediction::{Outcome, Prediction};
use super::task::{Mapping, OpenFile, Task};
use super::world::World;
use crate::policy::Policy;

/// `TASK_SIZE` with four levels of page tables.
const TASK_SIZE: u64 = (1 << 47) - PAGE;

/// The parameters of one call.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Offset in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// `MAP_*`.
    pub flags: u32,
}

impl Asked {
    /// `PROT_READ`.
    pub const fn reads(&self) -> bool {
        self.prot & libc::PROT_READ.cast_unsigned() != 0
    }

    /// `PROT_WRITE`.
    pub const fn writes(&self) -> bool {
        self.prot & libc::PROT_WRITE.cast_unsigned() != 0
    }
}

/// mmap(2) into a slot; what was mapped there goes first, whatever comes.
pub fn mmap(world: &World, task: &mut Task, slot: u8, file: u8, asked: &Asked) -> Prediction {
    let Some(file) = task.files.get(&file).cloned() else {
        return Prediction::plain(Outcome::Refused(Refusal::File));
    };
    if task.maps.contains_key(&slot) {
        munmap(world, task, slot);
    }
    let shared = match do_mmap(&file, asked) {
        Ok(shared) => shared,
        Err(errno) => return Prediction::failed(errno),
    };
    let mapping = match file.node {
        Node::Mem => mmap_mem(world, &mut task.types, &file, asked, shared),
        Node::Bar => pci::mmap(world, &mut task.types, asked, shared),
        // Nothing there maps anything, which each file system says in its words: `fs/proc/inode.c:pde_mmap()`,
        // `fs/kernfs/file.c:kernfs_fop_mmap()`.
        Node::Kcore => Err(libc::EIO),
        Node::Config | Node::Port | Node::Msr => Err(libc::ENODEV),
    };
    match mapping {
        Ok(mapping) => {
            let address = map_address(slot);
            let effects = if mapping.own { vec![own::fresh(slot, &mapping)] } else { Vec::new() };
            task.maps.insert(slot, Mapping { address, ..mapping });
            Prediction { outcome: Outcome::Value(address), effects }
        }
        Err(errno) => Prediction::failed(errno),
    }
}

/// `mm/mmap.c:do_mmap()` up to the driver, in its order. Whether it is shared.
fn do_mmap(file: &OpenFile, asked: &Asked) -> Result<bool, i32> {
    // `arch/x86/kernel/sys_x86_64.c`, before the file is looked at.
    if !asked.offset.is_multiple_of(PAGE) {
        return Err(libc::EINVAL);
    }
    if asked.len == 0 {
        return Err(libc::EINVAL);
    }
    // PAGE_ALIGN() wrapped around to 0, or `__get_unmapped_area()` has no such room.
    let len = asked.len.checked_next_multiple_of(PAGE).ok_or(libc::ENOMEM)?;
    if len > TASK_SIZE {
        return Err(libc::ENOMEM);
    }
    // `file_mmap_ok()`: offset and length together must fit 64 bits, even with unsigned offsets.
    let biggest = match file.node {
        Node::Mem => 0_u64.wrapping_sub(len),
        Node::Port | Node::Msr => u64::MAX - len,
        // Regular files: `s_maxbytes`, which is `MAX_LFS_FILESIZE`.
        Node::Bar | Node::Config | Node::Kcore => i64::MAX.cast_unsigned() - len,
    };
    if asked.offset / PAGE > biggest / PAGE {
        return Err(libc::EOVERFLOW);
    }
    let shared = match asked.flags & 0xf {
        // MAP_SHARED, MAP_SHARED_VALIDATE without any flag to validate, MAP_PRIVATE.
        1 | 3 => true,
        2 => false,
        _ => return Err(libc::EINVAL),
    };
    if shared && asked.writes() && !file.writable || !file.readable {
        return Err(libc::EACCES);
    }
    Ok(shared)
}

/// `drivers/char/mem.c:mmap_mem()`, in its order.
fn mmap_mem(
    world: &World,
    types: &mut MemoryTypes,
    file: &OpenFile,
    asked: &Asked,
    shared: bool,
) -> Result<Mapping, i32> {
    let len = asked.len.next_multiple_of(PAGE);
    // `valid_mmap_phys_addr_range()`: the last byte must have an address.
    let last = asked.offset.checked_add(len - 1).ok_or(libc::EINVAL)?;
    if !world.is_valid(last) {
        return Err(libc::EINVAL);
    }
    if !range_is_allowed(world, asked.offset, len) {
        return Err(libc::EPERM);
    }
    if world.checks_aliasing() && !all_pages(world, asked.offset, len) {
        return Err(libc::EINVAL);
    }
    // `pfn_pte()` keeps the encryption bit out of the page table entries.
    let gpa = world.without_bit(asked.offset);
    let mut mapping = Mapping {
        address: 0,
        gpa,
        asked: asked.offset,
        len,
        reads: asked.reads(),
        loads: asked.reads() || asked.writes(),
        stores: asked.writes(),
        shared,
        mode: CacheMode::WriteBack,
        // `phys_mem_access_encrypted()` (`arch/x86/mm/ioremap.c`) has all of it encrypted but persistent memory.
        view: View::Private,
        own: world.policy == Policy::MmapZeros && any_as_zeros(world, asked.offset, len),
        copied: BTreeSet::new(),
    };
    if mapping.own {
        return Ok(mapping);
    }
    // `phys_mem_access_prot_allowed()` takes the caching from O_DSYNC, `remap_pfn_range()` asks whether it can be had.
    let wanted = if file.uncached { CacheMode::Uncached } else { CacheMode::WriteBack };
    let got = types.reserve_mapping(world, asked.offset, asked.offset + len, wanted, false);
    mapping.mode = got.map_err(|_| libc::EAGAIN)?;
    Ok(mapping)
}

/// munmap(2) of a whole mapping.
pub fn munmap(world: &World, task: &mut Task, slot: u8) -> Prediction {
    let Some(mapping) = task.maps.remove(&slot) else {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    };
    if !mapping.own {
        task.types.free(world, mapping.gpa, mapping.gpa + mapping.len);
    }
    Prediction::value(0)
}
