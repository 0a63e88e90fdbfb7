// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs of `copra`.

use std::process::{Command, Stdio};

/// Its standard output and exit code. Standard error is inherited: it shows the progress of fetching and building kernels.
pub fn run(arguments: &[&str]) -> Result<(String, Option<i32>), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_copra"));
    command.args(arguments).env("COPRA_QUIET", "1").stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("starting copra: {error}"))?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code()))
}
