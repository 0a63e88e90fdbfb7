// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PCI devices in sysfs: the other way to map device memory, and the way to move it (`drivers/pci/pci-sysfs.c`, with
//! `fs/sysfs/file.c` and `fs/kernfs/file.c` before it).

use super::cache_mode::CacheMode;
use super::done::Done;
use super::lockdown::Reason as LockdownReason;
use super::mapping::{Mapped, MmapArgs, Refused};
use super::memtype::MemoryTypes;
use super::op::Node;
use super::page::PAGE;
use super::prediction::{Piece, Source};
use super::reason::Reason;
use super::task::Task;
use super::world::World;
use types::Errno;

/// `PCI_CFG_SPACE_SIZE`.
pub const CONFIG_SPACE: u64 = 256;

/// What is shown of the configuration space to one who opened it without `CAP_SYS_ADMIN` (`pci_read_config()`).
pub const STANDARD_HEADER: u64 = 64;

/// The file's size, which sysfs keeps requests within.
fn size(world: &World, node: Node) -> u64 {
    match node {
        Node::Bar => world.bar().map_or(0, |bar| bar.end - bar.start),
        _ => CONFIG_SPACE,
    }
}

/// `fs/seq_file.c:seq_open()` takes pwrite(2) from every file of sysfs, and `kernfs_fop_open()` gives it back to those that
/// are open for writing.
pub fn has_pwrite(task: &Task, slot: u8) -> bool {
    let file = task.file(slot);
    !file.is_some_and(|file| matches!(file.node, Node::Bar | Node::Config) && !file.writable)
}

/// `kernfs_file_read_iter()`, at most a page at a time, and `sysfs_kf_bin_read()`. A BAR of memory can be mapped only.
pub fn read(world: &World, node: Node, admin: bool, position: u64, count: u64, room: u64) -> Done {
    let requested = count.min(PAGE).min(size(world, node).saturating_sub(position));
    let shown = if node == Node::Config && !admin { STANDARD_HEADER } else { u64::MAX };
    let len = requested.min(shown.saturating_sub(position));
    let result = match node {
        _ if len == 0 => Ok(0),
        Node::Bar => Err(Errno::EIO),
        // `copy_to_iter()`: all of it or nothing.
        _ if len > room => Err(Errno::EFAULT),
        _ => Ok(len),
    };
    let pieces = match result {
        Ok(len @ 1..) => vec![Piece { source: Source::Configuration { offset: position }, len }],
        _ => Vec::new(),
    };
    Done { result, pieces, effects: Vec::new(), reasons: vec![Reason::PciConfig] }
}

/// `kernfs_fop_write_iter()`, `sysfs_kf_bin_write()` and `pci_write_config()`, in that order. The model does not predict what the
/// device makes of it.
pub fn write(world: &World, node: Node, position: u64, count: u64, room: u64) -> Done {
    let (len, size) = (count.min(PAGE), size(world, node));
    let result = if len > room {
        Err(Errno::EFAULT)
    } else if position >= size {
        Err(Errno::EFBIG)
    } else if len == 0 {
        Ok(0)
    } else if node == Node::Bar {
        Err(Errno::EIO)
    } else if world.is_locked_down(LockdownReason::PciAccess) {
        Err(Errno::EPERM)
    } else {
        Ok(len.min(size - position))
    };
    let reason = if result == Err(Errno::EPERM) { Reason::LockedDown } else { Reason::PciConfigWrite };
    Done { result, pieces: Vec::new(), effects: Vec::new(), reasons: vec![reason] }
}

/// `pci_mmap_resource()`, in its order: lockdown, a driver that claimed the device, the BAR's size. Unlike a mapping of
/// /dev/mem this one is decrypted (`include/asm-generic/io.h:io_remap_pfn_range`), as device memory must be.
pub fn mmap(world: &World, types: &mut MemoryTypes, args: &MmapArgs) -> Result<Mapped, Refused> {
    if world.is_locked_down(LockdownReason::PciAccess) {
        return Err(Refused::because(Errno::EPERM, Reason::LockedDown));
    }
    let refused = Refused::because(Errno::EINVAL, Reason::BarMapped);
    let bar = world.bar().ok_or(refused)?;
    if world.iomem.is_exclusive(bar.start, world.checks_iomem(), world.config.io_strict) {
        return Err(Refused::because(Errno::EINVAL, Reason::Claimed));
    }
    let len = args.len.next_multiple_of(PAGE);
    let end = args.offset.checked_add(len).ok_or(refused)?;
    if end > bar.end - bar.start {
        return Err(refused);
    }
    let gpa = bar.start + args.offset;
    // `pgprot_device()`; a refusal of `track_pfn_remap()` is EINVAL to `remap_pfn_range()`.
    let mode = types
        .reserve_mapping(world, gpa, gpa + len, CacheMode::Uncached, false)
        .map_err(|_| Refused::because(Errno::EINVAL, Reason::CacheConflict))?;
    Ok(Mapped { gpa, mode, view: world.decrypted(), own: false, reasons: vec![Reason::BarMapped] })
}
