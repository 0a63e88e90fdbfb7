// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A case: the steps in a guest, and the expected result of each under each policy and platform.

mod action_parse;
mod error;
mod expect_parse;
mod expectation;
mod fields;
mod flags;
mod needs;
mod parse;
mod references;
mod step;
mod step_display;
mod term;
mod write;

pub use error::{CaseErrors, Problem, ProblemKind};
pub use expectation::{Expectations, Expected, ExpectedEvent, Key, Scope};
pub use flags::{Direction, OpenFlags, Protection, Share, UserBuffer, ViewChoice};
pub use needs::{ConfigNeed, Guest, Needs, ReleaseBound};
pub use parse::parse;
pub use step::{Action, Handle, OUTPUT, Step, Yield};
pub use term::Term;
pub use write::{write, write_commented};

use types::{Platform, Region};

use crate::setup::SetupOverrides;

/// One case, as read from one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The file's path below the case folder, without `.toml`: `mmap/low-ram`.
    pub name: String,
    /// What the case shows, in one line.
    pub title: String,
    /// Why the kernel behaves so, and which function decides.
    pub why: String,
    /// Words to select cases by.
    pub tags: Vec<String>,
    /// The platforms the case makes sense on.
    pub platforms: Vec<Platform>,
    /// What the guest must have for the case to run.
    pub needs: Needs,
    /// What the case sets otherwise than the run.
    pub guest: SetupOverrides,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

impl Case {
    /// A case for every platform, without steps.
    pub fn new(name: &str, title: &str, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            why: why.to_owned(),
            tags: Vec::new(),
            platforms: Platform::ALL.to_vec(),
            needs: Needs::default(),
            guest: SetupOverrides::default(),
            steps: Vec::new(),
        }
    }

    /// The same case, of whose step `id` this is expected.
    #[must_use]
    pub fn expecting(mut self, id: &str, expected: &Expected) -> Self {
        for step in self.steps.iter_mut().filter(|step| step.id == id) {
            *step = step.clone().expecting(expected.clone());
        }
        self
    }

    /// The regions that the steps name, each once.
    pub fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> =
            self.steps.iter().filter_map(|step| step.action.place()?.region()).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }

    /// The programs the steps run, each once.
    pub fn programs(&self) -> Vec<&str> {
        let mut programs: Vec<&str> = Vec::new();
        for program in self.steps.iter().flat_map(|step| step.action.programs()) {
            if !programs.contains(&program) {
                programs.push(program);
            }
        }
        programs
    }

    /// The step with this id.
    pub fn step(&self, id: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == id)
    }

    /// Why the case cannot run on this guest, if it cannot.
    pub fn skip_reason(&self, guest: &Guest<'_>) -> Option<String> {
        if !self.platforms.contains(&guest.platform) {
            let platforms: Vec<_> = self.platforms.iter().map(|platform| platform.name()).collect();
            return Some(format!("for platform {}", platforms.join(", ")));
        }
        let missing = self.regions().into_iter().find(|region| !guest.has(*region));
        missing
            .map(|region| format!("this guest has no region `{region}`"))
            .or_else(|| self.needs.unmet(guest))
    }
}
