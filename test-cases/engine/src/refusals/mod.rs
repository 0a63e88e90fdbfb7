// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every conversion of a boot refused in turn, each in a boot of its own: what the kernel does then.
//!
//! One boot shows which conversions there are and which code requests each. Then the same kernel boots once for each, with that
//! call refused: by default the first one of each call site alone.

mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use types::{AccessEvent, RefusedConversion, View};
use vmm::platform::failure::{ConversionCall, ConversionFailure, Failures, Which};

pub use self::site::Site;
use crate::guest::{EngineError, PreparedKernel, Target, placed};
use crate::runner;
use crate::session::{End, Session, SessionError, Worker};
use crate::setup::Setup;

/// What the kernel did after one conversion was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reaction {
    /// It came up without a complaint in its log: it ignored the refusal, or called again.
    Silent,
    /// It came up and logged this.
    Logged(String),
    /// It came up after a warning of its own: WARN, BUG, Oops.
    Warned(String),
    /// It ended before its agent answered.
    Died(String),
    /// The host failed, or the guest did not come up in time.
    NoResult(String),
}

/// One conversion, refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Where it is requested, and how often.
    pub site: Site,
    /// The rule by which it was refused.
    pub rule: ConversionFailure,
    /// The refusal, as the guest met it.
    pub refusal: Option<RefusedConversion>,
    /// What the kernel did.
    pub reaction: Reaction,
    /// Forbidden accesses that the boot without refusals does not make: memory used although its conversion failed.
    pub events: Vec<AccessEvent>,
}

/// The conversions of a boot.
#[derive(Debug, Clone, Default)]
pub struct Conversions {
    /// The code that requests them, in the order in which it first does.
    pub sites: Vec<Site>,
    /// Conversions in all.
    pub count: u64,
    /// Forbidden accesses of this boot.
    pub events: Vec<AccessEvent>,
    /// Its kernel's log.
    log: String,
}

/// Why there is nothing to refuse.
#[derive(Debug, thiserror::Error)]
pub enum RefusalError {
    /// The kernel.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The guest did not come up even without a refusal.
    #[error("booting without a refusal: {0}")]
    Session(#[from] SessionError),
    /// It ended before its log was read.
    #[error("the guest whose conversions are to be refused ended: {0}")]
    Ended(String),
    /// The platform converts nothing, or this kernel does not.
    #[error(
        "this guest requested no conversion while booting: choose --platform sev, snp, tdx or vbs, and a kernel for it"
    )]
    None,
}

/// Boots the kernel once; gives the conversions it requests.
pub fn learn(target: &Target, interrupt: &Arc<AtomicBool>) -> Result<Conversions, RefusalError> {
    let kernel = PreparedKernel::with_agent(target)?.with_names().recording_conversions();
    let mut session = kernel.boot(kernel.read()?, target, target.setup, interrupt)?;
    let recorded = session.machine().conversions();
    let count = ConversionCall::ALL.iter().map(|call| recorded.requested(*call)).sum();
    let sites = site::fold(recorded.all(), session.names());
    if sites.is_empty() {
        return Err(RefusalError::None);
    }
    let log = log_of(&mut session, target).map_err(RefusalError::Ended)?;
    let regions = placed(session.machine());
    Ok(Conversions { sites, count, events: runner::all_events(&session, &regions).events, log })
}

/// Refuses conversions in turn, `target.guests` at a time: of each site the first, or with `all` every one. `each` gets every
/// result as it comes, with its place.
pub fn refuse(
    target: &Target,
    conversions: &Conversions,
    all: bool,
    interrupt: &Arc<AtomicBool>,
    each: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Refused>, RefusalError> {
    let jobs: Vec<(&Site, u64)> = conversions
        .sites
        .iter()
        .flat_map(|site| {
            let numbers = if all { &site.numbers[..] } else { &site.numbers[..1] };
            numbers.iter().map(move |number| (site, *number))
        })
        .collect();
    let kernel = PreparedKernel::with_agent(target)?.with_names();
    kernel.read()?;
    let next = AtomicUsize::new(0);
    let mut results: Vec<Option<Refused>> = vec![None; jobs.len()];
    std::thread::scope(|scope| {
        let (sender, done) = mpsc::channel();
        for _ in 0..target.guests.clamp(1, jobs.len()) {
            let (jobs, next, kernel, sender) = (&jobs, &next, &kernel, sender.clone());
            scope.spawn(move || {
                while let Some((place, (site, number))) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(place).map(|job| (place, *job))
                } {
                    if interrupt.load(Ordering::Relaxed) {
                        break;
                    }
                    // The receiver is there until every sender is gone.
                    let _ = sender.send((place, one(target, kernel, conversions, (site, number), interrupt)));
                }
            });
        }
        drop(sender);
        let mut count = 0;
        for (place, refused) in done {
            results[place] = Some(refused);
            count += 1;
            each(count, jobs.len());
        }
    });
    Ok(results.into_iter().flatten().collect())
}

/// Boots with this conversion refused.
fn one(
    target: &Target,
    kernel: &PreparedKernel,
    without: &Conversions,
    (site, number): (&Site, u64),
    interrupt: &Arc<AtomicBool>,
) -> Refused {
    let nth = u32::try_from(number).unwrap_or(u32::MAX);
    let rule = ConversionFailure { which: Which::Nth(nth), ..ConversionFailure::all(site.call) };
    let setup = Setup { fail: Failures::one(rule), ..target.setup };
    let of = |session: &Session, reaction| {
        let regions = placed(session.machine());
        let events = runner::all_events(session, &regions).events;
        let events = events.into_iter().filter(|event| !is_in(event, &without.events)).collect();
        let refusal = runner::refused_since(session, 0).into_iter().next();
        Refused { site: site.clone(), rule, refusal, reaction, events }
    };
    let booted = kernel.read().map_err(|error| error.to_string()).and_then(|image| {
        match kernel.boot(image, target, setup, interrupt) {
            Ok(mut session) => {
                let reaction = match log_of(&mut session, target) {
                    Ok(log) => reaction(&log, &without.log),
                    Err(end) => Reaction::Died(end),
                };
                Ok(of(&session, reaction))
            }
            Err(SessionError::Ended { end, guest }) => {
                let died = Reaction::Died(format!("{end}"));
                Ok(of(
                    &guest,
                    if matches!(end.end, End::Died(_)) { died } else { Reaction::NoResult(end.text.clone()) },
                ))
            }
            Err(error) => Err(error.to_string()),
        }
    });
    booted.unwrap_or_else(|why| Refused {
        site: site.clone(),
        rule,
        refusal: None,
        reaction: Reaction::NoResult(why),
        events: Vec::new(),
    })
}

fn log_of(session: &mut Session, target: &Target) -> Result<String, String> {
    let log = session.kernel_log(Worker::New, target.limit).map_err(|end| end.to_string())?;
    log.map_err(|outcome| format!("the agent could not read the kernel's log: {outcome:?}"))
}

/// The same access as one of these: same code, kind and state.
fn is_in(event: &AccessEvent, others: &[AccessEvent]) -> bool {
    others.iter().any(|other| {
        (other.kind, other.state, &other.symbol, other.gpa)
            == (event.kind, event.state, &event.symbol, event.gpa)
    })
}

/// Words with which a kernel warns of its own state.
const WARNINGS: [&str; 5] = ["WARNING: ", "BUG: ", "Oops: ", "kernel BUG at", "general protection fault"];
/// Words of a line about a conversion or what was to use its memory.
const COMPLAINTS: [&str; 6] = ["fail", "error", "unable", "disabl", "cannot", "could not"];

/// What a kernel that came up logged, that it does not log without the refusal.
fn reaction(log: &str, without: &str) -> Reaction {
    let usual: Vec<&str> = without.lines().map(text_of).collect();
    let new: Vec<&str> = log.lines().map(text_of).filter(|line| !usual.contains(line)).collect();
    let warned = new.iter().find(|line| WARNINGS.iter().any(|word| line.contains(word)));
    let logged = || {
        new.iter().find(|line| {
            let line = line.to_lowercase();
            COMPLAINTS.iter().any(|word| line.contains(word))
        })
    };
    match (warned, logged()) {
        (Some(line), _) => Reaction::Warned((*line).to_owned()),
        (None, Some(line)) => Reaction::Logged((*line).to_owned()),
        (None, None) => Reaction::Silent,
    }
}

/// A line without priority and time.
fn text_of(line: &str) -> &str {
    let line = line.split_once('>').filter(|(head, _)| head.starts_with('<')).map_or(line, |(_, rest)| rest);
    line.split_once("] ").filter(|(head, _)| head.starts_with('[')).map_or(line, |(_, rest)| rest)
}

impl Refused {
    /// The kernel used memory whose conversion was refused.
    pub fn is_finding(&self) -> bool {
        !self.events.is_empty()
    }

    /// What the memory was to become.
    pub fn to(&self) -> View {
        self.site.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_in_the_log_is_what_the_kernel_did() {
        let usual = "<6>[    0.1] tdx: Guest detected\n<4>[    0.2] failed as always\n";
        let log = |line: &str| format!("{usual}<4>[    1.5] {line}\n");
        assert_eq!(reaction(&usual.replace("0.1", "0.7"), usual), Reaction::Silent);
        assert_eq!(reaction(&log("all is well"), usual), Reaction::Silent);
        let line = "DMA: failed to allocate 128 KiB pool";
        assert_eq!(reaction(&log(line), usual), Reaction::Logged(line.to_owned()));
        let warning = "WARNING: CPU: 0 PID: 1 at arch/x86/mm/pat/set_memory.c:2239";
        let both = format!("{}{}", log(line), log(warning));
        assert_eq!(reaction(&both, usual), Reaction::Warned(warning.to_owned()));
    }
}
