// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Model-specific registers as a device: `arch/x86/kernel/msr.c`.

use super::done::Done;
use super::lockdown::Reason as LockdownReason;
use super::prediction::{Piece, Source};
use super::reason::Reason;
use super::world::World;
use types::Errno;

/// Bytes of a register.
const REGISTER: u64 = 8;

/// `msr_read()` of a register that is there: its value again and again, as often as the buffer takes it. The position does
/// not move.
pub fn msr_read(count: u64, room: u64) -> Done {
    let result = registers(count, room);
    let len = result.unwrap_or(0);
    let pieces = if len > 0 { vec![Piece { source: Source::Unknown, len }] } else { Vec::new() };
    Done { result, pieces, effects: Vec::new(), reasons: vec![Reason::MsrAccess] }
}

/// `msr_write()`: lockdown is checked before the length. The register's new value is not modelled.
pub fn msr_write(world: &World, count: u64, room: u64) -> Done {
    let locked = world.is_locked_down(LockdownReason::Msr);
    let result = if locked { Err(Errno::EPERM) } else { registers(count, room) };
    let reason = if locked { Reason::LockedDown } else { Reason::MsrWrite };
    Done { result, pieces: Vec::new(), effects: Vec::new(), reasons: vec![reason] }
}

/// How many bytes go one register at a time; what the buffer has no room for fails only if nothing went before.
fn registers(count: u64, room: u64) -> Result<u64, Errno> {
    if !count.is_multiple_of(REGISTER) {
        return Err(Errno::EINVAL);
    }
    let moved = count.min(room / REGISTER * REGISTER);
    if count > 0 && moved == 0 { Err(Errno::EFAULT) } else { Ok(moved) }
}
