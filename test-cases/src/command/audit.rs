// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra audit`: a search for unlisted holes, by invariants.

mod cases;
mod conversions;
mod kexec;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::report::{Report, RunEnd};
use serde_json::json;

use super::{Failed, guests, interrupt};
use crate::cli::AuditArgs;
use crate::exit::Exit;
use crate::report::count;
use engine::audit::devices::Rebound;
use engine::audit::{self, Finding, Swept, Weight};
use engine::guest::Target;
use types::Policy;

/// How many reasons for missing results are shown without `-v`.
const SHOWN: usize = 8;

/// Accesses every region by every path, and reports each violated invariant.
pub fn audit(args: &AuditArgs, quiet: bool) -> Result<Exit, Failed> {
    if args.conversions {
        return conversions::audit(args, quiet);
    }
    if args.kexec {
        return kexec::audit(args, quiet);
    }
    if let Some(folder) = &args.cases {
        cases::make_folder(folder)?;
    }
    let defaults = guests::target(&args.guest, &args.many, &[], quiet)?;
    let interrupt = interrupt::flag()?;
    let target = Target { policy: Policy::Upstream, ..defaults.clone() };
    let mut watcher = guests::Silent::new(quiet);
    let report = engine::run::run(&target, &audit::cases(), &mut watcher, &interrupt).map_err(Failed::new)?;
    let swept = match &report.ended {
        RunEnd::Complete => audit::sweep(&defaults, &interrupt).map_err(Failed::new)?,
        _ => Swept::default(),
    };
    let (rebound, not_rebound) = rebound(&defaults, &report, &swept, &interrupt);
    let mut findings = audit::findings(&report, &swept, swept.world.as_ref());
    findings.extend(audit::devices::findings(&rebound));
    let dropped = audit::dropped(&report, &swept);
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let mut incomplete = audit::incomplete(&report, &swept);
    incomplete.extend(not_rebound);
    if !to_stdout {
        print_findings(args, &report, &swept, &rebound, &findings);
        print_incomplete(&incomplete, args.verbose);
    }
    if let (Some(folder), RunEnd::Complete) = (&args.cases, &report.ended) {
        cases::write(folder, &findings, &args.guest, &target, &interrupt, quiet)?;
    }
    if let Some(path) = &args.json {
        write_json(path, &report, &rebound, &findings, &incomplete)?;
    }
    match &report.ended {
        RunEnd::Interrupted => Ok(Exit::Interrupted),
        // As for `run`: a finding takes precedence over the failed boot.
        RunEnd::Failed(_) if report.has_boot_finding() => Ok(Exit::Finding),
        RunEnd::Failed(why) => Err(Failed::new(why)),
        RunEnd::Complete if swept.interrupted => Ok(Exit::Interrupted),
        RunEnd::Complete if dropped > 0 => Err(Failed::new(format!(
            "{dropped} forbidden accesses were not recorded, so there may be more findings than these; report the kernel and this message"
        ))),
        // The findings were printed, but the list may lack some, as places gave no result.
        RunEnd::Complete => match incomplete.first() {
            Some(first) => Err(Failed::new(format!(
                "{} places, steps or guests gave no result, so there may be more findings than these: {first}; run it again, \
                 with a longer --timeout",
                incomplete.len()
            ))),
            None => Ok(exit(&report, &findings)),
        },
    }
}

/// What drivers of devices leave shared, where the guests before came up; and why that is not known, where it should be.
fn rebound(
    target: &Target,
    report: &Report,
    swept: &Swept,
    interrupt: &Arc<AtomicBool>,
) -> (Rebound, Option<String>) {
    let without = |why: String| Rebound { not_checked: Some(why), ..Rebound::default() };
    if !matches!(report.ended, RunEnd::Complete) || swept.interrupted {
        return (without("the audit did not come to it".to_owned()), None);
    }
    if !target.platform.is_confidential() {
        return (without("an ordinary guest shares nothing".to_owned()), None);
    }
    match audit::devices::rebind(target, interrupt) {
        Ok(rebound) => (rebound, None),
        Err(error) => (without(error.to_string()), Some(error.to_string())),
    }
}

/// The exit code of an audit in which every place gave a result.
fn exit(report: &Report, findings: &[Finding]) -> Exit {
    if report.has_boot_finding() || findings.iter().any(|finding| finding.weight == Weight::Hole) {
        Exit::Finding
    } else {
        Exit::Success
    }
}

fn print_incomplete(reasons: &[String], verbose: bool) {
    let shown = if verbose { reasons.len() } else { SHOWN };
    for reason in reasons.iter().take(shown) {
        outln!("no result  {reason}");
    }
    if reasons.len() > shown {
        outln!("no result  {} more (-v shows them)", reasons.len() - shown);
    }
}

fn print_findings(args: &AuditArgs, report: &Report, swept: &Swept, rebound: &Rebound, findings: &[Finding]) {
    let (looked_at, written_to) = audit::regions(report);
    outln!(
        "{} ({}) as {} guest, no policy assumed",
        report.kernel.spec,
        report.kernel.release,
        args.guest.platform
    );
    let (paths, fewer) = (audit::probe::PATHS.len(), audit::probe::SWEPT.len());
    outln!("{looked_at} regions read by {paths} paths, {written_to} of them written to as well");
    let (places, pages) = (swept.looked_at, swept.written_to);
    outln!(
        "{places} places (every page below 1 MiB, the ends of all ranges) read by {fewer} paths, {pages} of them written to as well"
    );
    outln!("{}\n", rebound.summary());
    for boot in report.boots.iter().filter(|boot| boot.verdict.is_finding()) {
        outln!("BOOT  {}", boot.finding());
        for event in boot.unknown() {
            outln!("      {event}");
        }
        if let Some(death) = boot.observed.death_after_access() {
            outln!("      then the guest ended: {}", death.text);
        }
    }
    for finding in findings {
        outln!("{:4}  {}  {}", finding.weight.name().to_uppercase(), finding.invariant, finding.name);
        if !finding.closed_by.is_empty() {
            let names: Vec<&str> = finding.closed_by.iter().map(|policy| policy.name()).collect();
            outln!("      would be closed by {}", names.join(", "));
        }
        if args.verbose {
            for line in &finding.evidence {
                outln!("        {line}");
            }
        } else if finding.code_path.len() > 1 {
            outln!("      {}", finding.code_path.join(" < "));
        }
    }
    let weighing =
        |weight, thing| count::of(findings.iter().filter(|finding| finding.weight == weight).count(), thing);
    outln!("\n{}, {}", weighing(Weight::Hole, "hole"), weighing(Weight::Note, "note"));
    if swept.world.is_none() {
        outln!(
            "which policies would close them is not known without the kernel's configuration (--kernel-config)"
        );
    }
    for text in &report.platform.not_simulated {
        outln!("not simulated  {text}");
    }
}

fn write_json(
    path: &Path,
    report: &Report,
    rebound: &Rebound,
    findings: &[Finding],
    incomplete: &[String],
) -> Result<(), Failed> {
    let value = json!({
        "schema": "copra-audit/1",
        "copra": env!("CARGO_PKG_VERSION"),
        "kernel": report.kernel,
        "platform": report.platform,
        "ended": report.ended,
        "boot": report.boot_verdict(),
        "findings": findings,
        "devices": rebound.devices.iter().map(|device| json!({
            "address": device.address,
            "driver": device.driver,
            "returned": device.returned,
            "left": device.left.iter().map(|(page, _)| format!("{page:#x}")).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "devices_not_checked": rebound.not_checked,
        "incomplete": incomplete,
    });
    let text = format!("{value:#}\n");
    let done = if path == Path::new("-") {
        out!("{text}");
        Ok(())
    } else {
        fs::write(path, text)
    };
    done.map_err(|error| {
        Failed::new(format!("writing the findings {}: {error}; give another place", path.display()))
    })
}
