// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The totals of a run, and of each case that is not as specified one line.

use std::io::{self, Write};

use engine::judge::Verdict;
use engine::report::Summary;
use engine::report::document::RunDocument;

use super::style::{Style, Tone};
use super::{count, plain};

/// `68 cases: 40 as specified, …`
pub fn line(summary: &Summary, seconds: f64) -> String {
    format!(
        "{}: {} as specified, {} with known holes, {} with a denial missing, {} unexpected, {} inconclusive, {} skipped, {} not run ({seconds:.1} s)",
        count::of(summary.planned, "case"),
        summary.as_specified,
        summary.known_hole,
        summary.denial_missing,
        summary.unexpected,
        summary.inconclusive,
        summary.skipped,
        summary.not_run,
    )
}

/// Whether a case with this verdict is listed as a failure.
pub const fn is_failure(verdict: &Verdict) -> bool {
    verdict.is_finding() || verdict.says_nothing()
}

/// Writes the totals of a report that was made of so many reports.
pub fn write(document: &RunDocument, reports: usize, mut out: impl Write, style: Style) -> io::Result<()> {
    let (kernel, platform) = (&document.kernel, &document.platform);
    let title = format!(
        "{} as {} guest, policy {}, from {}",
        kernel.spec,
        platform.platform,
        document.policy,
        count::of(reports, "report")
    );
    writeln!(out, "{}", style.paint(Tone::Strong, title))?;
    if let Some(verdict) = document.boot.judged.as_ref().filter(|verdict| is_failure(verdict)) {
        writeln!(out, "{}  boot", style.paint(Tone::Bad, format!("{:14}", verdict.label())))?;
    }
    for case in document.cases.iter().filter(|case| is_failure(&case.judged)) {
        let label = style.paint(Tone::Bad, format!("{:14}", case.judged.label()));
        let why = case.complaints().into_iter().next().unwrap_or_default();
        plain::write(&mut out, &format!("{label}  {}: {why}\n", case.name))?;
    }
    for name in &document.remaining {
        plain::write(
            &mut out,
            &format!("{}  {name}\n", style.paint(Tone::Bad, format!("{:14}", "not run"))),
        )?;
    }
    if let Some(reason) = document.cut_short() {
        plain::write(&mut out, &format!("cut short: {reason}\n"))?;
    }
    writeln!(out, "{}", line(&document.summary, document.seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::report::{Report, fixture};

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        write(&RunDocument::of(report), 3, &mut out, Style::default()).unwrap();
        String::from_utf8(out).unwrap()
    }

    crate::report::golden::snapshots!(text);
}
