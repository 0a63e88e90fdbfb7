// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads and stores by the processor through a mapping.

use protocol::{Refusal, Width};

use super::anonymous;
use super::page::PAGE;
use super::prediction::{Effect, Outcome, Piece, Prediction, Source};
use super::reason::{Reason, note};
use super::space::{Area, EXEC, WRITE};
use super::task::Task;
use super::world::World;
use types::Signal;

/// `SEGV_MAPERR`.
const NOT_MAPPED: i32 = 1;
/// `SEGV_ACCERR`.
const NOT_ALLOWED: i32 = 2;
/// `SEGV_PKUERR`.
const NO_KEY: i32 = 4;

/// Loads, one access for each element.
pub fn load(world: &World, task: &Task, slot: u8, offset: u64, len: u32, width: Width) -> Prediction {
    let Some(place) = task.process.maps.get(&slot) else {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    };
    let (mut pieces, mut effects, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    let start = place.address.wrapping_add(offset);
    for at in (start..start + u64::from(len)).step_by(width as usize) {
        if let Some((code, address)) = parts(at, width as u64).find_map(|(at, _)| load_fault(world, task, at))
        {
            let signal = Signal::SIGSEGV;
            return Prediction {
                outcome: Outcome::Signal { signal, code, address, pieces },
                effects,
                reasons,
            };
        }
        for (at, len) in parts(at, width as u64) {
            let Some(area) = task.process.space.at(at) else { continue };
            decided(area, at, &mut reasons);
            pieces.push(if area.is_copied(at) {
                anonymous::piece(area, at, len)
            } else {
                let (gpa, view) = (area.gpa(at), area.view);
                effects.push(Effect::Read { gpa, len, view });
                Piece { source: Source::Physical { gpa, view }, len }
            });
        }
    }
    Prediction { outcome: Outcome::Bytes { value: u64::from(len), pieces }, effects, reasons }
}

/// Stores, one access for each element. The first store to a page of a private mapping copies it.
pub fn store(task: &mut Task, slot: u8, offset: u64, data: &[u8], width: Width) -> Prediction {
    let Some(place) = task.process.maps.get(&slot) else {
        return Prediction::plain(Outcome::Refused(Refusal::Map));
    };
    let (mut effects, mut reasons) = (Vec::new(), Vec::new());
    let start = place.address.wrapping_add(offset);
    for (at, element) in (start..).step_by(width as usize).zip(data.chunks(width as usize)) {
        // A store that runs over the end of what can be written copies its first page first.
        for (at, _) in parts(at, width as u64) {
            if let Some((code, address)) = store_fault(task, at) {
                let signal = Signal::SIGSEGV;
                let outcome = Outcome::Signal { signal, code, address, pieces: Vec::new() };
                return Prediction { outcome, effects, reasons };
            }
            if let Some(area) = task.process.space.at_mut(at) {
                area.note_store(at);
            }
            copy_on_write(task, at, &mut effects);
        }
        let mut done = 0;
        for (at, len) in parts(at, width as u64) {
            let data = element[done..done + len as usize].to_vec();
            done += len as usize;
            let Some(area) = task.process.space.at(at) else { continue };
            decided(area, at, &mut reasons);
            effects.push(if area.is_copied(at) {
                Effect::WriteCopy { memory: area.memory, offset: area.offset(at), data }
            } else {
                Effect::Write { gpa: area.gpa(at), data, view: area.view }
            });
        }
    }
    Prediction { outcome: Outcome::Value(data.len() as u64), effects, reasons }
}

/// Why the page at an address shows what it shows.
fn decided(area: &Area, at: u64, reasons: &mut Vec<Reason>) {
    if let Some(reason) = area.decided {
        note(reasons, reason);
    }
    if !area.own && area.is_copied(at) {
        note(reasons, Reason::PrivateCopy);
    }
}

/// `mm/memory.c:__wp_page_copy_user()`: there is no `struct page` to copy from, so the kernel reads the user's own
/// mapping.
fn copy_on_write(task: &mut Task, at: u64, effects: &mut Vec<Effect>) {
    let Some(area) = task.process.space.at_mut(at) else { return };
    if area.shared || area.is_copied(at) {
        return;
    }
    let page = area.offset(at) / PAGE;
    area.copied.insert(page);
    let (gpa, view, memory) = (area.gpa(at & !(PAGE - 1)), area.view, area.memory);
    effects.push(Effect::Read { gpa, len: PAGE, view });
    effects.push(Effect::Copied { memory, page, gpa, view });
}

/// The `si_code` and `si_addr` of a load that faults: the first inaccessible byte.
fn load_fault(world: &World, task: &Task, at: u64) -> Option<(i32, u64)> {
    match task.process.space.at(at) {
        None => Some((NOT_MAPPED, at)),
        Some(area) if area.loads(world) => None,
        // `arch/x86/mm/fault.c:bad_area_access_error()`.
        Some(area) => Some((if is_execute_only(area) { NO_KEY } else { NOT_ALLOWED }, at)),
    }
}

const fn is_execute_only(area: &Area) -> bool {
    area.prot == EXEC
}

/// The same of a store.
fn store_fault(task: &Task, at: u64) -> Option<(i32, u64)> {
    match task.process.space.at(at) {
        None => Some((NOT_MAPPED, at)),
        Some(area) if area.prot & WRITE != 0 => None,
        Some(_) => Some((NOT_ALLOWED, at)),
    }
}

/// An access split at page boundaries.
fn parts(at: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let first = (PAGE - at % PAGE).min(len);
    [(at, first), (at + first, len - first)].into_iter().filter(|(_, len)| *len > 0)
}
