// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ports without a device node: ioperm(2), iopl(2) and what the processor then allows (`arch/x86/kernel/ioport.c`).

use protocol::Width;

use super::io_permission::EVERY_PORT;
use super::lockdown::Reason as LockdownReason;
use super::prediction::{Outcome, Prediction};
use super::reason::Reason;
use super::task::Task;
use super::world::World;
use crate::capability;
use types::{Errno, Signal};

/// `IO_BITMAP_BITS`.
const PORTS: u64 = 1 << 16;
/// `SI_KERNEL`: a #GP has no fault address.
const GENERAL_PROTECTION: i32 = 0x80;

/// `ksys_ioperm()`. Only opening needs permission.
pub fn ioperm(world: &World, task: &mut Task, from: u64, count: u64, on: bool) -> Prediction {
    if !world.config.iopl {
        return Prediction::failed(Errno::ENOSYS).because(Reason::NoIoPorts);
    }
    let end = from.wrapping_add(count);
    if end <= from || end > PORTS {
        return Prediction::failed(Errno::EINVAL);
    }
    if let (true, Err(reason)) = (on, may_open(world, task)) {
        return Prediction::failed(Errno::EPERM).because(reason);
    }
    task.process.ports.calls.push((from, count, on));
    Prediction::value(0).because(Reason::IoPorts)
}

/// `arch/x86/kernel/ioport.c:SYSCALL_DEFINE1(iopl)`: only more than before needs permission.
pub fn iopl(world: &World, task: &mut Task, level: u8) -> Prediction {
    if !world.config.iopl {
        return Prediction::failed(Errno::ENOSYS).because(Reason::NoIoPorts);
    }
    if level > EVERY_PORT {
        return Prediction::failed(Errno::EINVAL);
    }
    if let (true, Err(reason)) = (level > task.process.ports.level, may_open(world, task)) {
        return Prediction::failed(Errno::EPERM).because(reason);
    }
    task.process.ports.level = level;
    Prediction::value(0).because(Reason::IoPorts)
}

fn may_open(world: &World, task: &Task) -> Result<(), Reason> {
    if !task.process.credentials.capable(capability::SYS_RAWIO) {
        return Err(Reason::NotCapable);
    }
    if world.is_locked_down(LockdownReason::IoPort) { Err(Reason::LockedDown) } else { Ok(()) }
}

/// `IN`: every byte's bit must be clear (Intel SDM volume 1, section 20.5.2). Bytes are predicted for ports that no device decodes.
pub fn port_in(task: &Task, port: u16, width: Width) -> Prediction {
    let port = u64::from(port);
    // Behind the last port the bitmap has one byte of ones.
    let open = (port..port + width as u64).all(|port| port < PORTS && task.process.ports.is_open(port));
    if open {
        return Prediction::value(u64::MAX >> (64 - 8 * width as u32));
    }
    Prediction::plain(Outcome::Signal {
        signal: Signal::SIGSEGV,
        code: GENERAL_PROTECTION,
        address: 0,
        pieces: Vec::new(),
    })
}
