// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra page`.

use std::path::Path;

use engine::report::compact::CompactReport;
use engine::report::document::RunDocument;

use super::Failed;
use super::diff::read;
use super::output::Output;
use crate::cli::PageArgs;
use crate::exit::Exit;
use crate::report::page::{Page, Run, html};

/// Writes reports as a page.
pub fn page(args: &PageArgs) -> Result<Exit, Failed> {
    let output = Output::open(&args.html)?;
    let run = |path: &std::path::PathBuf| {
        let document = read(path, RunDocument::read)?;
        let baseline = args.baselines.as_deref().map(|folder| baseline(folder, &document)).transpose()?;
        Ok(Run { document, baseline: baseline.flatten() })
    };
    let runs = args.reports.iter().map(run).collect::<Result<Vec<_>, Failed>>()?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let previous = args.previous.iter().map(|path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (stem, name(path))
    });
    let page = Page {
        title: args.title.clone(),
        runs,
        failures: args.failures.clone(),
        notes: args.notes.clone(),
        previous: previous.collect(),
    };
    output.write(|out| out.write_all(html(&page).as_bytes()))?;
    Ok(Exit::Success)
}

/// The baseline of a run, if the folder has one.
fn baseline(folder: &Path, document: &RunDocument) -> Result<Option<(String, CompactReport)>, Failed> {
    let name = baseline_name(&document.kernel.spec, document.platform.platform.name());
    let path = folder.join(&name);
    if !path.is_file() {
        return Ok(None);
    }
    Ok(Some((name, read(&path, CompactReport::read)?)))
}

/// `debian-6.12-sev.json` for Debian's 6.12 as SEV guest.
fn baseline_name(kernel: &str, platform: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_+".contains(c) { c } else { '-' };
    format!("{}-{platform}.json", kernel.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_is_named_by_kernel_and_platform() {
        assert_eq!(baseline_name("debian:6.12", "sev"), "debian-6.12-sev.json");
        assert_eq!(baseline_name("tree:/src/linux", "none"), "tree--src-linux-none.json");
    }
}
