// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The outcome of a run of `copra`, and checks of it.

use std::path::Path;
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::trouble::{Checked, Trouble};

/// How `copra` ended, and its output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Exit code, if it was not ended by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Its peak memory, in KiB.
    pub peak_kib: u64,
    /// How long it took.
    pub seconds: f64,
    /// Why it was not started, if it was not.
    pub skipped: Option<String>,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            ..Self::default()
        }
    }
}

impl Outcome {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Result<Self, Trouble> {
        Ok(command.output().map_err(|error| format!("{command:?}: {error}"))?.into())
    }

    /// It ended with this code and did not panic.
    pub fn ended(&self, code: i32) -> Checked {
        if let Some(reason) = &self.skipped {
            return Err(Trouble::Skip(reason.clone()));
        }
        if self.stderr.contains("panicked at") || self.stderr.contains("RUST_BACKTRACE") {
            return Err(self.complain("it panicked"));
        }
        if self.code != Some(code) {
            return Err(self.complain(&format!("exit code {:?} instead of {code}", self.code)));
        }
        Ok(())
    }

    /// It could not run, and reported one error on standard error, which contains all of these words.
    pub fn refused(&self, words: &[&str]) -> Checked {
        self.ended(2)?;
        let errors = self.stderr.lines().filter(|line| is_error(line)).count();
        if errors != 1 {
            return Err(self.complain(&format!("{errors} errors instead of one")));
        }
        self.contains(&self.stderr, "standard error", words)
    }

    /// Standard output contains all of these words.
    pub fn shows(&self, words: &[&str]) -> Checked {
        self.contains(&self.stdout, "standard output", words)
    }

    fn contains(&self, text: &str, what: &str, words: &[&str]) -> Checked {
        match words.iter().find(|word| !text.contains(**word)) {
            Some(word) => Err(self.complain(&format!("{what} lacks `{word}`"))),
            None => Ok(()),
        }
    }

    /// A failure with all output.
    pub fn complain(&self, what: &str) -> Trouble {
        let Self { code, stdout, stderr, .. } = self;
        Trouble::Wrong(format!(
            "{what}\nexit code {code:?}\nstandard output:\n{}\nstandard error:\n{}",
            shortened(stdout),
            shortened(stderr)
        ))
    }
}

/// A line that begins an error: ours, or that of the argument parser or of the KVM host.
fn is_error(line: &str) -> bool {
    ["copra: ", "error: ", "kvm-host: "].iter().any(|start| line.starts_with(start))
}

fn shortened(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| line.chars().take(300).collect()).collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Reads a JSON report.
pub fn report(file: &Path) -> Result<Value, Trouble> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()).into())
}
