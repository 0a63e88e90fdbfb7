// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `copra boot-audit` prints: a table of layouts by platforms, then each finding.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engine::boot_audit::{BootAudit, BootDone, Finding, FindingKind};
use engine::guest::Target;
use types::Platform;

use crate::cli::BootAuditArgs;
use crate::report::count;

/// Most rows of the table without `-v`.
const MOST_ROWS: usize = 40;
/// Functions of a backtrace without `-v`.
const FRAMES: usize = 4;

/// Prints everything.
pub(super) fn audit(args: &BootAuditArgs, target: &Target, audit: &BootAudit) {
    out!("{}", text(args, target, audit));
}

fn text(args: &BootAuditArgs, target: &Target, audit: &BootAudit) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} ({}): {}; guests are simulated, forbidden accesses are recorded and have no consequence",
        target.kernel.spec,
        target.kernel.release,
        count::of(audit.boots.len(), "boot")
    );
    table(&mut out, args, audit);
    for boot in audit.boots.iter().filter(|boot| boot.inconclusive.is_some()) {
        let why = boot.inconclusive.as_deref().unwrap_or_default();
        let _ = writeln!(out, "no result  {} {}: {why}", boot.plan.platform, boot.plan.layout.name);
    }
    for finding in &audit.findings {
        self::finding(&mut out, args, finding);
    }
    let unknown = audit.findings.iter().filter(|finding| finding.known.is_none()).count();
    let known = audit.findings.len() - unknown;
    let _ = write!(
        out,
        "{} that {} not known",
        count::of(unknown, "finding"),
        if unknown == 1 { "is" } else { "are" }
    );
    if known > 0 {
        let _ = write!(out, ", {known} known of stock kernels");
    }
    if audit.shrinking_boots > 0 {
        let _ = write!(out, "; {} to find the simplest layouts", count::of(audit.shrinking_boots, "boot"));
    }
    out.push('\n');
    out
}

/// One row for each layout and command line, one column for each platform.
fn table(out: &mut String, args: &BootAuditArgs, audit: &BootAudit) {
    let mut rows: Vec<(String, BTreeMap<Platform, String>)> = Vec::new();
    for boot in &audit.boots {
        let words = boot.plan.words.as_ref().map(|words| format!(" + {words}")).unwrap_or_default();
        let name = format!("{}{words}", boot.plan.layout.name);
        let cell = (boot.plan.platform, cell(boot));
        match rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, cells)) => drop(cells.insert(cell.0, cell.1)),
            None => rows.push((name, BTreeMap::from([cell]))),
        }
    }
    let platforms: Vec<Platform> = Platform::ALL
        .iter()
        .copied()
        .filter(|it| rows.iter().any(|(_, cells)| cells.contains_key(it)))
        .collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default().max(6);
    let line = |name: &str, cells: &mut dyn Iterator<Item = String>| {
        let mut line = format!("{name:<width$}");
        for cell in cells {
            let _ = write!(line, "  {cell:<12}");
        }
        line.trim_end().to_owned()
    };
    let _ = writeln!(out, "{}", line("layout", &mut platforms.iter().map(ToString::to_string)));
    let calm = |cells: &BTreeMap<Platform, String>| cells.values().all(|cell| cell == OK);
    let folds = rows.len() > MOST_ROWS && !args.verbose;
    for (name, cells) in rows.iter().filter(|(_, cells)| !folds || !calm(cells)) {
        let texts =
            platforms.iter().map(|platform| cells.get(platform).cloned().unwrap_or_else(|| "-".to_owned()));
        let _ = writeln!(out, "{}", line(name, &mut { texts }));
    }
    if folds {
        let same = rows.iter().filter(|(_, cells)| calm(cells)).count();
        let _ = writeln!(out, "{same} more layouts: {OK} everywhere (-v shows them)");
    }
}

/// A boot without a finding.
const OK: &str = "ok";

fn cell(boot: &BootDone) -> String {
    let observed = &boot.result.observed;
    if let Some(death) = &observed.death {
        return death.kind.to_string();
    }
    if boot.inconclusive.is_some() {
        return "no result".to_owned();
    }
    let known = boot.result.known.iter().flatten().count();
    let unknown = observed.events.len() - known;
    let mut parts = Vec::new();
    if unknown > 0 {
        parts.push(count::of(unknown, "access"));
    }
    if !boot.complaints.is_empty() {
        parts.push(count::of(boot.complaints.len(), "warning"));
    }
    if parts.is_empty() && known > 0 {
        parts.push(format!("{known} known"));
    }
    if parts.is_empty() { OK.to_owned() } else { parts.join(", ") }
}

/// What happened, in a few words.
pub(super) fn what(finding: &Finding) -> String {
    match finding.signature.kind {
        FindingKind::Death => "a death".to_owned(),
        FindingKind::Access(kind) => kind.to_string(),
        FindingKind::Complaint => "a warning".to_owned(),
    }
}

fn finding(out: &mut String, args: &BootAuditArgs, finding: &Finding) {
    let (weight, why) = match &finding.known {
        Some(why) => ("known", format!(": {why}")),
        None => ("FINDING", String::new()),
    };
    let _ = writeln!(out, "\n{weight}  {}{why}", finding.text);
    let least = &finding.least;
    let mut facts = vec![least.layout.layout.to_string()];
    facts.extend(least.layout.memory_mib.map(|mib| format!("{mib} MiB of memory")));
    facts.extend(least.words.clone());
    let searched = if finding.shrunk { "needs" } else { "seen with" };
    let _ = writeln!(out, "  {searched}   {}: {}", least.platform, facts.join(", "));
    let _ = writeln!(out, "  boots   {}", boots(finding));
    if let Some(event) = &finding.event {
        let shown = if args.verbose { event.backtrace.len() } else { FRAMES };
        for frame in event.backtrace.iter().take(shown) {
            let _ = writeln!(out, "    {frame}");
        }
    }
    let shown = if args.verbose { finding.console.len() } else { 0 };
    for line in finding.console.iter().take(shown) {
        let _ = writeln!(out, "    | {line}");
    }
}

/// In how many boots it was seen, by platform.
fn boots(finding: &Finding) -> String {
    let mut by_platform: BTreeMap<Platform, Vec<&str>> = BTreeMap::new();
    for plan in &finding.boots {
        by_platform.entry(plan.platform).or_default().push(&plan.layout.name);
    }
    let texts = by_platform.into_iter().map(|(platform, layouts)| match layouts.as_slice() {
        few if few.len() <= 3 => format!("{platform}: {}", few.join(", ")),
        many => format!("{platform}: {} layouts", many.len()),
    });
    texts.collect::<Vec<_>>().join("; ")
}
