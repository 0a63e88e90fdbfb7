//! `copra explain`: the history of one page.

use super::host::{self, Place};
use super::{Failed, guests, interrupt, kernels, run};
use crate::cli::ExplainArgs;
use crate::engine::{self, Target};
use crate::exit::Exit;
use crate::library;
use crate::observation::{AccessEvent, Answer, PageChange};
use crate::report::evidence;
use crate::report::{Ended, Report};
use crate::setup::Setup;

/// Runs what was asked for with one page watched, and tells what became of it.
pub fn explain(args: &ExplainArgs, quiet: bool) -> Result<Exit, Failed> {
    let cases = match args.cases.as_slice() {
        [] => Vec::new(),
        named => library::select(named).map_err(Failed::new)?,
    };
    let found = guests::find(&args.guest, quiet)?;
    let programs = kernels::programs(&cases, quiet);
    let host = match host::choose() {
        Place::Here(host) => host,
        Place::Elsewhere(_) => return run::start_over(),
    };
    let usual = guests::target(&args.guest, &found, &host);
    let target =
        Target { programs, setup: Setup { mode: args.mode, ..usual.setup }, watch: Some(args.gpa), ..usual };
    let report = engine::run(&target, &cases, &mut guests::Silent::new(quiet), &interrupt::flag()?)
        .map_err(Failed::new)?;
    tell(args, &report);
    match &report.ended {
        Ended::Complete => Ok(Exit::Success),
        Ended::Interrupted => Ok(Exit::Interrupted),
        // The page's history was what was asked for, and a guest that ended while booting has one.
        Ended::Failed(_) if report.has_boot_finding() => Ok(Exit::Success),
        Ended::Failed(why) => Err(Failed::new(why)),
    }
}

fn tell(args: &ExplainArgs, report: &Report) {
    let page = args.gpa & !0xfff;
    println!(
        "page {page:#x} of {} ({}) as {} guest, mode {}",
        report.kernel.spec, report.kernel.release, args.guest.platform, args.mode
    );
    let inside = |gpa: u64, len: u64| gpa <= page + 0xfff && page < gpa.saturating_add(len);
    for region in report.platform.regions.iter().filter(|region| inside(region.gpa, region.len)) {
        println!("  {:#x} {}: {}", region.gpa, region.region, region.kind);
    }
    println!("\nlaunch and boot");
    if report.boots.is_empty() {
        println!("  not known: no guest was started");
    } else if report.platform.changes.is_empty() {
        println!("  no change: it was launched private and accepted, and stayed so");
    }
    // The history is that of the first guest.
    let first = report.boots.first().map(|boot| boot.observed.events.as_slice()).unwrap_or_default();
    let told = accesses(first, page, "  ");
    changes(&report.platform.changes, &told);
    for result in &report.cases {
        println!("\n{}", result.case.name);
        for (step, observed, _) in result.steps() {
            let Some(observed) = observed else { continue };
            let died = if observed.answer == Answer::GuestDied {
                format!("  → the guest died: {}", observed.end)
            } else {
                String::new()
            };
            println!("  {}  {}{died}", step.id, step.action);
            let told = accesses(&observed.events, page, "    ");
            changes(&observed.changes, &told);
        }
    }
    for death in &report.deaths {
        println!("\n{}: {}", death.kind, death.text);
    }
    for aborted in &report.aborted {
        println!("\nthe guest's run was aborted, which shows nothing: {}", aborted.reason);
    }
}

/// Prints the forbidden accesses to a page; gives the places they were made at.
fn accesses<'a>(events: &'a [AccessEvent], page: u64, indent: &str) -> Vec<&'a str> {
    let here: Vec<AccessEvent> = events.iter().filter(|event| event.gpa & !0xfff == page).cloned().collect();
    for line in evidence::of_events(&here) {
        println!("{indent}{line}");
    }
    let here = events.iter().filter(|event| event.gpa & !0xfff == page);
    here.filter_map(|event| event.symbol.as_deref()).collect()
}

/// Who made a change is said once: not again after an event at the same place.
fn changes(changes: &[PageChange], told: &[&str]) {
    for change in changes {
        if change.symbol.as_deref().is_some_and(|symbol| told.contains(&symbol)) {
            println!("      {}", change.what);
            continue;
        }
        let by = change.symbol.as_deref().map(|symbol| format!(", by {symbol}")).unwrap_or_default();
        let task = change.task.as_deref().map(|task| format!(", task {task}")).unwrap_or_default();
        println!("    {}{by}{task}", change.what);
        if change.backtrace.len() > 1 {
            println!("      called by {}", change.backtrace[1..].join(" < "));
        }
    }
}
