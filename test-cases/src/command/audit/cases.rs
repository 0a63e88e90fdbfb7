// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cases of an audit as files: each is run again in a fresh guest before it is written, and a file whose case did not
//! reproduce its finding there begins with a comment that reports this.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::super::{Failed, guests};
use crate::cli::CommonOptions;
use crate::report::shell;
use engine::audit::Finding;
use engine::case::{self, Case};
use engine::guest::Target;
use engine::judge::Verdict;
use engine::report::Report;

/// A case to be written.
struct Exported {
    file: String,
    text: String,
    /// As it was read back from the text.
    case: Case,
}

/// Makes the folder, before anything is run for it.
pub fn make_folder(folder: &Path) -> Result<(), Failed> {
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))
}

/// Runs the findings' cases again, and writes them. A finding that is not reproduced is reported on standard error.
pub fn write(
    folder: &Path,
    findings: &[Finding],
    args: &CommonOptions,
    target: &Target,
    interrupt: &Arc<AtomicBool>,
    quiet: bool,
) -> Result<(), Failed> {
    let exported = exported(findings)?;
    let cases: Vec<Case> = exported.iter().map(|exported| exported.case.clone()).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let mut watcher = guests::Silent::new(quiet);
    let report = engine::run::run(target, &cases, &mut watcher, interrupt).map_err(Failed::new)?;
    for exported in &exported {
        let replayed = replayed(&report, &exported.case.name);
        if let Err(got) = &replayed {
            eprintln!(
                "copra: {}: run again in a fresh guest, it did not reproduce its finding: {got}",
                exported.file
            );
        }
        let text = head(args, target, &report, &exported.file, &replayed) + &exported.text;
        fs::write(folder.join(&exported.file), text).map_err(|error| failed(folder, &error))?;
    }
    Ok(())
}

fn exported(findings: &[Finding]) -> Result<Vec<Exported>, Failed> {
    let with_case = findings.iter().filter_map(|finding| Some((finding, finding.case.as_ref()?)));
    with_case
        .enumerate()
        .map(|(number, (finding, case))| {
            let place = finding.places.first().map_or("door", String::as_str);
            let name = format!("{:02}-{}-{place}", number + 1, finding.invariant);
            let text = case::write(case);
            // The case that is run again is the one in the file.
            let case = case::parse(&text, &name).map_err(Failed::new)?;
            Ok(Exported { file: format!("{name}.toml"), text, case })
        })
        .collect()
}

/// Whether the case reproduced its finding; else its verdict.
fn replayed(report: &Report, name: &str) -> Result<(), String> {
    let Some(result) = report.cases.iter().find(|result| result.case.name == name) else {
        return Err("the run ended before it".to_owned());
    };
    match &result.verdict.verdict {
        verdict if verdict.is_finding() => Ok(()),
        Verdict::NotRun { reason } | Verdict::Skipped { reason } => Err(reason.clone()),
        verdict => Err(verdict.label().to_owned()),
    }
}

/// Where the case comes from, and how it is run again, as comments.
fn head(
    args: &CommonOptions,
    target: &Target,
    report: &Report,
    file: &str,
    replayed: &Result<(), String>,
) -> String {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let kernel = &report.kernel;
    let mut text = match replayed {
        Ok(()) => {
            format!("# Fails on {} ({}) as {} guest", kernel.spec, one_line(&kernel.release), target.platform)
        }
        Err(got) => format!(
            "# Found by an audit of {} ({}) as {} guest, but not reproduced there in a fresh guest: {}",
            kernel.spec,
            one_line(&kernel.release),
            target.platform,
            one_line(got)
        ),
    };
    let command = shell::line(args.run_words().chain(["-v".to_owned(), format!("./{file}")]));
    // A comment ends with its line.
    let _ = writeln!(text, ":\n#   {}", command.replace(char::is_control, " "));
    text
}

fn failed(folder: &Path, error: &std::io::Error) -> Failed {
    Failed::new(format!("writing cases to {}: {error}; give another folder", folder.display()))
}
