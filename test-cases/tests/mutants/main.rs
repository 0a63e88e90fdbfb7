// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every mutant of the kernel `build:mutants` is killed.
//!
//! Each is a test: the case that `guest-kernel/mutants/mutants.toml` names must fail on it, in the step and for the reason named
//! there, and pass on the same kernel without a mistake. Mutants of one policy on one platform share a guest, which makes
//! one mistake after the other.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/mod.rs"]
mod common;

mod batch;
mod group;
mod kill;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use common::{host, job};
use guest_kernel::{Mutant, mutants};
use libtest_mimic::{Arguments, Trial};

use batch::Batch;

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
    let arguments = Arguments::from_args();
    let chosen: Vec<&'static Mutant> =
        mutants().iter().filter(|mutant| is_selected(&arguments, &name(mutant))).collect();
    let batch = Arc::new(Batch::new(chosen));
    let check = Trial::test("a_boot_is_killed_by_what_is_named", || kill::self_check().map_err(Into::into));
    let explored =
        Trial::test("a_disagreement_is_the_one_named", || kill::check_disagreements().map_err(Into::into));
    let trials = mutants().iter().map(|mutant| {
        let batch = Arc::clone(&batch);
        Trial::test(name(mutant), move || kill::check(mutant, batch.reports()?).map_err(Into::into))
    });
    libtest_mimic::run(&arguments, [check, explored].into_iter().chain(trials).collect()).exit_code()
}

fn name(mutant: &Mutant) -> String {
    format!("{}::{}::{}", mutant.policy, mutant.platform, mutant.name)
}

/// Whether the test of this name runs: guests are booted for no others.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let fits =
        |pattern: &String| if arguments.exact { name == pattern } else { name.contains(pattern.as_str()) };
    arguments.filter.as_ref().is_none_or(fits) && !arguments.skip.iter().any(fits)
}
