// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run as KTAP, the form of the kernel's own tests (Documentation/dev-tools/ktap.rst).

use std::io::{self, Write};

use super::plain;
use engine::judge::Verdict;
use engine::report::document::{CaseRecord, RunDocument};
use engine::report::evidence;

/// Writes the run, whole or cut short: one test per case, with one nested test per step.
pub fn write(report: &RunDocument, out: impl Write) -> io::Result<()> {
    let mut text = Vec::new();
    put_together(report, &mut text)?;
    plain::write(out, &String::from_utf8_lossy(&text))
}

fn put_together(report: &RunDocument, mut out: impl Write) -> io::Result<()> {
    writeln!(out, "KTAP version 1")?;
    writeln!(out, "# kernel {} {}", report.kernel.spec, report.kernel.release)?;
    writeln!(out, "# platform {} policy {}", report.platform.platform, report.policy)?;
    // The boots of all guests are one test, before the cases.
    let boots = usize::from(!report.boot.guests.is_empty());
    writeln!(out, "1..{}", boots + report.summary.planned)?;
    if boots > 0 {
        write_boots(report, &mut out)?;
    }
    for (index, record) in report.cases.iter().enumerate() {
        write_case(boots + index + 1, record, &mut out)?;
    }
    let reason = report.cut_short().unwrap_or_else(|| "the run ended before it".to_owned());
    for (index, name) in report.remaining.iter().enumerate() {
        let number = boots + report.cases.len() + index + 1;
        writeln!(out, "not ok {number} {} # not run: {}", one_line(name), one_line(&reason))?;
    }
    let summary = &report.summary;
    let boot_failed = usize::from(report.boot.judged.as_ref().is_some_and(failed));
    let passed = summary.as_specified + summary.known_hole + boots - boot_failed;
    let findings = summary.denial_missing + summary.unexpected;
    let failed = findings + summary.inconclusive + summary.not_run + boot_failed;
    writeln!(out, "# known holes shown: {}", summary.holes_shown)?;
    writeln!(out, "# inconclusive: {}", summary.inconclusive)?;
    writeln!(out, "# {}", report.rigour)?;
    writeln!(out, "# Totals: pass:{passed} fail:{failed} skip:{}", summary.skipped)
}

fn write_boots(report: &RunDocument, out: &mut impl Write) -> io::Result<()> {
    let mut remark = String::new();
    for boot in &report.boot.guests {
        match &boot.verdict {
            Verdict::KnownHole { hole } => remark = format!(" # known hole: {}", one_line(hole)),
            Verdict::Unexpected { .. } => {
                writeln!(out, "# {}: {}", boot.observed.name(), boot.finding())?;
                for line in evidence::of_events(&boot.observed.events) {
                    writeln!(out, "#   {}", one_line(&line))?;
                }
            }
            Verdict::NotRun { reason } => writeln!(out, "# {}", one_line(reason))?,
            _ => {}
        }
    }
    let failed = report.boot.judged.as_ref().is_some_and(failed);
    writeln!(out, "{} 1 boot{}", if failed { "not ok" } else { "ok" }, if failed { "" } else { &remark })
}

fn failed(verdict: &Verdict) -> bool {
    verdict.is_finding() || verdict.says_nothing()
}

fn write_case(number: usize, record: &CaseRecord, out: &mut impl Write) -> io::Result<()> {
    let name = one_line(&record.name);
    match &record.judged {
        Verdict::Skipped { reason } => {
            return writeln!(out, "ok {number} {name} # SKIP {}", one_line(reason));
        }
        Verdict::NotRun { reason } if record.steps.is_empty() => {
            return writeln!(out, "not ok {number} {name} # not run: {}", one_line(reason));
        }
        _ => {}
    }
    writeln!(out, "  KTAP version 1")?;
    writeln!(out, "  # Subtest: {name}")?;
    writeln!(out, "  1..{}", record.steps.len())?;
    for (index, step) in record.steps.iter().enumerate() {
        let verdict = &step.judged;
        let good = !failed(verdict);
        if !good {
            for line in evidence::of_step(step) {
                writeln!(out, "  # {}", one_line(&line))?;
            }
        }
        let sign = if good { "ok" } else { "not ok" };
        let remark = match verdict {
            Verdict::NotReached => " # SKIP not reached".to_owned(),
            Verdict::Evidence { .. } => " # SKIP evidence only: an earlier refusal is missing".to_owned(),
            Verdict::KnownHole { hole } => format!(" # known hole: {}", one_line(hole)),
            Verdict::Inconclusive { reason, .. } => format!(" # inconclusive: {}", one_line(reason)),
            _ => String::new(),
        };
        writeln!(out, "  {sign} {} {}{remark}", index + 1, step.id)?;
    }
    writeln!(out, "{} {number} {name}", if failed(&record.judged) { "not ok" } else { "ok" })
}

/// A text without line ends, and without the sign that starts a directive.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('#', "%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::report::{Report, fixture};

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        write(&RunDocument::of(report), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    crate::report::golden::snapshots!(text);

    #[test]
    fn a_run_cut_short() {
        insta::assert_snapshot!(text(&fixture::cut_short()));
    }

    #[test]
    fn a_text_cannot_end_its_line_or_start_a_directive() {
        assert_eq!(one_line("a\nok 1 b # SKIP"), "a ok 1 b % SKIP");
    }
}
