// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the model of /dev/mem gives for a case of the audit, in the form of an observation.

use std::collections::HashMap;

use protocol::{Via, Width};
use types::{AccessEvent, AccessTarget, PlacedRegion, Signal};

use super::{Probed, Subject};
use crate::case::{Action, Case, Direction, Share};
use crate::observation::{Answer, CaseObservation, GpaRange, StepObservation};
use crate::place::Place;
use model::class::{Class, Classes, MemoryState, Truth};
use model::events::{Contents, Event};
use model::{self, Effect, Node, Op, Outcome, Piece, Task, Through, World};

/// Placeholder for bytes of memory: the model knows only that they are not all zeros.
const SOME_BYTE: u8 = 0x5a;

/// What the case gives in this world.
pub fn case(world: &World, regions: &[PlacedRegion], subject: Subject, case: &Case) -> Probed {
    let mut guest = Predicted {
        world,
        regions,
        task: Task::default(),
        contents: Contents::default(),
        slots: HashMap::new(),
        effects: HashMap::new(),
    };
    let steps = case.steps.iter().map(|step| guest.step(&step.id, &step.action)).collect();
    Probed { subject, case: case.clone(), observed: CaseObservation { steps, ..CaseObservation::default() } }
}

struct Predicted<'a> {
    world: &'a World,
    regions: &'a [PlacedRegion],
    task: Task,
    contents: Contents,
    /// Open files and mappings by the case's names; a name exists once its step succeeded.
    slots: HashMap<String, (u8, bool)>,
    /// What the steps did to memory.
    effects: HashMap<String, Vec<Effect>>,
}

impl Predicted<'_> {
    fn step(&mut self, id: &str, action: &Action) -> StepObservation {
        if let Action::Memory { at, len, wrote, .. } = action {
            return self.memory(id, *at, *len, wrote.as_deref());
        }
        if let Action::ReadFile { len, .. } = action {
            // Files of sysfs are no subject of the model, and none of the policies changes them.
            return StepObservation::new(id, Answer::Returned { value: *len });
        }
        if let Some(needs) = action.uses().filter(|name| !self.slots.get(*name).is_some_and(|slot| slot.1)) {
            return StepObservation::new(id, Answer::NotReached { needs: needs.to_owned() });
        }
        let Some(op) = self.op(action) else {
            let reason = "the model has no such step".to_owned();
            return StepObservation::new(id, Answer::NotRun { reason });
        };
        let gpa = self.gpa(&op);
        self.contents.start_operation();
        let prediction = model::step(self.world, &mut self.task, &op);
        let mut observed = StepObservation::new(id, answer(&prediction.outcome));
        let done = matches!(observed.answer, Answer::Returned { .. });
        if let Some(slot) = action.obtains().and_then(|name| self.slots.get_mut(name)) {
            slot.1 = done;
        }
        if let (Action::Munmap { map }, true) = (action, done) {
            self.slots.entry(map.clone()).and_modify(|slot| slot.1 = false);
        }
        if let (Some(start), Some(len)) = (gpa, action.requested_len()) {
            observed.gpa = Some(GpaRange { start, len });
        }
        if done && let Some((class, truth)) = self.bytes(prediction.outcome.pieces()) {
            observed.class = Classes::of([class]);
            observed.truth = truth;
        }
        for effect in &prediction.effects {
            let events = self.contents.apply(self.world, effect);
            observed.events.extend(events.iter().filter(|event| !event.optional).map(|e| self.event(e)));
        }
        self.effects.insert(id.to_owned(), prediction.effects);
        observed
    }

    fn resolve(&self, place: &Place) -> Option<u64> {
        place.resolve(self.regions)
    }

    /// The slot of a name; a new one for a new name.
    fn slot(&mut self, name: &str) -> u8 {
        let next = u8::try_from(self.slots.len()).unwrap_or(u8::MAX);
        self.slots.entry(name.to_owned()).or_insert((next, false)).0
    }

    fn op(&mut self, action: &Action) -> Option<Op> {
        Some(match action {
            Action::Open { path, flags, handle } => {
                Op::Open { file: self.slot(handle), node: node(path)?, flags: flags.0 }
            }
            Action::Lseek { fd, to, whence: Direction::Set } => {
                let offset = self.resolve(to)?.cast_signed();
                Op::Lseek { file: self.slot(fd), offset, whence: 0 }
            }
            Action::Read { fd, len, buffer } => {
                Op::Read { file: self.slot(fd), at: None, len: *len, buffer: buffer.of_agent() }
            }
            Action::Pread { fd, at, len, buffer } => {
                let at = Some(self.resolve(at)?);
                Op::Read { file: self.slot(fd), at, len: *len, buffer: buffer.of_agent() }
            }
            Action::Pwrite { fd, at, data, buffer } => {
                let (at, buffer) = (Some(self.resolve(at)?), buffer.of_agent());
                Op::Write { file: self.slot(fd), at, data: data.clone(), buffer }
            }
            Action::Mmap { fd, at, len, prot, share, over: None, handle } => Op::Mmap {
                file: self.slot(fd),
                map: self.slot(handle),
                offset: self.resolve(at)?,
                len: *len,
                prot: prot.0,
                flags: match share {
                    Share::Shared => libc::MAP_SHARED,
                    Share::Private => libc::MAP_PRIVATE,
                }
                .cast_unsigned(),
            },
            Action::Peek { map, offset, len } => {
                let (map, len) = (self.slot(map), u32::try_from(*len).ok()?);
                Op::Load { map, offset: *offset, len, width: Width::Byte }
            }
            Action::Poke { map, offset, data } => {
                Op::Store { map: self.slot(map), offset: *offset, data: data.clone(), width: Width::Byte }
            }
            Action::SelfMemRead { map, offset, len } => {
                self.fetch(Through::ProcMem(Via::Itself), map, *offset, *len)?
            }
            Action::VmReadv { map, offset, len } => {
                self.fetch(Through::ProcessVm(Via::Child), map, *offset, *len)?
            }
            Action::PtracePeek { map, offset, len } => self.fetch(Through::Ptrace, map, *offset, *len)?,
            Action::SelfMemWrite { map, offset, data } => Op::Put {
                through: Through::ProcMem(Via::Itself),
                map: self.slot(map),
                offset: *offset,
                data: data.clone(),
            },
            Action::Munmap { map } => Op::Munmap { map: self.slot(map) },
            Action::Ioperm { port, count, on } => {
                Op::Ioperm { from: u64::from(*port), count: u64::from(*count), on: *on }
            }
            Action::Iopl { level } => Op::Iopl { level: *level },
            _ => return None,
        })
    }

    fn fetch(&mut self, through: Through, map: &str, offset: u64, len: u64) -> Option<Op> {
        Some(Op::Fetch { through, map: self.slot(map), offset, len: u32::try_from(len).ok()? })
    }

    /// The physical address an operation is about.
    fn gpa(&self, op: &Op) -> Option<u64> {
        match op {
            Op::Read { file, at, .. } | Op::Write { file, at, .. } => {
                let file = self.task.file(*file).filter(|file| file.node == Node::Mem)?;
                Some(at.unwrap_or(file.position))
            }
            Op::Load { map, offset, .. }
            | Op::Store { map, offset, .. }
            | Op::Fetch { map, offset, .. }
            | Op::Put { map, offset, .. } => {
                let address = self.task.process.maps.get(map)?.address.wrapping_add(*offset);
                let area = self.task.process.space.at(address)?;
                Some(area.requested_offset.wrapping_add(address - area.start))
            }
            _ => None,
        }
    }

    /// The class of bytes of a source, and the contents of memory; `None` where the model makes no prediction.
    fn bytes(&self, pieces: &[Piece]) -> Option<(Class, Truth)> {
        let some = || Some(vec![SOME_BYTE]);
        let class = self.task.class_of(self.world, pieces.first()?.source)?;
        let truth = match class {
            Class::Device => Truth { device: some(), ..Truth::default() },
            _ => Truth { plain: some(), ..Truth::default() },
        };
        Some((class, truth))
    }

    fn event(&self, event: &Event) -> AccessEvent {
        let state = if self.world.is_memory(event.gpa) {
            AccessTarget::Page(self.world.page_state(event.gpa))
        } else {
            AccessTarget::Device
        };
        AccessEvent {
            kind: event.kind(),
            gpa: event.gpa,
            len: None,
            region: None,
            state,
            rip: 0,
            symbol: None,
            cpl: 0,
            task: None,
            backtrace: Vec::new(),
            device: None,
            unwound_by: None,
        }
    }

    /// The change of memory: it holds what was written where the view permits that.
    fn memory(&self, id: &str, at: Place, len: u64, wrote: Option<&str>) -> StepObservation {
        let effects = wrote.and_then(|id| self.effects.get(id)).map(Vec::as_slice).unwrap_or_default();
        let Some(start) = self.resolve(&at) else {
            let reason = format!("this guest has no `{at}`");
            return StepObservation::new(id, Answer::NotRun { reason });
        };
        let (start, end) = (self.world.without_bit(start), self.world.without_bit(start) + len);
        let mut state = MemoryState::Unchanged;
        for effect in effects {
            let Effect::Write { gpa, data, view } = effect else { continue };
            if *gpa >= end || gpa + data.len() as u64 <= start {
                continue;
            }
            let after = self.world.after_store(*gpa, *view);
            if after != MemoryState::Unchanged {
                state = after;
            }
        }
        let mut observed = StepObservation::new(id, Answer::Returned { value: len });
        observed.state = model::class::States::of([state]);
        observed.gpa = Some(GpaRange { start, len });
        observed
    }
}

fn node(path: &str) -> Option<Node> {
    [Node::Mem, Node::Port, Node::Kcore, Node::Msr, Node::Bar, Node::Config]
        .into_iter()
        .find(|node| node.path() == path)
}

fn answer(outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Value(value) | Outcome::Bytes { value, .. } => Answer::Returned { value: *value },
        Outcome::Failed { errno, .. } => Answer::Failed { errno: *errno },
        Outcome::Signal { signal, .. } | Outcome::Oops { signal } => {
            Answer::Signalled { signal: Signal(signal.0) }
        }
        Outcome::Refused(_) => Answer::NotRun { reason: "the model refused it".to_owned() },
    }
}
