// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guests that fail, all of them on one KVM host.

mod checks;
mod isolation;
mod jobs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::host;
use crate::common::job::{Plan, outcome_file};
use crate::common::outcome::{self, Outcome};
use crate::common::trouble::Trouble;
use crate::copra;

/// A kernel to be used in place of the one this file would choose, as `copra run --kernel` takes it.
const KERNEL: &str = "COPRA_TEST_KERNEL";

/// The packaged kernel that is used where there is no other.
const DEBIAN: &str = "debian:6.12";

/// The tests.
pub fn trials() -> Vec<Trial> {
    checks::trials().into_iter().chain(isolation::trials()).collect()
}

/// The outcomes of all jobs.
static BATCH: OnceLock<Result<Batch, String>> = OnceLock::new();

/// All jobs, carried out.
#[derive(Debug)]
struct Batch {
    folder: PathBuf,
    /// Why there is no real kernel, if there is none.
    no_kernel: Option<String>,
}

/// The outcome of the job `name`; the first call carries out all jobs.
fn outcome(name: &str) -> Result<Outcome, Trouble> {
    let batch = BATCH.get_or_init(Batch::carry_out).as_ref().map_err(|why| Trouble::Wrong(why.clone()))?;
    let file = outcome_file(&batch.folder, name);
    match (fs::read_to_string(&file), &batch.no_kernel) {
        (Ok(text), _) => serde_json::from_str(&text).map_err(|error| error.to_string().into()),
        (Err(_), Some(why)) => Err(Trouble::Skip(why.clone())),
        (Err(error), None) => Err(format!("{}: {error}", file.display()).into()),
    }
}

/// The report a job wrote.
fn report(name: &str) -> Result<Value, Trouble> {
    let outcome = outcome(name)?;
    outcome::report(&folder()?.join(format!("{name}.json")))
        .map_err(|_| outcome.complain("it wrote no report"))
}

fn folder() -> Result<&'static Path, Trouble> {
    let batch = BATCH.get().and_then(|batch| batch.as_ref().ok());
    batch.map(|batch| batch.folder.as_path()).ok_or_else(|| "no jobs were carried out".into())
}

/// Removes the files of the jobs.
pub fn clean_up() {
    if let Ok(folder) = folder() {
        let _ = fs::remove_dir_all(folder);
    }
}

impl Batch {
    fn carry_out() -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("preparing the guests: {error}");
        let folder = tempfile::Builder::new().prefix("copra-bad-input.").tempdir().map_err(failed)?;
        // Some jobs run as user nobody, which needs write access here, and a copy of the program that it can execute.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).map_err(failed)?;
        let program = folder.path().join("copra");
        fs::copy(env!("CARGO_BIN_EXE_copra"), &program).map_err(failed)?;
        let (kernel, no_kernel) = match kernel() {
            Ok(kernel) => (Some(kernel), None),
            Err(why) => (None, Some(why)),
        };
        let mut jobs = jobs::all(folder.path(), kernel.as_deref()).map_err(failed)?;
        let no_kernel = match stock_kernel() {
            Ok(kernel) => {
                jobs.extend(isolation::jobs(folder.path(), &kernel).map_err(failed)?);
                no_kernel
            }
            Err(why) => no_kernel.or(Some(why)),
        };
        // Kernels built here have no control groups.
        let no_kernel = match first_of(DEBIAN) {
            Ok(kernel) => {
                jobs.push(jobs::frozen(folder.path(), &kernel).map_err(failed)?);
                no_kernel
            }
            Err(why) => no_kernel.or(Some(why)),
        };
        host::carry_out(&Plan { program, jobs }, folder.path())?;
        Ok(Self { folder: folder.keep(), no_kernel })
    }
}

/// A kernel that boots: the smallest in the cache, else Debian's.
fn kernel() -> Result<String, String> {
    std::env::var(KERNEL).or_else(|_| first_of("build:open-eperm"))
}

/// A kernel without a policy of its own.
fn stock_kernel() -> Result<String, String> {
    first_of("build:upstream")
}

/// The kernel of that name if it is in the cache, else Debian's.
fn first_of(name: &str) -> Result<String, String> {
    let known =
        Outcome::of(&mut copra(&["list", "--kernels", "--json"])).map_err(|why| format!("{why:?}"))?;
    let here = |name: &str| {
        known
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|line| line["kind"] == "kernel" && line["name"] == name && line["sha256"].is_string())
    };
    if let Some(name) = [name, DEBIAN].into_iter().find(|name| here(name)) {
        return Ok(name.into());
    }
    let fetched = Outcome::of(&mut copra(&["kernel", "fetch", DEBIAN])).map_err(|why| format!("{why:?}"))?;
    match fetched.code {
        Some(0) => Ok(DEBIAN.into()),
        _ => Err(format!(
            "there is no kernel to boot (name one in {KERNEL}): {}",
            fetched.stderr.lines().next().unwrap_or("`copra kernel fetch debian:6.12` failed")
        )),
    }
}
