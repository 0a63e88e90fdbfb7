// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each `copra` command does.

#[macro_use]
mod print;

mod audit;
mod boot_audit;
mod diff;
pub mod doctor;
mod exec;
mod explain;
mod explore;
mod gdb;
mod guests;
pub mod host;
mod host_name;
mod identify;
mod interrupt;
mod kernel;
mod kernels;
mod list;
mod matrix;
mod merge;
mod output;
mod page;
mod progress;
mod repro;
mod run;
mod screen;
mod spec;
mod start_over;
mod suite;
mod trace;
mod watchdog;

use std::fmt::Display;

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::report::plain::plain;
use engine::guest::EngineError;

/// Carries out a command.
pub fn dispatch(cli: &Cli) -> Exit {
    let quiet = cli.quiet;
    let done = match &cli.command {
        Command::Run(args) => run::run(args, quiet),
        Command::Repro(args) => repro::repro(args, quiet),
        Command::Exec(args) => exec::exec(args, quiet),
        Command::Shell(args) => exec::shell(args, quiet),
        Command::Suite(args) => suite::suite(args, quiet),
        Command::Gdb(args) => gdb::gdb(args, quiet),
        Command::Trace(args) => trace::trace(args, quiet),
        Command::Audit(args) => audit::audit(args, quiet),
        Command::BootAudit(args) => boot_audit::boot_audit(args, quiet),
        Command::Identify(args) => identify::identify(args, quiet),
        Command::Matrix(args) => matrix::matrix(args, quiet),
        Command::Spec(args) => spec::spec(args, quiet),
        Command::Explain(args) => explain::explain(args, quiet),
        Command::Explore(args) => explore::explore(args, quiet),
        Command::Diff(args) => diff::diff(args),
        Command::Merge(args) => merge::merge(args),
        Command::Page(args) => page::page(args),
        Command::List(args) => list::list(args),
        Command::Doctor => Ok(doctor::doctor()),
        Command::Kernel(args) => kernel::kernel(args, quiet),
    };
    let exit = done.unwrap_or_else(|error| {
        eprintln!("copra: {}", plain(&error.to_string()));
        Exit::CouldNotRun
    });
    if exit == Exit::Success && print::has_failed() { Exit::CouldNotRun } else { exit }
}

/// Why a command failed, as one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failed {
    text: String,
    of_this_version: bool,
}

impl Failed {
    fn new(error: impl Display) -> Self {
        Self { text: error.to_string(), of_this_version: false }
    }

    /// There is no kernel.
    fn of_kernel(error: &guest_kernel::Error) -> Self {
        Self { of_this_version: error.is_of_this_version(), ..Self::new(error) }
    }

    /// The kernel cannot be run.
    fn of_engine(error: &EngineError) -> Self {
        Self { of_this_version: error.is_of_this_version(), ..Self::new(error) }
    }

    /// The user's source tree does not build at this commit; at another commit it may.
    const fn is_of_this_version(&self) -> bool {
        self.of_this_version
    }
}
