// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where findings were made: pages, written as ranges below 1 MiB and by the names of regions above.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use types::PlacedRegion;
use vmm::layout::{HIGH_MEMORY, PAGE_SIZE};

use crate::place::region_of;

/// Guest physical pages, each by its first address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages(BTreeSet<u64>);

impl Pages {
    /// The page that holds an address.
    pub fn of(gpa: u64) -> Self {
        Self(BTreeSet::from([gpa & !(PAGE_SIZE - 1)]))
    }

    /// Adds those of another set.
    pub fn add(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// Whether both have a page in common.
    pub fn intersects(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First and last address of each run of consecutive pages, ascending.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for page in &self.0 {
            let last = page | (PAGE_SIZE - 1);
            match ranges.last_mut() {
                Some((_, end)) if end.checked_add(1) == Some(*page) => *end = last,
                _ => ranges.push((*page, last)),
            }
        }
        ranges
    }

    /// The pages as texts: ranges of addresses, but above 1 MiB the names of the regions that hold them.
    pub fn names(&self, regions: &[PlacedRegion]) -> Vec<String> {
        let mut unnamed = Self::default();
        let mut of_regions: Vec<String> = Vec::new();
        for page in &self.0 {
            match region_of(*page, regions).filter(|_| *page >= HIGH_MEMORY) {
                Some(name) if of_regions.iter().any(|known| known == name) => {}
                Some(name) => of_regions.push(name.to_owned()),
                None => unnamed.add(&Self::of(*page)),
            }
        }
        let ranges = unnamed.ranges().into_iter().map(|(start, end)| format!("{start:#x}-{end:#x}"));
        ranges.chain(of_regions).collect()
    }
}

impl Serialize for Pages {
    /// As ranges of first and last address.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges().iter().map(|(start, end)| format!("{start:#x}-{end:#x}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use types::Region;

    #[test]
    fn consecutive_pages_are_one_range_and_high_ones_have_names() {
        let mut pages = Pages::default();
        for gpa in (0xc_0000..0x10_0000).step_by(4096).chain([0x10, 0x1bfe_0000, 0x1bfe_ff80, 0xe100_0000]) {
            pages.add(&Pages::of(gpa));
        }
        let regions =
            [PlacedRegion { region: Region::Reserved, gpa: 0x1bfe_0000, len: 0x1_0000, kind: "".into() }];
        let names = pages.names(&regions);
        assert_eq!(names, ["0x0-0xfff", "0xc0000-0xfffff", "0xe1000000-0xe1000fff", "reserved"]);
    }

    proptest! {
        #[test]
        fn ranges_cover_the_pages_and_nothing_else(
            pages in prop::collection::btree_set(0_u64..512, 0..200),
            top: bool,
        ) {
            let mut all = Pages::default();
            for page in &pages {
                all.add(&Pages::of(page * PAGE_SIZE));
            }
            if top {
                all.add(&Pages::of(u64::MAX));
            }
            let ranges = all.ranges();
            let covered: u64 = ranges.iter().map(|(start, end)| (end - start) / PAGE_SIZE + 1).sum();
            prop_assert_eq!(covered, all.len() as u64);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1.checked_add(1) < Some(pair[1].0)));
            for page in pages {
                let gpa = page * PAGE_SIZE;
                prop_assert!(ranges.iter().any(|(start, end)| (*start..=*end).contains(&gpa)));
            }
        }
    }
}
