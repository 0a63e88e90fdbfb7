// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra run`.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use super::host::{self, Place};
use super::output::{self, Output};
use super::{Failed, guests, interrupt, kernels, watchdog};
use crate::cli::RunArgs;
use crate::exit::Exit;
use crate::report::style::Style;
use crate::report::terminal::Terminal;
use crate::report::{json, junit, ktap};
use engine::boot::BootResult;
use engine::guest::Target;
use engine::library;
use engine::report::{CaseResult, Report};
use engine::run::Watcher;
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
    let cases = library::select(&args.cases).map_err(Failed::new)?;
    // The reports are written even if the reader of standard output goes away.
    // SAFETY: setting a signal's action; no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let outputs = Outputs::open(args)?;
    // Kernels are fetched where there is a network; the image is read where the guests run.
    let found = guests::find(&args.guest, quiet)?;
    let programs = kernels::programs(&cases, quiet);
    let host = match host::choose_for(args.guest.platform) {
        Place::Here(host) => host,
        Place::Elsewhere(_) if args.bisect => {
            drop(outputs);
            // The inner command never ends with 2: that is the KVM host, which could not be had.
            let code = elsewhere(true)?;
            std::process::exit(i32::from(if code == 2 { Exit::AbortBisect.code() } else { code }))
        }
        Place::Elsewhere(_) => {
            // The command that runs there opens them again.
            drop(outputs);
            std::process::exit(i32::from(elsewhere(true)?));
        }
    };
    let usual = guests::target(&args.guest, &found, &host);
    let target = Target {
        policy: args.policy.unwrap_or(usual.policy),
        setup: Setup { mode: args.mode, sept_ve: args.sept_ve, unaccepted: args.unaccepted, ..usual.setup },
        programs,
        console: args.console,
        ..usual
    };
    let mut screen = Screen::new(args, quiet);
    let interrupt = interrupt::signals()?;
    let outputs = Arc::new(Mutex::new(Some(outputs)));
    watchdog::start(&interrupt, on_stuck(args, Arc::clone(&screen.so_far), Arc::clone(&outputs)));
    let report = engine::run::run(&target, &cases, &mut screen, &interrupt)
        .map_err(|error| Failed::of_engine(&error))?;
    // From here on the watchdog leaves the reports alone.
    let outputs = take(&outputs);
    let shown = screen.end(&report);
    outputs.map_or(Ok(()), |outputs| outputs.write(&report))?;
    shown?;
    Ok(Exit::of_report(&report))
}

/// Runs this very command again where KVM works.
pub(super) fn start_over() -> Result<Exit, Failed> {
    std::process::exit(i32::from(elsewhere(false)?));
}

/// Its exit code. With `reports`, it goes on without a reader of its output.
fn elsewhere(reports: bool) -> Result<u8, Failed> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut command = host::elsewhere(&arguments).map_err(Failed::new)?;
    // A KVM host ends when the reader of its output has gone. A terminal stays, and is passed on as it is.
    if reports && !io::stdout().is_terminal() {
        command.stdout(Stdio::piped());
    }
    // The inner command says and writes everything, reports after Ctrl-C included; its exit code is ours.
    let status = interrupt::pass_on(&mut command)?;
    Ok(host::code(status))
}

/// The files that reports go to.
struct Outputs {
    json: Option<Output>,
    junit: Option<Output>,
}

impl Outputs {
    /// Opens them all, so that one that takes no report is noticed before the run rather than after it.
    fn open(args: &RunArgs) -> Result<Self, Failed> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(Output::open).transpose();
        Ok(Self { json: open(&args.json)?, junit: open(&args.junit)? })
    }

    /// Writes all reports that can be written.
    fn write(self, report: &Report) -> Result<(), Failed> {
        let json = self.json.map_or(Ok(()), |output| output.write(|out| json::write(report, out)));
        let as_junit = |out: &mut dyn Write| junit::write(report, out).map_err(io::Error::other);
        let junit = self.junit.map_or(Ok(()), |output| output.write(as_junit));
        json.and(junit)
    }
}

/// Whether a report can be written there.
pub(super) fn place(path: &Path) -> Result<(), Failed> {
    Output::check(path)
}

/// What two threads may want and one gets.
fn take<T>(shared: &Mutex<Option<T>>) -> Option<T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What the watchdog does: it writes the reports of what was measured so far, unless they are being written.
fn on_stuck(
    args: &RunArgs,
    so_far: Arc<Mutex<Option<Report>>>,
    outputs: Arc<Mutex<Option<Outputs>>>,
) -> impl FnOnce(watchdog::Stuck) -> Exit + Send + use<> {
    let args = args.clone();
    move |stuck| {
        if let (Some(outputs), Some(mut report)) = (take(&outputs), take(&so_far)) {
            report.ended = engine::report::Ended::Failed(stuck.to_string());
            if let Err(error) = outputs.write(&report) {
                eprintln!("copra: {error}");
            }
            let _ = Screen::new(&args, true).end(&report);
        }
        if args.bisect { stuck.exit().for_bisection() } else { stuck.exit() }
    }
}

/// What a user sees while cases run.
struct Screen {
    /// The run so far, for the watchdog; none before a guest was started.
    so_far: Arc<Mutex<Option<Report>>>,
    terminal: Option<Terminal<io::Stdout>>,
    ktap: bool,
}

impl Screen {
    fn new(args: &RunArgs, quiet: bool) -> Self {
        let to_stdout = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
        let silent = args.ktap || to_stdout(&args.json) || to_stdout(&args.junit);
        let style = Style::choose(
            io::stdout().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
            std::env::var_os("COPRA_TTY").as_deref(),
        );
        let terminal = (!silent).then(|| Terminal::new(io::stdout(), style, args.verbose, quiet));
        Self { so_far: Arc::default(), terminal, ktap: args.ktap }
    }

    fn keep(&self, add: impl FnOnce(&mut Report)) {
        if let Some(report) = self.so_far.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            add(report);
        }
    }

    fn end(&mut self, report: &Report) -> Result<(), Failed> {
        let done = match &mut self.terminal {
            Some(terminal) => terminal.foot(report),
            None if self.ktap => ktap::write(report, io::stdout().lock()),
            None => Ok(()),
        };
        output::read_to_the_end(done)
            .map_err(|error| Failed::new(format!("writing to standard output: {error}")))
    }
}

impl Watcher for Screen {
    fn progress(&mut self, text: &str) {
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.progress(text);
        }
    }

    fn up(&mut self, report: &Report) {
        *self.so_far.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.head(report);
        }
    }

    fn boot(&mut self, result: &BootResult) {
        self.keep(|report| report.boots.push(result.clone()));
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.boot(result);
        }
    }

    fn case(&mut self, result: &CaseResult) {
        self.keep(|report| report.cases.push(result.clone()));
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.case(result);
        }
    }
}
