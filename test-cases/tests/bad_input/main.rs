// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Invalid input and missing resources: each gets one error that names the cause and the remedy, the right exit code, and
//! a report of what ran.

#[path = "../common/mod.rs"]
mod common;

mod arguments;
mod guests;
mod images;
mod lacking;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use common::{host, job, trouble};
use libtest_mimic::Arguments;

/// The command under test, without progress output, and without environment variables it must not depend on.
fn copra(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_copra"));
    command.arg("--quiet").args(arguments).env("COPRA_QUIET", "1").env_remove("NO_COLOR");
    command
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == host::INNER) {
        let folder = PathBuf::from(words.next().unwrap_or_default());
        return match job::run_all(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", folder.display());
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    // The first test runs the guests; tests that need none run meanwhile, then the checks of the other guests.
    let mut trials = guests::trials();
    let others = trials.split_off(1);
    trials.extend(arguments::trials());
    trials.extend(images::trials());
    trials.extend(lacking::trials());
    trials.extend(others);
    let conclusion = libtest_mimic::run(&arguments, trials);
    guests::clean_up();
    if !arguments.list {
        trouble::print_skips();
    }
    conclusion.exit_code()
}
