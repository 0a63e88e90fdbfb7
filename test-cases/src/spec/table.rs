// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A table of places and operations, and what its marks mean.

use std::fmt::Write as _;

use engine::spec::{Answer, COLUMNS, DOORS, Row, reasons};

use super::marks::Marks;
use crate::matrix::text::wrap;

/// Most columns of a line.
pub const WIDTH: usize = 120;
/// Columns of the names of places.
const PLACES: usize = 19;
/// Columns of a function's name.
const FUNCTION: usize = 57;

/// The rows, with the heads of the columns.
pub fn rows(out: &mut String, rows: &[Row], marks: &Marks) {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.cells.iter().map(|cell| marks.cell(cell)).collect()).collect();
    let width = |column: usize| {
        let head = COLUMNS[column].head.iter().map(|line| line.chars().count());
        cells.iter().map(|row| row[column].chars().count()).chain(head).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let line = |out: &mut String, place: &str, texts: &mut dyn Iterator<Item = &str>| {
        let mut line = format!("{place:PLACES$}");
        for (text, width) in texts.zip(&widths) {
            let _ = write!(line, " {text:width$}");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    };
    for index in 0..2 {
        line(out, "", &mut COLUMNS.iter().map(|column| column.head[index]));
    }
    for (row, cells) in rows.iter().zip(&cells) {
        let names: Vec<&str> = row.regions.iter().map(|region| region.name()).collect();
        let lines = wrap(&names.join(", "), PLACES);
        for (index, names) in lines.iter().enumerate() {
            let texts: &[String] = if index == 0 { cells } else { &[] };
            line(out, names, &mut texts.iter().map(String::as_str));
        }
    }
}

/// Operations on no place, two in a line.
pub fn doors(out: &mut String, doors: &[(usize, &Answer)], marks: &Marks) {
    let texts: Vec<String> = doors
        .iter()
        .map(|(index, answer)| format!("{:33} {:12}", DOORS[*index].name, marks.answer(answer)))
        .collect();
    for pair in texts.chunks(2) {
        let _ = writeln!(out, "{}", pair.join("  ").trim_end());
    }
}

/// The functions behind the marks of answers.
pub fn functions<'a>(out: &mut String, answers: impl Iterator<Item = &'a Answer>, marks: &Marks) {
    for (mark, reason) in marks.legend(&reasons(answers)) {
        for (index, about) in wrap(reason.about(), WIDTH - FUNCTION - 6).iter().enumerate() {
            let (mark, function) = if index == 0 { (mark.as_str(), reason.function()) } else { ("", "") };
            let _ = writeln!(out, "  {mark:2} {function:FUNCTION$} {about}");
        }
    }
}
