// SPDX-License-Identifier: Apache-2.0 OR MIT
//! fork(2), exit(2), execve(2), and open files that go from one process to another.

use protocol::{Call, Refusal};

use super::prediction::{Effect, Outcome, Prediction};
use super::task::Task;
use super::world::World;
use crate::capability;
use types::Errno;

/// `arch/x86/mm/pat/memtype.c:track_pfn_copy()`: an area whose first page has become a copy no longer yields its cache mode, and
/// fork(2) of the whole task fails: EINVAL there, ENOMEM to the caller (`kernel/fork.c:copy_mm`). Since 6.16 the copies share
/// the entry.
pub fn can_fork(world: &World, task: &Task) -> bool {
    world.shares_tracking()
        || task.process.space.areas().all(|area| area.tracked.is_none() || !area.is_copied(area.start))
}

/// fork(2); the child executes what follows.
pub fn fork(world: &World, task: &mut Task) -> Prediction {
    if !can_fork(world, task) {
        return Prediction::plain(Outcome::Failed { errno: Errno::ENOMEM, call: Call::Own });
    }
    task.parents.push(task.process.clone());
    let mut numbers = Vec::new();
    for area in task.process.space.areas() {
        if area.tracked.is_some() && !world.shares_tracking() {
            // `reserve_pfn_range()` with the caching that the parent has: a second entry of the range.
            let got = task.types.reserve_mapping(world, area.gpa, area.gpa + area.len, area.mode, true);
            if got.is_err() {
                // Has not been observed to fail: an entry of the same cache mode exists.
                continue;
            }
        }
        if !area.shared && !numbers.contains(&area.memory) {
            numbers.push(area.memory);
        }
    }
    // `mm/memory.c:__copy_present_ptes()`: clean in the child, and as writable as in the parent.
    for area in task.process.space.areas_mut().filter(|area| area.shared) {
        area.stored.clear();
    }
    let mut effects = Vec::new();
    for from in numbers {
        let to = task.number();
        for area in task.process.space.areas_mut().filter(|area| area.memory == from) {
            area.memory = to;
        }
        effects.push(Effect::Duplicated { from, to });
    }
    Prediction { outcome: Outcome::Value(0), effects, reasons: Vec::new() }
}

/// exit(2) of a child; the process that forked it goes on with what it had.
pub fn exit(world: &World, task: &mut Task) -> Prediction {
    let Some(parent) = task.parents.pop() else {
        return Prediction::plain(Outcome::Refused(Refusal::Malformed));
    };
    let child = std::mem::replace(&mut task.process, parent);
    let gone: Vec<_> = child.space.areas().cloned().collect();
    task.untrack(world, &gone);
    Prediction::value(0)
}

/// execve(2) of the agent by itself: mappings are removed, open files stay open unless they are marked
/// (`security/commoncap.c:cap_bprm_creds_from_file`).
pub fn exec(world: &World, task: &mut Task) -> Prediction {
    let gone: Vec<_> = task.process.space.areas().cloned().collect();
    task.process.space = super::space::Space::default();
    task.untrack(world, &gone);
    for descriptor in task.process.files.values_mut() {
        descriptor.gone |= descriptor.closes_on_exec;
    }
    task.process.socket = None;
    let credentials = &mut task.process.credentials;
    // UID 0 gets every capability unless no_new_privs is set; in a namespace without an ID map no user is root.
    let granted = if credentials.uid == 0 && !credentials.in_namespace { capability::ALL } else { 0 };
    credentials.permitted = if credentials.no_new_privs { granted & credentials.permitted } else { granted };
    credentials.dumpable = true;
    Prediction::value(0)
}

/// sendmsg(2) with `SCM_RIGHTS`.
pub fn send_file(world: &World, task: &mut Task, slot: u8) -> Prediction {
    if let Err(outcome) = task.open_file(slot) {
        return Prediction::plain(outcome);
    }
    if !world.config.unix {
        return Prediction::failed(Errno::EAFNOSUPPORT);
    }
    task.send(slot);
    Prediction::value(0)
}

/// recvmsg(2) of a file into a slot, which is emptied first.
pub fn receive_file(task: &mut Task, slot: u8) -> Prediction {
    if task.process.socket.is_none() {
        return Prediction::plain(Outcome::Refused(Refusal::File));
    }
    task.process.files.remove(&slot);
    if task.receive(slot) { Prediction::value(0) } else { Prediction::failed(Errno::EAGAIN) }
}
