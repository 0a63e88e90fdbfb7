// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Boots a guest, and records its accesses until its agent answered or it ended.

use std::sync::atomic::Ordering;

use protocol::Step;

use super::worker::counters_of;
use super::{Activity, Engine, Watcher};
use crate::boot::{Context, judge};
use crate::guest::{GuestLog, check_guest_type, facts};
use crate::observation::{Aborted, BootObservation, Death};
use crate::report::RunEnd;
use crate::runner;
use crate::session::{self, SavedGuest, Session, SessionError};
use crate::setup::Setup;
use model::release::Release;

impl Engine<'_> {
    /// Boots a guest, saves it when its agent answers, and reads its facts.
    pub(super) fn boot(
        &mut self,
        setup: Setup,
        watcher: &mut dyn Watcher,
    ) -> Result<(Session, SavedGuest), RunEnd> {
        let (kernel, platform) = (self.target.kernel.spec.as_str(), self.target.platform);
        watcher.progress(&Activity::Boot { kernel, platform });
        let first = self.report.counters.boots == 0;
        self.report.counters.boots += 1;
        let mut session = match self.kernel.boot(
            self.target,
            // A case's mode starts with the case: in it a TD with an unaccepted ROM area would not come up.
            Setup { mode: self.target.setup.mode, ..setup },
            self.interrupt,
        ) {
            Ok(session) => session,
            Err(SessionError::Ended { .. }) if self.interrupt.load(Ordering::Relaxed) => {
                return Err(RunEnd::Interrupted);
            }
            Err(SessionError::Ended { end, guest }) => {
                return Err(self.did_not_come_up(*end, &guest, first, setup, watcher));
            }
            Err(error) => return Err(RunEnd::Failed(error.to_string())),
        };
        let saved = session.save().map_err(|error| RunEnd::Failed(format!("saving the guest: {error}")))?;
        if first {
            self.read_machine_facts(&session);
        }
        let log = match self.read_guest_facts(&mut session, first) {
            Ok(log) => log,
            Err(_) if self.interrupt.load(Ordering::Relaxed) => return Err(RunEnd::Interrupted),
            Err(end) => return Err(self.did_not_come_up(end, &session, first, setup, watcher)),
        };
        if first {
            watcher.up(&self.report);
        }
        self.judge_boot(&session, setup, None, watcher);
        // Every guest is checked, since each may have another setup.
        let kernel = &self.report.kernel;
        let checked = check_guest_type(&session, &log, self.target.platform, &kernel.spec, &kernel.release);
        let evidence = checked.map_err(RunEnd::Failed)?;
        if first {
            self.report.platform.guest_type = Some(evidence);
        }
        Ok((session, saved))
    }

    /// Reports a guest that ended before its agent answered: all facts but the agent's.
    fn did_not_come_up(
        &mut self,
        end: session::Ended,
        guest: &Session,
        first: bool,
        setup: Setup,
        watcher: &mut dyn Watcher,
    ) -> RunEnd {
        let reason = format!("the guest did not come up: {end}");
        if first {
            self.read_machine_facts(guest);
            self.report.kernel.release = self.kernel.release().unwrap_or_default();
            watcher.up(&self.report);
        }
        let end = end.into_report(None);
        match end.clone() {
            Ok(death) => self.report.deaths.push(death),
            Err(aborted) => self.report.aborted.push(aborted),
        }
        self.judge_boot(guest, setup, Some(end), watcher);
        self.add_counters(&counters_of(guest));
        RunEnd::Failed(reason)
    }

    /// The verdict on what the guest accessed until now.
    fn judge_boot(
        &mut self,
        guest: &Session,
        setup: Setup,
        end: Option<Result<Death, Aborted>>,
        watcher: &mut dyn Watcher,
    ) {
        let (death, aborted) = match end {
            Some(Ok(death)) => (Some(death), None),
            Some(Err(aborted)) => (None, Some(aborted)),
            None => (None, None),
        };
        let setup = Setup { mode: self.target.setup.mode, ..setup };
        let recorded = runner::all_events(guest, &self.report.platform.regions);
        let observed = BootObservation {
            setup: setup.into(),
            events: recorded.events,
            not_kept: recorded.dropped,
            death,
            aborted,
        };
        self.report.counters.boot_events += observed.events.len() as u64 + observed.not_kept;
        let release = Release::of_version(&self.report.kernel.release).ok();
        let result = judge(observed, Context { platform: self.target.platform, release });
        watcher.boot(&result);
        self.report.boots.push(result);
    }

    /// Reads through the agent: the log of every guest, and of the first one its release too.
    fn read_guest_facts(&mut self, session: &mut Session, first: bool) -> Result<GuestLog, session::Ended> {
        let limit = self.target.limit;
        if first && let Some(text) = session.text(&Step::Uname, limit)? {
            let mut lines = text.lines().skip(2).map(str::to_owned);
            self.report.kernel.release = lines.next().unwrap_or_default();
            self.report.kernel.version = lines.next().unwrap_or_default();
        }
        let log = GuestLog::read(session, limit)?;
        if first {
            self.report.kernel.log = log.type_lines().to_vec();
        }
        if let Some(why) = log.unread() {
            self.report.platform.log_unread.get_or_insert(why);
        }
        if first && self.target.platform.accepts_memory() {
            self.report.platform.unaccepted = facts::unaccepted(session, limit)?;
        }
        Ok(log)
    }

    /// Reads the facts of a guest that need no agent, whether it came up or not.
    fn read_machine_facts(&mut self, session: &Session) {
        let facts = &mut self.report.platform;
        facts.regions = facts::placed(session.machine());
        facts.view_bit = session.machine().platform().encryption_bit();
        facts.boot_events = runner::all_events(session, &facts.regions).events;
        facts.changes = runner::changes_since(session, None);
        facts.rewritten = session.machine().sites().map(facts::rewritten).collect();
        facts.bad_calls = session
            .machine()
            .bad_calls()
            .all()
            .iter()
            .map(|call| facts::bad_call(call, self.kernel.names()))
            .collect();
        facts.unserved_modules = session.machine().unserved_modules().iter().map(facts::unserved).collect();
        facts.boot_seconds = session.boot_time().as_secs_f64();
    }
}
