// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long each case took, and each of its steps, in the order of the run.

use std::fmt::Write as _;

use engine::report::document::CaseRecord;

use crate::report::count;

use super::{Run, class, escape};

/// Width of the names of rows.
const LEFT: f64 = 210.0;
/// Most width of a case: that of the time within which nineteen of twenty cases end. A longer one is cut off.
const WIDTH: f64 = 620.0;
/// Height of a row.
const ROW: f64 = 18.0;
/// Minimum width of a step.
const LEAST: f64 = 1.5;

/// The section.
pub fn write(out: &mut String, runs: &[Run]) {
    out.push_str("<h2 id=\"times\">Times</h2>\n<p>Each case with its steps from left to right, in the colour of the verdict; grey is time between steps: setting up and restoring. The few longest are cut off at the right end. Seconds of a shared machine: compare within one run.</p>\n");
    for run in runs {
        let cases: Vec<&CaseRecord> =
            run.document.cases.iter().filter(|case| !case.steps.is_empty()).collect();
        let longest = usual_longest(&cases);
        if cases.is_empty() || longest <= 0.0 {
            let _ = writeln!(out, "<p>{}: no case ran</p>", escape(&run.name()));
            continue;
        }
        let (width, height) = (LEFT + WIDTH + 80.0, ROW * cases.len() as f64 + 4.0);
        let _ = writeln!(
            out,
            "<details id=\"{}\"><summary>{}: {}, {:.1} s in all, first boot {:.1} s</summary>\n<div class=\"scroll\"><svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Times of the cases of {}\">",
            run.anchor("times"),
            escape(&run.name()),
            count::of(cases.len(), "case"),
            run.document.seconds,
            run.document.platform.boot_seconds,
            escape(&run.name())
        );
        for (line, case) in cases.iter().enumerate() {
            row(out, case, ROW * line as f64, WIDTH / longest);
        }
        out.push_str("</svg></div></details>\n");
    }
}

/// The time within which nineteen of twenty cases end.
fn usual_longest(cases: &[&CaseRecord]) -> f64 {
    let mut seconds: Vec<f64> = cases.iter().map(|case| case.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len().saturating_sub(1) * 19 / 20).copied().unwrap_or_default()
}

fn row(out: &mut String, case: &CaseRecord, y: f64, scale: f64) {
    let _ = writeln!(out, "<text x=\"2\" y=\"{:.1}\">{}</text>", y + 13.0, escape(&case.name));
    let whole = (case.seconds * scale).clamp(LEAST, WIDTH);
    let _ = writeln!(
        out,
        "<rect class=\"between\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{whole:.1}\" height=\"{}\"/>",
        y + 3.0,
        ROW - 6.0
    );
    let mut x = LEFT;
    for step in &case.steps {
        let seconds = step.observed.as_ref().map_or(0.0, |observed| observed.duration.as_secs_f64());
        let room = LEFT + WIDTH - x;
        if room <= 0.0 {
            break;
        }
        let width = (seconds * scale).max(LEAST).min(room);
        let about = format!("{}: {}, {seconds:.6} s, {}", step.id, step.call, step.judged.label());
        let _ = writeln!(
            out,
            "<rect class=\"bar {}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{}\"><title>{}</title></rect>",
            class(&step.judged),
            y + 3.0,
            ROW - 6.0,
            escape(&about)
        );
        x += width;
    }
    let end = x.max(LEFT + whole) + 6.0;
    let _ = writeln!(
        out,
        "<text class=\"faint\" x=\"{end:.1}\" y=\"{:.1}\">{:.3} s</text>",
        y + 13.0,
        case.seconds
    );
}
