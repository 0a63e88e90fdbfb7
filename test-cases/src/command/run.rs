// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra run`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::host::{self, Place};
use super::output::Output;
use super::screen::{Screen, Shown};
use super::start_over::{self, Reader};
use super::{Failed, guests, interrupt, watchdog};
use crate::cli::RunArgs;
use crate::exit::Exit;
use crate::report::plain::plain;
use crate::report::repeat::Repeat;
use crate::report::{count, json, junit};
use engine::guest::Target;
use engine::library;
use engine::report::Report;
use engine::report::document::RunDocument;
use engine::report::shard::ShardOf;
use engine::setup::Setup;

/// Runs cases and reports.
pub fn run(args: &RunArgs, quiet: bool) -> Result<Exit, Failed> {
    let done = run_cases(args, quiet);
    if !args.bisect {
        return done;
    }
    Ok(match done {
        Ok(exit) => exit.for_bisection(),
        Err(error) => {
            eprintln!("copra: {error}");
            if error.is_of_this_version() { Exit::Untestable } else { Exit::AbortBisect }
        }
    })
}

fn run_cases(args: &RunArgs, quiet: bool) -> Result<Exit, Failed> {
    let library::Selection { mut cases, files } = library::select(&args.cases).map_err(Failed::new)?;
    let part = args.shard.map(|shard| {
        let selected = cases.iter().map(|case| case.name.clone()).collect();
        cases.retain(|case| shard.contains(&case.name));
        ShardOf { shard, selected }
    });
    let notice = Notice { quiet: quiet || host::is_inside() };
    notice.of_cases(args, cases.len());
    // With SIGPIPE ignored, the reports are written even if the reader of standard output ends.
    // SAFETY: setting a signal's action; no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let outputs = Outputs::open(args, part)?;
    // Kernels are fetched where there is a network; the image is read where the guests run.
    let ready = guests::Ready::find(&args.guest, &cases, quiet)?;
    let host = match host::choose_for(args.guest.platform) {
        Place::Here(host) => {
            notice.print("guests run on this machine's KVM");
            host
        }
        Place::Elsewhere(why) => {
            notice.print(&format!("guests run on a KVM host in QEMU, which is started first: {why}"));
            // The command that runs there opens them again.
            drop(outputs);
            let code = if args.bisect { start_over::bisect()? } else { start_over::code(Reader::NotNeeded)? };
            start_over::end_with(code)
        }
    };
    let defaults = ready.target(&args.guest, &args.many, &host);
    let mut layout = defaults.setup.layout;
    layout.unaccepted.percent = args.unaccepted.unwrap_or(layout.unaccepted.percent);
    let target = Target {
        policy: args.policy.unwrap_or(defaults.policy),
        setup: Setup { mode: args.mode, sept_ve: args.sept_ve, layout, ..defaults.setup },
        console: args.console,
        shuffle: args.shuffle,
        ..defaults
    };
    let repeat = Repeat::of(args, &files);
    let mut screen = screen(args, quiet).with_repeat(repeat.clone());
    let interrupt = interrupt::signals()?;
    let outputs = Arc::new(Mutex::new(Some(outputs)));
    watchdog::start(&interrupt, on_stuck(args, repeat, Arc::clone(&screen.so_far), Arc::clone(&outputs)));
    let report = engine::run::run(&target, &cases, &mut screen, &interrupt)
        .map_err(|error| Failed::of_engine(&error))?;
    // From here on the watchdog does not write the reports.
    let outputs = take(&outputs);
    let shown = screen.end(&report);
    outputs.map_or(Ok(()), |outputs| outputs.write(&report))?;
    shown?;
    Ok(if args.shard.is_some() { Exit::of_shard(&report) } else { Exit::of_report(&report) })
}

/// What a run is about to do, on standard error before anything takes long.
struct Notice {
    quiet: bool,
}

impl Notice {
    fn of_cases(&self, args: &RunArgs, cases: usize) {
        let shard = args.shard.map(|shard| format!(" of shard {shard}")).unwrap_or_default();
        let policy = args.policy.map_or("the policy it was built for", |policy| policy.name());
        let guest = &args.guest;
        self.print(&format!(
            "{}{shard} on {} as {} guest with {} MiB, against {policy}",
            count::of(cases, "case"),
            guest.kernel,
            guest.platform,
            guest.memory
        ));
    }

    fn print(&self, text: &str) {
        if !self.quiet {
            eprintln!("copra: {}", plain(text));
        }
    }
}

/// The report files.
struct Outputs {
    json: Option<Output>,
    junit: Option<Output>,
    /// Which part of the cases the reports are of.
    part: Option<ShardOf>,
}

impl Outputs {
    /// Opens them all, so that a file that cannot be written is reported before the run.
    fn open(args: &RunArgs, part: Option<ShardOf>) -> Result<Self, Failed> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(Output::open).transpose();
        Ok(Self { json: open(&args.json)?, junit: open(&args.junit)?, part })
    }

    /// Writes all reports that can be written.
    fn write(self, report: &Report) -> Result<(), Failed> {
        let document = RunDocument { shard: self.part, ..RunDocument::of(report) };
        let json = self.json.map_or(Ok(()), |output| output.write(|out| json::write(&document, out)));
        let as_junit = |out: &mut dyn Write| junit::write(&document, out).map_err(io::Error::other);
        let junit = self.junit.map_or(Ok(()), |output| output.write(as_junit));
        json.and(junit)
    }
}

/// Takes a value that two threads share: the first call gets it.
fn take<T>(shared: &Mutex<Option<T>>) -> Option<T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The screen output of the run: none where a report is written to standard output.
fn screen(args: &RunArgs, quiet: bool) -> Screen {
    let to_stdout = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    Screen::new(match args {
        _ if args.ktap => Shown::Ktap,
        _ if to_stdout(&args.json) || to_stdout(&args.junit) => Shown::Nothing,
        _ => Shown::ForPeople { verbose: args.verbose, quiet },
    })
}

/// Called by the watchdog: writes reports of the cases that ended so far, unless the main thread is writing them.
fn on_stuck(
    args: &RunArgs,
    repeat: Repeat,
    so_far: Arc<Mutex<Option<Report>>>,
    outputs: Arc<Mutex<Option<Outputs>>>,
) -> impl FnOnce(watchdog::Stuck) -> Exit + Send + use<> {
    let args = args.clone();
    move |stuck| {
        if let (Some(outputs), Some(mut report)) = (take(&outputs), take(&so_far)) {
            report.ended = engine::report::RunEnd::Failed(stuck.to_string());
            if let Err(error) = outputs.write(&report) {
                eprintln!("copra: {error}");
            }
            let _ = screen(&args, true).with_repeat(repeat).end(&report);
        }
        if args.bisect { stuck.exit().for_bisection() } else { stuck.exit() }
    }
}
