// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run as JSON. `schema` names the version of the format; it changes when a field changes its meaning or goes away, not
//! when one is added. All fields are described in docs/report-json.md.

use std::io;

use engine::report::compact::CompactReport;
use engine::report::document::RunDocument;
use serde::Serialize;
use serde_json::{Value, json};

use super::plain;
use engine::case::Case;

/// Writes the run, whole or cut short.
pub fn write(document: &RunDocument, mut out: impl io::Write) -> io::Result<()> {
    writeln!(out, "{}", plain::in_json(&format!("{:#}", json!(document))))
}

/// Writes the compact form, one case in a line, so that a changed baseline has short differences.
pub fn write_compact(report: &CompactReport, mut out: impl io::Write) -> io::Result<()> {
    let mut value = json!(report);
    let cases = value["cases"].take();
    let lines: Vec<String> = cases
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, case)| format!("    {}: {case}", json!(name)))
        .collect();
    let cases = format!("\"cases\": {{\n{}\n  }}", lines.join(",\n"));
    writeln!(out, "{}", plain::in_json(&format!("{value:#}").replacen("\"cases\": null", &cases, 1)))
}

/// One line of `copra list --cases --json`.
pub fn case_line(case: &Case) -> Value {
    #[derive(Serialize)]
    struct Line<'a> {
        kind: &'static str,
        name: &'a str,
        title: &'a str,
        tags: &'a [String],
        platforms: &'a [types::Platform],
        regions: Vec<types::Region>,
        steps: usize,
    }
    let line = Line {
        kind: "case",
        name: &case.name,
        title: &case.title,
        tags: &case.tags,
        platforms: &case.platforms,
        regions: case.regions(),
        steps: case.steps.len(),
    };
    json!(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::report::{Report, fixture};

    fn value(report: &Report) -> Value {
        json!(RunDocument::of(report))
    }

    #[test]
    fn a_whole_run() {
        insta::assert_snapshot!(format!("{:#}", value(&fixture::whole())));
    }

    #[test]
    fn the_compact_form_has_one_case_in_a_line_and_reads_back() {
        for report in fixture::every() {
            let compact = CompactReport::of(&RunDocument::of(&report));
            let mut out = Vec::new();
            write_compact(&compact, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let name = |line: &str| {
                compact.cases.keys().any(|name| line.starts_with(&format!("    \"{name}\": {{")))
            };
            assert_eq!(text.lines().filter(|line| name(line)).count(), compact.cases.len());
            assert_eq!(CompactReport::read(&text).unwrap(), compact);
        }
    }

    #[test]
    fn no_control_character_of_a_guest_is_written() {
        let text = {
            let mut out = Vec::new();
            write(&RunDocument::of(&fixture::hostile()), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(text.contains("FAIL"));
        assert!(!text.chars().any(|c| c != '\n' && c != '\t' && c.is_control()), "{text:?}");
    }

    #[test]
    fn boots_and_their_verdicts() {
        insta::assert_snapshot!(format!("{:#}", value(&fixture::died_in_boot())["boot"]));
    }

    #[test]
    fn a_run_cut_short_says_what_remains() {
        let value = value(&fixture::cut_short());
        assert_eq!(value["remaining"], json!(["mmap/rom", "open/port"]));
        assert_eq!(value["ended"]["how"], "failed");
    }
}
