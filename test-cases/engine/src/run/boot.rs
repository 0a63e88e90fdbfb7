// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Boots a guest, and records its accesses until its agent answered or it ended.

use std::sync::atomic::Ordering;

use protocol::Step;
use serde::{Deserialize, Serialize};
use types::{BadCall, PageChange, PlacedRegion};

use super::kept::Place;
use super::worker::counters_of;
use super::{Activity, Engine, Watcher};
use crate::boot::{Context, judge};
use crate::guest::{GuestLog, check_guest_type, facts};
use crate::observation::{BootObservation, RewrittenOpcode, Unaccepted};
use crate::report::RunEnd;
use crate::runner;
use crate::session::{self, SavedGuest, Session, SessionError};
use crate::setup::Setup;
use model::release::Release;

/// What a guest's boot showed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BootFacts {
    pub(super) release: String,
    version: String,
    build_id: Option<String>,
    log: Vec<String>,
    log_unread: Option<String>,
    unaccepted: Option<Unaccepted>,
    pub(super) guest_type: Option<String>,
    view_bit: Option<u8>,
    changes: Vec<PageChange>,
    rewritten: Vec<RewrittenOpcode>,
    bad_calls: Vec<BadCall>,
    unserved_modules: Vec<String>,
    boot_seconds: f64,
    pub(super) regions: Vec<PlacedRegion>,
    pub(super) observed: BootObservation,
    /// When the guest was booted, in seconds since 1970, if that was in an earlier run.
    #[serde(skip)]
    pub(super) booted_at: Option<u64>,
}

/// A guest from which cases start.
pub(super) struct Started {
    /// It, having run since it was saved, if this run booted it.
    pub session: Option<Session>,
    /// It, when its agent answered.
    pub saved: SavedGuest,
    /// What its boot showed, and where it is to be kept, if it is.
    pub to_keep: Option<(Place, BootFacts)>,
}

/// Why there is no guest from which cases start.
pub(super) enum NotStarted {
    /// None of this setup came up.
    Setup(String),
    /// The run is to end.
    Run(RunEnd),
}

impl NotStarted {
    /// How a run ends that needs this guest and no other.
    pub(super) fn end_of_run(self) -> RunEnd {
        match self {
            Self::Setup(why) => RunEnd::Failed(why),
            Self::Run(end) => end,
        }
    }
}

impl Engine<'_> {
    /// A guest of this setup: one that an earlier run kept, else a new one.
    pub(super) fn start(&mut self, setup: Setup, watcher: &mut dyn Watcher) -> Result<Started, NotStarted> {
        let place = self.place(setup);
        if let Some((saved, facts)) = place.as_ref().and_then(|place| self.kept_guest(place, setup)) {
            self.adopt(facts, watcher);
            return Ok(Started { session: None, saved, to_keep: None });
        }
        let (session, saved, facts) = self.boot(setup, watcher)?;
        Ok(Started { session: Some(session), saved, to_keep: place.map(|place| (place, facts)) })
    }

    /// Boots a guest, saves it when its agent answers, and reads its facts.
    fn boot(
        &mut self,
        setup: Setup,
        watcher: &mut dyn Watcher,
    ) -> Result<(Session, SavedGuest, BootFacts), NotStarted> {
        let (kernel, platform) = (self.target.kernel.spec.as_str(), self.target.platform);
        watcher.progress(&Activity::Boot { kernel, platform });
        self.report.counters.boots += 1;
        let failed = |why| NotStarted::Run(RunEnd::Failed(why));
        let image = self.kernel.read().map_err(|error| failed(error.to_string()))?;
        let mut session = match self.kernel.boot(image, self.target, setup, self.interrupt) {
            Ok(session) => session,
            Err(SessionError::Ended { .. }) if self.interrupt.load(Ordering::Relaxed) => {
                return Err(NotStarted::Run(RunEnd::Interrupted));
            }
            Err(SessionError::Ended { end, guest }) => {
                let facts = self.machine_facts(&guest, setup);
                return Err(self.did_not_come_up(*end, &guest, facts, watcher));
            }
            Err(error) => return Err(NotStarted::Setup(error.to_string())),
        };
        let saved =
            session.save().map_err(|error| NotStarted::Setup(format!("saving the guest: {error}")))?;
        let mut facts = self.machine_facts(&session, setup);
        let log = match self.guest_facts(&mut session, &mut facts) {
            Ok(log) => log,
            Err(_) if self.interrupt.load(Ordering::Relaxed) => {
                return Err(NotStarted::Run(RunEnd::Interrupted));
            }
            Err(end) => return Err(self.did_not_come_up(end, &session, facts, watcher)),
        };
        // What the guest accessed while its facts were read belongs to the boot.
        let recorded = runner::all_events(&session, &facts.regions);
        (facts.observed.events, facts.observed.not_kept) = (recorded.events, recorded.dropped);
        // Every guest is checked, since each may have another setup.
        let kernel = &self.report.kernel;
        let checked = check_guest_type(&session, &log, self.target.platform, &kernel.spec, &facts.release);
        let refused = match checked {
            Ok(evidence) => {
                facts.guest_type = Some(evidence);
                None
            }
            // No setup makes another guest of the kernel.
            Err(why) => Some(failed(why)),
        };
        self.adopt(facts.clone(), watcher);
        refused.map_or(Ok((session, saved, facts)), Err)
    }

    /// Reports a guest that ended before its agent answered: all facts but the agent's.
    pub(super) fn did_not_come_up(
        &mut self,
        end: session::Ended,
        guest: &Session,
        mut facts: BootFacts,
        watcher: &mut dyn Watcher,
    ) -> NotStarted {
        let reason = format!("the guest did not come up: {end}");
        match end.into_report(None) {
            Ok(death) => {
                self.report.deaths.push(death.clone());
                facts.observed.death = Some(death);
            }
            Err(aborted) => {
                self.report.aborted.push(aborted.clone());
                facts.observed.aborted = Some(aborted);
            }
        }
        self.adopt(facts, watcher);
        self.add_counters(&counters_of(guest));
        NotStarted::Setup(reason)
    }

    /// Takes the facts of a boot into the report: all of the first guest that comes up, and until then of the first guest; of
    /// others the verdict on what the guest accessed.
    pub(super) fn adopt(&mut self, facts: BootFacts, watcher: &mut dyn Watcher) {
        let first = self.report.boots.is_empty();
        let observed = facts.observed;
        let comes_up = observed.did_not_come_up().is_none();
        if let Some(why) = facts.log_unread {
            self.report.platform.log_unread.get_or_insert(why);
        }
        if first || comes_up && !self.has_come_up() {
            let kernel = &mut self.report.kernel;
            (kernel.release, kernel.version, kernel.log) = (facts.release, facts.version, facts.log);
            kernel.build_id = facts.build_id;
            let platform = &mut self.report.platform;
            platform.regions = facts.regions;
            platform.view_bit = facts.view_bit;
            platform.boot_events.clone_from(&observed.events);
            platform.changes = facts.changes;
            platform.rewritten = facts.rewritten;
            platform.bad_calls = facts.bad_calls;
            platform.unserved_modules = facts.unserved_modules;
            platform.boot_seconds = facts.boot_seconds;
            platform.unaccepted = facts.unaccepted;
            platform.guest_type = facts.guest_type;
            platform.booted_at = facts.booted_at;
        }
        if first {
            watcher.up(&self.report);
        }
        self.report.counters.boot_events += observed.events.len() as u64 + observed.not_kept;
        let release = Release::of_version(&self.report.kernel.release).ok();
        let result = judge(observed, Context { platform: self.target.platform, release });
        watcher.boot(&result);
        self.report.boots.push(result);
    }

    /// What a guest shows without its agent, whether it came up or not.
    pub(super) fn machine_facts(&self, session: &Session, setup: Setup) -> BootFacts {
        let machine = session.machine();
        let regions = facts::placed(machine);
        let recorded = runner::all_events(session, &regions);
        BootFacts {
            release: self.kernel.release().unwrap_or_default(),
            version: String::new(),
            build_id: self.kernel.build_id().map(model::class::hex),
            log: Vec::new(),
            log_unread: None,
            unaccepted: None,
            guest_type: None,
            view_bit: machine.platform().encryption_bit(),
            changes: runner::changes_since(session, None),
            rewritten: machine.sites().map(facts::rewritten).collect(),
            bad_calls: machine
                .bad_calls()
                .all()
                .iter()
                .map(|call| facts::bad_call(call, self.kernel.names()))
                .collect(),
            unserved_modules: machine.unserved_modules().iter().map(facts::unserved).collect(),
            boot_seconds: session.boot_time().as_secs_f64(),
            regions,
            observed: BootObservation {
                setup: setup.into(),
                events: recorded.events,
                not_kept: recorded.dropped,
                refused: runner::refused_since(session, 0),
                death: None,
                aborted: None,
            },
            booted_at: None,
        }
    }

    /// What it shows through its agent.
    pub(super) fn guest_facts(
        &self,
        session: &mut Session,
        facts: &mut BootFacts,
    ) -> Result<GuestLog, session::Ended> {
        let limit = self.target.limit;
        if let Some(text) = session.text(&Step::Uname, limit)? {
            let mut lines = text.lines().skip(2).map(str::to_owned);
            facts.release = lines.next().unwrap_or_default();
            facts.version = lines.next().unwrap_or_default();
        }
        let log = GuestLog::read(session, limit)?;
        facts.log = log.type_lines().to_vec();
        facts.log_unread = log.unread();
        if self.target.platform.accepts_memory() {
            facts.unaccepted = facts::unaccepted(session, limit)?;
        }
        Ok(log)
    }
}
