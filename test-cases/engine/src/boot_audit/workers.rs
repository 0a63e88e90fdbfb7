// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guests that boot side by side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use model::release::Release;
use types::Platform;

use super::{BootDone, BootPlan, MODE, Watcher, log};
use crate::boot::{self, Context};
use crate::guest::{self, EngineError, GuestLog, PreparedKernel, Target, check_guest_type};
use crate::observation::BootObservation;
use crate::runner;
use crate::session::{Session, SessionError, Worker};
use crate::setup::Setup;

/// A kernel that boots on several platforms.
pub(super) struct Guests<'a> {
    kernels: BTreeMap<Platform, (Target, PreparedKernel)>,
    threads: usize,
    interrupt: &'a Arc<AtomicBool>,
}

impl<'a> Guests<'a> {
    pub(super) fn new(
        target: &Target,
        platforms: impl Iterator<Item = Platform>,
        interrupt: &'a Arc<AtomicBool>,
    ) -> Result<Self, EngineError> {
        let mut kernels = BTreeMap::new();
        for platform in platforms {
            if kernels.contains_key(&platform) {
                continue;
            }
            let target = Target { platform, ..target.clone() };
            let kernel = PreparedKernel::with_agent(&target)?.with_names();
            // Threads would all read it at once.
            kernel.read()?;
            kernels.insert(platform, (target, kernel));
        }
        Ok(Self { kernels, threads: target.guests.max(1), interrupt })
    }

    /// Every boot that was done, in the order given; those after an interruption are missing.
    pub(super) fn boot_all(&self, plans: &[BootPlan], watcher: &dyn Watcher) -> Vec<BootDone> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.threads.min(plans.len()) {
                scope.spawn(|| {
                    while let Some((at, plan)) = self.take(&next, plans) {
                        let Some(boot) = self.boot(plan) else { break };
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        watcher.booted(&boot, done.len() + 1, plans.len());
                        done.push((at, boot));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, boot)| boot).collect()
    }

    fn take<'p>(&self, next: &AtomicUsize, plans: &'p [BootPlan]) -> Option<(usize, &'p BootPlan)> {
        if self.interrupt.load(Ordering::Relaxed) {
            return None;
        }
        let at = next.fetch_add(1, Ordering::Relaxed);
        Some((at, plans.get(at)?))
    }

    /// One boot; `None` if it was interrupted.
    fn boot(&self, plan: &BootPlan) -> Option<BootDone> {
        let (target, kernel) = self.kernels.get(&plan.platform)?;
        let target = Target {
            memory_mib: plan.layout.memory_mib.unwrap_or(target.memory_mib),
            command_line: target.command_line.iter().chain(&plan.words).cloned().collect(),
            setup: Setup { mode: MODE, layout: plan.layout.layout, ..target.setup },
            ..target.clone()
        };
        let failed = |why: String| Seen::nothing(&target, why);
        let seen = match kernel.read() {
            Err(error) => failed(error.to_string()),
            Ok(image) => match kernel.boot(image, &target, target.setup, self.interrupt) {
                Ok(session) => Seen::up(session, &target),
                Err(_) if self.interrupt.load(Ordering::Relaxed) => return None,
                Err(SessionError::Ended { end, guest }) => {
                    let mut seen = Seen::of(&guest, &target);
                    match end.into_report(None) {
                        Ok(death) => seen.observed.death = Some(death),
                        Err(aborted) => {
                            seen.inconclusive = Some(aborted.reason.clone());
                            seen.observed.aborted = Some(aborted);
                        }
                    }
                    seen
                }
                Err(error) => failed(error.to_string()),
            },
        };
        let Seen { observed, complaints, inconclusive, seconds } = seen;
        let release = Release::of_version(&target.kernel.release).ok();
        let result = boot::judge(observed, Context { platform: plan.platform, release });
        Some(BootDone { plan: plan.clone(), result, complaints, inconclusive, seconds })
    }
}

/// What one boot showed.
struct Seen {
    observed: BootObservation,
    complaints: Vec<String>,
    inconclusive: Option<String>,
    seconds: f64,
}

impl Seen {
    /// No guest: the host's failure, or the layout's.
    fn nothing(target: &Target, why: String) -> Self {
        let observed = BootObservation {
            setup: target.setup.into(),
            events: Vec::new(),
            not_kept: 0,
            refused: Vec::new(),
            death: None,
            aborted: None,
        };
        Self { observed, complaints: Vec::new(), inconclusive: Some(why), seconds: 0.0 }
    }

    /// What the VMM saw.
    fn of(session: &Session, target: &Target) -> Self {
        let recorded = runner::all_events(session, &guest::placed(session.machine()));
        let mut seen = Self::nothing(target, String::new());
        seen.inconclusive = None;
        seen.observed.events = recorded.events;
        seen.observed.not_kept = recorded.dropped;
        seen.seconds = session.boot_time().as_secs_f64();
        seen
    }

    /// A guest whose agent answers, with its log.
    fn up(mut session: Session, target: &Target) -> Self {
        let spec = &target.kernel.spec;
        let log = match session.kernel_log(Worker::Same, target.limit) {
            Ok(log) => log,
            Err(end) => {
                let mut seen = Self::of(&session, target);
                match end.into_report(None) {
                    Ok(death) => seen.observed.death = Some(death),
                    Err(aborted) => seen.inconclusive = Some(aborted.reason),
                }
                return seen;
            }
        };
        let mut seen = Self::of(&session, target);
        if let Ok(text) = &log {
            seen.complaints = log::complaints(text);
        } else {
            let why = "the guest's log cannot be read, so its warnings are not known";
            seen.inconclusive = Some(why.to_owned());
        }
        let guest_log = GuestLog::of(log);
        let release = &target.kernel.release;
        if let Err(why) = check_guest_type(&session, &guest_log, target.platform, spec, release) {
            seen.inconclusive = Some(why);
        }
        seen
    }
}
