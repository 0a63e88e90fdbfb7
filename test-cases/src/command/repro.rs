// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra repro`: the documented behaviour, step by step, and the effect of the patch.

mod kexec;
mod narrative;
mod observed;
mod transcript;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::case::Case;
use engine::library;
use engine::observation::KvmHost;
use engine::report::{Report, RunEnd};
use engine::run::Watcher;
use types::Platform;

use self::observed::Observed;
use super::kernels::Found;
use super::screen::{Screen, Shown};
use super::{Failed, guests, host, interrupt, kernels, start_over};
use crate::cli::{ReproArgs, ReproSubject};
use crate::exit::Exit;

/// The kernel whose patch closes the hole.
const PATCHED: &str = "build:open-eperm";

/// Why a reproduction was not completed.
enum Stopped {
    /// By Ctrl-C.
    Interrupted,
    /// For this reason.
    Failed(Failed),
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// Reproduces a report, and prints each step with its result.
pub fn repro(args: &ReproArgs, quiet: bool) -> Result<Exit, Failed> {
    let place = host::choose();
    if let host::Place::Elsewhere(reason) = &place {
        outln!("Guests run on a KVM host in QEMU, slower, with the same results: {reason}.\n");
    }
    // Kernels are fetched and built where there are a network and a compiler.
    let stock = kernels::find(&args.kernel, None, quiet)?;
    if args.subject == ReproSubject::KexecUnaccepted {
        let host = start_over::kvm_host(place)?;
        let platform = args.platform.unwrap_or(args.subject.platform());
        return exit(kexec::reproduce(&stock, platform, &host, &interrupt::flag()?));
    }
    let patched = PATCHED
        .parse()
        .map_err(Failed::new)
        .and_then(|spec| kernels::find_built(&spec, args.no_build, quiet));
    if let (host::Place::Elsewhere(_), Err(error)) = (&place, &patched) {
        // The stock kernel is shown in any case; the reason for the missing patched kernel is only available here.
        eprintln!("copra: without {PATCHED}: {error}");
    }
    let host = start_over::kvm_host(place)?;
    let cases = library::select(&[format!("repro/{}", args.subject)]).map_err(Failed::new)?.cases;
    let guests = Guests { args, cases, host, interrupt: interrupt::flag()?, quiet };
    exit(guests.reproduce(&stock, patched))
}

fn exit(reproduced: Result<Exit, Stopped>) -> Result<Exit, Failed> {
    match reproduced {
        Ok(exit) => Ok(exit),
        Err(Stopped::Interrupted) => Ok(Exit::Interrupted),
        Err(Stopped::Failed(failed)) => Err(failed),
    }
}

fn verdict(reproduced: bool) -> Exit {
    if reproduced {
        outln!("\nREPRODUCED: every step gave the documented result.");
        Exit::Success
    } else {
        outln!("\nNOT reproduced: the steps marked ✗ gave another result.");
        Exit::Finding
    }
}

/// The common settings of a reproduction's guests.
struct Guests<'a> {
    args: &'a ReproArgs,
    /// The case behind the narrative.
    cases: Vec<Case>,
    host: KvmHost,
    interrupt: Arc<AtomicBool>,
    quiet: bool,
}

impl Guests<'_> {
    fn reproduce(&self, stock: &Found, patched: Result<Option<Found>, Failed>) -> Result<Exit, Stopped> {
        let subject = self.args.subject;
        let platform = self.args.platform.unwrap_or(subject.platform());
        let stock = self.run(stock, platform)?;
        let mut reproduced = match subject {
            ReproSubject::MmapHole => narrative::describe(&stock, platform),
            _ => transcript::describe(&stock, platform),
        };
        let Some(patched) = patched? else {
            outln!("\nThe patched kernel was not run (--no-build); to see the denial: copra repro {subject}");
            return Ok(verdict(reproduced));
        };
        let mut platforms = vec![platform];
        if platform != Platform::None && subject == ReproSubject::MmapHole {
            platforms.push(Platform::None);
        }
        let patched: Vec<Observed> =
            platforms.into_iter().map(|platform| self.run(&patched, platform)).collect::<Result<_, _>>()?;
        reproduced &= match subject {
            ReproSubject::MmapHole => narrative::contrast(&stock, &patched, platform),
            _ => transcript::contrast(&patched),
        };
        Ok(verdict(reproduced))
    }

    /// Runs the case in a guest of its own.
    fn run(&self, kernel: &Found, platform: Platform) -> Result<Observed, Stopped> {
        let target = guests::default_target(kernel, platform, &self.host);
        let run = |watcher: &mut dyn Watcher| {
            engine::run::run(&target, &self.cases, watcher, &self.interrupt)
                .map_err(|error| Failed::of_engine(&error))
        };
        let report = if self.args.verbose {
            let mut screen = Screen::new(Shown::ForPeople { verbose: true, quiet: self.quiet });
            let report = run(&mut screen)?;
            screen.end(&report)?;
            report
        } else {
            run(&mut guests::Silent::new(self.quiet))?
        };
        let what = format!("{} as {platform} guest", kernel.facts.spec);
        self.observed(report, &what)
    }

    /// The observations of the guest, if it completed the case.
    fn observed(&self, report: Report, what: &str) -> Result<Observed, Stopped> {
        let case = &format!("repro/{}", self.args.subject);
        if report.ended == RunEnd::Interrupted {
            return Err(Stopped::Interrupted);
        }
        let why = report.cut_short().unwrap_or_else(|| "it does not apply to this guest".to_owned());
        let observed = Observed::of(report, case)
            .ok_or_else(|| Failed::new(format!("{what} did not run {case}: {why}")))?;
        match observed.not_run() {
            Some(reason) => Err(Stopped::Failed(Failed::new(format!(
                "{what} did not complete {case}, so there is no result: {reason}"
            )))),
            None => Ok(observed),
        }
    }
}
