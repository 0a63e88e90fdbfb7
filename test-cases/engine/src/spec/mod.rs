// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The specification of /dev/mem as tables: what each operation gives at each place of a guest, under each policy, and which
//! function of the kernel decides it. Every answer comes from the model that the verdicts use; no kernel is booted.

mod answer;
mod consequence;
mod difference;
mod guest;
mod operation;
pub mod stock;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use types::{Platform, Policy, Region};

pub use self::answer::{Answer, Forbidden, Word};
pub use self::consequence::{Consequence, consequence};
pub use self::difference::{Difference, difference};
pub use self::guest::{Guest, Kernel, PHYSICAL_BITS, SpecError};
pub use self::operation::{COLUMNS, Column, DOORS, Door};
use model::{Reason, World};

/// The answers of a column's operations: one, or one for each where they differ.
pub type Cell = Vec<(&'static str, Answer)>;

/// Places that have the same answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The places, in order of address but for aliases.
    pub regions: Vec<Region>,
    /// The answers, by [`COLUMNS`].
    pub cells: Vec<Cell>,
}

/// What a kernel of one policy gives on one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// The policy.
    pub policy: Policy,
    /// The answers of the operations that are on no place, by [`DOORS`].
    pub doors: Vec<Answer>,
    /// The places.
    pub rows: Vec<Row>,
}

impl Sheet {
    /// The answers in this guest.
    pub fn of(world: &World, regions: &[(Region, u64)]) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for (region, gpa) in regions {
            let cells: Vec<Cell> = COLUMNS.iter().map(|column| operation::at(world, column, *gpa)).collect();
            match rows.iter_mut().find(|row| row.cells == cells) {
                Some(row) => row.regions.push(*region),
                None => rows.push(Row { regions: vec![*region], cells }),
            }
        }
        let doors = DOORS.iter().map(|door| operation::door(world, door)).collect();
        Self { policy: world.policy, doors, rows }
    }

    /// /dev/mem can be opened.
    pub fn opens(&self) -> bool {
        self.doors.first().is_some_and(|open| !open.fails())
    }

    /// The answers at a place.
    pub fn row(&self, region: Region) -> Option<&Row> {
        self.rows.iter().find(|row| row.regions.contains(&region))
    }

    /// Every answer.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        let cells = self.rows.iter().flat_map(|row| row.cells.iter().flatten());
        self.doors.iter().chain(cells.map(|(_, answer)| answer))
    }
}

/// What a kernel gives on one platform, under each policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The platform.
    pub platform: Platform,
    /// The guest, under the first policy.
    pub guest: Guest,
    /// The policies, in order.
    pub sheets: Vec<Sheet>,
}

impl Page {
    /// The page of a kernel.
    ///
    /// # Errors
    /// If the kernel cannot be a guest of the platform.
    pub fn of(
        kernel: &Kernel,
        platform: Platform,
        policies: &[Policy],
        memory_mib: u64,
    ) -> Result<Self, SpecError> {
        let first = policies.first().copied().unwrap_or(Policy::Upstream);
        let guest = Guest::of(kernel, platform, first, memory_mib)?;
        let regions = placed(&guest);
        let sheet = |policy: &Policy| Sheet::of(&World { policy: *policy, ..guest.world.clone() }, &regions);
        let sheets = policies.iter().map(sheet).collect();
        Ok(Self { platform, guest, sheets })
    }

    /// Every forbidden access in it.
    pub fn forbidden(&self) -> Vec<Forbidden> {
        let mut all: Vec<Forbidden> = Vec::new();
        for access in self.sheets.iter().flat_map(Sheet::answers).flat_map(|answer| &answer.forbidden) {
            if !all.contains(access) {
                all.push(*access);
            }
        }
        all
    }
}

/// The regions in the order of a table.
pub fn placed(guest: &Guest) -> Vec<(Region, u64)> {
    let mut all: Vec<(Region, u64)> =
        guest.regions.iter().map(|placed| (placed.region, placed.gpa)).collect();
    all.sort_by_key(|(_, gpa)| *gpa);
    all
}

/// The reasons in answers, in the order in which an access meets them.
pub fn reasons<'a>(answers: impl Iterator<Item = &'a Answer>) -> BTreeSet<Reason> {
    answers.flat_map(|answer| answer.reasons.iter().copied()).collect()
}
