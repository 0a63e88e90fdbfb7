// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run as text: a line per case as it ends, the evidence of findings, and the totals.

use std::io::{self, Write};

use engine::report::document::CaseRecord;
use engine::report::{CaseResult, Report, evidence};

use super::repeat::Repeat;
use super::style::{Style, Tone};
use super::totals;
use super::{count, facts, plain};
use engine::boot::BootResult;
use engine::judge::Verdict;

/// Prints a run as it goes.
#[derive(Debug)]
pub struct Terminal<W> {
    out: W,
    style: Style,
    verbose: bool,
    quiet: bool,
    /// The current line is a progress line, to be overwritten.
    pending: bool,
    /// The boots that were printed: guests with the same setup have the same boot.
    boots_shown: Vec<Vec<String>>,
    /// How failures are repeated, where the report ends with that.
    repeat: Option<Repeat>,
}

impl<W: Write> Terminal<W> {
    /// A printer to `out`; with `verbose` it shows the evidence of every case, with `quiet` no progress.
    pub const fn new(out: W, style: Style, verbose: bool, quiet: bool) -> Self {
        Self { out, style, verbose, quiet, pending: false, boots_shown: Vec::new(), repeat: None }
    }

    /// Ends the report with the command that repeats each failure.
    #[must_use]
    pub fn with_repeat(self, repeat: Repeat) -> Self {
        Self { repeat: Some(repeat), ..self }
    }

    /// Prints progress on a line that the next one overwrites; nothing without a terminal.
    pub fn progress(&mut self, text: &str) -> io::Result<()> {
        if self.quiet || !self.style.live {
            return Ok(());
        }
        self.pending = true;
        write!(self.out, "\r\x1b[K{}", self.style.paint(Tone::Faint, text))?;
        self.out.flush()
    }

    fn clear(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.pending) { write!(self.out, "\r\x1b[K") } else { Ok(()) }
    }

    /// A line with parts that a guest may have chosen.
    fn line(&mut self, text: &str) -> io::Result<()> {
        plain::write(&mut self.out, text)?;
        writeln!(self.out)
    }

    /// Prints kernel, platform and policy.
    pub fn head(&mut self, report: &Report) -> io::Result<()> {
        self.clear()?;
        let (kernel, platform) = (&report.kernel, &report.platform);
        let inert = if report.policy == report.policy_in_force {
            String::new()
        } else {
            format!(", which without STRICT_DEVMEM is {}", report.policy_in_force)
        };
        let title =
            format!("{} as {} guest, policy {}{inert}", kernel.spec, platform.platform, report.policy);
        writeln!(self.out, "{}", self.style.paint(Tone::Strong, title))?;
        self.line(&format!("{} {}\n", kernel.release, kernel.version))
    }

    /// Prints a guest's boot, unless it is as specified or an earlier boot was the same.
    pub fn boot(&mut self, result: &BootResult) -> io::Result<()> {
        let lines = boot_lines(result, self.verbose);
        if lines.is_empty() || self.boots_shown.contains(&lines) {
            return Ok(());
        }
        self.clear()?;
        let (tone, word) = boot_word(&result.verdict);
        let word = self.style.paint(tone, word);
        write!(self.out, "{word}  ")?;
        for line in &lines {
            self.line(line)?;
        }
        self.boots_shown.push(lines);
        self.out.flush()
    }

    /// Prints the result of a case.
    pub fn case(&mut self, result: &CaseResult) -> io::Result<()> {
        self.clear()?;
        let verdict = &result.verdict.verdict;
        let (word, tone) = match verdict {
            verdict if verdict.is_finding() => ("FAIL", Tone::Bad),
            Verdict::KnownHole { .. } => ("hole", Tone::Known),
            Verdict::Skipped { .. } => ("skip", Tone::Faint),
            Verdict::Inconclusive { .. } => ("????", Tone::Bad),
            Verdict::NotRun { .. } => ("----", Tone::Bad),
            _ => ("ok", Tone::Good),
        };
        let text = match verdict {
            Verdict::Skipped { reason } | Verdict::NotRun { reason } => reason.as_str(),
            _ => result.case.title.as_str(),
        };
        write!(self.out, "{}  ", self.style.paint(tone, format!("{word:4}")))?;
        self.line(&format!("{:24}  {text}", result.case.name))?;
        let record = CaseRecord::of(result);
        let failed = verdict.is_finding() || matches!(verdict, Verdict::Inconclusive { .. });
        if failed {
            for complaint in record.complaints() {
                writeln!(self.out, "      {}", self.style.paint(Tone::Bad, complaint))?;
            }
        }
        if failed || self.verbose {
            self.evidence(result, &record)?;
        }
        self.out.flush()
    }

    fn evidence(&mut self, result: &CaseResult, record: &CaseRecord) -> io::Result<()> {
        for step in &record.steps {
            if matches!(step.judged, Verdict::NotReached) && !self.verbose {
                continue;
            }
            for line in evidence::of_step(step) {
                self.line(&format!("        {line}"))?;
            }
        }
        if self.verbose {
            for line in result.case.why.lines() {
                writeln!(self.out, "        {}", self.style.paint(Tone::Faint, line))?;
            }
        }
        writeln!(self.out)
    }

    /// Prints the totals, the skipped cases, and what is simulated.
    pub fn foot(&mut self, report: &Report) -> io::Result<()> {
        self.clear()?;
        let summary = report.summary();
        let verbose = self.verbose;
        for death in report.deaths.iter().filter(|death| verbose || !report.is_expected(death)) {
            let during = death.during.as_ref();
            let during =
                during.map_or_else(|| " while booting".to_owned(), |during| format!(" during {during}"));
            let text = format!("the guest died{during} ({}): {}", death.kind, death.text);
            self.ended(&text, &death.console)?;
        }
        for aborted in &report.aborted {
            let during = aborted.during.as_ref();
            let during =
                during.map_or_else(|| " while booting".to_owned(), |during| format!(" during {during}"));
            let text =
                format!("the guest's run was aborted{during}, so there is no result: {}", aborted.reason);
            self.ended(&text, &aborted.console)?;
        }
        let findings = summary.denial_missing + summary.unexpected + usize::from(report.has_boot_finding());
        let verdict = match findings {
            0 if summary.inconclusive > 0 => self.style.paint(Tone::Bad, "inconclusive"),
            0 if summary.not_run > 0 => self.style.paint(Tone::Bad, "not everything ran"),
            0 if summary.as_specified + summary.known_hole == 0 => self.style.paint(Tone::Bad, "nothing ran"),
            0 => self.style.paint(Tone::Good, "as specified"),
            _ => self.style.paint(Tone::Bad, "NOT as specified"),
        };
        let holes = match summary.holes_shown {
            0 => String::new(),
            many => format!("; {} shown", count::of(many, "known hole")),
        };
        let boot = match report.boot_verdict() {
            Some(Verdict::KnownHole { .. }) => "; known hole in boot",
            Some(verdict) if verdict.is_finding() => "; a finding in boot",
            _ => "",
        };
        writeln!(self.out, "\n{verdict}{holes}{boot}")?;
        if let Some(reason) = report.cut_short() {
            self.line(&format!("cut short: {reason}"))?;
        }
        writeln!(self.out, "{}", totals::line(&summary, report.duration.as_secs_f64()))?;
        writeln!(self.out, "{}", report.rigour())?;
        for (reason, count) in &summary.skip_reasons {
            self.line(&format!("skipped: {count} × {reason}"))?;
        }
        self.facts(report)?;
        self.failures(report)
    }

    /// Each failure with the command that repeats it.
    fn failures(&mut self, report: &Report) -> io::Result<()> {
        let failures = self.repeat.as_ref().map(|repeat| repeat.failures(report)).unwrap_or_default();
        if !failures.is_empty() {
            writeln!(self.out, "\n{}", self.style.paint(Tone::Strong, "to repeat each failure:"))?;
        }
        let width = failures.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, command) in failures {
            self.line(&format!("{name:width$}  {command}"))?;
        }
        self.out.flush()
    }

    /// How a guest ended, and the last lines of its console.
    fn ended(&mut self, text: &str, console: &[String]) -> io::Result<()> {
        writeln!(self.out, "\n{}", self.style.paint(Tone::Bad, text))?;
        console.iter().try_for_each(|line| self.line(&format!("    {line}")))
    }

    fn facts(&mut self, report: &Report) -> io::Result<()> {
        for (name, text) in facts::all(report) {
            writeln!(self.out, "{}", self.style.paint(Tone::Faint, format!("{name:14} {text}")))?;
        }
        self.out.flush()
    }
}

/// The word before a boot.
fn boot_word(verdict: &Verdict) -> (Tone, &'static str) {
    match verdict {
        Verdict::AsSpecified => (Tone::Good, "ok  "),
        Verdict::KnownHole { .. } => (Tone::Known, "hole"),
        verdict if verdict.is_finding() => (Tone::Bad, "FAIL"),
        _ => (Tone::Bad, "----"),
    }
}

/// A boot with its verdict, and the evidence of accesses that are not known; nothing of one as specified.
fn boot_lines(result: &BootResult, verbose: bool) -> Vec<String> {
    let text = match &result.verdict {
        Verdict::AsSpecified => return Vec::new(),
        Verdict::KnownHole { hole } => hole.as_str(),
        verdict if verdict.is_finding() => result.finding(),
        Verdict::NotRun { reason } => reason.as_str(),
        other => other.label(),
    };
    let mut lines = vec![format!("{:24}  {text}", result.observed.name())];
    let unknown: Vec<_> = result.unknown().cloned().collect();
    let shown = if verbose || unknown.is_empty() && result.verdict.is_finding() {
        &result.observed.events
    } else {
        &unknown
    };
    lines.extend(evidence::of_events(shown).into_iter().map(|line| format!("        {line}")));
    if result.observed.not_kept > 0 {
        lines.push(format!(
            "        and {} that were not kept",
            count::of(result.observed.not_kept, "forbidden access")
        ));
    }
    if result.verdict.is_finding() {
        lines.extend(result.holes().iter().map(|hole| format!("        known hole: {hole}")));
    }
    lines
}

/// Prints a whole run at once.
pub fn write(report: &Report, out: impl Write, style: Style, verbose: bool) -> io::Result<()> {
    let mut terminal = Terminal::new(out, style, verbose, true);
    terminal.head(report)?;
    for result in &report.boots {
        terminal.boot(result)?;
    }
    for result in &report.cases {
        terminal.case(result)?;
    }
    terminal.foot(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::report::fixture;

    fn text(report: &Report, style: Style, verbose: bool) -> String {
        let mut out = Vec::new();
        write(report, &mut out, style, verbose).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_whole_run() {
        insta::assert_snapshot!(text(&fixture::whole(), Style::default(), false));
    }

    #[test]
    fn a_whole_run_with_everything() {
        insta::assert_snapshot!(text(&fixture::whole(), Style::default(), true));
    }

    #[test]
    fn a_guest_that_died_in_boot() {
        insta::assert_snapshot!(text(&fixture::died_in_boot(), Style::default(), false));
    }

    #[test]
    fn events_in_boot() {
        insta::assert_snapshot!(text(&fixture::events_in_boot(), Style::default(), false));
    }

    #[test]
    fn no_control_character_of_a_guest_is_written() {
        let text = text(&fixture::hostile(), Style::default(), true);
        assert!(text.contains("FAIL"));
        assert!(!text.chars().any(|c| c != '\n' && c != '\t' && c.is_control()), "{text:?}");
    }

    #[test]
    fn a_run_cut_short() {
        insta::assert_snapshot!(text(&fixture::cut_short(), Style::default(), false));
    }

    #[test]
    fn a_report_ends_with_each_failure_and_the_command_that_repeats_it() {
        let mut out = Vec::new();
        let terminal = Terminal::new(&mut out, Style::default(), false, true);
        terminal.with_repeat(Repeat::default()).foot(&fixture::whole()).unwrap();
        let text = String::from_utf8(out).unwrap();
        let end: Vec<&str> = text.lines().rev().take(3).collect();
        assert_eq!(
            end,
            [
                "dmi/sysfs     copra run dmi/sysfs",
                "test/granted  copra run test/granted",
                "to repeat each failure:"
            ]
        );
    }

    #[test]
    fn a_specified_death_is_shown_only_in_verbose_output() {
        let mut report = fixture::cut_short();
        let is_shown = |report: &Report, verbose| {
            text(report, Style::default(), verbose).contains("the guest died during test/granted#open")
        };
        assert!(is_shown(&report, false));
        let judged = report.cases.last_mut().unwrap();
        judged.verdict.steps[0] = Verdict::KnownHole { hole: "the guest ends".to_owned() };
        assert!(!is_shown(&report, false) && is_shown(&report, true));
    }

    #[test]
    fn colours_and_progress_only_on_a_terminal() {
        let style = Style { colour: true, live: true };
        assert!(text(&fixture::whole(), style, false).contains("\x1b[1;31mFAIL\x1b[0m"));
        assert!(!text(&fixture::whole(), Style::default(), false).contains('\x1b'));
        let progress = |style, quiet| {
            let mut out = Vec::new();
            Terminal::new(&mut out, style, false, quiet).progress("booting").unwrap();
            !out.is_empty()
        };
        assert!(progress(style, false));
        assert!(!progress(style, true) && !progress(Style::default(), false));
    }
}
