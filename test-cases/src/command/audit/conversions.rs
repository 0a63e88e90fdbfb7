// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra audit --conversions`: every conversion of a boot refused in turn.

use std::path::Path;
use std::sync::atomic::Ordering;

use engine::guest::Target;
use engine::refusals::{self, Conversions, Reaction, Refused};
use serde_json::{Value, json};
use types::SimilarAccesses;

use super::super::output::Output;
use super::super::{Failed, guests, interrupt};
use crate::cli::AuditArgs;
use crate::exit::Exit;
use crate::report::count;

/// Refuses the conversions and prints what the kernel did each time.
pub(super) fn audit(args: &AuditArgs, quiet: bool) -> Result<Exit, Failed> {
    if let Some(path) = &args.json {
        Output::check(path)?;
    }
    let target = guests::target(&args.guest, &args.many, &[], quiet)?;
    let flag = interrupt::flag()?;
    let learned = refusals::learn(&target, &flag).map_err(Failed::new)?;
    let mut progress = |done: usize, all: usize| {
        if !quiet {
            eprintln!("copra: {done} of {all} conversions refused");
        }
    };
    let refused =
        refusals::refuse(&target, &learned, args.every, &flag, &mut progress).map_err(Failed::new)?;
    if args.json.as_deref() != Some(Path::new("-")) {
        print(&target, &learned, &refused, args.verbose);
    }
    if let Some(path) = &args.json {
        let document = document(&target, &learned, &refused);
        Output::open(path)?.write(|to| writeln!(to, "{document:#}"))?;
    }
    if flag.load(Ordering::Relaxed) {
        return Ok(Exit::Interrupted);
    }
    let lost = refused.iter().filter(|it| matches!(it.reaction, Reaction::NoResult(_))).count();
    match (refused.iter().any(Refused::is_finding), lost) {
        (true, _) => Ok(Exit::Finding),
        (false, 0) => Ok(Exit::Success),
        (false, lost) => Err(Failed::new(format!(
            "{lost} boots gave no result, so there may be findings; run it again, with a longer --timeout"
        ))),
    }
}

fn print(target: &Target, learned: &Conversions, refused: &[Refused], verbose: bool) {
    outln!(
        "{} as {} guest: {} while booting, from {}",
        target.kernel.spec,
        target.platform,
        count::of(learned.count, "conversion"),
        count::of(learned.sites.len() as u64, "call site"),
    );
    outln!("each refused in turn: faults that copra simulates, not the host's");
    for refused in refused {
        let site = &refused.site;
        outln!();
        outln!(
            "{} to {}, {} of this site: {}",
            site.call.abi(),
            refused.to(),
            count::of(site.numbers.len() as u64, "call"),
            site.purpose()
        );
        outln!("  --fail {}: {}", refused.rule, refused.rule.error.abi);
        outln!("  {}", text(&refused.reaction));
        for similar in SimilarAccesses::fold(&refused.events) {
            outln!("  USED: {}", similar);
            if verbose {
                similar.first().backtrace.iter().for_each(|frame| outln!("      {}", frame));
            }
        }
        if verbose {
            site.frames.iter().for_each(|frame| outln!("    {}", frame));
        }
    }
    let findings = refused.iter().filter(|it| it.is_finding()).count() as u64;
    outln!();
    outln!(
        "{} refused; after {findings} of them the kernel used memory whose conversion had failed",
        count::of(refused.len() as u64, "conversion"),
    );
}

fn text(reaction: &Reaction) -> String {
    match reaction {
        Reaction::Silent => "survived, nothing logged".to_owned(),
        Reaction::Logged(line) => format!("survived: {line}"),
        Reaction::Warned(line) => format!("survived with {line}"),
        Reaction::Died(how) => format!("died: {how}"),
        Reaction::NoResult(why) => format!("no result: {why}"),
    }
}

fn name(reaction: &Reaction) -> &'static str {
    match reaction {
        Reaction::Silent => "silent",
        Reaction::Logged(_) => "logged",
        Reaction::Warned(_) => "warned",
        Reaction::Died(_) => "died",
        Reaction::NoResult(_) => "no-result",
    }
}

fn document(target: &Target, learned: &Conversions, refused: &[Refused]) -> Value {
    let results: Vec<Value> = refused
        .iter()
        .map(|it| {
            json!({
                "call": it.site.call.abi(),
                "to": it.site.to,
                "calls": it.site.numbers.len(),
                "pages": it.site.pages,
                "frames": it.site.frames,
                "fail": it.rule,
                "refused": it.refusal,
                "reaction": name(&it.reaction),
                "text": text(&it.reaction),
                "events": it.events,
            })
        })
        .collect();
    json!({
        "schema": "copra-conversions/1",
        "copra": env!("CARGO_PKG_VERSION"),
        "kernel": target.kernel.spec,
        "platform": target.platform,
        "conversions": learned.count,
        "sites": learned.sites.len(),
        "refused": results,
        "simulated": "every refusal is a fault that copra simulates",
    })
}
