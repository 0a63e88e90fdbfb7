// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Boots the kernel under test, runs every case, and keeps a report that is complete at any time.

mod boot;
mod group;
pub mod kept;
mod mutant;
mod one_guest;
mod worker;

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use types::Platform;
use vmm::trace::kernel::KernelNames;

use self::boot::{NotStarted, Started};
pub(crate) use self::one_guest::{OneGuest, one_guest};
use crate::boot::BootResult;
use crate::case::{Case, Guest};
use crate::guest::{EngineError, Target};
use crate::guest::{PreparedKernel, command_line};
use crate::judge;
use crate::observation::{CaseObservation, Counters, NotRun, PlatformFacts};
use crate::report::{CaseResult, Report, RunEnd};
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
    let kernel = PreparedKernel::new(target, archive)?.with_names();
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
    engine.report.kernel.cmdline = command_line(target, target.setup, false);
    if !engine.place(target.setup).is_some_and(|place| place.seems_taken()) {
        // One that cannot be read is reported before anything else.
        kernel.read()?;
    }
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
        if let Err(reason) = self.run_groups(cases, watcher) {
            self.report.ended = reason;
        }
        let places: HashMap<&String, usize> = self.report.planned.iter().zip(0..).collect();
        self.report.cases.sort_by_key(|result| places.get(&result.case.name).copied());
    }

    /// Runs every group. One whose guest does not come up does not end the run, unless none comes up.
    fn run_groups(&mut self, cases: &[Case], watcher: &mut dyn Watcher) -> Result<(), RunEnd> {
        let mut failed = Vec::new();
        let ended = self.run_each_group(cases, &mut failed, watcher);
        if let (false, Ok(()), Some((_, why))) = (self.has_come_up(), &ended, failed.first()) {
            // What no case can change is reported once.
            return Err(RunEnd::Failed(why.clone()));
        }
        for (case, why) in failed {
            let not_run = self.skip_reason(case).map_or(NotRun::Failed(why), NotRun::Skipped);
            self.judge_not_run(case, not_run, watcher);
        }
        ended
    }

    /// The same; the cases whose guest did not come up are added to `failed`, with the reason.
    fn run_each_group<'c>(
        &mut self,
        cases: &'c [Case],
        failed: &mut Vec<(&'c Case, String)>,
        watcher: &mut dyn Watcher,
    ) -> Result<(), RunEnd> {
        if cases.is_empty() && self.target.watch.is_some() {
            // Only the boot is observed.
            let started = self.start(self.target.setup, watcher).map_err(NotStarted::end_of_run)?;
            if let Some(session) = &started.session {
                self.add_counters(&worker::counters_of(session));
            }
        }
        for (setup, group) in self.groups(cases) {
            // After the first boot every reason to skip a case is known.
            let skips: Vec<Option<String>> = group.iter().map(|case| self.skip_reason(case)).collect();
            if self.has_come_up() && skips.iter().all(Option::is_some) {
                for (case, reason) in group.into_iter().zip(skips.into_iter().flatten()) {
                    self.judge_not_run(case, NotRun::Skipped(reason), watcher);
                }
                continue;
            }
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(RunEnd::Interrupted);
            }
            let Started { session, saved, to_keep } = match self.start(setup, watcher) {
                Ok(started) => started,
                Err(NotStarted::Setup(why)) => {
                    failed.extend(group.into_iter().map(|case| (case, why.clone())));
                    continue;
                }
                Err(NotStarted::Run(end)) => return Err(end),
            };
            self.run_group(session, &saved, &group, watcher)?;
            if let Some((place, facts)) = to_keep {
                place.keep(&saved, facts);
            }
        }
        Ok(())
    }

    /// The cases by the guest that they need, the run's setup first. All cases of a group start from one instant of one guest.
    fn groups<'c>(&self, cases: &'c [Case]) -> Vec<(Setup, Vec<&'c Case>)> {
        // A case's mode starts with the case: in it a TD with an unaccepted ROM area would not come up. A mutant is chosen then too.
        let booted = |setup: Setup| Setup { mode: self.target.setup.mode, mutant: None, ..setup };
        let mut groups: Vec<(Setup, Vec<&Case>)> = vec![(booted(self.target.setup), Vec::new())];
        for case in cases {
            let requested = self.requested_setup(case);
            match groups.iter_mut().find(|(setup, _)| setup.boots_like(requested)) {
                Some((_, group)) => group.push(case),
                None => groups.push((booted(requested), vec![case])),
            }
        }
        groups.retain(|(_, group)| !group.is_empty());
        if let Some(seed) = self.target.shuffle {
            let place = |name: &str| {
                let mut hasher = DefaultHasher::new();
                (seed, name).hash(&mut hasher);
                hasher.finish()
            };
            for (_, group) in &mut groups {
                group.sort_by_key(|case| place(&case.name));
            }
        }
        groups
    }

    /// The guest setup that a case requires.
    fn requested_setup(&self, case: &Case) -> Setup {
        if !self.applies(case) {
            return self.target.setup;
        }
        let mut requested = self.target.setup.with(case.guest);
        // The platform's default needs no other guest.
        let usual = self.target.platform.default_rom_state();
        requested.layout.rom = requested.layout.rom.filter(|rom| usual.is_none() || rom.state() != usual);
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

    /// A guest's agent answered: what is the same for all guests is known.
    fn has_come_up(&self) -> bool {
        self.report.boots.iter().any(|boot| boot.observed.did_not_come_up().is_none())
    }

    fn judge_not_run(&mut self, case: &Case, why: NotRun, watcher: &mut dyn Watcher) {
        self.judge(case, CaseObservation { not_run: Some(why), ..CaseObservation::default() }, watcher);
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

    /// Whether the case is for this platform at all, so that no guest is booted needlessly.
    fn applies(&self, case: &Case) -> bool {
        case.platforms.contains(&self.target.platform)
    }

    fn add_counters(&mut self, counters: &Counters) {
        // Without an event nothing has a name, and looking for names takes seconds.
        if counters.mismatches > 0 || self.report.boots.iter().any(|boot| !boot.observed.events.is_empty()) {
            self.report.platform.names_lacking =
                self.kernel.names().and_then(KernelNames::unavailable).map(str::to_owned);
        }
        self.report.counters = self.report.counters.plus(*counters);
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
                .chain(target.setup.fail.iter().map(|rule| {
                    format!("conversions fail because --fail {rule} says so, not because a host refused them")
                }))
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
            booted_at: None,
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
