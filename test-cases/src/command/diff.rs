// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra diff`.

use std::io::{self, IsTerminal};
use std::path::Path;

use engine::report::compact::CompactReport;
use engine::report::document::DocumentError;
use guest_kernel::bounded;

use super::{Failed, output};
use crate::cli::DiffArgs;
use crate::exit::Exit;
use crate::report::diff::Comparison;
use crate::report::plain;
use crate::report::style::Style;

/// Compares two reports.
pub fn diff(args: &DiffArgs) -> Result<Exit, Failed> {
    let (old, new) = (read(&args.old, CompactReport::read)?, read(&args.new, CompactReport::read)?);
    let comparison = Comparison::of(&old, &new);
    let mut out = io::stdout().lock();
    let written = if args.json {
        use io::Write as _;
        writeln!(out, "{}", plain::in_json(&format!("{:#}", comparison.value())))
    } else {
        comparison.write(&mut out, style())
    };
    output::read_to_the_end(written)
        .map_err(|error| Failed::new(format!("writing to standard output: {error}")))?;
    Ok(if comparison.changes.is_empty() { Exit::Success } else { Exit::Finding })
}

/// Reads a report by `parse`; `-` is standard input.
pub fn read<T>(path: &Path, parse: impl Fn(&str) -> Result<T, DocumentError>) -> Result<T, Failed> {
    let text = if path == Path::new("-") {
        bounded::text(io::stdin(), bounded::REPORT)
    } else {
        bounded::read_text(path, bounded::REPORT)
    };
    let text =
        text.map_err(|error| Failed::new(format!("reading the report {}: {error}", path.display())))?;
    parse(&text).map_err(|error| Failed::new(format!("the report {}: {error}", path.display())))
}

/// Colours, if standard output is a terminal.
pub fn style() -> Style {
    Style::choose(
        io::stdout().is_terminal(),
        std::env::var_os("NO_COLOR").as_deref(),
        std::env::var_os("COPRA_TTY").as_deref(),
    )
}
