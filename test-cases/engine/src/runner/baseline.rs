// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The contents of memory before a case, to determine what the case changed.

use std::collections::{BTreeMap, HashMap};

use types::{PlacedRegion, View};
use vmm::machine::Machine;

use crate::case::{Action, Case};
use model::class::{States, memory_state};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Pages of memory before the case: those its steps read and those they write.
#[derive(Debug)]
pub struct Baseline {
    pages: BTreeMap<u64, Vec<u8>>,
    data: HashMap<String, Vec<u8>>,
}

impl Baseline {
    /// Copies every page a step of the case compares or is known to write.
    pub fn take(machine: &Machine, case: &Case, regions: &[PlacedRegion]) -> Self {
        let data = case
            .steps
            .iter()
            .filter_map(|step| Some((step.id.clone(), step.action.data()?.to_vec())))
            .collect();
        let mut baseline = Self { pages: BTreeMap::new(), data };
        for step in &case.steps {
            let len = match &step.action {
                Action::Memory { len, .. } => *len,
                action => action.data().map_or(0, |data| data.len() as u64),
            };
            if let Some(start) = step.action.place().and_then(|place| place.resolve(regions)) {
                baseline.save(machine, start, len);
            }
        }
        baseline
    }

    /// Keeps the pages of `len` bytes from `start` on as they are now, unless they were kept before.
    pub fn save(&mut self, machine: &Machine, start: u64, len: u64) {
        if len == 0 {
            return;
        }
        let (_, start) = machine.platform().split(start);
        let end = start.saturating_add(len).div_ceil(PAGE).saturating_mul(PAGE);
        // Only RAM changes; a case may name absurd ranges.
        for (first, len) in machine.ram().backed() {
            let part = (start - start % PAGE).max(first)..end.min(first + len);
            for gpa in part.step_by(PAGE as usize) {
                self.pages.entry(gpa).or_insert_with(|| {
                    let mut bytes = vec![0; PAGE as usize];
                    machine.truth(view_of(machine, gpa), gpa, &mut bytes);
                    bytes
                });
            }
        }
    }

    /// What a step offers to write.
    pub fn data_of(&self, id: &str) -> Option<&[u8]> {
        self.data.get(id).map(Vec::as_slice)
    }

    /// The change of memory at `gpa` that now holds `now`, given what a step wrote there.
    pub fn compare(&self, gpa: u64, now: &[u8], written: Option<&[u8]>) -> States {
        let before: Vec<u8> = (gpa..).take(now.len()).map(|at| self.byte(at)).collect();
        // What the write offered, and around it what was there.
        let meant = written.map(|bytes| {
            let len = bytes.len().min(before.len());
            [&bytes[..len], &before[len..]].concat()
        });
        memory_state(&before, now, meant.as_deref())
    }

    fn byte(&self, gpa: u64) -> u8 {
        let page = self.pages.get(&(gpa & !(PAGE - 1)));
        page.and_then(|page| page.get((gpa % PAGE) as usize)).copied().unwrap_or(0)
    }
}

/// The view the guest uses for a page.
fn view_of(machine: &Machine, gpa: u64) -> View {
    machine.memory().declared(gpa).unwrap_or(View::Private)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::class::MemoryState;

    fn baseline() -> Baseline {
        Baseline { pages: BTreeMap::from([(0x1000, vec![7; 4096])]), data: HashMap::new() }
    }

    #[test]
    fn changes_of_memory_are_distinguished() {
        let compare = |now: &[u8], written| baseline().compare(0x1010, now, written);
        let is = |state| States::of([state]);
        assert_eq!(compare(&[7; 8], None), is(MemoryState::Unchanged));
        assert_eq!(compare(&[1, 2, 7, 7], Some(&[1, 2])), is(MemoryState::Written));
        assert_eq!(compare(&[0; 8], Some(&[1, 2])), is(MemoryState::Zeroed));
        assert_eq!(compare(&[9, 2, 7, 7], Some(&[1, 2])), is(MemoryState::Corrupted));
    }
}
