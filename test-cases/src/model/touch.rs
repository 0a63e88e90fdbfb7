//! Loads and stores by the processor through a mapping.

use protocol::{Refusal, Width};

use super::PAGE;
use super::prediction::{Effect, Outcome, Piece, Prediction, Source};
use super::task::{Mapping, Task};
use super::world::World;
use crate::codes::Signal;

/// `SEGV_MAPERR`.
const NOT_MAPPED: i32 = 1;
/// `SEGV_ACCERR`.
const NOT_ALLOWED: i32 = 2;

/// Loads, one access for each element.
pub fn load(_world: &World, task: &Task, slot: u8, offset: u64, len: u32, width: Width) -> Prediction {
    let Some(mapping) = task.maps.get(&slot) else {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    };
    let (mut pieces, mut effects) = (Vec::new(), Vec::new());
    let mut fault = None;
    let mut at = offset;
    while at < offset + u64::from(len) {
        fault = faults(mapping, at, width, mapping.loads);
        if fault.is_some() {
            break;
        }
        for (at, len) in parts(at, width as u64) {
            let source = if mapping.is_copied(at) {
                Source::Copy { map: slot, offset: at }
            } else {
                let gpa = mapping.gpa(at);
                effects.push(Effect::Read { gpa, len, view: mapping.view });
                Source::Physical { gpa, view: mapping.view }
            };
            pieces.push(Piece { source, len });
        }
        at += width as u64;
    }
    let outcome = match fault {
        Some((code, address)) => Outcome::Signal { signal: Signal(libc::SIGSEGV), code, address, pieces },
        None => Outcome::Bytes { value: u64::from(len), pieces },
    };
    Prediction { outcome, effects }
}

/// Stores, one access for each element. The first store to a page of a private mapping copies it.
pub fn store(
    _world: &World,
    task: &mut Task,
    slot: u8,
    offset: u64,
    data: &[u8],
    width: Width,
) -> Prediction {
    let Some(mapping) = task.maps.get_mut(&slot) else {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    };
    let mut effects = Vec::new();
    for (at, element) in (offset..).step_by(width as usize).zip(data.chunks(width as usize)) {
        if let Some((code, address)) = faults(mapping, at, width, mapping.stores) {
            // A store that runs over the end faults on its first page first.
            if mapping.stores && at < mapping.len {
                copy_on_write(mapping, slot, at, &mut effects);
            }
            let outcome =
                Outcome::Signal { signal: Signal(libc::SIGSEGV), code, address, pieces: Vec::new() };
            return Prediction { outcome, effects };
        }
        let mut done = 0;
        for (at, len) in parts(at, width as u64) {
            copy_on_write(mapping, slot, at, &mut effects);
            let data = element[done..done + len as usize].to_vec();
            done += len as usize;
            if mapping.is_copied(at) {
                effects.push(Effect::WriteCopy { map: slot, offset: at, data });
            } else {
                effects.push(Effect::Write { gpa: mapping.gpa(at), data, view: mapping.view });
            }
        }
    }
    Prediction { outcome: Outcome::Value(data.len() as u64), effects }
}

/// `mm/memory.c:__wp_page_copy_user()`: there is no `struct page` to copy from, so the kernel reads the user's own
/// mapping.
fn copy_on_write(mapping: &mut Mapping, slot: u8, at: u64, effects: &mut Vec<Effect>) {
    if mapping.shared || mapping.is_copied(at) {
        return;
    }
    let page = at / PAGE;
    mapping.copied.insert(page);
    let gpa = mapping.gpa(page * PAGE);
    effects.push(Effect::Read { gpa, len: PAGE, view: mapping.view });
    effects.push(Effect::Copied { map: slot, page, gpa, view: mapping.view });
}

/// The `si_code` and `si_addr` of an access that does not go through. One that runs over the end faults at the first
/// byte beyond, and nothing of it is done.
fn faults(mapping: &Mapping, at: u64, width: Width, may: bool) -> Option<(i32, u64)> {
    let last = at + width as u64 - 1;
    if at < mapping.len && !may {
        return Some((NOT_ALLOWED, mapping.address + at));
    }
    (last >= mapping.len).then(|| (NOT_MAPPED, mapping.address + at.max(mapping.len)))
}

/// The parts of an access that lie in one page each.
fn parts(at: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let first = (PAGE - at % PAGE).min(len);
    [(at, first), (at + first, len - first)].into_iter().filter(|(_, len)| *len > 0)
}
