// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `drivers/char/mem.c:write_mem()`.

use types::{Errno, View};

use super::allowed::{Allowed, page_is_allowed};
use super::done::Done;
use super::memtype::MemoryTypes;
use super::page::PAGE;
use super::prediction::Effect;
use super::read::is_valid_range;
use super::reason::{Reason, note};
use super::remap::xlate;
use super::world::World;

/// Page by page; unlike reads, what was written before a failure counts, but for `EPERM`.
///
/// Where the user's buffer ends in the middle of a page, `copy_from_user()` stores what there is *and zeros for the rest*
/// (`include/linux/uaccess.h:_inline_copy_from_user`): that is meant for kernel buffers and here strikes physical memory.
/// So a write(2) that fails with EFAULT has cleared memory up to the end of the page or the request.
pub fn write_mem(world: &World, types: &MemoryTypes, position: u64, data: &[u8], room: u64) -> Done {
    let count = data.len() as u64;
    let mut done = Done::failed(Errno::EFAULT);
    if !is_valid_range(world, position, count) {
        done.reasons.push(Reason::AboveRam);
        return done;
    }
    let mut written = 0;
    while written < count {
        let gpa = position + written;
        let len = (PAGE - gpa % PAGE).min(count - written);
        let (allowed, reason) = page_is_allowed(world, gpa);
        note(&mut done.reasons, reason);
        match allowed {
            Allowed::No => {
                done.result = Err(Errno::EPERM);
                return done;
            }
            // The write is skipped and the buffer is not read.
            Allowed::AsZeros => {}
            Allowed::Yes => {
                let view = match xlate(world, types, gpa) {
                    Ok((view, reason)) => {
                        note(&mut done.reasons, reason);
                        view
                    }
                    Err(reason) => {
                        note(&mut done.reasons, reason);
                        done.result = partial(written);
                        return done;
                    }
                };
                let from = &data[written as usize..(written + len) as usize];
                let there = room.saturating_sub(written).min(len);
                store(&mut done.effects, gpa, view, from, there);
                if there < len {
                    done.reasons.push(Reason::UserBuffer);
                    done.result = partial(written + there);
                    return done;
                }
            }
        }
        written += len;
    }
    done.result = Ok(written);
    done
}

fn partial(written: u64) -> Result<u64, Errno> {
    if written > 0 { Ok(written) } else { Err(Errno::EFAULT) }
}

/// `copy_from_user()` to physical memory: the bytes that are there, then zeros.
fn store(effects: &mut Vec<Effect>, gpa: u64, view: View, from: &[u8], there: u64) {
    let mut data = from.to_vec();
    data[there as usize..].fill(0);
    effects.push(Effect::Write { gpa, data, view });
}
