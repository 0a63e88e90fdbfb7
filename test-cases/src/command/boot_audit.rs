// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra boot-audit`: boots a kernel in many layouts.

mod print;

use std::fs;
use std::path::Path;
use std::time::Duration;

use engine::boot_audit::{self, BootAudit, BootDone, BootPlan, Finding, Plan, Watcher};
use engine::guest::Target;
use engine::layouts::{self, NamedLayout};
use engine::random::Random;
use engine::requirements::missing_option;
use serde_json::json;
use types::Platform;

use super::output::Output;
use super::{Failed, guests, host, interrupt, kernels, start_over};
use crate::cli::BootAuditArgs;
use crate::exit::Exit;

/// Boots the kernel in every layout, and prints what no boot should show.
pub fn boot_audit(args: &BootAuditArgs, quiet: bool) -> Result<Exit, Failed> {
    let layouts = named(args)?;
    let platforms = if args.platforms.is_empty() { Platform::ALL } else { &args.platforms };
    for layout in layouts.iter().flatten().filter(|_| !args.layouts.is_empty()) {
        for platform in &args.platforms {
            layout.check(*platform, args.memory).map_err(Failed::new)?;
        }
    }
    if let Some(folder) = &args.out {
        fs::create_dir_all(folder).map_err(|error| {
            Failed::new(format!("making the folder {}: {error} (--out)", folder.display()))
        })?;
    }
    let found = kernels::find(&args.kernel, args.kernel_config.as_deref(), quiet)?;
    let host = start_over::kvm_host(host::choose())?;
    let lacks =
        |platform: &Platform| found.config.as_ref().and_then(|config| missing_option(*platform, config));
    let mut usable = Vec::new();
    for platform in platforms {
        match lacks(platform) {
            Some(option) if args.platforms.contains(platform) => {
                return Err(Failed::new(format!(
                    "{} cannot run as {platform} guest: it was built without {option}; choose another kernel or platform",
                    args.kernel
                )));
            }
            Some(option) => eprintln!("copra: {platform} left out: the kernel was built without {option}"),
            None => usable.push(*platform),
        }
    }
    let boots = plan(args, layouts.as_deref(), &usable)?;
    let most = boots.iter().filter_map(|boot| boot.layout.memory_mib).chain([args.memory]).max();
    let defaults = guests::default_target(&found, Platform::None, &host);
    let target = Target {
        memory_mib: args.memory,
        guests: args.guests.map_or_else(|| guests::guests_for(most.unwrap_or(args.memory)), usize::from),
        limit: Duration::from_secs(args.timeout),
        ..defaults
    };
    let json = args.json.as_deref().map(Output::open).transpose()?;
    let plan = Plan { boots, shrink: !args.no_shrink };
    let progress = Progress { quiet, verbose: args.verbose };
    let audit = boot_audit::audit(&target, &plan, &progress, &interrupt::flag()?).map_err(Failed::new)?;
    if args.json.as_deref() != Some(Path::new("-")) {
        print::audit(args, &target, &audit);
    }
    if let Some(folder) = &args.out {
        write_layouts(folder, &audit)?;
    }
    if let Some(json) = json {
        write_json(json, &target, &audit)?;
    }
    Ok(exit(&audit))
}

/// The layouts that have names; `None` where they are drawn.
fn named(args: &BootAuditArgs) -> Result<Option<Vec<NamedLayout>>, Failed> {
    if args.fuzz.is_some() {
        return Ok(None);
    }
    if args.layouts.is_empty() {
        return layouts::all().map(Some).map_err(Failed::new);
    }
    args.layouts
        .iter()
        .map(|name| layouts::find(name))
        .collect::<Result<_, _>>()
        .map(Some)
        .map_err(Failed::new)
}

/// Every boot: platform by platform, layout by layout, each command line.
fn plan(
    args: &BootAuditArgs,
    named: Option<&[NamedLayout]>,
    platforms: &[Platform],
) -> Result<Vec<BootPlan>, Failed> {
    let mut boots = Vec::new();
    for platform in platforms.iter().copied() {
        let drawn = || {
            let mut random = Random::new(args.seed);
            let layouts = (1..=args.fuzz.unwrap_or_default()).map(move |number| {
                let drawn = layouts::draw(&mut random, platform);
                NamedLayout { name: format!("random-{number}"), ..drawn }
            });
            layouts.collect::<Vec<_>>()
        };
        let layouts = named.map_or_else(drawn, |named| {
            let fits = |layout: &&NamedLayout| layout.check(platform, args.memory).is_ok();
            named.iter().filter(fits).cloned().collect()
        });
        for layout in layouts {
            let words = std::iter::once(None).chain(args.command_lines.iter().cloned().map(Some));
            boots.extend(words.map(|words| BootPlan { layout: layout.clone(), platform, words }));
        }
    }
    if boots.is_empty() {
        return Err(Failed::new(
            "no layout can be had on any of the platforms; name others (--layout, --platform)",
        ));
    }
    Ok(boots)
}

/// Writes the simplest layout of each finding that is not known.
fn write_layouts(folder: &Path, audit: &BootAudit) -> Result<(), Failed> {
    for (number, finding) in audit.findings.iter().filter(|finding| finding.known.is_none()).enumerate() {
        let plan = &finding.least;
        let layout = NamedLayout {
            title: format!("{} of {}", print::what(finding), plan.layout.layout),
            why: finding.text.clone(),
            platforms: vec![plan.platform],
            ..plan.layout.clone()
        };
        let path = folder.join(format!("{}-{}.toml", number + 1, plan.platform));
        fs::write(&path, layout.to_string())
            .map_err(|error| Failed::new(format!("writing {}: {error}", path.display())))?;
        eprintln!("copra: wrote {}", path.display());
    }
    Ok(())
}

fn write_json(output: Output, target: &Target, audit: &BootAudit) -> Result<(), Failed> {
    let value = json!({
        "schema": "copra-boot-audit/1",
        "copra": env!("CARGO_PKG_VERSION"),
        "kernel": target.kernel,
        "host": target.host,
        "audit": audit,
    });
    output.write(|out| writeln!(out, "{value:#}"))
}

/// A finding, else a boot without a result, else success.
fn exit(audit: &BootAudit) -> Exit {
    if audit.findings.iter().any(|finding| finding.known.is_none()) {
        Exit::Finding
    } else if audit.interrupted {
        Exit::Interrupted
    } else if audit.boots.iter().any(|boot| boot.inconclusive.is_some()) {
        Exit::CouldNotRun
    } else {
        Exit::Success
    }
}

struct Progress {
    quiet: bool,
    verbose: bool,
}

impl Watcher for Progress {
    fn booted(&self, boot: &BootDone, done: usize, all: usize) {
        if !self.quiet && (self.verbose || done.is_multiple_of(10) || done == all) {
            let BootPlan { layout, platform, .. } = &boot.plan;
            eprintln!("copra: {done} of {all} boots: {platform}, {} {:.1} s", layout.name, boot.seconds);
        }
    }

    fn shrinking(&self, finding: &Finding, boots: usize) {
        if !self.quiet {
            let (what, place) = (print::what(finding), &finding.signature.place);
            eprintln!(
                "copra: searching for the simplest layout that shows {what} in {place}, {boots} boots until now"
            );
        }
    }
}
