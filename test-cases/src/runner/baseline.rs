//! What memory held before a case, to tell what the case did to it, and to put it back for the next.

use std::collections::{BTreeMap, HashMap};

use vmm::machine::Machine;

use super::truth;
use crate::case::{Action, Case, View};
use crate::class::{States, memory_state};
use crate::region::PlacedRegion;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// The pages a case can change, and what its steps offer to write.
#[derive(Debug)]
pub struct Baseline {
    pages: BTreeMap<u64, Vec<u8>>,
    data: HashMap<String, Vec<u8>>,
}

impl Baseline {
    /// Copies every page a step of the case names.
    pub fn take(machine: &Machine, case: &Case, regions: &[PlacedRegion]) -> Self {
        let mut pages = BTreeMap::new();
        for step in &case.steps {
            let len = match &step.action {
                Action::Mmap { len, .. } | Action::Memory { len, .. } => *len,
                action => action.asks().unwrap_or(1),
            };
            let Some(start) = step.action.place().and_then(|place| place.resolve(regions)) else { continue };
            let (_, start) = machine.platform().split(start);
            // A case may name absurd ranges; only RAM can change, and a few pages are all a case writes.
            for page in (start / PAGE..).take(len.div_ceil(PAGE).saturating_add(1).min(64) as usize) {
                let gpa = page.wrapping_mul(PAGE);
                if machine.is_ram(gpa) {
                    pages.entry(gpa).or_insert_with(|| truth::seen(machine, gpa, PAGE as usize, View::Owner));
                }
            }
        }
        let data = case
            .steps
            .iter()
            .filter_map(|step| Some((step.id.clone(), step.action.data()?.to_vec())))
            .collect();
        Self { pages, data }
    }

    /// What a step offers to write.
    pub fn data_of(&self, id: &str) -> Option<&[u8]> {
        self.data.get(id).map(Vec::as_slice)
    }

    /// What became of memory at `gpa` that now holds `now`, given what a step wrote there.
    pub fn compare(&self, gpa: u64, now: &[u8], written: Option<&[u8]>) -> States {
        let before: Vec<u8> = (gpa..).take(now.len()).map(|at| self.byte(at)).collect();
        // What the write offered, and around it what was there.
        let meant = written.map(|bytes| {
            let len = bytes.len().min(before.len());
            [&bytes[..len], &before[len..]].concat()
        });
        memory_state(&before, now, meant.as_deref())
    }

    /// Puts the pages and firmware's memory back.
    pub fn restore(&self, machine: &mut Machine) {
        // Pages that mismatches converted come back first, or nothing could be written to them.
        let _ = machine.restore_firmware();
        for (gpa, page) in &self.pages {
            let changed = truth::seen(machine, *gpa, page.len(), View::Owner) != *page;
            if changed {
                // Pages come from RAM, so writing them back cannot fail.
                let _ = machine.memory().write(*gpa, page);
            }
        }
    }

    /// Puts back the pages the case names and what they hold, and the view they stand in on SEV.
    pub fn restore_named(&self, machine: &mut Machine) {
        let _ = machine.memory().undo_damage();
        for (gpa, page) in &self.pages {
            let owner = machine.memory().declared(*gpa).unwrap_or(vmm::memory::View::Private);
            // Pages come from RAM, so writing them back cannot fail.
            let _ = machine.memory().store(owner, *gpa, page);
        }
    }

    fn byte(&self, gpa: u64) -> u8 {
        let page = self.pages.get(&(gpa & !(PAGE - 1)));
        page.and_then(|bytes| bytes.get((gpa % PAGE) as usize)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::MemoryState;

    fn baseline() -> Baseline {
        Baseline { pages: BTreeMap::from([(0x1000, vec![7; 4096])]), data: HashMap::new() }
    }

    #[test]
    fn what_became_of_memory_is_told_apart() {
        let compare = |now: &[u8], written| baseline().compare(0x1010, now, written);
        let is = |state| States::of([state]);
        assert_eq!(compare(&[7; 8], None), is(MemoryState::Unchanged));
        assert_eq!(compare(&[1, 2, 7, 7], Some(&[1, 2])), is(MemoryState::Written));
        assert_eq!(compare(&[0; 8], Some(&[1, 2])), is(MemoryState::Zeroed));
        assert_eq!(compare(&[9, 2, 7, 7], Some(&[1, 2])), is(MemoryState::Corrupted));
    }
}
