// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Forbidden accesses with their backtraces: those that differ in address and step alone are one entry.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engine::report::document::RunDocument;
use types::AccessEvent;

use crate::report::count;

use super::{Run, escape};

/// Most places that an entry lists.
const PLACES: usize = 12;

/// An access as the entries have it, and the places where it was made.
type Entries = BTreeMap<(String, Vec<String>), Vec<String>>;

/// The section.
pub fn write(out: &mut String, runs: &[Run]) {
    out.push_str("<h2 id=\"accesses\">Forbidden accesses</h2>\n");
    for run in runs {
        let entries = entries(&run.document);
        let accesses: usize = entries.values().map(Vec::len).sum();
        if accesses == 0 {
            let _ = writeln!(out, "<p>{}: none</p>", escape(&run.name()));
            continue;
        }
        let _ = writeln!(
            out,
            "<details id=\"{}\"><summary>{}: {} of {}</summary>",
            run.anchor("accesses"),
            escape(&run.name()),
            count::of(accesses, "access"),
            count::of(entries.len(), "kind")
        );
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
        for ((what, callers), places) in sorted {
            let _ = writeln!(out, "<p><strong>{} ×</strong> {}</p>", places.len(), escape(what));
            if callers.len() > 1 {
                let _ = writeln!(out, "<pre>{}</pre>", escape(&callers.join("\n")));
            }
            let mut distinct = places.clone();
            distinct.dedup();
            let more = match distinct.len().saturating_sub(PLACES) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            distinct.truncate(PLACES);
            let _ = writeln!(out, "<p class=\"faint\">in {}{more}</p>", escape(&distinct.join(", ")));
        }
        out.push_str("</details>\n");
    }
}

fn entries(document: &RunDocument) -> Entries {
    let mut entries = Entries::new();
    for (place, event) in all(document) {
        entries.entry((what(event), event.backtrace.clone())).or_default().push(place);
    }
    entries
}

/// Every forbidden access of a run with the boot or step in which it was made, in order.
pub fn all(document: &RunDocument) -> impl Iterator<Item = (String, &AccessEvent)> {
    let boots = document
        .boot
        .guests
        .iter()
        .flat_map(|boot| boot.observed.events.iter().map(|event| (boot.observed.name(), event)));
    let steps = document.cases.iter().flat_map(|case| {
        case.steps.iter().flat_map(|step| {
            let events = step.observed.iter().flat_map(|observed| &observed.events);
            events.map(|event| (format!("{}#{}", case.name, step.id), event))
        })
    });
    boots.chain(steps)
}

/// The access without its address.
fn what(event: &AccessEvent) -> String {
    let region = event.region.map_or_else(|| "memory without a name".to_owned(), |region| region.to_string());
    let by = event.symbol.clone().unwrap_or_else(|| format!("{:#x}", event.rip));
    let task = event.task.as_ref().map(|task| format!(", task {task}")).unwrap_or_default();
    format!("{} of {region}, which is {}, at {by} (CPL {}{task})", event.kind, event.state, event.cpl)
}
