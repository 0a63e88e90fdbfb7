//! `copra run`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use super::host::{self, Place};
use super::{Failed, guests, interrupt, kernels};
use crate::boot::BootResult;
use crate::cli::RunArgs;
use crate::engine::{self, Target, Watcher};
use crate::exit::Exit;
use crate::library;
use crate::report::style::Style;
use crate::report::terminal::Terminal;
use crate::report::{CaseResult, Report, json, junit, ktap};
use crate::setup::Setup;

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
            if error.is_of_this_version() { Exit::Untestable } else { Exit::Hopeless }
        }
    })
}

fn run_cases(args: &RunArgs, quiet: bool) -> Result<Exit, Failed> {
    let cases = library::select(&args.cases).map_err(Failed::new)?;
    places(args)?;
    // Kernels are fetched where there is a network; the image is read where the guests run.
    let found = guests::find(&args.guest, quiet)?;
    let programs = kernels::programs(&cases, quiet);
    let host = match host::choose() {
        Place::Here(host) => host,
        Place::Elsewhere(_) if args.bisect => {
            // The inner command never ends with 2: that is the KVM host, which could not be had.
            let code = elsewhere()?;
            std::process::exit(i32::from(if code == 2 { Exit::Hopeless as u8 } else { code }))
        }
        Place::Elsewhere(_) => return start_over(),
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
    let report = engine::run(&target, &cases, &mut screen, &interrupt::flag()?)
        .map_err(|error| Failed::of_engine(&error))?;
    screen.end(&report)?;
    write_reports(args, &report)?;
    Ok(Exit::of_report(&report))
}

/// Runs this very command again where KVM works.
pub(super) fn start_over() -> Result<Exit, Failed> {
    std::process::exit(i32::from(elsewhere()?));
}

/// Its exit code.
fn elsewhere() -> Result<u8, Failed> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut command = host::elsewhere(&arguments).map_err(Failed::new)?;
    // The inner command says and writes everything, reports after Ctrl-C included; its exit code is ours.
    let status = interrupt::pass_on(&mut command)?;
    Ok(host::code(status))
}

/// Reports go into folders that are there: that is told before the run rather than after it.
fn places(args: &RunArgs) -> Result<(), Failed> {
    [&args.json, &args.junit].into_iter().flatten().try_for_each(|path| place(path))
}

/// Whether a report can be written there.
pub(super) fn place(path: &Path) -> Result<(), Failed> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        None => Ok(()),
        Some(folder) => Err(Failed::new(format!(
            "the report {} cannot be written: {} is no folder; make it, or give another place",
            path.display(),
            folder.display()
        ))),
    }
}

/// Writes all reports that can be written.
fn write_reports(args: &RunArgs, report: &Report) -> Result<(), Failed> {
    let json = args.json.as_deref().map_or(Ok(()), |path| write(path, |out| json::write(report, out)));
    let as_junit = |out: &mut dyn Write| junit::write(report, out).map_err(io::Error::other);
    let junit = args.junit.as_deref().map_or(Ok(()), |path| write(path, as_junit));
    json.and(junit)
}

fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failed> {
    let done = if path == Path::new("-") {
        fill(&mut io::stdout().lock())
    } else {
        File::create(path).and_then(|mut file| fill(&mut file))
    };
    done.map_err(|error| {
        Failed::new(format!("writing the report {}: {error}; give another place", path.display()))
    })
}

/// What a user sees while cases run.
struct Screen {
    terminal: Option<Terminal<io::Stdout>>,
    ktap: bool,
}

impl Screen {
    fn new(args: &RunArgs, quiet: bool) -> Self {
        let to_stdout = |path: &Option<std::path::PathBuf>| path.as_deref() == Some(Path::new("-"));
        let silent = args.ktap || to_stdout(&args.json) || to_stdout(&args.junit);
        let style = Style::choose(
            io::stdout().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
            std::env::var_os("COPRA_TTY").as_deref(),
        );
        let terminal = (!silent).then(|| Terminal::new(io::stdout(), style, args.verbose, quiet));
        Self { terminal, ktap: args.ktap }
    }

    fn end(&mut self, report: &Report) -> Result<(), Failed> {
        let done = match &mut self.terminal {
            Some(terminal) => terminal.foot(report),
            None if self.ktap => ktap::write(report, io::stdout().lock()),
            None => Ok(()),
        };
        done.map_err(|error| Failed::new(format!("writing to standard output: {error}")))
    }
}

impl Watcher for Screen {
    fn progress(&mut self, text: &str) {
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.progress(text);
        }
    }

    fn up(&mut self, report: &Report) {
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.head(report);
        }
    }

    fn boot(&mut self, result: &BootResult) {
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.boot(result);
        }
    }

    fn case(&mut self, result: &CaseResult) {
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.case(result);
        }
    }
}
