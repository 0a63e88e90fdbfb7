// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All guests of a run, booted when the first test needs their outcomes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use guest_kernel::{Cache, Catalogue, Mutant, Silent};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::host;
use crate::common::job::{Job, Plan, outcome_file};
use crate::common::outcome::{self, Outcome};
use crate::group;

/// KVM hosts at a time.
const LANES: usize = 2;

/// The mutants that are tried.
pub struct Batch {
    mutants: Vec<&'static Mutant>,
    done: OnceLock<Result<Reports, String>>,
}

/// The outcomes of the guests.
pub struct Reports {
    folder: TempDir,
    lanes: usize,
}

impl Batch {
    /// For these mutants.
    pub fn new(mutants: Vec<&'static Mutant>) -> Self {
        Self { mutants, done: OnceLock::new() }
    }

    /// The outcomes; the first call runs the guests.
    pub fn reports(&self) -> Result<&Reports, String> {
        self.done.get_or_init(|| Reports::make(&self.mutants)).as_ref().map_err(Clone::clone)
    }
}

impl Reports {
    fn make(mutants: &[&Mutant]) -> Result<Self, String> {
        // Built here: inside the KVM host there is no compiler.
        let cache = Cache::open().map_err(|error| error.to_string())?;
        let kernel = "build:mutants".parse().map_err(|error: guest_kernel::spec::Error| error.to_string())?;
        Catalogue::new(cache, Box::new(Silent)).resolve(&kernel).map_err(|error| error.to_string())?;

        let folder = tempfile::Builder::new().prefix("copra-mutants.").tempdir();
        let folder = folder.map_err(|error| format!("a folder for the guests: {error}"))?;
        let mut lanes: Vec<Vec<Job>> = vec![Vec::new(); LANES];
        for (index, job) in group::jobs(mutants, folder.path())?.into_iter().enumerate() {
            lanes[index % LANES].push(job);
        }
        lanes.retain(|jobs| !jobs.is_empty());
        let count = lanes.len();
        let results: Vec<Result<(), String>> = thread::scope(|scope| {
            let lane = |(index, jobs)| {
                let place = lane_folder(folder.path(), index);
                scope.spawn(move || carry_out(jobs, &place))
            };
            let started: Vec<_> = lanes.into_iter().enumerate().map(lane).collect();
            started.into_iter().map(|lane| lane.join().unwrap_or(Err("a lane panicked".to_owned()))).collect()
        });
        results.into_iter().collect::<Result<Vec<()>, String>>()?;
        Ok(Self { folder, lanes: count })
    }

    /// The report a job wrote.
    pub fn json(&self, job: &str) -> Result<Value, String> {
        let file = self.folder.path().join(format!("{job}.json"));
        outcome::report(&file).map_err(|_| format!("{job} wrote no report: {}", self.output(job)))
    }

    /// How a job ended.
    pub fn outcome(&self, job: &str) -> Result<Outcome, String> {
        let mut files = (0..self.lanes).map(|lane| outcome_file(&lane_folder(self.folder.path(), lane), job));
        let text = files.find_map(|file| std::fs::read_to_string(file).ok());
        let text = text.ok_or_else(|| format!("{job} was not run"))?;
        serde_json::from_str(&text).map_err(|error| format!("{job}: {error}"))
    }

    fn output(&self, job: &str) -> String {
        self.outcome(job).map_or_else(|why| why, |it| format!("{:?}\n{}\n{}", it.code, it.stdout, it.stderr))
    }
}

fn lane_folder(folder: &Path, lane: usize) -> PathBuf {
    folder.join(format!("lane-{lane}"))
}

fn carry_out(jobs: Vec<Job>, folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    host::carry_out(&Plan { program: PathBuf::from(env!("CARGO_BIN_EXE_copra")), jobs }, folder)
}
