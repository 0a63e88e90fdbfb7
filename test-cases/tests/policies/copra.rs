// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs of `copra`.

use std::process::{Command, Stdio};

/// What it printed, and its exit code. Fetching and building a kernel takes a while: that progress is for whoever watches.
pub fn run(arguments: &[&str]) -> Result<(String, Option<i32>), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_copra"));
    command.args(arguments).env("COPRA_QUIET", "1").stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("starting copra: {error}"))?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code()))
}
