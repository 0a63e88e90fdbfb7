// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra trace`: a boot, a command or cases as a timeline.

use std::sync::Arc;

use engine::guest::Target;
use engine::library;
use engine::timeline::TraceFile;

use super::{Failed, exec, guests, host, interrupt, start_over};
use crate::cli::{ExecOptions, TraceArgs};
use crate::exit::Exit;

/// Records what is run.
pub fn trace(args: &TraceArgs, quiet: bool) -> Result<Exit, Failed> {
    if args.command.is_empty() {
        return cases(args, quiet);
    }
    let start = || start(args);
    let (exit, file) = exec::record(&args.options, &args.command, &start, quiet)?;
    if let Some(file) = file {
        finish(args, &file, quiet)?;
    }
    Ok(exit)
}

/// Options that concern a command only.
fn check_options(options: &ExecOptions) -> Result<(), Failed> {
    let given = [
        ("--strict", options.strict),
        ("--fail-fast", options.fail_fast),
        ("--json", options.json.is_some()),
        ("--ktap", options.ktap.is_some()),
        ("--package", !options.package.is_empty()),
        ("--writable", !options.writable.is_empty()),
        ("--copy", !options.copy.is_empty()),
        ("--disk", !options.disk.is_empty()),
        ("--writable-disk", !options.writable_disk.is_empty()),
        ("--virtio-legacy-dma", options.virtio_legacy_dma),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(Failed::new(format!("{name} needs a command: copra trace … {name} … -- CMD"))),
        None => Ok(()),
    }
}

fn cases(args: &TraceArgs, quiet: bool) -> Result<Exit, Failed> {
    check_options(&args.options)?;
    let cases = match args.cases.as_slice() {
        [] => Vec::new(),
        named => library::select(named).map_err(Failed::new)?.cases,
    };
    engine::guest::check(args.options.guest.memory).map_err(Failed::new)?;
    let ready = guests::Ready::find(&args.options.guest, &cases, quiet)?;
    let host = start_over::kvm_host(host::choose_for(args.options.guest.platform))?;
    let file = start(args)?;
    // One guest at a time: its moments come one after another.
    let target = Target {
        boots: true,
        guests: 1,
        timeline: Some(Arc::clone(&file) as _),
        ..exec::target(&args.options, ready, &host)
    };
    if cases.is_empty() {
        let booted = engine::exec::boot(&target, &interrupt::signals()?);
        finish(args, &file, quiet)?;
        return booted.map(|()| Exit::Success).map_err(Failed::new);
    }
    let mut watcher = guests::Silent::new(quiet);
    let report = engine::run::run(&target, &cases, &mut watcher, &interrupt::flag()?);
    finish(args, &file, quiet)?;
    let report = report.map_err(|error| Failed::of_engine(&error))?;
    Ok(Exit::of_report(&report))
}

fn start(args: &TraceArgs) -> Result<Arc<TraceFile>, Failed> {
    let what = format!("{} as {} guest", args.options.guest.kernel, args.options.guest.platform);
    let file = TraceFile::create(&args.output, &what);
    file.map(Arc::new).map_err(|error| of_file(args, &error))
}

fn finish(args: &TraceArgs, file: &TraceFile, quiet: bool) -> Result<(), Failed> {
    let contents = file.finish().map_err(|error| of_file(args, &error))?;
    if !quiet {
        eprintln!(
            "copra: {}: {} exits, {} calls, {} conversions, {} interrupts, {} forbidden accesses; open it at https://ui.perfetto.dev",
            args.output.display(),
            contents.exits,
            contents.calls,
            contents.conversions,
            contents.interrupts,
            contents.accesses
        );
    }
    Ok(())
}

fn of_file(args: &TraceArgs, error: &std::io::Error) -> Failed {
    Failed::new(format!("writing the trace {}: {error}; give another place", args.output.display()))
}
