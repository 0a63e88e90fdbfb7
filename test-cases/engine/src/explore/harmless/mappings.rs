// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which changes of mappings may be chosen: those that leave nothing in the kernel's tables, at addresses that are known.

use protocol::map_address;

use model::release::Release;
use model::{Op, Outcome, PAGE, Prediction, Task, World};

/// Most files on their way through a socket: `net.unix.max_dgram_qlen` is 10.
const MOST_SENT: usize = 8;
/// mmap(2) prepares drivers' mappings in another order, and mremap(2) moves several areas at once, from here on or soon after.
const NEW_MAPPING: Release = Release { major: 6, minor: 16 };

/// Whether the model predicts the mappings afterwards, and the kernel frees all their memtype entries in the end.
pub fn are_known(world: &World, task: &Task, after: &Task, op: &Op, prediction: &Prediction) -> bool {
    let known = match op {
        // The agent gives the address as a hint only.
        Op::Mmap { map, len, .. } => {
            let mut space = task.process.space.clone();
            if let Some(slot) = task.process.maps.get(map) {
                space.take(slot.address, slot.address + slot.len.next_multiple_of(PAGE));
            }
            let (start, len) = (map_address(*map), len.saturating_add(PAGE));
            space.within(start, start.saturating_add(len)).next().is_none()
        }
        Op::MmapOver { .. } => {
            let failed = matches!(prediction.outcome, Outcome::Failed { .. });
            world.release < NEW_MAPPING || !failed || task.process.space == after.process.space
        }
        Op::Mremap { map, to, len } => is_whole(task, *map, *to, *len),
        Op::SendFile { .. } => world.config.unix && task.sent() < MOST_SENT,
        Op::Mprotect { .. } | Op::Munmap { .. } | Op::Fork | Op::Exit | Op::Exec => true,
        _ => return true,
    };
    known && after.loses_memtype_entries(world)
}

/// One area, as the kernel has it, and no growth of memory that can grow.
fn is_whole(task: &Task, map: u8, to: u8, len: u64) -> bool {
    let Some(slot) = task.process.maps.get(&map) else { return true };
    let old = slot.len.next_multiple_of(PAGE);
    let mut areas = task.process.space.within(slot.address, slot.address + old);
    let Some(first) = areas.next() else { return to == map };
    let whole = first.start == slot.address && first.len == old && areas.next().is_none();
    whole && !(first.own && len > slot.len)
}
