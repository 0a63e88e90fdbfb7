// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra merge`.

use std::io;
use std::path::{Path, PathBuf};

use engine::merge::merge as merge_reports;
use engine::report::compact::CompactReport;
use engine::report::document::RunDocument;

use super::output::{self, Output};
use super::{Failed, diff};
use crate::cli::MergeArgs;
use crate::exit::Exit;
use crate::report::{json, junit, ktap, totals};

/// Merges the reports of all shards of a run.
pub fn merge(args: &MergeArgs) -> Result<Exit, Failed> {
    let open = |path: &Option<PathBuf>| path.as_deref().map(Output::open).transpose();
    let (json, junit, compact) = (open(&args.json)?, open(&args.junit)?, open(&args.compact)?);
    let read = |path: &PathBuf| Ok((path.display().to_string(), diff::read(path, RunDocument::read)?));
    let reports = args.reports.iter().map(read).collect::<Result<Vec<_>, Failed>>()?;
    let count = reports.len();
    let document = merge_reports(&reports).map_err(Failed::new)?;
    if let Some(output) = json {
        output.write(|out| json::write(&document, out))?;
    }
    if let Some(output) = junit {
        output.write(|out| junit::write(&document, out).map_err(io::Error::other))?;
    }
    if let Some(output) = compact {
        output.write(|out| json::write_compact(&CompactReport::of(&document), out))?;
    }
    let to_stdout = [&args.json, &args.junit, &args.compact];
    let is_taken = to_stdout.into_iter().any(|path| path.as_deref() == Some(Path::new("-")));
    let shown = if args.ktap {
        ktap::write(&document, io::stdout().lock())
    } else if is_taken {
        Ok(())
    } else {
        totals::write(&document, count, io::stdout().lock(), diff::style())
    };
    output::read_to_the_end(shown)
        .map_err(|error| Failed::new(format!("writing to standard output: {error}")))?;
    Ok(Exit::of_document(&document))
}
