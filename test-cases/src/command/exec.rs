// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra exec` and `copra shell`: a command of the user's in a guest, and the forbidden accesses made meanwhile.

pub(super) mod confine;
mod copies;
mod frames;
mod ktap;
mod relay;
mod streams;
mod terminal;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::exec::{CommandEnd, Disk, Executed, Order, StandardFiles, Writable};
use engine::guest::Target;
use engine::observation::KvmHost;
use engine::setup::Setup;
use engine::timeline::TraceFile;
use serde_json::json;
use types::{Errno, Mode, SimilarAccesses};
use vmm::confinement::Confined;
use vmm::device::virtio::{NullPeer, PortPeer as _};

use self::copies::Copies;
pub(super) use self::frames::{Frame, MOST};
pub(super) use self::relay::{FRAMES, is_framed};
use self::streams::Input;
pub(super) use self::streams::Sink;
use self::terminal::RawTerminal;
use super::host::Place;
use super::output::Output;
use super::{Failed, guests, host, interrupt, kernels};
use crate::cli::{ExecArgs, ExecOptions, ManyOptions, ShellArgs};
use crate::exit::Exit;
use crate::report::plain::plain;

/// Variables that concern this process only.
const OWN: &str = "COPRA_";
/// Program found, but not executable; not found: as a shell reports them.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Where programs of the administrator's are.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// Added to the number of a signal.
const BY_SIGNAL: u8 = 128;

/// Boots a guest and runs the command in it.
pub fn exec(args: &ExecArgs, quiet: bool) -> Result<Exit, Failed> {
    run(&args.options, &args.command, false, quiet)
}

/// The same with a recorder, which is started where the guest runs; it is returned if that is this process.
pub(super) fn record(
    args: &ExecOptions,
    command: &[OsString],
    start: &dyn Fn() -> Result<Arc<TraceFile>, Failed>,
    quiet: bool,
) -> Result<(Exit, Option<Arc<TraceFile>>), Failed> {
    let mut file = None;
    let exit = run_with(args, command, false, quiet, |target| {
        let started = file.insert(start()?);
        target.timeline = Some(Arc::clone(started) as _);
        Ok(())
    })?;
    Ok((exit, file))
}

/// The same with the user's terminal.
pub fn shell(args: &ShellArgs, quiet: bool) -> Result<Exit, Failed> {
    if args.command.is_empty() {
        let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        return run(&args.options, &[shell], true, quiet);
    }
    run(&args.options, &args.command, true, quiet)
}

fn run(args: &ExecOptions, command: &[OsString], terminal: bool, quiet: bool) -> Result<Exit, Failed> {
    run_with(args, command, terminal, quiet, |_| Ok(()))
}

/// `prepare` changes the guest before it boots.
fn run_with(
    args: &ExecOptions,
    command: &[OsString],
    terminal: bool,
    quiet: bool,
    prepare: impl FnOnce(&mut Target) -> Result<(), Failed>,
) -> Result<Exit, Failed> {
    if terminal && !is_framed() && !terminal::is_one() {
        return Err(Failed::new(
            "copra shell needs a terminal as standard input; copra exec takes a pipe or a file",
        ));
    }
    engine::guest::check(args.guest.memory).map_err(Failed::new)?;
    for path in args.reports().into_iter().flatten() {
        Output::check(path)?;
    }
    let ready = guests::Ready::find(&args.guest, &[], quiet)?;
    let above = kernels::above(ready.found(), &args.package, quiet)?;
    let host = match host::choose_for(args.guest.platform) {
        Place::Here(host) => host,
        Place::Elsewhere(_) => return relay::run(terminal).map(Exit::Program),
    };
    let mut target = target(args, ready, &host);
    prepare(&mut target)?;
    let (mut order, _copies) = order(args, command, above, no_input())?;
    let confined = confine::confine(&args.reports(), &order, quiet)?;
    // Threads started before would keep their rights to files.
    let flag = interrupt::signals()?;
    let input = Input::start(&flag).map_err(|error| of_input(&error))?;
    order.files = if terminal {
        StandardFiles::Terminal(input)
    } else {
        StandardFiles::Pipes([input, Arc::new(Sink::Output), Arc::new(Sink::Error)])
    };
    let raw = if terminal { RawTerminal::set().map_err(|error| of_input(&error))? } else { None };
    let executed = engine::exec::exec(&target, &order, &flag);
    drop(raw);
    finish(args, command, &target, &executed.map_err(Failed::new)?, Some(confined), quiet)
}

/// The guest of these options.
pub(super) fn target(args: &ExecOptions, ready: guests::Ready, host: &KvmHost) -> Target {
    let defaults = ready.target(&args.guest, &ManyOptions::default(), host);
    let mode = if args.faithful { Mode::Faithful } else { Mode::Record };
    Target { setup: Setup { mode, ..defaults.setup }, ..defaults }
}

/// Reports what was executed; the exit code.
pub(super) fn finish(
    args: &ExecOptions,
    command: &[OsString],
    target: &Target,
    executed: &Executed,
    confined: Option<Confined>,
    quiet: bool,
) -> Result<Exit, Failed> {
    report(args, command, target, executed, quiet);
    if let Some(path) = &args.json {
        write_json(path, target, command, executed, confined)?;
    }
    if let Some(path) = &args.ktap {
        let text = ktap::text(target, executed);
        if path == Path::new("-") {
            Sink::Output.receive(text.as_bytes());
        } else {
            Output::open(path)?.write(|to| to.write_all(text.as_bytes()))?;
        }
    }
    Ok(exit(args, executed))
}

fn of_input(error: &io::Error) -> Failed {
    Failed::new(format!("reading standard input: {error}"))
}

/// What is run in it, with these standard files; copies are made, which a confined process cannot do.
pub(super) fn order(
    args: &ExecOptions,
    command: &[OsString],
    above: Vec<PathBuf>,
    files: StandardFiles,
) -> Result<(Order, Copies), Failed> {
    let mut order = order_with(command, &args.writable, above, files)?;
    let copies = Copies::make(&args.copy)?;
    order.writable.extend_from_slice(&copies.made);
    let disks = args.disk.iter().map(|path| (path, false));
    let disks = disks.chain(args.writable_disk.iter().map(|path| (path, true)));
    let disk = |(path, writable)| Ok(Disk { file: absolute("--disk")(path)?, writable });
    let order = Order {
        access_platform: !args.virtio_legacy_dma,
        disks: disks.map(disk).collect::<Result<_, Failed>>()?,
        fail_fast: args.fail_fast,
        ..order
    };
    Ok((order, copies))
}

/// The whole path of what an option names.
fn absolute(option: &'static str) -> impl Fn(&PathBuf) -> Result<PathBuf, Failed> {
    move |path| {
        path.canonicalize().map_err(|error| Failed::new(format!("{option} {}: {error}", path.display())))
    }
}

/// A command whose standard input is empty; its standard output is to be given to something else.
pub(super) fn order_without_input(
    command: &[OsString],
    writable: &[PathBuf],
    above: Vec<PathBuf>,
) -> Result<Order, Failed> {
    order_with(command, writable, above, no_input())
}

fn no_input() -> StandardFiles {
    StandardFiles::Pipes([Arc::new(NullPeer), Arc::new(NullPeer), Arc::new(Sink::Error)])
}

fn order_with(
    command: &[OsString],
    writable: &[PathBuf],
    above: Vec<PathBuf>,
    files: StandardFiles,
) -> Result<Order, Failed> {
    let folder = std::env::current_dir()
        .map_err(|error| Failed::new(format!("finding the current folder: {error}")))?;
    let named = writable.iter().map(|path| {
        let path = absolute("--writable")(path)?;
        Ok(Writable { shared: path.clone(), file: None, path })
    });
    Ok(Order {
        arguments: command.iter().map(|text| text.as_bytes().to_vec()).collect(),
        environment: environment(),
        folder,
        writable: named.collect::<Result<_, Failed>>()?,
        above,
        disks: Vec::new(),
        fail_fast: false,
        access_platform: true,
        files,
        debugger: None,
    })
}

/// This process's, but that programs of the administrator's are found as well: the command runs as root.
fn environment() -> Vec<Vec<u8>> {
    let own = |name: &OsString| name.as_bytes().starts_with(OWN.as_bytes());
    let variables = std::env::vars_os().filter(|(name, _)| !own(name));
    let text = |(name, value): (OsString, OsString)| {
        let value = if name == "PATH" { with_system_folders(&value) } else { value };
        [name.as_bytes(), b"=", value.as_bytes()].concat()
    };
    variables.map(text).collect()
}

fn with_system_folders(path: &OsStr) -> OsString {
    let mut folders: Vec<PathBuf> = std::env::split_paths(path).collect();
    for folder in SYSTEM_FOLDERS.map(PathBuf::from) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    // A folder with a colon in its name cannot have come out of a PATH.
    std::env::join_paths(folders).unwrap_or_else(|_| path.to_owned())
}

/// What was found, on standard error: standard output is the command's.
fn report(args: &ExecOptions, command: &[OsString], target: &Target, executed: &Executed, quiet: bool) {
    let say = |text: String| eprintln!("copra: {}", plain(&text));
    let unknown: Vec<_> = executed.boot.unknown().cloned().collect();
    for (when, events) in [("while booting: ", &unknown), ("", &executed.events)] {
        for similar in SimilarAccesses::fold(events) {
            say(format!("{when}{similar}"));
            if args.verbose {
                similar.first().backtrace.iter().for_each(|frame| say(format!("    {frame}")));
            }
        }
    }
    for refused in executed.boot.observed.refused.iter().chain(&executed.refused) {
        say(format!("refused by --fail: {refused}"));
        if args.verbose {
            refused.backtrace.iter().for_each(|frame| say(format!("    {frame}")));
        }
    }
    match &executed.end {
        CommandEnd::NotStarted(errno) => {
            say(format!(
                "{}: {errno}",
                command.first().map_or_else(Default::default, |name| name.to_string_lossy())
            ));
        }
        CommandEnd::GuestEnded(ended) => {
            say(format!("the guest ended before the command did: {}", ended.text));
            for line in &ended.console {
                say(format!("    {line}"));
            }
        }
        CommandEnd::NotRun(why) => say(why.to_string()),
        CommandEnd::Exited(_) | CommandEnd::Signal(_) | CommandEnd::Interrupted => {}
    }
    let count = executed.events.len() + unknown.len();
    if !quiet || count > 0 || executed.not_kept > 0 {
        let more = match executed.not_kept {
            0 => String::new(),
            more => format!(", and {more} that were not kept"),
        };
        say(format!(
            "{} ({}) as {} guest, {} mode: {count} forbidden access{}{more}",
            target.kernel.spec,
            executed.release,
            target.platform,
            target.setup.mode,
            if count == 1 { "" } else { "es" },
        ));
    }
}

fn write_json(
    path: &Path,
    target: &Target,
    command: &[OsString],
    executed: &Executed,
    confined: Option<Confined>,
) -> Result<(), Failed> {
    let command: Vec<_> = command.iter().map(|text| text.to_string_lossy()).collect();
    let ended = match &executed.end {
        CommandEnd::Exited(status) => json!({ "exited": status }),
        CommandEnd::Signal(signal) => json!({ "signal": signal }),
        CommandEnd::NotStarted(errno) => json!({ "not_started": errno.to_string() }),
        CommandEnd::GuestEnded(ended) => json!({ "guest_ended": ended.text, "console": ended.console }),
        CommandEnd::NotRun(why) => json!({ "not_run": why.to_string() }),
        CommandEnd::Interrupted => json!("interrupted"),
    };
    let value = json!({
        "schema": "copra-exec/1",
        "copra": env!("CARGO_PKG_VERSION"),
        "kernel": { "spec": target.kernel.spec, "release": executed.release },
        "platform": target.platform,
        "mode": target.setup.mode,
        "command": command,
        "ended": ended,
        "boot": executed.boot,
        "events": executed.events,
        "not_kept": executed.not_kept,
        "fail": target.setup.fail,
        "refused": executed.refused,
        "confined": confined.map(confine::name),
        "simulated": vmm::platform::simulated(target.platform),
        "not_simulated": vmm::platform::not_simulated(target.platform),
    });
    Output::open(path)?.write(|to| writeln!(to, "{value:#}"))
}

fn exit(args: &ExecOptions, executed: &Executed) -> Exit {
    let found = !executed.events.is_empty()
        || executed.not_kept > 0
        || executed.boot.unknown().next().is_some()
        || executed.boot.observed.not_kept > 0;
    match &executed.end {
        CommandEnd::Interrupted => Exit::Interrupted,
        _ if args.strict && found => Exit::Finding,
        CommandEnd::Exited(status) => Exit::Program(*status),
        CommandEnd::Signal(signal) => Exit::Program(BY_SIGNAL.saturating_add(*signal)),
        CommandEnd::NotStarted(Errno::ENOENT) => Exit::Program(NOT_FOUND),
        CommandEnd::NotStarted(_) => Exit::Program(NOT_EXECUTABLE),
        CommandEnd::NotRun(_) | CommandEnd::GuestEnded(_) => Exit::CouldNotRun,
    }
}
