// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Test suites that are not copra's: KUnit in the kernel, or a program that prints KTAP or TAP. Their tests become cases of the
//! report, each with the forbidden accesses made while it ran.
//!
//! A guest's output and its accesses stop the same vCPU, so that the VMM knows how much had been written when each access was
//! made (`vmm/src/trace/output.rs`). An access belongs to the test under way at that place of the output.

mod judge;
mod output;
mod recorder;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use types::PlacedRegion;

use self::judge::{Ending, Suite};
use self::output::Output;
use self::recorder::Recorder;
use crate::exec::{self, CommandEnd, Order, StandardFiles};
use crate::guest::{self, EngineError, PreparedKernel, Target};
use crate::ktap::{Ktap, Origin};
use crate::report::{Report, RunEnd};
use crate::run::{OneGuest, Watcher, one_guest};
use crate::runner::{self, Recorded};
use crate::session::Session;

/// Why a suite cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The kernel.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It has no KUnit.
    #[error(
        "the kernel {kernel} cannot run KUnit while it boots: it was built with CONFIG_KUNIT={found}, which must be y; try \
         -k build:kunit, or set it and the suites' options in the kernel's configuration"
    )]
    NoKunit {
        /// The kernel.
        kernel: String,
        /// The option's value.
        found: String,
    },
}

/// Words that make a kernel run its KUnit suites and print what they give.
fn kunit_words(filter: Option<&str>) -> Vec<String> {
    // lib/kunit/executor.c. Results are printed at level KERN_INFO, which is 6.
    let words = ["kunit.enable=1", "loglevel=7"].into_iter().map(str::to_owned);
    words.chain(filter.map(|filter| format!("kunit.filter_glob={filter}"))).collect()
}

/// Boots the kernel, whose KUnit suites run meanwhile: all, or those that `filter` names (`SUITE.TEST`, with `*` and `?`).
pub fn kunit(
    target: &Target,
    filter: Option<&str>,
    watcher: &mut dyn Watcher,
    interrupt: &Arc<AtomicBool>,
) -> Result<Report, SuiteError> {
    if let Some(config) = &target.config {
        let found = config.get("KUNIT").map_or("n", String::as_str);
        if found != "y" {
            return Err(SuiteError::NoKunit { kernel: target.kernel.spec.clone(), found: found.to_owned() });
        }
    }
    let target =
        Target { command_line: [&target.command_line[..], &kunit_words(filter)].concat(), ..target.clone() };
    let kernel = PreparedKernel::with_agent(&target)?.with_names().with_dma_probe();
    let suite = Suite::kunit();
    let mut boot = OneGuest { target: &target, kernel: &kernel, interrupt, boot_accesses: outside_of_tests };
    let report = one_guest(&mut boot, watcher, |guest, report, watcher| {
        let Some(session) = guest else { return };
        let ending = Ending::of_boot(report);
        let (ktap, mut accesses) = of_console(session, &report.platform.regions);
        // The boot has its own verdict on these.
        accesses.outside.clear();
        accesses.after_last.clear();
        suite.judge(&ktap, accesses, &ending).into_iter().for_each(|result| add(report, watcher, result));
    });
    Ok(report?)
}

/// The forbidden accesses of a boot that no KUnit test made.
fn outside_of_tests(session: &Session, regions: &[PlacedRegion]) -> Recorded {
    let (_, mut accesses) = of_console(session, regions);
    accesses.outside.append(&mut accesses.after_last);
    Recorded { events: accesses.outside, dropped: accesses.not_kept }
}

fn of_console(session: &Session, regions: &[PlacedRegion]) -> (Ktap, output::Accesses) {
    let console = session.machine().console();
    let output = Output {
        text: console.beginning(),
        len: console.total(),
        missing: console.dropped(),
        marks: console.marks.clone(),
        is_console: true,
    };
    // The kernel ends each line.
    let ktap = Ktap::read(&output.text, Origin::KernelLog, false);
    let accesses = output.accesses(session, None, regions, &ktap);
    (ktap, accesses)
}

/// Runs a command, with this machine's files, whose standard output is KTAP or TAP.
pub fn program(
    target: &Target,
    order: &Order,
    watcher: &mut dyn Watcher,
    interrupt: &Arc<AtomicBool>,
) -> Result<Report, SuiteError> {
    let recorder = Arc::new(Recorder::default());
    let mut order = order.clone();
    if let StandardFiles::Pipes([_, output, _]) = &mut order.files {
        *output = Arc::<Recorder>::clone(&recorder);
    }
    let kernel = PreparedKernel::with_agent(target)?.with_names();
    let kernel = kernel.with_devices(exec::devices(&order)).with_dma_probe();
    let suite = Suite::program(&order.arguments);
    let mut boot = OneGuest { target, kernel: &kernel, interrupt, boot_accesses: runner::all_events };
    let report = one_guest(&mut boot, watcher, |guest, report, watcher| {
        let (Some(session), Ending::CameUp) = (guest, Ending::of_boot(report)) else { return };
        recorder.begin(session.machine().events().count());
        let booted = session.machine().events().cursor();
        let ending = match exec::in_session(session, target, &order, interrupt) {
            CommandEnd::Exited(status) => Ending::Exited(status),
            CommandEnd::Signal(signal) => Ending::Signal(signal),
            CommandEnd::Interrupted => {
                report.ended = RunEnd::Interrupted;
                Ending::Interrupted
            }
            CommandEnd::NotStarted(errno) => {
                let command = suite.name();
                report.ended = RunEnd::Failed(format!("starting {command} in the guest gave {errno}"));
                return;
            }
            CommandEnd::NotRun(why) => {
                report.ended = RunEnd::Failed(why.to_string());
                return;
            }
            CommandEnd::GuestEnded(ended) => Ending::of_guest(*ended, report),
        };
        let output = recorder.take();
        let regions = guest::placed(session.machine());
        let ktap = Ktap::read(&output.text, Origin::Program, matches!(ending, Ending::Exited(_)));
        let accesses = output.accesses(session, Some(booted), &regions, &ktap);
        suite.judge(&ktap, accesses, &ending).into_iter().for_each(|result| add(report, watcher, result));
    });
    Ok(report?)
}

fn add(report: &mut Report, watcher: &mut dyn Watcher, result: crate::report::CaseResult) {
    report.planned.push(result.case.name.clone());
    watcher.case(&result);
    report.cases.push(result);
}
