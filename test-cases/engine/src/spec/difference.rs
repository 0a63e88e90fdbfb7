// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What differs between two tables.

use super::{DOORS, Row, Sheet};
use types::Region;

/// The rows and operations of a table that are not as in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Rows with another answer, whole.
    pub rows: Vec<Row>,
    /// Indexes into [`DOORS`].
    pub doors: Vec<usize>,
}

impl Difference {
    /// There is none.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.doors.is_empty()
    }
}

/// What `sheet` has otherwise than `base`.
pub fn difference(base: &Sheet, sheet: &Sheet) -> Difference {
    let differs = |region: &Region, row: &Row| base.row(*region).is_none_or(|other| other.cells != row.cells);
    let rows = sheet.rows.iter().filter_map(|row| {
        let regions: Vec<Region> =
            row.regions.iter().copied().filter(|region| differs(region, row)).collect();
        (!regions.is_empty()).then(|| Row { regions, cells: row.cells.clone() })
    });
    let doors = (0..DOORS.len()).filter(|index| base.doors.get(*index) != sheet.doors.get(*index));
    Difference { rows: rows.collect(), doors: doors.collect() }
}
