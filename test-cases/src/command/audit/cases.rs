// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cases of an audit as files: each is run again in a fresh guest before it is written, and a file whose case did not
//! reproduce its finding there begins with a comment that reports this.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::super::{Failed, guests};
use crate::cli::{CommonOptions, DEFAULT_MEMORY};
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
    let _ = write!(text, ":\n#   copra run --kernel {} --platform {}", quoted(&args.kernel), target.platform);
    if let Some(config) = &args.kernel_config {
        let _ = write!(text, " --kernel-config {}", quoted(&config.display().to_string()));
    }
    if let Some(layout) = &args.layout {
        let _ = write!(text, " --layout {}", quoted(layout));
    }
    if let Some(rom) = args.rom {
        let _ = write!(text, " --rom {rom}");
    }
    if args.memory != DEFAULT_MEMORY {
        let _ = write!(text, " --memory {}", args.memory);
    }
    for words in &args.cmdline_append {
        let _ = write!(text, " --cmdline-append {}", quoted(words));
    }
    let _ = writeln!(text, " -v ./{}", quoted(file));
    text
}

/// A text quoted for a shell, on one line.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("'{}'", shown.replace('\'', "'\\''"))
}

fn failed(folder: &Path, error: &std::io::Error) -> Failed {
    Failed::new(format!("writing cases to {}: {error}; give another folder", folder.display()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_with_blanks_are_quoted() {
        assert_eq!(quoted("debian:6.12"), "debian:6.12");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    proptest! {
        /// A shell gives back the quoted text, and a comment remains one line.
        #[test]
        fn a_quoted_word_is_one_word_on_one_line(text in "[ -~\n]{0,20}") {
            let quoted = quoted(&text);
            prop_assert!(!quoted.contains('\n'));
            let output = std::process::Command::new("sh").args(["-c", &format!("printf %s {quoted}")]).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), text.replace('\n', " "));
        }
    }
}
