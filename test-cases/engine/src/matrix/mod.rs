// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels × platforms × operations: what is denied, what leaks, what breaks, as tables and as a page.

pub mod cell;
pub mod operations;
pub mod programs;

#[cfg(any(test, feature = "fixture"))]
pub mod fixture;

use std::collections::BTreeMap;

pub use cell::{Cell, Sign};
pub use operations::Operation;

use types::Platform;

use crate::observation::{Death, KernelFacts, PlatformFacts};
use crate::report::{Report, RunEnd};

/// The operations tried, and their results so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matrix {
    /// One per kernel and platform, in the order they were run.
    pub combinations: Vec<Combination>,
}

/// One kernel on one platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Combination {
    /// The kernel.
    pub kernel: KernelFacts,
    /// The platform it runs on.
    pub platform: Platform,
    /// What is simulated and where things are; `None` if no guest could be started.
    pub facts: Option<PlatformFacts>,
    /// Why there is not everything, if so.
    pub failed: Option<String>,
    /// Guests that died.
    pub deaths: Vec<Death>,
    /// The result of each operation, by its id.
    pub cells: BTreeMap<String, Cell>,
}

impl Combination {
    /// What a run of [`operations::cases`] shows, whole or cut short.
    pub fn of(report: &Report) -> Self {
        let cells = operations::all()
            .iter()
            .map(|operation| (operation.id.clone(), Cell::of(operation, &report.cases)))
            .collect();
        Self {
            kernel: report.kernel.clone(),
            platform: report.platform.platform,
            facts: Some(report.platform.clone()),
            failed: match &report.ended {
                RunEnd::Complete => None,
                RunEnd::Interrupted => Some("interrupted".to_owned()),
                RunEnd::Failed(why) => Some(why.clone()),
            },
            deaths: report.deaths.clone(),
            cells,
        }
    }

    /// One that could not be run.
    pub fn failed(kernel: &KernelFacts, platform: Platform, why: impl Into<String>) -> Self {
        let failed = Some(why.into());
        let kernel = kernel.clone();
        Self { kernel, platform, facts: None, failed, deaths: Vec::new(), cells: BTreeMap::new() }
    }

    /// The result of an operation.
    pub fn cell(&self, operation: &str) -> Cell {
        let why = || self.failed.clone().unwrap_or_else(|| "not tried".to_owned());
        self.cells.get(operation).cloned().unwrap_or_else(|| Cell::bare(Sign::Unknown, why()))
    }
}

impl Matrix {
    /// The platforms, in order of first use.
    pub fn platforms(&self) -> Vec<Platform> {
        let mut platforms = Vec::new();
        for combination in &self.combinations {
            if !platforms.contains(&combination.platform) {
                platforms.push(combination.platform);
            }
        }
        platforms
    }

    /// The kernels, in order of first use; facts that need a running guest are there if one ran.
    pub fn kernels(&self) -> Vec<&KernelFacts> {
        let mut kernels: Vec<&KernelFacts> = Vec::new();
        for combination in &self.combinations {
            let kernel = &combination.kernel;
            match kernels.iter_mut().find(|known| known.spec == kernel.spec) {
                None => kernels.push(kernel),
                Some(known) if known.version.is_empty() => *known = kernel,
                Some(_) => {}
            }
        }
        kernels
    }

    /// The kernels on one platform.
    pub fn on(&self, platform: Platform) -> Vec<&Combination> {
        self.combinations.iter().filter(|combination| combination.platform == platform).collect()
    }

    /// The signs that occur, in the order they are explained.
    pub fn signs(&self, brief: bool) -> Vec<Sign> {
        let operations: Vec<Operation> =
            operations::all().into_iter().filter(|operation| operation.brief || !brief).collect();
        let occurs = |sign: &Sign| {
            self.combinations.iter().any(|combination| {
                operations.iter().any(|operation| combination.cell(&operation.id).sign == *sign)
            })
        };
        Sign::ALL.iter().copied().filter(occurs).collect()
    }
}

/// Name of a kernel at the head of a column.
pub fn label(kernel: &KernelFacts) -> String {
    let name = kernel.spec.strip_prefix("build:").unwrap_or(&kernel.spec);
    match name.strip_prefix("path:") {
        Some(path) => path.rsplit('/').next().unwrap_or(path).to_owned(),
        None => name.to_owned(),
    }
}
