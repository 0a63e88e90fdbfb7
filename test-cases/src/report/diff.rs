// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The changes between two runs, as text and as JSON.

use std::io::{self, Write};

use engine::diff::{Change, Values, Weight, diff, remarks};
use engine::report::compact::CompactReport;
use serde_json::{Value, json};

use super::style::{Style, Tone};
use super::{count, plain};

/// The version of the JSON form.
pub const SCHEMA: &str = "copra-diff/1";

/// Two runs and what differs.
pub struct Comparison<'a> {
    old: &'a CompactReport,
    new: &'a CompactReport,
    remarks: Vec<Values>,
    /// The changes, in the order of the report.
    pub changes: Vec<Change>,
}

impl<'a> Comparison<'a> {
    /// Compares.
    pub fn of(old: &'a CompactReport, new: &'a CompactReport) -> Self {
        Self { old, new, remarks: remarks(old, new), changes: diff(old, new) }
    }

    /// The changes as a JSON value.
    pub fn value(&self) -> Value {
        let run = |report: &CompactReport| {
            json!({
                "kernel": report.kernel.spec,
                "release": report.kernel.release,
                "sha256": report.kernel.sha256,
                "platform": report.platform,
                "policy": report.policy,
            })
        };
        let changes = self.changes.iter().map(|change| {
            let mut value = json!(change);
            value["text"] = json!(change.to_string());
            value
        });
        json!({
            "schema": SCHEMA,
            "changed": !self.changes.is_empty(),
            "old": run(self.old),
            "new": run(self.new),
            "remarks": self.remarks,
            "changes": changes.collect::<Vec<_>>(),
        })
    }

    /// Writes the changes for people.
    pub fn write(&self, mut out: impl Write, style: Style) -> io::Result<()> {
        let (old, new) = (self.old, self.new);
        let title = format!("{} as {} guest, policy {}", new.kernel.spec, new.platform, new.policy);
        writeln!(out, "{}", style.paint(Tone::Strong, title))?;
        if self.changes.iter().any(|change| change.weight() == Weight::Caution) {
            let text = "the runs were set up in different ways: what follows may be due to that and not to the kernel";
            writeln!(out, "{}", style.paint(Tone::Bad, text))?;
        }
        for Values { what, old, new } in &self.remarks {
            plain::write(&mut out, &format!("{:16} {what}: {old} → {new}\n", "remark"))?;
        }
        for change in &self.changes {
            let tone = match change.weight() {
                Weight::Caution | Weight::Worse => Tone::Bad,
                Weight::Better => Tone::Good,
                Weight::Neutral => Tone::Strong,
            };
            write!(out, "{} ", style.paint(tone, format!("{:16}", change.label())))?;
            plain::write(&mut out, &format!("{change}\n"))?;
        }
        let weighing = |weight| self.changes.iter().filter(|change| change.weight() == weight).count();
        if self.changes.is_empty() {
            let text = format!(
                "nothing changed: {}, {} and {}",
                count::of(new.cases.len(), "case"),
                old.kernel.release,
                new.kernel.release
            );
            return writeln!(out, "{}", style.paint(Tone::Good, text));
        }
        writeln!(
            out,
            "{}: {} for the worse, {} for the better",
            count::of(self.changes.len(), "change"),
            weighing(Weight::Worse),
            weighing(Weight::Better)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::report::Report;
    use engine::report::document::RunDocument;
    use engine::report::fixture;

    fn compact(report: &Report) -> CompactReport {
        CompactReport::of(&RunDocument::of(report))
    }

    fn text(old: &Report, new: &Report) -> String {
        let mut out = Vec::new();
        let (old, new) = (compact(old), compact(new));
        Comparison::of(&old, &new).write(&mut out, Style::default()).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The run with another package, another configuration and another host, in which a refusal is lost.
    fn later() -> Report {
        let mut report = fixture::events_in_boot();
        report.kernel.release = "6.12.118-cloud-amd64".to_owned();
        report.kernel.build_id = Some("fedcba9876543210".to_owned());
        report.kernel.sha256 = "22".repeat(32);
        report.kernel.config.insert("STRICT_DEVMEM".to_owned(), "n".to_owned());
        report.platform.kvm = engine::observation::KvmHost::Direct;
        let granted = report.cases[1].clone();
        report.cases[0] = engine::report::CaseResult {
            case: engine::case::Case { name: "test/denied".to_owned(), ..granted.case.clone() },
            ..granted
        };
        report.planned.retain(|name| name != "open/port");
        report.cases.retain(|result| result.case.name != "open/port");
        report
    }

    #[test]
    fn a_new_package() {
        insta::assert_snapshot!(text(&fixture::whole(), &later()));
    }

    #[test]
    fn and_back_again() {
        insta::assert_snapshot!(text(&later(), &fixture::whole()));
    }

    #[test]
    fn other_set_ups() {
        let mut other = fixture::cut_short();
        other.platform.memory_mib = 1024;
        other.policy = types::Policy::OpenEperm;
        insta::assert_snapshot!(text(&fixture::whole(), &other));
    }

    #[test]
    fn nothing() {
        insta::assert_snapshot!(text(&fixture::whole(), &fixture::whole()));
    }

    #[test]
    fn as_json() {
        let (old, new) = (compact(&fixture::whole()), compact(&later()));
        insta::assert_snapshot!(format!("{:#}", Comparison::of(&old, &new).value()));
    }

    #[test]
    fn no_control_character_of_a_guest_is_written() {
        let text = text(&fixture::whole(), &fixture::hostile());
        assert!(text.contains("FAIL"));
        assert!(!text.chars().any(|c| c != '\n' && c != '\t' && c.is_control()), "{text:?}");
    }
}
