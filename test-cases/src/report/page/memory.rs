// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's memory over the time of a run: one column for each region in the order of addresses, one row for each boot or case
//! with a forbidden access, and a mark in the colour of the page's state for each access.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use types::{AccessTarget, PageState, PlacedRegion, Region};

use crate::report::count;

use super::{Run, escape, violations};

/// Width of the names of rows.
const LEFT: f64 = 210.0;
/// Width of a column.
const COLUMN: f64 = 62.0;
/// Height of a row.
const ROW: f64 = 18.0;
/// Height of the head, whose names are turned.
const HEAD: f64 = 116.0;

/// The section.
pub fn write(out: &mut String, runs: &[Run]) {
    out.push_str("<h2 id=\"memory\">Memory by state over time</h2>\n<p>Rows are boots and cases in the order they ran, columns regions by address. A mark is a forbidden access, in the colour of the page's state at that moment, with their number: ");
    for (class, name) in STATES {
        let _ = write!(
            out,
            "<span class=\"key\"><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"12\" height=\"12\"/></svg> {name}</span> "
        );
    }
    out.push_str("</p>\n");
    for run in runs {
        map(out, run);
    }
}

/// Style classes and names of what is accessed.
const STATES: [(&str, &str); 4] = [
    ("state-private", "private"),
    ("state-unaccepted", "unaccepted"),
    ("state-shared", "shared"),
    ("state-device", "device"),
];

const fn state_class(target: AccessTarget) -> &'static str {
    match target {
        AccessTarget::Page(PageState::Private) => STATES[0].0,
        AccessTarget::Page(PageState::Unaccepted) => STATES[1].0,
        AccessTarget::Page(PageState::Shared) | AccessTarget::Refused => STATES[2].0,
        AccessTarget::Device => STATES[3].0,
    }
}

/// How many accesses were made to what, by region.
type Marks = BTreeMap<Option<Region>, BTreeMap<&'static str, usize>>;

fn map(out: &mut String, run: &Run) {
    let mut rows: Vec<(String, Marks)> = Vec::new();
    for (place, event) in violations::all(&run.document) {
        let row = place.split('#').next().unwrap_or(&place);
        if rows.last().is_none_or(|(name, _)| name != row) {
            rows.push((row.to_owned(), Marks::new()));
        }
        if let Some((_, marks)) = rows.last_mut() {
            *marks.entry(event.region).or_default().entry(state_class(event.state)).or_default() += 1;
        }
    }
    if rows.is_empty() {
        let _ = writeln!(out, "<p>{}: no forbidden access</p>", escape(&run.name()));
        return;
    }
    let mut regions: Vec<&PlacedRegion> = run.document.platform.regions.iter().collect();
    regions.sort_by_key(|placed| (placed.gpa, placed.len));
    let mut columns: Vec<(Option<Region>, String)> = regions
        .iter()
        .map(|placed| {
            (Some(placed.region), format!("{:#x}, {} bytes: {}", placed.gpa, placed.len, placed.kind))
        })
        .collect();
    // An access outside of the regions, or in one that the report has no place of.
    for region in rows.iter().flat_map(|(_, marks)| marks.keys()) {
        if !columns.iter().any(|(known, _)| known == region) {
            columns.push((*region, String::new()));
        }
    }
    columns.retain(|(region, _)| rows.iter().any(|(_, marks)| marks.contains_key(region)));
    let (width, height) = (LEFT + COLUMN * columns.len() as f64 + 70.0, HEAD + ROW * rows.len() as f64 + 4.0);
    let _ = writeln!(
        out,
        "<details id=\"{}\"><summary>{}: {}</summary>\n<div class=\"scroll\"><svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Forbidden accesses of {} by case and region\">",
        run.anchor("memory"),
        escape(&run.name()),
        count::of(rows.len(), "row"),
        escape(&run.name())
    );
    for (index, (region, about)) in columns.iter().enumerate() {
        let x = LEFT + COLUMN * (index as f64 + 0.5);
        let name = region.map_or("elsewhere", |region| region.name());
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" transform=\"rotate(-45 {x:.1} {:.1})\">{name}<title>{}</title></text>",
            HEAD - 8.0,
            HEAD - 8.0,
            escape(about)
        );
    }
    for (line, (name, marks)) in rows.iter().enumerate() {
        let y = HEAD + ROW * line as f64;
        if line % 2 == 0 {
            let _ = writeln!(
                out,
                "<rect class=\"band\" x=\"0\" y=\"{y:.1}\" width=\"{width}\" height=\"{ROW}\"/>"
            );
        }
        let _ = writeln!(out, "<text x=\"2\" y=\"{:.1}\">{}</text>", y + 13.0, escape(name));
        for (index, (region, _)) in columns.iter().enumerate() {
            let Some(states) = marks.get(region) else { continue };
            let each = (COLUMN - 6.0) / states.len() as f64;
            for (part, (class, count)) in states.iter().enumerate() {
                let x = LEFT + COLUMN * index as f64 + 3.0 + each * part as f64;
                let _ = writeln!(
                    out,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{each:.1}\" height=\"{}\"/><text class=\"on\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{count}</text>",
                    y + 1.0,
                    ROW - 2.0,
                    x + each / 2.0,
                    y + 13.0
                );
            }
        }
    }
    out.push_str("</svg></div></details>\n");
}
