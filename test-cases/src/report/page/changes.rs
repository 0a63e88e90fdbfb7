// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What changed against the baselines.

use std::fmt::Write as _;

use engine::diff::Weight;

use super::{Run, escape};
use crate::report::diff::Comparison;
use engine::report::compact::CompactReport;

/// The section.
pub fn write(out: &mut String, runs: &[Run]) {
    out.push_str("<h2 id=\"changes\">What changed</h2>\n");
    let (mut same, mut without) = (Vec::new(), Vec::new());
    for run in runs {
        let Some((name, baseline)) = &run.baseline else {
            without.push(run.name());
            continue;
        };
        let new = CompactReport::of(&run.document);
        let comparison = Comparison::of(baseline, &new);
        if comparison.changes.is_empty() {
            same.push(run.name());
            continue;
        }
        let _ = writeln!(
            out,
            "<h3>{} <span class=\"faint\">against {}</span></h3>\n<table class=\"changes\">",
            escape(&run.name()),
            escape(name)
        );
        for change in &comparison.changes {
            let class = match change.weight() {
                Weight::Caution => "doubt",
                Weight::Worse => "bad",
                Weight::Better => "good",
                Weight::Neutral => "plain",
            };
            let _ = writeln!(
                out,
                "<tr><th class=\"{class}\">{}</th><td>{}</td></tr>",
                escape(change.label()),
                escape(&change.to_string())
            );
        }
        out.push_str("</table>\n");
    }
    for (what, names) in [("Nothing changed", same), ("No baseline", without)] {
        if !names.is_empty() {
            let _ = writeln!(out, "<p>{what}: {}</p>", escape(&names.join(", ")));
        }
    }
}
