// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra diff` and `copra merge`.

use std::path::PathBuf;

use clap::Args;

/// Two reports.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  copra diff ci/baselines/debian-6.12-sev.json out.json
                                         did the new package change anything?
  copra diff --json old.json new.json    the same for a program

Differences of the set-up come first: with them, the others may not be the kernel's. Times, counters, the order of
cases and the KVM host are no change.

Exit codes: 0 nothing changed, 1 something changed, 2 a report cannot be read.")]
pub struct DiffArgs {
    /// The report of the earlier run, whole or compact; `-` for standard input
    #[arg(value_name = "OLD")]
    pub old: PathBuf,

    /// The report of the later run, whole or compact; `-` for standard input
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// Print the changes as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Reports of shards, and where the whole is written.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  copra run --shard 1/2 --json a.json; copra run --shard 2/2 --json b.json
  copra merge a.json b.json --json out.json --junit out.xml
  copra merge out.json --compact ci/baselines/debian-6.12-sev.json   a baseline for `copra diff`

The merged report is that of the run in one piece, except for times, boots, counters and the order of cases.

Exit codes: those of `copra run` for the whole; 2 if the reports are not those of all shards of one run.")]
pub struct MergeArgs {
    /// The reports of all shards of one run, or of one whole run
    #[arg(value_name = "REPORT", required = true)]
    pub reports: Vec<PathBuf>,

    /// Write the merged report; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write a JUnit report; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Write the compact form, which `copra diff` compares; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub compact: Option<PathBuf>,

    /// Print results as KTAP
    #[arg(long)]
    pub ktap: bool,
}

/// Reports, and the page that is made of them.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  copra page --html page.html out.json
  copra page --html page.html --baselines ci/baselines reports/*.json
                                         what changed against the baselines comes first

A baseline is found by its name, for example debian-6.12-sev.json. The page is one file without scripts.

Exit codes: 0 written, 2 a report cannot be read or the page cannot be written.")]
pub struct PageArgs {
    /// Where the page is written; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub html: PathBuf,

    /// The page's title
    #[arg(long, value_name = "TEXT", default_value = "copra runs")]
    pub title: String,

    /// The folder with the baselines
    #[arg(long, value_name = "FOLDER")]
    pub baselines: Option<PathBuf>,

    /// The result of another check that failed, one line, to be shown before the others; may be given several times
    #[arg(long = "failure", value_name = "TEXT", allow_hyphen_values = true)]
    pub failures: Vec<String>,

    /// The result of another check, one line; may be given several times. An outcome may come first, with two spaces after it
    #[arg(long = "note", value_name = "TEXT", allow_hyphen_values = true)]
    pub notes: Vec<String>,

    /// An earlier page in the same folder, to be linked; may be given several times
    #[arg(long, value_name = "FILE")]
    pub previous: Vec<PathBuf>,

    /// The reports of whole runs
    #[arg(value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
}
