// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One guest's physical memory as an SVG map, and the same as a table.

use std::fmt::Write as _;

use engine::matrix::{Cell, Combination, operations};

use super::anchor;
use super::layout::{self, Extent, Part};
use crate::report::plain::in_html as escape;

/// Width of the drawing.
const WIDTH: f64 = 980.0;
/// Where parts begin, behind the names of the lanes.
const LEFT: f64 = 104.0;
/// Height of a lane.
const LANE: f64 = 19.0;
/// Height of a row: numbers, lanes, addresses.
const ROW: f64 = 118.0;
/// First lane's distance from the row's top.
const TOP: f64 = 34.0;
/// Between two parts.
const GAP: f64 = 22.0;
/// Minimum width of a region.
const LEAST: f64 = 4.0;
/// Approximate width of a letter in a lane.
const LETTER: f64 = 7.0;

/// The drawing with its table.
pub fn map(combination: &Combination) -> String {
    let Some(facts) = &combination.facts else { return String::new() };
    let extents = layout::extents(&facts.regions);
    let rows = layout::rows(&extents);
    let mut out = String::new();
    let height = ROW * rows.len() as f64;
    let _ = writeln!(
        out,
        "<div class=\"scroll\"><svg class=\"map\" viewBox=\"0 0 {WIDTH} {height}\" role=\"group\" aria-label=\"Physical memory of {} as {} guest; the table below has the same data\">",
        escape(&combination.kernel.spec),
        combination.platform
    );
    for (index, parts) in rows.iter().enumerate() {
        row(&mut out, combination, &extents, parts, ROW * index as f64);
    }
    out.push_str("</svg></div>\n");
    table(&mut out, combination, &extents);
    out
}

fn row(out: &mut String, combination: &Combination, extents: &[Extent], parts: &[Part], top: f64) {
    for (lane, (_, name)) in operations::ways().enumerate() {
        let y = top + TOP + LANE * (lane as f64 + 0.72);
        let _ = writeln!(out, "<text x=\"0\" y=\"{y:.1}\">{name}</text>");
    }
    let shares: u64 = parts.iter().map(|part| part.share).sum();
    let room = WIDTH - LEFT - GAP * (parts.len() as f64 - 1.0);
    let mut x = LEFT;
    for (index, part) in parts.iter().enumerate() {
        let width = room * part.share as f64 / shares as f64;
        if index > 0 {
            broken(out, x - GAP / 2.0, top + TOP);
        }
        let place = Place { x, width, top };
        self::part(out, combination, extents, part, &place);
        x += width + GAP;
    }
}

/// Where a part is drawn.
struct Place {
    x: f64,
    width: f64,
    top: f64,
}

/// The mark for addresses left out.
fn broken(out: &mut String, x: f64, y: f64) {
    let _ = writeln!(
        out,
        "<path class=\"break\" d=\"M{x:.1} {y:.1}l4 14l-8 14l8 14l-4 15\"><title>addresses left out</title></path>"
    );
}

fn part(out: &mut String, combination: &Combination, extents: &[Extent], part: &Part, place: &Place) {
    let Place { x, width, top } = *place;
    let lanes = LANE * operations::ways().count() as f64;
    let _ = writeln!(
        out,
        "<text class=\"faint\" x=\"{x:.1}\" y=\"{:.1}\">{}, {}</text>",
        top + 12.0,
        part.name,
        layout::amount(part.end - part.start)
    );
    let _ = writeln!(
        out,
        "<rect class=\"back\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{lanes}\"/>",
        top + TOP
    );
    // Narrow regions are drawn last, so that they are not covered.
    let mut seen: Vec<(usize, &Extent, f64, f64)> = extents
        .iter()
        .enumerate()
        .filter_map(|(number, extent)| {
            let (from, to) = layout::span(part, extent)?;
            let drawn = ((to - from) * width).max(LEAST);
            Some((number + 1, extent, (x + from * width).min(x + width - drawn), drawn))
        })
        .collect();
    seen.sort_by(|a, b| b.3.total_cmp(&a.3));
    let mut numbered: Vec<f64> = Vec::new();
    for (number, extent, from, drawn) in seen {
        let middle = from + drawn / 2.0;
        // Overlapping numbers are left out; the part that enlarges the range has both.
        if numbered.iter().all(|other| (other - middle).abs() > 2.0 * LETTER) {
            numbered.push(middle);
            let y = top + TOP - 5.0;
            let _ =
                writeln!(out, "<text x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{number}</text>");
        }
        for (lane, (way, name)) in operations::ways().enumerate() {
            let cell = combination.cell(&format!("{}/{way}", extent.region));
            let y = top + TOP + LANE * lane as f64;
            region(out, combination, extent, name, &cell, (from, y, drawn));
        }
    }
    ticks(out, part, place, top + TOP + lanes);
}

fn region(
    out: &mut String,
    combination: &Combination,
    extent: &Extent,
    way: &str,
    cell: &Cell,
    (x, y, width): (f64, f64, f64),
) {
    let _ = write!(
        out,
        "<a href=\"#{}\" tabindex=\"-1\"><rect class=\"cell {}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{LANE}\"><title>{} {:#x}–{:#x}, {way}: {}</title></rect>",
        row_id(combination, extent),
        cell.sign,
        extent.region,
        extent.start,
        extent.end - 1,
        escape(&result(cell))
    );
    if width > LETTER * cell.word.chars().count() as f64 + 6.0 {
        let _ = write!(
            out,
            "<text class=\"word\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + width / 2.0,
            y + LANE * 0.72,
            escape(&cell.word)
        );
    }
    out.push_str("</a>\n");
}

/// Addresses below a part: its ends, and its middle where there is room.
fn ticks(out: &mut String, part: &Part, place: &Place, y: f64) {
    let middle = part.start + (part.end - part.start) / 2;
    let mut ticks = vec![(part.start, "start"), (part.end, "end")];
    if place.width > 330.0 {
        ticks.push((middle, "middle"));
    }
    for (address, anchor) in ticks {
        let share = (address - part.start) as f64 / (part.end - part.start) as f64;
        let x = place.x + share * place.width;
        // Two addresses side by side would overlap in a narrow part.
        let lower = if place.width < 170.0 && anchor == "end" { 12.0 } else { 0.0 };
        let _ = writeln!(out, "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{:.1}\"/>", y + 4.0);
        let _ = writeln!(
            out,
            "<text class=\"faint\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{address:#x}</text>",
            y + 15.0 + lower
        );
    }
}

fn row_id(combination: &Combination, extent: &Extent) -> String {
    format!("{}-{}", anchor(combination), extent.region)
}

/// The result, with the address accessed and the bytes.
fn result(cell: &Cell) -> String {
    let mut text = cell.word.clone();
    if let Some(gpa) = cell.gpa {
        let _ = write!(text, " at {gpa:#x}");
    }
    if !cell.bytes.is_empty() {
        let _ = write!(text, ", bytes {}", cell.bytes);
    }
    if cell.detail != cell.word {
        let _ = write!(text, " ({})", cell.detail);
    }
    text
}

fn table(out: &mut String, combination: &Combination, extents: &[Extent]) {
    out.push_str("<details><summary>The same as text, with addresses, bytes and forbidden accesses</summary><div class=\"scroll\"><table><thead><tr><th>#</th><th>region</th><th>addresses</th>");
    for (_, name) in operations::ways() {
        let _ = write!(out, "<th>{name}</th>");
    }
    out.push_str("<th>seen</th></tr></thead><tbody>\n");
    for (index, extent) in extents.iter().enumerate() {
        let cells: Vec<(&str, Cell)> = operations::ways()
            .map(|(way, name)| (name, combination.cell(&format!("{}/{way}", extent.region))))
            .collect();
        let _ = write!(
            out,
            "<tr id=\"{}\"><th>{}</th><th title=\"{}\">{}</th><td class=\"num\">{:#x}–{:#x}</td>",
            row_id(combination, extent),
            index + 1,
            escape(&extent.kind),
            extent.region,
            extent.start,
            extent.end - 1
        );
        for (_, cell) in &cells {
            let _ = write!(out, "<td class=\"{}\">{}</td>", cell.sign, escape(&cell.word));
        }
        let seen: Vec<String> = cells
            .iter()
            .filter(|(_, cell)| !cell.bytes.is_empty() || !cell.accesses.is_empty())
            .map(|(name, cell)| {
                let accesses: Vec<String> =
                    cell.accesses.iter().map(|access| format!("<br>{}", escape(access))).collect();
                format!("{name}: <code>{}</code>{}", escape(&result(cell)), accesses.concat())
            })
            .collect();
        let _ = writeln!(out, "<td>{}</td></tr>", seen.join("<br>"));
    }
    out.push_str("</tbody></table></div></details>\n");
}
