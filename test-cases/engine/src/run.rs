// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Boots the kernel under test, runs every case, and keeps a report that is complete at any time.

mod boot;
mod mutant;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use types::{Platform, Region};
use vmm::trace::kernel::KernelNames;

use crate::boot::BootResult;
use crate::case::{Case, Expected, Guest};
use crate::guest::{EngineError, Target};
use crate::guest::{PreparedKernel, command_line, facts, rom_state};
use crate::judge;
use crate::observation::{CaseObservation, Counters, During, NotRun, PlatformFacts};
use crate::place::{Base, Place};
use crate::report::{CaseResult, Report, RunEnd};
use crate::runner;
use crate::session::Session;
use crate::setup::Setup;
use model::release::Release;

/// What a run is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity<'a> {
    /// A guest boots.
    Boot {
        /// Its kernel.
        kernel: &'a str,
        /// Its platform.
        platform: Platform,
    },
    /// A case runs.
    Case(&'a str),
}

impl fmt::Display for Activity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot { kernel, platform } => write!(f, "booting {kernel} as {platform} guest"),
            Self::Case(name) => write!(f, "running {name}"),
        }
    }
}

/// Observes a run.
pub trait Watcher {
    /// What begins right now.
    fn progress(&mut self, activity: &Activity<'_>);
    /// The first guest is up: kernel and platform are known.
    fn up(&mut self, report: &Report);
    /// A guest came up, or ended before that; this is the verdict on its boot.
    fn boot(&mut self, _result: &BootResult) {}
    /// A case has its verdict.
    fn case(&mut self, result: &CaseResult);
}

/// Runs the cases. The report has every observation, also of a run that fails; `interrupt` ends the run early.
pub fn run(
    target: &Target,
    cases: &[Case],
    watcher: &mut dyn Watcher,
    interrupt: &Arc<AtomicBool>,
) -> Result<Report, EngineError> {
    let archive = target.initramfs(cases).map_err(EngineError::Initramfs)?;
    let kernel = PreparedKernel::load(target, archive)?.with_names();
    let mut target = target.clone();
    target.setup = kernel.effective(target.setup);
    let target = &target;
    let mut engine = Engine {
        target,
        kernel: &kernel,
        report: empty_report(target, cases),
        interrupt,
        started: Instant::now(),
    };
    engine.report.kernel.cmdline = command_line(target, target.setup);
    engine.report.kernel.build_id = kernel.build_id().map(model::class::hex);
    engine.run(cases, watcher);
    engine.report.duration = engine.started.elapsed();
    Ok(engine.report)
}

struct Engine<'a> {
    target: &'a Target,
    kernel: &'a PreparedKernel,
    report: Report,
    interrupt: &'a Arc<AtomicBool>,
    started: Instant,
}

impl Engine<'_> {
    fn run(&mut self, cases: &[Case], watcher: &mut dyn Watcher) {
        let mut session: Option<Session> = None;
        let mut booted = self.target.setup;
        let mut chosen = None;
        for case in self.in_order(cases) {
            if self.interrupt.load(Ordering::Relaxed) {
                self.report.ended = RunEnd::Interrupted;
                break;
            }
            // After the first boot every reason to skip a case is known.
            if self.report.counters.boots > 0
                && let Some(reason) = self.skip_reason(case)
            {
                self.skip(case, reason, watcher);
                continue;
            }
            let requested = self.requested_setup(case);
            if let Some(session) = session.take_if(|_| !booted.supports(chosen, requested)) {
                self.add_counters(&session);
            }
            if let Some(session) = session.take_if(|session| !self.has_required_state(session, case)) {
                self.add_counters(&session);
            }
            let mut current = match session.take() {
                Some(session) => session,
                None => match self.boot(requested, watcher) {
                    Ok(session) => {
                        (booted, chosen) = (requested, None);
                        session
                    }
                    Err(reason) => {
                        self.report.ended = reason;
                        return;
                    }
                },
            };
            if !self.has_required_state(&current, case) {
                let reason =
                    "the guest had accepted memory of the region `unaccepted` before its agent came up";
                let not_run = Some(NotRun::Failed(reason.to_owned()));
                self.judge(case, CaseObservation { not_run, ..CaseObservation::default() }, watcher);
                session = Some(current);
                continue;
            }
            current.machine().memory().set_mode(requested.mode);
            match requested.mutant.map(|mutant| mutant::choose(&mut current, mutant, self.target.limit)) {
                None => {}
                Some(Ok(())) => chosen = requested.mutant,
                Some(Err(mutant::NotChosen::Unknown(reason))) => {
                    self.skip(case, reason, watcher);
                    session = Some(current);
                    continue;
                }
                Some(Err(mutant::NotChosen::Failed(reason))) => {
                    // The kernel may make either mistake now.
                    chosen = requested.mutant;
                    let not_run = Some(NotRun::Failed(reason));
                    self.judge(case, CaseObservation { not_run, ..CaseObservation::default() }, watcher);
                    session = Some(current);
                    continue;
                }
                Some(Err(mutant::NotChosen::Ended(reason))) => {
                    let not_run = Some(NotRun::Failed(reason));
                    self.judge(case, CaseObservation { not_run, ..CaseObservation::default() }, watcher);
                    self.add_counters(&current);
                    continue;
                }
            }
            watcher.progress(&Activity::Case(&case.name));
            session = self.case(current, case, watcher);
        }
        if cases.is_empty() && self.target.watch.is_some() {
            // Only the boot is observed.
            match self.boot(booted, watcher) {
                Ok(booted) => session = Some(booted),
                Err(reason) => self.report.ended = reason,
            }
        }
        if let Some(session) = session {
            self.add_counters(&session);
        }
    }

    /// The memory of region `unaccepted` still has that state if the case names it: an earlier case may have made the kernel
    /// accept it.
    fn has_required_state(&self, session: &Session, case: &Case) -> bool {
        let names_it = |place: &Place| place.base == Base::Region(Region::Unaccepted);
        !case.steps.iter().filter_map(|step| step.action.place()).any(names_it)
            || facts::is_still_unaccepted(session.machine(), &self.report.platform.regions)
    }

    /// The cases in an order that needs few guests: by their setup, the run's setup first; then those that choose a
    /// mutant, which remains; and last those that end the guest or change state that cannot be restored.
    fn in_order<'c>(&self, cases: &'c [Case]) -> Vec<&'c Case> {
        let (policy, platform) = (self.report.policy_in_force, self.target.platform);
        let ends_guest = |case: &Case| {
            let mut expected =
                case.steps.iter().filter_map(|step| step.expect.resolve(policy, platform, None));
            self.applies(case) && expected.any(Expected::may_end_guest)
        };
        let mut ordered: Vec<&Case> = cases.iter().collect();
        let mut setups = vec![self.target.setup];
        let mut guest = |case: &Case| {
            let requested = self.requested_setup(case);
            setups.iter().position(|known| known.boots_like(requested)).unwrap_or_else(|| {
                setups.push(requested);
                setups.len() - 1
            })
        };
        ordered.sort_by_cached_key(|case| {
            let chooses = self.requested_setup(case).mutant.is_some();
            (guest(case), chooses, ends_guest(case) || runner::may_remain(case))
        });
        ordered
    }

    /// The guest setup that a case requires.
    fn requested_setup(&self, case: &Case) -> Setup {
        if !self.applies(case) {
            return self.target.setup;
        }
        let mut requested = self.target.setup.with(case.guest);
        // The platform's default needs no other guest.
        requested.rom =
            requested.rom.filter(|rom| self.target.platform.default_rom_state() != Some(rom_state(*rom)));
        requested
    }

    /// Why the case cannot run here, as far as known.
    fn skip_reason(&self, case: &Case) -> Option<String> {
        let release = Release::of_version(&self.report.kernel.release).ok();
        let config = self.target.config.as_ref();
        let regions = &self.report.platform.regions;
        let guest = Guest { platform: self.target.platform, release, config, regions };
        case.skip_reason(&guest).or_else(|| self.target.missing_program_of(case))
    }

    fn skip(&mut self, case: &Case, reason: String, watcher: &mut dyn Watcher) {
        let not_run = Some(NotRun::Skipped(reason));
        self.judge(case, CaseObservation { not_run, ..CaseObservation::default() }, watcher);
    }

    fn judge(&mut self, case: &Case, observed: CaseObservation, watcher: &mut dyn Watcher) {
        let release = Release::of_version(&self.report.kernel.release).ok();
        let context =
            judge::Context { policy: self.report.policy_in_force, platform: self.target.platform, release };
        let verdict = judge::judge(case, context, &observed);
        let result = CaseResult { case: case.clone(), observed, verdict };
        watcher.case(&result);
        self.report.cases.push(result);
        self.report.duration = self.started.elapsed();
    }

    /// Runs one case; returns the guest unless it ended.
    fn case(&mut self, mut session: Session, case: &Case, watcher: &mut dyn Watcher) -> Option<Session> {
        if let Some(reason) = self.skip_reason(case) {
            self.skip(case, reason, watcher);
            return Some(session);
        }
        let regions = self.report.platform.regions.clone();
        let run = runner::run_case(&mut session, case, &regions, self.target.limit);
        let (observed, ended) = (run.observation, run.ended);
        if self.interrupt.load(Ordering::Relaxed) && ended.is_some() {
            // The guest was stopped in the middle of the case: there is nothing to judge.
            self.add_counters(&session);
            self.report.ended = RunEnd::Interrupted;
            return None;
        }
        let remains = observed.remains.is_some();
        self.judge(case, observed, watcher);
        match ended {
            None if remains => {
                self.add_counters(&session);
                None
            }
            None => Some(session),
            Some((end, step)) => {
                self.add_counters(&session);
                match end.into_report(Some(During { case: case.name.clone(), step })) {
                    Ok(death) => self.report.deaths.push(death),
                    Err(aborted) => self.report.aborted.push(aborted),
                }
                None
            }
        }
    }

    /// Whether the case is for this platform at all, so that no guest is booted needlessly.
    fn applies(&self, case: &Case) -> bool {
        case.platforms.contains(&self.target.platform)
    }

    fn add_counters(&mut self, session: &Session) {
        let stats = session.machine().stats();
        // Without an event nothing has a name, and looking for names takes seconds.
        if stats.memory.mismatches > 0
            || self.report.boots.iter().any(|boot| !boot.observed.events.is_empty())
        {
            self.report.platform.names_lacking =
                self.kernel.names().and_then(KernelNames::unavailable).map(str::to_owned);
        }
        let counters: &mut Counters = &mut self.report.counters;
        counters.exits += stats.exits;
        counters.faults += stats.memory.faults;
        counters.conversions +=
            stats.memory.declared_moves + stats.memory.implicit_moves + stats.memory.conversions;
        counters.accepted += stats.memory.accepted;
        counters.calls += stats.calls + stats.hypercalls;
        counters.msrs += stats.msr;
        counters.exceptions += stats.exceptions;
        counters.mismatches += session.machine().events().len() as u64;
        counters.not_kept += stats.events_not_kept;
    }
}

fn empty_report(target: &Target, cases: &[Case]) -> Report {
    Report {
        policy: target.policy,
        policy_in_force: target.policy_in_force(),
        kernel: target.kernel.clone(),
        platform: PlatformFacts {
            platform: target.platform,
            view_bit: None,
            memory_mib: target.memory_mib,
            simulated: vmm::platform::simulated(target.platform)
                .iter()
                .map(|&text| text.to_owned())
                .collect(),
            not_simulated: vmm::platform::not_simulated(target.platform)
                .iter()
                .map(|&text| text.to_owned())
                .collect(),
            kvm: target.host.clone(),
            rewritten: Vec::new(),
            unserved_modules: Vec::new(),
            regions: Vec::new(),
            boot_events: Vec::new(),
            bad_calls: Vec::new(),
            guest_type: None,
            names_lacking: None,
            log_unread: None,
            unaccepted: None,
            changes: Vec::new(),
            setup: target.setup.into(),
            boot_seconds: 0.0,
        },
        planned: cases.iter().map(|case| case.name.clone()).collect(),
        boots: Vec::new(),
        cases: Vec::new(),
        deaths: Vec::new(),
        aborted: Vec::new(),
        counters: Counters::default(),
        ended: RunEnd::Complete,
        duration: Duration::ZERO,
    }
}
