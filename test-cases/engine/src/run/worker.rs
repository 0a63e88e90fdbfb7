// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One guest that runs case after case, each from the instant at which the guest was saved.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use types::{PlacedRegion, Region};
use vmm::trace::event_log::MAX_EVENTS;

use super::mutant::{self, NotChosen};
use crate::case::Case;
use crate::guest::facts;
use crate::observation::{CaseObservation, Counters, NotRun};
use crate::place::{Base, Place};
use crate::runner;
use crate::session::{Ended, SavedGuest, Session};
use crate::setup::Setup;

/// Forbidden accesses after which a new machine is taken, since a machine keeps a bounded number of them.
const MANY_EVENTS: usize = MAX_EVENTS / 2;

/// What is the same for all guests of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<'a> {
    /// The guest from which every case starts.
    pub saved: &'a SavedGuest,
    /// Where its regions are.
    pub regions: &'a [PlacedRegion],
    /// How long one step may take.
    pub limit: Duration,
    /// The run is to end.
    pub interrupt: &'a AtomicBool,
}

/// A guest, or none after one that could not be restored.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    shared: Shared<'a>,
    guest: Option<Guest>,
    counters: Counters,
}

#[derive(Debug)]
enum Guest {
    /// As it was saved.
    Fresh(Session),
    /// It has run since.
    Used(Session),
    /// It has ended.
    Ended(Session),
}

/// What became of a case.
#[derive(Debug)]
pub(super) enum Ran {
    /// It ran, or could not.
    Observed {
        /// What was observed.
        observation: Box<CaseObservation>,
        /// How the guest ended, with the step during which it did.
        ended: Option<(Ended, String)>,
    },
    /// The run is to end: there is nothing to judge.
    Interrupted,
}

impl Ran {
    fn not_run(why: NotRun) -> Self {
        let observation = Box::new(CaseObservation { not_run: Some(why), ..CaseObservation::default() });
        Self::Observed { observation, ended: None }
    }

    /// It was not run, for this reason.
    pub(super) fn skipped(reason: String) -> Self {
        Self::not_run(NotRun::Skipped(reason))
    }

    fn failed(why: String) -> Self {
        Self::not_run(NotRun::Failed(why))
    }
}

impl<'a> Worker<'a> {
    /// A worker with a guest that has run since it was saved, or with none yet.
    pub(super) fn new(shared: Shared<'a>, guest: Option<Session>) -> Self {
        Self { shared, guest: guest.map(Guest::Used), counters: Counters::default() }
    }

    /// The run is to end.
    pub(super) fn is_interrupted(&self) -> bool {
        self.shared.interrupt.load(Ordering::Relaxed)
    }

    /// Runs one case in a guest of this setup, which differs from the saved one in what can change while it runs.
    pub(super) fn run(&mut self, case: &Case, setup: Setup) -> Ran {
        let mut session = match self.ready() {
            Ok(session) => session,
            Err(why) => return Ran::failed(why),
        };
        if !has_required_state(&session, case, self.shared.regions) {
            self.guest = Some(Guest::Fresh(session));
            let why = "the guest had accepted memory of the region `unaccepted` before its agent came up";
            return Ran::failed(why.into());
        }
        session.machine().memory().set_mode(setup.mode);
        let chosen = setup.mutant.map(|mutant| mutant::choose(&mut session, mutant, self.shared.limit));
        match chosen {
            None | Some(Ok(())) => {}
            Some(Err(NotChosen::Unknown(why))) => {
                self.guest = Some(Guest::Used(session));
                return Ran::skipped(why);
            }
            Some(Err(NotChosen::Failed(why))) => {
                self.guest = Some(Guest::Used(session));
                return Ran::failed(why);
            }
            Some(Err(NotChosen::Ended(why))) => {
                self.guest = Some(Guest::Ended(session));
                return Ran::failed(why);
            }
        }
        let run = runner::run_case(&mut session, case, self.shared.regions, self.shared.limit);
        let ended = run.ended;
        self.guest = Some(if ended.is_some() { Guest::Ended(session) } else { Guest::Used(session) });
        if self.is_interrupted() && ended.is_some() {
            return Ran::Interrupted;
        }
        Ran::Observed { observation: Box::new(run.observation), ended }
    }

    /// What its guests did.
    pub(super) fn finish(mut self) -> Counters {
        self.let_go();
        self.counters
    }

    /// A guest as it was saved: the present one, or another one where that cannot be restored.
    fn ready(&mut self) -> Result<Session, String> {
        let saved = self.shared.saved;
        let is_full = |guest: &Guest| guest.session().machine().events().len() > MANY_EVENTS;
        if self.guest.as_ref().is_some_and(is_full) {
            self.let_go();
        }
        let why = match self.guest.take() {
            Some(Guest::Fresh(session)) => return Ok(session),
            Some(Guest::Used(mut session)) => match session.restore(saved) {
                Ok(_) => return Ok(session),
                Err(error) => {
                    self.count(&session);
                    error.to_string()
                }
            },
            Some(Guest::Ended(session)) => {
                // What could not be revived is gone with its counters.
                let counted = counters_of(&session);
                match session.revive(saved) {
                    Ok(session) => return Ok(session),
                    Err(error) => {
                        self.counters = self.counters.plus(counted);
                        error.to_string()
                    }
                }
            }
            None => String::new(),
        };
        saved.start().map_err(|error| match why.as_str() {
            "" => format!("no guest could be started: {error}"),
            why => format!("the guest could not be restored ({why}), and no other one started: {error}"),
        })
    }

    fn let_go(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.count(guest.session());
        }
    }

    fn count(&mut self, session: &Session) {
        self.counters = self.counters.plus(counters_of(session));
    }
}

impl Guest {
    fn session(&self) -> &Session {
        match self {
            Self::Fresh(session) | Self::Used(session) | Self::Ended(session) => session,
        }
    }
}

/// What a machine did since it was made.
pub(super) fn counters_of(session: &Session) -> Counters {
    let stats = session.machine().stats();
    Counters {
        exits: stats.exits,
        faults: stats.memory.faults,
        conversions: stats.memory.declared_moves + stats.memory.implicit_moves + stats.memory.conversions,
        accepted: stats.memory.accepted,
        calls: stats.calls + stats.hypercalls,
        msrs: stats.msr,
        exceptions: stats.exceptions,
        mismatches: session.machine().events().len() as u64,
        not_kept: stats.events_not_kept,
        refused: session.machine().conversions().refused(),
        ..Counters::default()
    }
}

/// The memory of region `unaccepted` has that state if the case names it.
fn has_required_state(session: &Session, case: &Case, regions: &[PlacedRegion]) -> bool {
    let names_it = |place: &Place| place.base == Base::Region(Region::Unaccepted);
    !case.steps.iter().filter_map(|step| step.action.place()).any(names_it)
        || facts::is_still_unaccepted(session.machine(), regions)
}
