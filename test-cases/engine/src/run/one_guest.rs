// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run that is one guest, in which something else than cases is run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use types::PlacedRegion;

use super::worker::counters_of;
use super::{Activity, Engine, Watcher, empty_report};
use crate::guest::{EngineError, PreparedKernel, Target, check_guest_type};
use crate::report::{Report, RunEnd};
use crate::runner::Recorded;
use crate::session::{Session, SessionError};

/// The guest.
pub(crate) struct OneGuest<'a> {
    pub(crate) target: &'a Target,
    pub(crate) kernel: &'a PreparedKernel,
    pub(crate) interrupt: &'a Arc<AtomicBool>,
    /// Which of the forbidden accesses until the agent answered are the boot's.
    pub(crate) boot_accesses: fn(&Session, &[PlacedRegion]) -> Recorded,
}

/// Boots the guest, judges its boot, and calls `then`, without a guest if there is none. One that ended before its agent answered
/// is evidence only; the report has its death.
pub(crate) fn one_guest(
    guest: &mut OneGuest<'_>,
    watcher: &mut dyn Watcher,
    then: impl FnOnce(Option<&mut Session>, &mut Report, &mut dyn Watcher),
) -> Result<Report, EngineError> {
    let OneGuest { target, kernel, interrupt, .. } = *guest;
    let started = Instant::now();
    let mut report = empty_report(target, &[]);
    report.kernel.cmdline = kernel.command_line(target, target.setup);
    let mut engine = Engine { target, kernel, report, interrupt, started };
    kernel.read()?;
    let mut session = None;
    if let Err(end) = engine.boot_once(guest, &mut session, watcher) {
        engine.report.ended = end;
    }
    then(session.as_mut(), &mut engine.report, watcher);
    if let Some(session) = &session {
        engine.add_counters(&counters_of(session));
    }
    engine.report.duration = started.elapsed();
    Ok(engine.report)
}

impl Engine<'_> {
    /// Boots the guest into `booted`, which holds one that ended before its agent answered, too.
    fn boot_once(
        &mut self,
        guest: &OneGuest<'_>,
        booted: &mut Option<Session>,
        watcher: &mut dyn Watcher,
    ) -> Result<(), RunEnd> {
        let (target, setup) = (self.target, self.target.setup);
        watcher.progress(&Activity::Boot { kernel: &target.kernel.spec, platform: target.platform });
        self.report.counters.boots += 1;
        let failed = |error: &dyn std::fmt::Display| RunEnd::Failed(error.to_string());
        let image = self.kernel.read().map_err(|error| failed(&error))?;
        let (session, end) = match self.kernel.boot(image, target, setup, self.interrupt) {
            Ok(session) => (session, None),
            Err(SessionError::Ended { end, guest }) => (*guest, Some(*end)),
            Err(error) => return Err(failed(&error)),
        };
        let session = booted.insert(session);
        let mut facts = self.machine_facts(session, setup);
        let log = end.map_or_else(|| self.guest_facts(session, &mut facts), Err);
        let recorded = (guest.boot_accesses)(session, &facts.regions);
        (facts.observed.events, facts.observed.not_kept) = (recorded.events, recorded.dropped);
        let log = match log {
            Ok(log) => log,
            Err(_) if self.interrupt.load(Ordering::Relaxed) => return Err(RunEnd::Interrupted),
            Err(end) => return Err(self.did_not_come_up(end, session, facts, watcher).end_of_run()),
        };
        let spec = &self.report.kernel.spec;
        let checked = check_guest_type(session, &log, target.platform, spec, &facts.release);
        let refused = checked.map(|evidence| facts.guest_type = Some(evidence)).err();
        self.adopt(facts, watcher);
        refused.map_or(Ok(()), |why| Err(RunEnd::Failed(why)))
    }
}
