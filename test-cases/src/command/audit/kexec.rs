// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra audit --kexec`: what a kernel leaves to the next one.

use std::path::Path;
use std::sync::atomic::Ordering;

use engine::guest::Target;
use engine::kexec::{self, Handover, KexecError, Left, Next, Way};
use serde_json::{Value, json};
use types::{AccessEvent, PageState, SimilarAccesses};

use super::super::output::Output;
use super::super::{Failed, guests, interrupt};
use crate::cli::AuditArgs;
use crate::exit::Exit;
use crate::report::count;

/// Bytes per KiB and MiB.
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Ranges shown without `-v`.
const SHOWN: usize = 8;

/// Starts the kernel once more by each way, and prints what it left.
pub(super) fn audit(args: &AuditArgs, quiet: bool) -> Result<Exit, Failed> {
    if let Some(path) = &args.json {
        Output::check(path)?;
    }
    let target = guests::target(&args.guest, &args.many, &[], quiet)?;
    let flag = interrupt::flag()?;
    let mut results: Vec<(Way, Result<Handover, KexecError>)> = Vec::new();
    for way in Way::ALL {
        if flag.load(Ordering::Relaxed) {
            break;
        }
        if !quiet {
            eprintln!("copra: {}", way.about());
        }
        results.push((*way, kexec::hand_over(&target, *way, &flag)));
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        outln!("{} as {} guest", target.kernel.spec, target.platform);
        for (way, result) in &results {
            print(*way, result, args.verbose);
        }
    }
    if let Some(path) = &args.json {
        let document = document(&target, &results);
        Output::open(path)?.write(|to| writeln!(to, "{document:#}"))?;
    }
    if flag.load(Ordering::Relaxed) {
        return Ok(Exit::Interrupted);
    }
    let is_finding = results.iter().any(|(_, result)| result.as_ref().is_ok_and(Handover::is_finding));
    let failed = results.iter().find_map(|(way, result)| Some((way, result.as_ref().err()?)));
    match (is_finding, failed) {
        (true, _) => Ok(Exit::Finding),
        (false, Some((way, error))) => Err(Failed::new(format!("{way}: {error}"))),
        (false, None) => Ok(Exit::Success),
    }
}

fn print(way: Way, result: &Result<Handover, KexecError>, verbose: bool) {
    outln!();
    let over = match result {
        Ok(over) => over,
        Err(error) => {
            outln!("{way}: no result: {error}");
            return;
        }
    };
    outln!(
        "{way} ({}): {} shared, {} not accepted, though the next kernel takes them for private",
        over.release,
        size(over.bytes(PageState::Shared)),
        size(over.bytes(PageState::Unaccepted))
    );
    let shown = if verbose { usize::MAX } else { SHOWN };
    for left in over.left.iter().take(shown) {
        outln!("  LEFT: {}", describe(left));
        if verbose {
            left.frames.iter().for_each(|frame| outln!("      {frame}"));
        }
    }
    if over.left.len() > shown {
        outln!("  ... {} more; -v shows them", count::of((over.left.len() - shown) as u64, "range"));
    }
    print_events("USED BY THE JUMP", &over.events, verbose);
    print_events("USED BY THE NEXT KERNEL", &over.next_events, verbose);
    if over.knows_table == Some(false) && over.bytes(PageState::Unaccepted) > 0 {
        outln!("  the next kernel is given no EFI tables, so that it knows of no unaccepted memory");
    }
    if let Some(why) = &over.not_entered {
        outln!("  its instructions were not rewritten: {why}");
    }
    outln!("  {}", text(&over.next));
}

fn print_events(what: &str, events: &[AccessEvent], verbose: bool) {
    let similar: Vec<_> = SimilarAccesses::fold(events).collect();
    let shown = if verbose { usize::MAX } else { SHOWN };
    let more = similar.len().saturating_sub(shown);
    for similar in similar.iter().take(shown) {
        outln!("  {what}: {similar}");
        if verbose {
            similar.first().backtrace.iter().for_each(|frame| outln!("      {frame}"));
        }
    }
    if more > 0 {
        outln!("  ... {} more; -v shows them", count::of(more as u64, "kind of access"));
    }
}

fn describe(left: &Left) -> String {
    let region = left.region.as_deref().map(|region| format!(" in {region}")).unwrap_or_default();
    format!(
        "{:#x}-{:#x} ({}){region}, {}{}",
        left.gpa,
        left.gpa + left.len - 1,
        size(left.len),
        left.state,
        left.by()
    )
}

fn text(next: &Next) -> String {
    match next {
        Next::Up => "the next kernel came up".to_owned(),
        Next::Ended(how) => format!("the next kernel did not come up: {how}"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "nothing".to_owned(),
        _ if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ => format!("{} KiB", bytes / KIB),
    }
}

fn document(target: &Target, results: &[(Way, Result<Handover, KexecError>)]) -> Value {
    let ways: Vec<Value> = results
        .iter()
        .map(|(way, result)| match result {
            Err(error) => json!({ "way": way.name(), "no_result": error.to_string() }),
            Ok(over) => json!({
                "way": way.name(),
                "release": over.release,
                "left": over.left.iter().map(|left| json!({
                    "gpa": format!("{:#x}", left.gpa),
                    "len": left.len,
                    "state": left.state,
                    "region": left.region,
                    "frames": left.frames,
                })).collect::<Vec<_>>(),
                "events": over.events,
                "next_events": over.next_events,
                "events_not_kept": over.events_not_kept,
                "conversions_not_kept": over.not_kept,
                "knows_unaccepted_table": over.knows_table,
                "not_rewritten": over.not_entered,
                "next": text(&over.next),
                "came_up": over.next == Next::Up,
            }),
        })
        .collect();
    json!({
        "schema": "copra-kexec/1",
        "copra": env!("CARGO_PKG_VERSION"),
        "kernel": target.kernel.spec,
        "platform": target.platform,
        "ways": ways,
    })
}
