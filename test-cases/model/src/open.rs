// SPDX-License-Identifier: Apache-2.0 OR MIT
//! open(2), close(2) and the privilege they need.

use super::lockdown::Reason as LockdownReason;
use super::op::Node;
use super::prediction::{Outcome, Prediction};
use super::reason::Reason;
use super::task::{OpenFile, Task};
use super::world::World;
use crate::capability;
use types::{Errno, Policy};

/// `fs/open.c:do_dentry_open()`. The slot is closed first, even if the open fails.
pub fn open(world: &World, task: &mut Task, slot: u8, node: Node, flags: i32) -> Prediction {
    task.process.files.remove(&slot);
    let is_there = match node {
        Node::Mem => world.config.devmem && world.policy != Policy::NoDevmem,
        Node::Port => world.config.devport,
        Node::Kcore => world.config.kcore,
        Node::Msr => world.config.msr,
        Node::Bar | Node::Config => world.bar().is_some(),
    };
    // devtmpfs has nodes only for devices that are there (`drivers/char/mem.c:chr_dev_init()`).
    if !is_there {
        let is_device = matches!(node, Node::Mem | Node::Port);
        let reason = if is_device { Reason::NoDevice } else { Reason::NoFile };
        return Prediction::failed(Errno::ENOENT).because(reason);
    }
    // `fs/namei.c:do_open()`, before the driver's `open`.
    if flags & libc::O_DIRECTORY != 0 {
        return Prediction::failed(Errno::ENOTDIR);
    }
    // `may_open()`: the node's owner and mode.
    let (owner, others) = mode(node);
    if !task.process.credentials.may_open(owner, others, requested(flags)) {
        return Prediction::failed(Errno::EACCES);
    }
    let allowed = match node {
        Node::Mem | Node::Port => open_port(world, task),
        Node::Kcore => open_kcore(world, task),
        Node::Msr => msr_open(world, task),
        // `fs/kernfs/file.c:kernfs_fop_open()` checks nothing beyond the file's mode.
        Node::Bar | Node::Config => Ok(Reason::KernfsOpen),
    };
    let reason = match allowed {
        Ok(reason) => reason,
        Err(reason) => return Prediction::failed(Errno::EPERM).because(reason),
    };
    // After the driver's `open`: no driver here sets `FMODE_CAN_ODIRECT`.
    if flags & libc::O_DIRECT != 0 {
        return Prediction::failed(Errno::EINVAL);
    }
    // `OPEN_FMODE()`: (mode + 1) & 3, so that mode 3 may neither read nor write.
    let mode = ((flags & libc::O_ACCMODE) + 1) & 3;
    let file = OpenFile {
        node,
        readable: mode & 1 != 0,
        writable: mode & 2 != 0,
        uncached: flags & libc::O_DSYNC != 0,
        by_admin: task.process.credentials.capable(capability::SYS_ADMIN),
        position: 0,
    };
    task.insert_file(slot, file, flags & libc::O_CLOEXEC != 0);
    Prediction::value(0).because(reason)
}

/// `drivers/char/mem.c:open_port()`, used by both nodes: `CAP_SYS_RAWIO`, then lockdown, then what patches v3 to v5
/// put after it: `STRICT_DEVMEM` and a guest whose memory is encrypted.
fn open_port(world: &World, task: &Task) -> Result<Reason, Reason> {
    privileged(world, task, Some(LockdownReason::DevMem))?;
    let confidential = world.platform.is_confidential();
    if world.policy == Policy::OpenEperm && confidential && world.config.strict {
        return Err(Reason::OpenEperm);
    }
    Ok(Reason::OpenPort)
}

/// `CAP_SYS_RAWIO`, and not locked down.
fn privileged(world: &World, task: &Task, locked: Option<LockdownReason>) -> Result<(), Reason> {
    if !task.process.credentials.capable(capability::SYS_RAWIO) {
        return Err(Reason::NotCapable);
    }
    if locked.is_some_and(|reason| world.is_locked_down(reason)) {
        return Err(Reason::LockedDown);
    }
    Ok(())
}

/// `fs/proc/kcore.c:open_kcore()`.
fn open_kcore(world: &World, task: &Task) -> Result<Reason, Reason> {
    privileged(world, task, Some(LockdownReason::Kcore)).map(|()| Reason::OpenKcore)
}

/// `arch/x86/kernel/msr.c:msr_open()`. Lockdown does not restrict reads.
fn msr_open(world: &World, task: &Task) -> Result<Reason, Reason> {
    privileged(world, task, None).map(|()| Reason::MsrOpen)
}

/// close(2). Mappings of the file remain.
pub fn close(task: &mut Task, slot: u8) -> Prediction {
    let outcome = task.open_file(slot).err().unwrap_or(Outcome::Value(0));
    task.process.files.remove(&slot);
    Prediction::plain(outcome)
}

/// What owner and others may: devtmpfs gives 0600 to what names no mode (`drivers/base/core.c:device_get_devnode`);
/// `fs/proc/kcore.c:proc_kcore_init()`; `drivers/pci/pci-sysfs.c`.
const fn mode(node: Node) -> (u32, u32) {
    match node {
        Node::Mem | Node::Port | Node::Msr | Node::Bar => (6, 0),
        Node::Kcore => (4, 0),
        Node::Config => (6, 4),
    }
}

/// `include/linux/fs.h:ACC_MODE()` and what `O_TRUNC` adds.
const fn requested(flags: i32) -> u32 {
    let access = match flags & libc::O_ACCMODE {
        libc::O_RDONLY => 4,
        libc::O_WRONLY => 2,
        _ => 6,
    };
    if flags & libc::O_TRUNC != 0 { access | 2 } else { access }
}
