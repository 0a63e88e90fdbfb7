// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many places in one batch of the agent: one path at a time, so that each forbidden access belongs to the one step that is
//! about its page.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::case::ViewChoice;
use protocol::{Batch, Buffer, Outcome, Step, Via, Width};
use types::{AccessEvent, PlacedRegion};
use vmm::layout::PAGE_SIZE;
use vmm::machine::Machine;
use vmm::memory::MemoryError;
use vmm::snapshot::SnapshotError;

use super::super::writes::DATA;
use super::{LEN, SweepError, fill};
use crate::observation::{Answer, GpaRange, StepObservation};
use crate::runner::{self, Prior, Recorded};
use crate::session::{Ended, SavedGuest, Session};
use model::class::memory_state;

/// Places in one batch: their results fit the agent's window.
const PLACES: usize = 32;
/// The slots of file and mapping.
const SLOT: u8 = 0;

/// How the bytes are accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Pread,
    Load,
    SelfMemRead,
    Pwrite,
    Store,
    SelfMemWrite,
}

/// A path: the ids of its steps, and what they do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    /// The step that opens /dev/mem.
    pub(super) open: &'static str,
    pub(super) flags: i32,
    /// The step that maps the page, what the mapping is called, and its flags.
    pub(super) map: Option<(&'static str, &'static str, i32)>,
    /// The step that accesses the bytes.
    pub(super) id: &'static str,
    pub(super) access: Access,
}

/// A place with the observations there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) gpa: u64,
    pub(super) steps: Vec<StepObservation>,
}

/// The guest a sweep runs in.
pub(super) struct Sweeper<'a> {
    pub(super) session: &'a mut Session,
    /// It before the first batch.
    pub(super) saved: &'a SavedGuest,
    pub(super) regions: &'a [PlacedRegion],
    pub(super) limit: Duration,
    pub(super) interrupt: &'a Arc<AtomicBool>,
}

/// Why a batch is not done; its guest is of no more use.
enum Stopped {
    /// The guest ended.
    Ended(Ended),
    /// Memory could not be prepared.
    Memory(MemoryError),
    /// The guest could not be restored.
    Snapshot(SnapshotError),
}

impl Sweeper<'_> {
    /// Goes a path to every place; false if it was interrupted.
    pub(super) fn go(&mut self, path: Path, places: &mut [Place]) -> Result<bool, SweepError> {
        // An event has no encryption bit: a page by its two addresses is never in one batch.
        let platform = self.session.machine().platform();
        let aliases = places.partition_point(|place| platform.split(place.gpa).1 == place.gpa);
        let (plain, aliases) = places.split_at_mut(aliases);
        for some in plain.chunks_mut(PLACES).chain(aliases.chunks_mut(PLACES)) {
            match self.batch(path, some) {
                Ok(()) => {}
                Err(Stopped::Ended(_)) if self.interrupt.load(Ordering::Relaxed) => return Ok(false),
                Err(stopped) => {
                    let (path, first) = (path.id, some.first().map_or(0, |place| place.gpa));
                    return Err(match stopped {
                        Stopped::Ended(ended) => SweepError::Ended { path, first, ended: Box::new(ended) },
                        Stopped::Memory(source) => SweepError::Memory { path, first, source },
                        Stopped::Snapshot(source) => SweepError::Snapshot { path, first, source },
                    });
                }
            }
        }
        Ok(true)
    }

    fn batch(&mut self, path: Path, places: &mut [Place]) -> Result<(), Stopped> {
        for place in places.iter() {
            fill(self.session.machine(), place.gpa).map_err(Stopped::Memory)?;
        }
        let machine = self.session.machine();
        let priors: Vec<Prior> =
            places.iter().map(|place| Prior::take(machine, place.gpa, len(place.gpa) as usize)).collect();
        let before: Vec<Vec<u8>> = places.iter().map(|place| owned(machine, place.gpa)).collect();
        let mut batch = Batch::new().new_worker();
        let flags = path.flags.cast_unsigned();
        batch.push(&Step::Open { file: SLOT, path: b"/dev/mem", flags, mode: 0 });
        for place in places.iter() {
            for step in &steps(path, place.gpa) {
                batch.push(step);
            }
        }
        let cursor = machine.events().cursor();
        let outcomes = self.session.execute(&batch, self.limit).map_err(Stopped::Ended)?.outcomes;
        let mut outcomes = outcomes.into_iter().chain(std::iter::repeat(Outcome::NotRun));
        let Recorded { mut events, mut dropped } = runner::events_since(self.session, cursor, self.regions);
        let opened = outcomes.next().unwrap_or(Outcome::NotRun);
        for ((place, prior), before) in places.iter_mut().zip(priors).zip(&before) {
            place.observe(path, self.session.machine(), opened.clone(), &mut outcomes, prior, before);
            let (_, plain) = self.session.machine().platform().split(place.gpa);
            let page = plain & !(PAGE_SIZE - 1);
            let (here, elsewhere): (Vec<AccessEvent>, Vec<AccessEvent>) =
                events.into_iter().partition(|event| event.gpa & !(PAGE_SIZE - 1) == page);
            events = elsewhere;
            place.add(path.id, here, std::mem::take(&mut dropped));
        }
        // What no place is about counts as well: for the first, as good as any.
        if let Some(place) = places.first_mut() {
            place.add(path.id, events, 0);
        }
        self.session.restore(self.saved).map(drop).map_err(Stopped::Snapshot)
    }
}

/// The steps to a place, those of `Place::observe` in the same order.
fn steps(path: Path, gpa: u64) -> Vec<Step<'static>> {
    let offset = gpa % PAGE_SIZE;
    let len = len(gpa) as u32;
    let access = match path.access {
        Access::Pread => Step::Pread { file: SLOT, offset: gpa, len: len.into(), buffer: Buffer::Good },
        Access::Load => Step::Peek { map: SLOT, offset, len, width: width(offset | u64::from(len)) },
        Access::SelfMemRead => Step::ProcMemRead { via: Via::Itself, map: SLOT, offset, len },
        Access::Pwrite => Step::Pwrite { file: SLOT, offset: gpa, data: &DATA, buffer: Buffer::Good },
        Access::Store => Step::Poke { map: SLOT, offset, data: &DATA, width: width(offset) },
        Access::SelfMemWrite => Step::ProcMemWrite { via: Via::Itself, map: SLOT, offset, data: &DATA },
    };
    let Some((_, _, flags)) = path.map else { return vec![access] };
    let writes = matches!(path.access, Access::Store | Access::SelfMemWrite);
    let prot = libc::PROT_READ | if writes { libc::PROT_WRITE } else { 0 };
    let map = Step::Mmap {
        map: SLOT,
        file: SLOT,
        offset: gpa - offset,
        len: PAGE_SIZE,
        prot: prot.cast_unsigned(),
        flags: flags.cast_unsigned(),
    };
    vec![map, access, Step::Munmap { map: SLOT }]
}

/// How many bytes are read: not beyond the page.
fn len(gpa: u64) -> u64 {
    LEN.min(PAGE_SIZE - gpa % PAGE_SIZE)
}

/// Quadwords where they are aligned.
fn width(offset: u64) -> Width {
    if offset.is_multiple_of(Width::Quad as u64) { Width::Quad } else { Width::Byte }
}

/// The written bytes as read through the view of the page's state.
fn owned(machine: &Machine, gpa: u64) -> Vec<u8> {
    runner::seen(machine, gpa, DATA.len(), ViewChoice::Owner)
}

impl Place {
    fn observe(
        &mut self,
        path: Path,
        machine: &Machine,
        opened: Outcome,
        outcomes: &mut dyn Iterator<Item = Outcome>,
        prior: Prior,
        before: &[u8],
    ) {
        let mut next = || runner::answer(outcomes.next().unwrap_or(Outcome::NotRun));
        let (opened, _) = runner::answer(opened);
        let mut missing = (!succeeded(&opened)).then_some("mem");
        self.steps.push(StepObservation::new(path.open, opened));
        if let Some((id, handle, _)) = path.map {
            let (answer, _) = next();
            let answer = missing.map_or(answer, not_reached);
            missing = missing.or((!succeeded(&answer)).then_some(handle));
            self.steps.push(StepObservation::new(id, answer));
        }
        let (answer, bytes) = next();
        if path.map.is_some() {
            // The mapping is removed.
            let _ = next();
        }
        let observed = StepObservation::new(path.id, missing.map_or(answer, not_reached));
        let is_write = matches!(path.access, Access::Pwrite | Access::Store | Access::SelfMemWrite);
        let len = if is_write { DATA.len() as u64 } else { len(self.gpa) };
        let observed = if bytes.is_empty() { observed } else { prior.compare(machine, observed, bytes) };
        self.steps.push(StepObservation { gpa: Some(GpaRange { start: self.gpa, len }), ..observed });
        if is_write {
            let state = memory_state(before, &owned(machine, self.gpa), Some(&DATA));
            let observed = StepObservation::new("memory", Answer::Returned { value: len });
            let gpa = Some(GpaRange { start: self.gpa, len });
            self.steps.push(StepObservation { state, gpa, ..observed });
        }
    }

    /// Adds forbidden accesses to a step.
    fn add(&mut self, id: &str, events: Vec<AccessEvent>, dropped: u64) {
        if let Some(step) = self.steps.iter_mut().rev().find(|step| step.step == id) {
            step.events.extend(events);
            step.events_dropped += dropped;
        }
    }
}

fn succeeded(answer: &Answer) -> bool {
    matches!(answer, Answer::Returned { .. })
}

fn not_reached(needs: &str) -> Answer {
    Answer::NotReached { needs: needs.to_owned() }
}
