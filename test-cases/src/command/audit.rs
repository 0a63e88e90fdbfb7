//! `copra audit`: holes nobody listed.

mod cases;

use std::fs;
use std::path::Path;

use serde_json::json;

use super::host::{self, Place};
use super::{Failed, guests, interrupt, run};
use crate::audit::{self, Finding, Swept, Weight};
use crate::cli::AuditArgs;
use crate::engine::{self, Target};
use crate::exit::Exit;
use crate::policy::Policy;
use crate::report::{Ended, Report};

/// Walks every region by every path, and says what no sane kernel does.
pub fn audit(args: &AuditArgs, quiet: bool) -> Result<Exit, Failed> {
    if let Some(folder) = &args.cases {
        cases::make_folder(folder)?;
    }
    let found = guests::find(&args.guest, quiet)?;
    let host = match host::choose_for(args.guest.platform) {
        Place::Here(host) => host,
        Place::Elsewhere(_) => return run::start_over(),
    };
    let usual = guests::target(&args.guest, &found, &host);
    let interrupt = interrupt::flag()?;
    let target = Target { policy: Policy::Upstream, ..usual.clone() };
    let mut watcher = guests::Silent::new(quiet);
    let report = engine::run(&target, &audit::cases(), &mut watcher, &interrupt).map_err(Failed::new)?;
    let swept = match &report.ended {
        Ended::Complete => audit::sweep(&usual, &interrupt).map_err(Failed::new)?,
        _ => Swept::default(),
    };
    let findings = audit::findings(&report, &swept, swept.world.as_ref());
    let dropped = audit::dropped(&report, &swept);
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if !to_stdout {
        tell(args, &report, &swept, &findings);
    }
    if let (Some(folder), Ended::Complete) = (&args.cases, &report.ended) {
        cases::write(folder, &findings, &args.guest, &target, &interrupt, quiet)?;
    }
    if let Some(path) = &args.json {
        write_json(path, &report, &findings)?;
    }
    match &report.ended {
        Ended::Interrupted => Ok(Exit::Interrupted),
        Ended::Failed(why) => Err(Failed::new(why)),
        Ended::Complete if swept.interrupted => Ok(Exit::Interrupted),
        Ended::Complete if dropped > 0 => Err(Failed::new(format!(
            "{dropped} forbidden accesses were not recorded, so there may be more findings than these; report the kernel and this message"
        ))),
        Ended::Complete if findings.iter().any(|finding| finding.weight == Weight::Hole) => Ok(Exit::Finding),
        Ended::Complete => Ok(Exit::Success),
    }
}

fn tell(args: &AuditArgs, report: &Report, swept: &Swept, findings: &[Finding]) {
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
        "{places} places (every page below 1 MiB, the ends of all ranges) read by {fewer} paths, {pages} of them written to as well\n"
    );
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
    let count = |weight| findings.iter().filter(|finding| finding.weight == weight).count();
    outln!("\n{} holes, {} notes", count(Weight::Hole), count(Weight::Note));
    if swept.world.is_none() {
        outln!(
            "which policies would close them is not known without the kernel's configuration (--kernel-config)"
        );
    }
    for text in &report.platform.not_simulated {
        outln!("not simulated  {text}");
    }
}

fn write_json(path: &Path, report: &Report, findings: &[Finding]) -> Result<(), Failed> {
    let value = json!({
        "schema": "copra-audit/1",
        "copra": env!("CARGO_PKG_VERSION"),
        "kernel": report.kernel,
        "platform": report.platform,
        "ended": report.ended,
        "findings": findings,
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
