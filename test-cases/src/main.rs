// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `copra` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // With SIGPIPE at its default action, `copra list | head` ends without an error.
    // SAFETY: restoring a signal's default action before any thread exists.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    test_cases::command::dispatch(&test_cases::cli::Cli::parse()).into()
}
