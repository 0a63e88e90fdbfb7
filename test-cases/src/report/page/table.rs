// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verdict on each case in each run, and the runs themselves.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use engine::judge::Verdict;
use engine::report::document::{CaseRecord, RunDocument};

use super::{Run, class, escape};

/// The section.
pub fn write(out: &mut String, runs: &[Run]) {
    out.push_str("<h2 id=\"verdicts\">Verdicts</h2>\n");
    summary(out, runs);
    let names: BTreeSet<&str> = runs.iter().flat_map(|run| names(&run.document)).collect();
    out.push_str("<div class=\"scroll\"><table class=\"matrix\"><thead><tr><th>case</th>");
    for run in runs {
        let name = escape(&run.name()).replace(':', ":<wbr>").replace(' ', "<br>");
        let _ = write!(out, "<th>{name}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    let mut theme = "";
    for name in names {
        let group = name.split_once('/').map_or("", |(group, _)| group);
        if group != theme {
            theme = group;
            let _ = writeln!(
                out,
                "<tr class=\"group\"><th colspan=\"{}\">{}</th></tr>",
                runs.len() + 1,
                escape(group)
            );
        }
        let _ = write!(out, "<tr><th>{}</th>", escape(name));
        for run in runs {
            cell(out, run.document.cases.iter().find(|case| case.name == name));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

fn names(document: &RunDocument) -> impl Iterator<Item = &str> {
    document.cases.iter().map(|case| &case.name).chain(&document.remaining).map(String::as_str)
}

fn cell(out: &mut String, case: Option<&CaseRecord>) {
    let Some(case) = case else {
        out.push_str("<td class=\"doubt\" title=\"not run\">–</td>");
        return;
    };
    let why = match &case.judged {
        Verdict::KnownHole { .. } => case.holes().collect::<Vec<_>>().join("\n"),
        _ => case.complaints().join("\n"),
    };
    let word = match &case.judged {
        Verdict::AsSpecified => "ok",
        Verdict::KnownHole { .. } => "hole",
        Verdict::Skipped { .. } => "skip",
        other => other.label(),
    };
    let title = escape(&format!("{}\n{why}", case.title));
    let _ = write!(out, "<td class=\"{}\" title=\"{title}\">{word}</td>", class(&case.judged));
}

/// One line for each run: kernel, host, boots and totals.
fn summary(out: &mut String, runs: &[Run]) {
    out.push_str("<div class=\"scroll\"><table><thead><tr><th>run</th><th>release</th><th>build id</th><th>policy</th><th>boot</th><th>as specified</th><th>known holes</th><th>findings</th><th>inconclusive, not run</th><th>skipped</th><th>seconds</th></tr></thead><tbody>\n");
    for run in runs {
        let RunDocument { kernel, summary, boot, seconds, .. } = &run.document;
        let build: String = kernel.build_id.as_deref().unwrap_or_default().chars().take(12).collect();
        let boot = boot.judged.as_ref().map_or("<td class=\"doubt\">none</td>".to_owned(), |verdict| {
            format!("<td class=\"{}\">{}</td>", class(verdict), verdict.label())
        });
        let findings = summary.denial_missing + summary.unexpected;
        let doubt = summary.inconclusive + summary.not_run;
        let marked = |count: usize, class: &str| {
            let class = if count > 0 { class } else { "faint" };
            format!("<td class=\"num {class}\">{count}</td>")
        };
        let _ = writeln!(
            out,
            "<tr><th>{}</th><td>{}</td><td>{build}</td><td>{}</td>{boot}<td class=\"num\">{}</td><td class=\"num\">{}</td>{}{}<td class=\"num\">{}</td><td class=\"num\">{seconds:.1}</td></tr>",
            escape(&run.name()),
            escape(&kernel.release),
            run.document.policy,
            summary.as_specified,
            summary.known_hole,
            marked(findings, "bad"),
            marked(doubt, "doubt"),
            summary.skipped
        );
    }
    out.push_str("</tbody></table></div>\n");
}
