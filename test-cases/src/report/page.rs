// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reports of several runs as one self-contained HTML page without scripts: what changed against the baselines first, then
//! verdicts, times, memory and forbidden accesses.

mod changes;
#[expect(clippy::cast_precision_loss, reason = "a drawing is as precise as a pixel")]
mod memory;
mod table;
#[expect(clippy::cast_precision_loss, reason = "a drawing is as precise as a pixel")]
mod timeline;
mod violations;

use std::fmt::Write as _;

use engine::judge::Verdict;
use engine::report::compact::CompactReport;
use engine::report::document::RunDocument;

use super::plain::in_html as escape;

const STYLE: &str = include_str!("page/style.css");

/// One run of the page.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its report.
    pub document: RunDocument,
    /// The baseline that it is compared with: its name and content.
    pub baseline: Option<(String, CompactReport)>,
}

/// The page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What the page is about, for example the date.
    pub title: String,
    /// The runs, in the order they are shown.
    pub runs: Vec<Run>,
    /// Results of other checks that failed, one line each; see [`parts`].
    pub failures: Vec<String>,
    /// Those of the others.
    pub notes: Vec<String>,
    /// Pages of earlier runs: name and relative address.
    pub previous: Vec<(String, String)>,
}

impl Run {
    /// Kernel and platform.
    fn name(&self) -> String {
        format!("{} {}", self.document.kernel.spec, self.document.platform.platform)
    }

    /// The fragment identifier of a part of the page about this run.
    fn anchor(&self, part: &str) -> String {
        let name: String =
            self.name().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("{part}-{name}")
    }
}

/// The page as HTML.
pub fn html(page: &Page) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    let title = escape(&page.title);
    let _ = writeln!(out, "<title>copra: {title}</title>\n<style>\n{STYLE}</style></head><body>");
    let _ = writeln!(out, "<h1>{title}</h1>\n<nav>");
    for (part, name) in [
        ("changes", "what changed"),
        ("checks", "other checks"),
        ("verdicts", "verdicts"),
        ("accesses", "forbidden accesses"),
        ("memory", "memory"),
        ("times", "times"),
        ("previous", "earlier pages"),
    ] {
        let _ = write!(out, "<a href=\"#{part}\">{name}</a> ");
    }
    out.push_str("</nav>\n");
    changes::write(&mut out, &page.runs);
    checks(&mut out, page);
    table::write(&mut out, &page.runs);
    violations::write(&mut out, &page.runs);
    memory::write(&mut out, &page.runs);
    timeline::write(&mut out, &page.runs);
    previous(&mut out, &page.previous);
    let _ = writeln!(out, "<p class=\"faint\">copra {}</p></body></html>", env!("CARGO_PKG_VERSION"));
    out
}

/// Those that failed come first.
fn checks(out: &mut String, page: &Page) {
    out.push_str("<h2 id=\"checks\">Other checks</h2>\n");
    if page.failures.is_empty() && page.notes.is_empty() {
        out.push_str("<p class=\"faint\">None were given.</p>\n");
        return;
    }
    results(out, &page.failures, "bad");
    if !page.notes.is_empty() {
        let _ = writeln!(out, "<details><summary>{} others</summary>", page.notes.len());
        results(out, &page.notes, "plain");
        out.push_str("</details>\n");
    }
}

fn results(out: &mut String, lines: &[String], class: &str) {
    if lines.is_empty() {
        return;
    }
    out.push_str("<table class=\"changes\">\n");
    for (outcome, what) in lines.iter().map(|line| parts(line)) {
        let (outcome, what) = (escape(outcome), escape(what));
        let _ = writeln!(out, "<tr><th class=\"{class}\">{outcome}</th><td>{what}</td></tr>");
    }
    out.push_str("</table>\n");
}

/// The outcome that the result of a check begins with, and the rest. At least two spaces are between them.
fn parts(line: &str) -> (&str, &str) {
    line.split_once("  ").map_or(("", line), |(outcome, what)| (outcome, what.trim_start()))
}

fn previous(out: &mut String, pages: &[(String, String)]) {
    out.push_str("<h2 id=\"previous\">Earlier pages</h2>\n");
    if pages.is_empty() {
        out.push_str("<p class=\"faint\">There are none.</p>\n");
        return;
    }
    out.push_str("<ul>\n");
    for (name, address) in pages {
        let _ = writeln!(out, "<li><a href=\"{}\">{}</a></li>", escape(address), escape(name));
    }
    out.push_str("</ul>\n");
}

/// The style class of a verdict.
const fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::AsSpecified => "good",
        Verdict::KnownHole { .. } => "known",
        Verdict::DenialMissing { .. } | Verdict::Unexpected { .. } => "bad",
        Verdict::Inconclusive { .. } | Verdict::NotRun { .. } => "doubt",
        Verdict::Evidence { .. } | Verdict::NotReached | Verdict::Skipped { .. } => "faint",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::report::{Report, fixture};

    fn run(report: &Report, baseline: Option<&Report>) -> Run {
        let baseline = baseline.map(|it| CompactReport::of(&RunDocument::of(it)));
        let baseline = baseline.map(|it| ("baseline.json".to_owned(), it));
        Run { document: RunDocument::of(report), baseline }
    }

    fn page() -> Page {
        let whole = fixture::whole();
        Page {
            title: "1 May 2026".to_owned(),
            runs: vec![
                run(&whole, Some(&whole)),
                run(&fixture::events_in_boot(), Some(&whole)),
                run(&fixture::died_in_boot(), None),
            ],
            failures: vec!["DISAGREES  debian:6.12 as sev guest: step-7".to_owned()],
            notes: vec![
                "agrees     debian:6.12 as snp guest".to_owned(),
                "fuzz: 8 targets, 60 s each: no crash".to_owned(),
            ],
            previous: vec![("30 April 2026".to_owned(), "2026-04-30.html".to_owned())],
        }
    }

    #[test]
    fn a_page() {
        insta::assert_snapshot!(html(&page()).replace(STYLE, "[style]\n"));
    }

    #[test]
    fn it_needs_no_other_file_and_no_script() {
        let text = html(&page());
        for foreign in ["http:", "https:", "src=", "@import", "<link", "<script", "url("] {
            assert!(!text.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn what_changed_comes_first() {
        let text = html(&page());
        let place = |part: &str| text.find(&format!("<h2 id=\"{part}\"")).unwrap();
        assert!(
            ["checks", "verdicts", "accesses", "memory", "times"]
                .iter()
                .all(|part| place("changes") < place(part))
        );
    }

    #[test]
    fn a_check_that_failed_comes_before_the_others() {
        let text = html(&page());
        let place = |part: &str| text.find(part).unwrap();
        assert!(place("<th class=\"bad\">DISAGREES</th>") < place("<th class=\"plain\">agrees</th>"));
        assert!(text.contains("<th class=\"plain\"></th><td>fuzz: 8 targets, 60 s each: no crash</td>"));
    }

    #[test]
    fn texts_of_guests_are_escaped() {
        let mut report = fixture::hostile();
        report.kernel.release = "<script>\"".to_owned();
        report.boots[0].observed.events[0].symbol = Some("<b>&\x1b[2J".to_owned());
        let text = html(&Page { runs: vec![run(&report, None)], ..Page::default() });
        assert!(text.contains("&lt;script&gt;&quot;") && text.contains("&lt;b&gt;&amp;\\x1b[2J"));
        assert!(!text.chars().any(|c| c != '\n' && c != '\t' && c.is_control()));
    }

    #[test]
    fn what_is_opened_is_closed() {
        let text = html(&page());
        for tag in [
            "table", "tr", "td", "th", "svg", "div", "details", "h2", "h3", "ul", "li", "a", "pre", "p",
            "text", "title",
        ] {
            let opened =
                text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn every_link_within_the_page_has_its_target() {
        let text = html(&page());
        for link in text.split("href=\"#").skip(1) {
            let target = link.split('"').next().unwrap();
            assert!(text.contains(&format!("id=\"{target}\"")), "{target}");
        }
    }
}
