// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra explain`: the history of one page.

use std::fmt::Write as _;
use std::io;

use super::{Failed, guests, interrupt};
use crate::cli::ExplainArgs;
use crate::exit::Exit;
use crate::report::plain;
use engine::guest::Target;
use engine::library;
use engine::observation::Answer;
use engine::report::{Report, RunEnd, evidence};
use engine::setup::Setup;
use types::{AccessEvent, PageChange};

/// Runs the named cases with one page watched, and prints the page's history.
pub fn explain(args: &ExplainArgs, quiet: bool) -> Result<Exit, Failed> {
    let cases = match args.cases.as_slice() {
        [] => Vec::new(),
        named => library::select(named).map_err(Failed::new)?.cases,
    };
    let defaults = guests::target(&args.guest, &args.many, &cases, quiet)?;
    let target =
        Target { setup: Setup { mode: args.mode, ..defaults.setup }, watch: Some(args.gpa), ..defaults };
    let report = engine::run::run(&target, &cases, &mut guests::Silent::new(quiet), &interrupt::flag()?)
        .map_err(Failed::new)?;
    let shown = plain::write(io::stdout(), &history(args, &report));
    shown.map_err(|error| Failed::new(format!("writing to standard output: {error}")))?;
    match &report.ended {
        RunEnd::Complete => Ok(Exit::Success),
        RunEnd::Interrupted => Ok(Exit::Interrupted),
        // The command prints the page's history, and a guest that ended while booting has one.
        RunEnd::Failed(_) if report.has_boot_finding() => Ok(Exit::Success),
        RunEnd::Failed(why) => Err(Failed::new(why)),
    }
}

fn history(args: &ExplainArgs, report: &Report) -> String {
    let mut out = String::new();
    let page = args.gpa & !0xfff;
    let _ = writeln!(
        out,
        "page {page:#x} of {} ({}) as {} guest, mode {}",
        report.kernel.spec, report.kernel.release, args.guest.platform, args.mode
    );
    let inside = |gpa: u64, len: u64| gpa <= page + 0xfff && page < gpa.saturating_add(len);
    for region in report.platform.regions.iter().filter(|region| inside(region.gpa, region.len)) {
        let _ = writeln!(out, "  {:#x} {}: {}", region.gpa, region.region, region.kind);
    }
    let _ = writeln!(out, "\nlaunch and boot");
    if report.boots.is_empty() {
        let _ = writeln!(out, "  not known: no guest was started");
    } else if report.platform.changes.is_empty() {
        let _ = writeln!(out, "  no change: launched private and accepted");
    }
    // The history is that of the first guest.
    let first = report.boots.first().map(|boot| boot.observed.events.as_slice()).unwrap_or_default();
    let symbols = accesses(&mut out, first, page, "  ");
    changes(&mut out, &report.platform.changes, &symbols);
    for result in &report.cases {
        let _ = writeln!(out, "\n{}", result.case.name);
        for (step, observed, _) in result.steps() {
            let Some(observed) = observed else { continue };
            let died = if observed.answer == Answer::GuestDied {
                format!("  → the guest died: {}", observed.end)
            } else {
                String::new()
            };
            let _ = writeln!(out, "  {}  {}{died}", step.id, step.action);
            let symbols = accesses(&mut out, &observed.events, page, "    ");
            changes(&mut out, &observed.changes, &symbols);
        }
    }
    for death in &report.deaths {
        let _ = writeln!(out, "\n{}: {}", death.kind, death.text);
    }
    for aborted in &report.aborted {
        let _ = writeln!(out, "\nthe guest's run was aborted, so there is no result: {}", aborted.reason);
    }
    out
}

/// Prints the forbidden accesses to a page; returns the symbols of the code that made them.
fn accesses<'a>(out: &mut String, events: &'a [AccessEvent], page: u64, indent: &str) -> Vec<&'a str> {
    let here: Vec<AccessEvent> = events.iter().filter(|event| event.gpa & !0xfff == page).cloned().collect();
    for line in evidence::of_events(&here) {
        let _ = writeln!(out, "{indent}{line}");
    }
    let here = events.iter().filter(|event| event.gpa & !0xfff == page);
    here.filter_map(|event| event.symbol.as_deref()).collect()
}

/// Prints page state changes; the code that caused one is left out if an access of `printed` was made there.
fn changes(out: &mut String, changes: &[PageChange], printed: &[&str]) {
    for change in changes {
        if change.symbol.as_deref().is_some_and(|symbol| printed.contains(&symbol)) {
            let _ = writeln!(out, "      {}", change.what);
            continue;
        }
        let by = change.symbol.as_deref().map(|symbol| format!(", by {symbol}")).unwrap_or_default();
        let task = change.task.as_deref().map(|task| format!(", task {task}")).unwrap_or_default();
        let _ = writeln!(out, "    {}{by}{task}", change.what);
        if change.backtrace.len() > 1 {
            let _ = writeln!(out, "      called by {}", change.backtrace[1..].join(" < "));
        }
    }
}
