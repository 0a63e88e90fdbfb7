// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs cases in a booted guest: each step is sent to the agent alone, so that its result can be compared with the
//! contents of memory at that time, and every forbidden access belongs to one step.

mod baseline;
mod events;
mod kcore;
mod log;
mod slots;
mod translate;
mod truth;

use std::time::{Duration, Instant};

use protocol::{Batch, Buffer, FILE_SLOTS, Outcome};
use types::{Errno, PlacedRegion, Signal};

use self::baseline::Baseline;
use self::log::Mark;
use self::slots::Slots;
use self::translate::Translated;
use crate::case::{Action, Case, Step};
use crate::observation::{Answer, CaseObservation, GpaRange, NotRun, StepObservation};
use crate::place::Place;
use crate::session::{End, Ended, Session, Worker};

pub use self::events::{
    Placed, PlacedEvent, Recorded, all as all_events, by_place as events_by_place, changes_of, changes_since,
    refused_since, since as events_since,
};
pub use self::truth::{Prior, seen};

/// A case's observations, and how the guest ended if it did.
#[derive(Debug)]
pub struct CaseRun {
    /// The observation.
    pub observation: CaseObservation,
    /// The guest's end, with the step during which it ended.
    pub ended: Option<(Ended, String)>,
}

impl CaseRun {
    fn not_run(why: NotRun, ended: Option<(Ended, String)>, started: Instant) -> Self {
        let duration = started.elapsed();
        let observation = CaseObservation { not_run: Some(why), duration, ..CaseObservation::default() };
        Self { observation, ended }
    }
}

/// Runs one case with a new worker. `limit` bounds each step.
pub fn run_case(session: &mut Session, case: &Case, regions: &[PlacedRegion], limit: Duration) -> CaseRun {
    let started = Instant::now();
    let requested = session.machine().conversions().all().len();
    let baseline = Baseline::take(session.machine(), case, regions);
    let mut logged = None;
    if let Some(step) = case.steps.iter().find(|step| step.action == Action::KernelLog) {
        // The worker of the case before may have given up what this takes.
        match mark(session, limit) {
            Ok(Ok(mark)) => logged = Some(mark),
            Ok(Err(not_run)) => return CaseRun::not_run(not_run, None, started),
            Err(end) => {
                let reason = format!("the guest ended while its kernel log was read before the case: {end}");
                return CaseRun::not_run(NotRun::Failed(reason), Some((end, step.id.clone())), started);
            }
        }
    }
    let mut state = State { slots: Slots::default(), baseline, regions, limit, fresh: true, logged };
    let mut steps: Vec<StepObservation> = Vec::new();
    let mut ended: Option<(Ended, String)> = None;
    for step in &case.steps {
        if let Some((end, _)) = &ended {
            steps.push(StepObservation::new(&step.id, after(end)));
            continue;
        }
        let begun = Instant::now();
        let mut observed = match state.run(session, step, &steps) {
            Ok(observed) => observed,
            Err(end) => {
                let observed = of_end(&step.id, &end);
                ended = Some((end, step.id.clone()));
                observed
            }
        };
        // Records of the first step include those since the boot or the previous case.
        let reported = session.take_cursors();
        let recorded = events::since(session, reported.events, regions);
        observed.events = recorded.events;
        observed.events_dropped = recorded.dropped;
        observed.changes = changes_since(session, Some(reported.changes));
        observed.duration = begun.elapsed();
        steps.push(observed);
    }
    let refused = refused_since(session, requested);
    let observation = CaseObservation { steps, refused, not_run: None, duration: started.elapsed() };
    CaseRun { observation, ended }
}

fn mark(session: &mut Session, limit: Duration) -> Result<Result<Mark, NotRun>, Ended> {
    let log = session.kernel_log(Worker::New, limit)?;
    Ok(Mark::of(log.map_err(|outcome| answer(outcome).0)))
}

/// A step in which the guest died, or its run was aborted: that is no evidence, even if the expected events were recorded before.
fn of_end(step: &str, end: &Ended) -> StepObservation {
    match end.end {
        End::Died(deaths) => StepObservation { end: deaths, ..StepObservation::new(step, Answer::GuestDied) },
        End::Aborted => StepObservation::new(step, Answer::NotRun { reason: end.text.clone() }),
    }
}

/// A step after the guest's end.
fn after(end: &Ended) -> Answer {
    match end.end {
        End::Died(_) => Answer::NotReached { needs: "a guest that lives".into() },
        End::Aborted => Answer::NotRun { reason: "the guest's run was aborted before this step".into() },
    }
}

/// Where the worker keeps files that no case has opened.
const OWN_FILE: u8 = FILE_SLOTS - 1;
/// Most bytes read by the VMM before a step; the rest of a longer request is not compared.
const MAX_PRIOR: usize = 1 << 20;

struct State<'a> {
    slots: Slots,
    baseline: Baseline,
    regions: &'a [PlacedRegion],
    limit: Duration,
    /// The next step is executed by a new worker.
    fresh: bool,
    /// The kernel log before the case, where the case reads it.
    logged: Option<Mark>,
}

impl State<'_> {
    fn run(
        &mut self,
        session: &mut Session,
        step: &Step,
        before: &[StepObservation],
    ) -> Result<StepObservation, Ended> {
        match &step.action {
            Action::Memory { at, len, wrote, view } => {
                return Ok(self.read_memory(session, step, *at, *len, wrote.as_deref(), *view, before));
            }
            Action::KcoreRead { at, len } => return self.kcore(session, step, *at, *len),
            Action::KernelLog => return self.kernel_log(session, step),
            Action::Exit if !self.slots.in_child() => {
                self.slots.release_all(&step.id);
                self.fresh = true;
            }
            _ => {}
        }
        if let Some(answer) = self.slots.unavailable(step) {
            return Ok(StepObservation::new(&step.id, answer));
        }
        let translated = match translate::step(&step.action, &mut self.slots, self.regions) {
            Ok(translated) => translated,
            Err(reason) => return Ok(StepObservation::new(&step.id, Answer::NotRun { reason })),
        };
        let place = self.slots.place(&step.action, &translated);
        let prior = Self::prior(session, step, place);
        if let Some((place, data)) = place.zip(step.action.data()) {
            self.baseline.save(session.machine(), place, data.len() as u64);
        }
        let outcomes = self.execute(session, &[translated.step()])?;
        let outcome = outcomes.into_iter().next().unwrap_or(Outcome::NotRun);
        let observed = self.observe(session, step, &translated, outcome, prior);
        // The agent answers before it resets the guest; the end belongs to this step and to no later one.
        if matches!((&step.action, &observed.answer), (Action::Reboot, Answer::Returned { .. })) {
            return Err(session.await_end(self.limit));
        }
        Ok(observed)
    }

    /// Has the case's worker do some steps of the agent.
    fn execute(
        &mut self,
        session: &mut Session,
        steps: &[protocol::Step<'_>],
    ) -> Result<Vec<Outcome>, Ended> {
        let mut batch = Batch::new().step_limit(u32::try_from(self.limit.as_millis() / 3).unwrap_or(0));
        if std::mem::take(&mut self.fresh) {
            batch = batch.new_worker();
        }
        for step in steps {
            batch.push(step);
        }
        Ok(session.execute(&batch, self.limit)?.outcomes)
    }

    /// The truth right before the step, which may destroy it.
    fn prior(session: &Session, step: &Step, place: Option<u64>) -> Option<Prior> {
        let len =
            step.action.requested_len().filter(|_| step.action.yields() == crate::case::Yield::Memory)?;
        Some(Prior::take(session.machine(), place?, usize::try_from(len).ok()?.min(MAX_PRIOR)))
    }

    fn observe(
        &mut self,
        session: &Session,
        step: &Step,
        translated: &Translated,
        outcome: Outcome,
        prior: Option<Prior>,
    ) -> StepObservation {
        let (mut answer, bytes) = answer(outcome);
        if matches!(step.action, Action::Run { .. }) {
            answer = of_program(answer);
        }
        let gpa = self.slots.place(&step.action, translated);
        self.slots.apply(step, &answer, translated);
        let mut observed = StepObservation::new(&step.id, answer);
        if let Some(start) = gpa {
            let len = step.action.requested_len().unwrap_or(0);
            observed.gpa = Some(GpaRange { start, len });
            if let Some(prior) = prior.filter(|_| !bytes.is_empty()) {
                return prior.compare(session.machine(), observed, bytes);
            }
        }
        if step.action.yields() != crate::case::Yield::Nothing {
            observed.bytes = bytes;
        }
        observed
    }

    fn kcore(
        &mut self,
        session: &mut Session,
        step: &Step,
        at: Place,
        len: u64,
    ) -> Result<StepObservation, Ended> {
        let not_run = |reason| Ok(StepObservation::new(&step.id, Answer::NotRun { reason }));
        let Some(start) = at.resolve(self.regions) else {
            return not_run(format!("this guest has no `{at}`"));
        };
        let pread = |offset, len| protocol::Step::Pread { file: OWN_FILE, offset, len, buffer: Buffer::Good };
        let open = protocol::Step::Open { file: OWN_FILE, path: b"/proc/kcore", flags: 0, mode: 0 };
        let mut outcomes = self.execute(session, &[open, pread(0, kcore::HEAD.into())])?.into_iter();
        let head = match (outcomes.next(), outcomes.next()) {
            (Some(Outcome::Value(_)), Some(Outcome::Data { data, .. })) => data.bytes,
            (Some(Outcome::Value(_)), failed) | (failed, _) => {
                let (answer, _) = answer(failed.unwrap_or(Outcome::NotRun));
                return Ok(StepObservation::new(&step.id, answer));
            }
        };
        let Some(offset) = kcore::offset_of(&head, start) else {
            return not_run(format!("/proc/kcore of this guest has nothing at `{at}`"));
        };
        let whole = usize::try_from(len).unwrap_or(usize::MAX).min(MAX_PRIOR);
        let prior = Prior::take(session.machine(), start, whole);
        let outcomes =
            self.execute(session, &[pread(offset, len), protocol::Step::Close { file: OWN_FILE }])?;
        let (answer, bytes) = answer(outcomes.into_iter().next().unwrap_or(Outcome::NotRun));
        let mut observed = StepObservation::new(&step.id, answer);
        observed.gpa = Some(GpaRange { start, len });
        Ok(prior.compare(session.machine(), observed, bytes))
    }

    fn kernel_log(&mut self, session: &mut Session, step: &Step) -> Result<StepObservation, Ended> {
        let Some(mark) = &self.logged else {
            let reason = "the kernel log was not read before the case".to_owned();
            return Ok(StepObservation::new(&step.id, Answer::NotRun { reason }));
        };
        let worker = if std::mem::take(&mut self.fresh) { Worker::New } else { Worker::Same };
        let log = session.kernel_log(worker, self.limit)?;
        Ok(mark.step(&step.id, log.map_err(|outcome| answer(outcome).0)))
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one action")]
    fn read_memory(
        &self,
        session: &Session,
        step: &Step,
        at: Place,
        len: u64,
        wrote: Option<&str>,
        view: crate::case::ViewChoice,
        before: &[StepObservation],
    ) -> StepObservation {
        let reached = wrote.and_then(|id| before.iter().find(|o| o.step == id));
        if let Some(StepObservation { answer: Answer::NotReached { needs }, .. }) = reached {
            return StepObservation::new(&step.id, Answer::NotReached { needs: needs.clone() });
        }
        let Some(start) = at.resolve(self.regions) else {
            let reason = format!("this guest has no `{at}`");
            return StepObservation::new(&step.id, Answer::NotRun { reason });
        };
        let now = seen(session.machine(), start, len as usize, view);
        let written = wrote.and_then(|id| self.baseline.data_of(id));
        let mut observed = StepObservation::new(&step.id, Answer::Returned { value: len });
        observed.state = self.baseline.compare(start, &now, written);
        observed.gpa = Some(GpaRange { start, len });
        observed.truth.plain = Some(now);
        observed
    }
}

/// A program's wait status, as `wait(2)` gives it, in the words of observations.
fn of_program(answer: Answer) -> Answer {
    match answer {
        Answer::Returned { value } if value & 0x7f != 0 => {
            Answer::Signalled { signal: Signal((value & 0x7f) as u8) }
        }
        Answer::Returned { value } => Answer::Returned { value: value >> 8 & 0xff },
        Answer::Failed { errno: Errno::ETIMEDOUT } => Answer::TimedOut,
        other => other,
    }
}

/// The agent's outcome as an answer of an observation.
pub(crate) fn answer(outcome: Outcome) -> (Answer, Vec<u8>) {
    let failed = |number: u16| Answer::Failed { errno: Errno(number) };
    let signalled = |signal: u8| Answer::Signalled { signal: Signal(signal) };
    let not_run = |reason: String| Answer::NotRun { reason };
    match outcome {
        Outcome::Value(value) => (Answer::Returned { value: value.cast_unsigned() }, Vec::new()),
        Outcome::Data { value, data } => (Answer::Returned { value: value.cast_unsigned() }, data.bytes),
        Outcome::Failed { errno, .. } => (failed(errno.0), Vec::new()),
        Outcome::Signal { signal, data, .. } => (signalled(signal), data.bytes),
        Outcome::Killed { signal } => (signalled(signal), Vec::new()),
        Outcome::Timeout { .. } => (Answer::TimedOut, Vec::new()),
        Outcome::Status(status) => {
            let text = format!(
                "mode {:o} rdev {:#x} size {} uid {} gid {}",
                status.mode, status.rdev, status.size, status.uid, status.gid
            );
            (Answer::Returned { value: status.size }, text.into_bytes())
        }
        Outcome::Exited { status } => {
            (not_run(format!("the agent's worker exited with {status}")), Vec::new())
        }
        Outcome::NoRoom => (not_run("no room for its result".into()), Vec::new()),
        Outcome::Refused(why) => (not_run(format!("the agent refused it: {why:?}")), Vec::new()),
        Outcome::Sweep(_) => (not_run("a sweep where one step was requested".into()), Vec::new()),
        Outcome::NotRun => (not_run("the agent stopped before it".into()), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_an_exit_status_or_a_signal() {
        let of = |value| of_program(Answer::Returned { value });
        assert_eq!(of(0), Answer::Returned { value: 0 });
        assert_eq!(of(3 << 8), Answer::Returned { value: 3 });
        assert_eq!(of(9), Answer::Signalled { signal: Signal(9) });
        // With the bit of a core dump.
        assert_eq!(of(0x80 + 11), Answer::Signalled { signal: Signal(11) });
        let failed = |errno| Answer::Failed { errno };
        assert_eq!(of_program(failed(Errno::ETIMEDOUT)), Answer::TimedOut);
        assert_eq!(of_program(failed(Errno::ENOENT)), failed(Errno::ENOENT));
    }
}
