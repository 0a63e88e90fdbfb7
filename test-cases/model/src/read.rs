// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `drivers/char/mem.c:read_mem()`.

use super::allowed::{Allowed, page_is_allowed};
use super::done::Done;
use super::memtype::MemoryTypes;
use super::page::PAGE;
use super::prediction::{Effect, Piece, Source};
use super::reason::{Reason, note};
use super::remap::xlate;
use super::world::World;
use types::Errno;

/// `arch/x86/mm/mmap.c:valid_phys_addr_range()`: up to the top of RAM. A request for nothing at address 0 wraps around
/// and is refused.
pub fn is_valid_range(world: &World, address: u64, count: u64) -> bool {
    address.wrapping_add(count).wrapping_sub(1) < world.memory.top
}

/// Page by page; the first page that fails gives its error for the whole call, whatever was copied before it. `room`: how
/// much of the user's buffer there is.
pub fn read_mem(world: &World, types: &MemoryTypes, position: u64, count: u64, room: u64) -> Done {
    let mut done = Done::failed(Errno::EFAULT);
    if !is_valid_range(world, position, count) {
        done.reasons.push(Reason::AboveRam);
        return done;
    }
    let mut read = 0;
    while read < count {
        let gpa = position + read;
        let len = (PAGE - gpa % PAGE).min(count - read);
        let (allowed, reason) = page_is_allowed(world, gpa);
        note(&mut done.reasons, reason);
        let source = match allowed {
            Allowed::No => {
                done.result = Err(Errno::EPERM);
                return done;
            }
            Allowed::AsZeros => Source::Zeros,
            Allowed::Yes => {
                let view = match xlate(world, types, gpa) {
                    Ok((view, reason)) => {
                        note(&mut done.reasons, reason);
                        view
                    }
                    Err(reason) => {
                        note(&mut done.reasons, reason);
                        return done;
                    }
                };
                done.effects.push(Effect::Read { gpa, len, view });
                Source::Physical { gpa, view }
            }
        };
        // clear_user() and copy_to_user() store what they can; the call fails all the same.
        if read + len > room {
            done.reasons.push(Reason::UserBuffer);
            return done;
        }
        done.pieces.push(Piece { source, len });
        read += len;
    }
    done.result = Ok(read);
    done
}
