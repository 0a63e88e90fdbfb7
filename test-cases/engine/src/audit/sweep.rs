// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every page of the first MiB, and both ends of every range in the guest's or the VMM's memory map: read by the paths that go through
//! different functions of the kernel, and written to.

mod batch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use types::{PlacedRegion, View};
use vmm::layout::{HIGH_MEMORY, PAGE_SIZE};
use vmm::machine::Machine;
use vmm::memory::MemoryError;
use vmm::snapshot::SnapshotError;

use self::batch::{Access, Path, Place, Sweeper};
use super::probe::Spot;
use super::writes::Way;
use super::{Probed, Subject, incomplete, writes};
use crate::explore::{GuestError, Kernel};
use crate::guest::{self, Target};
use crate::observation::{Answer, CaseObservation};
use crate::session::Ended;
use model::World;
use model::iomem::Iomem;

/// Bytes read and written: a block of the memory cipher.
pub(super) const LEN: u64 = writes::DATA.len() as u64;

/// What a sweep gave.
#[derive(Debug, Default)]
pub struct Swept {
    /// Each case with what it gave.
    pub probed: Vec<Probed>,
    /// Places read by every path.
    pub looked_at: usize,
    /// Pages written to in every way.
    pub written_to: usize,
    /// Steps without an answer: place, step and reason.
    pub unanswered: Vec<String>,
    /// The guest's model, where the kernel's configuration is known.
    pub world: Option<World>,
    /// It was interrupted.
    pub interrupted: bool,
}

/// Why a sweep gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// No guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The guest could not be restored after a batch, so that nothing after it would mean anything.
    #[error(
        "the guest could not be restored after {path} of the pages from {first:#x} on: {source}; run the audit again"
    )]
    Snapshot {
        /// The path, by its step.
        path: &'static str,
        /// The first page of the batch.
        first: u64,
        /// Why.
        source: SnapshotError,
    },
    /// Pages could not be filled before a batch.
    #[error(
        "memory could not be filled for {path} of the pages from {first:#x} on: {source}; run the audit again"
    )]
    Memory {
        /// The path, by its step.
        path: &'static str,
        /// The first page of the batch.
        first: u64,
        /// Why.
        source: MemoryError,
    },
    /// The guest ended under it.
    #[error("the guest ended during {path} of the pages from {first:#x} on: {ended}")]
    Ended {
        /// The path, by its step.
        path: &'static str,
        /// The first page of the batch.
        first: u64,
        /// How it ended.
        ended: Box<Ended>,
    },
}

/// The paths of [`probe::SWEPT`].
const READS: [Path; 5] = {
    const fn mapped(id: &'static str, map: (&'static str, &'static str, i32), access: Access) -> Path {
        Path { open: "open", flags: libc::O_RDONLY, map: Some(map), id, access }
    }
    const SHARED: (&str, &str, i32) = ("map-shared", "shared", libc::MAP_SHARED);
    const PRIVATE: (&str, &str, i32) = ("map-private", "private", libc::MAP_PRIVATE);
    const SYNC: (&str, &str, i32) = ("map-sync", "sync", libc::MAP_SHARED);
    [
        Path { open: "open", flags: libc::O_RDONLY, map: None, id: "pread", access: Access::Pread },
        mapped("load-shared", SHARED, Access::Load),
        mapped("load-private", PRIVATE, Access::Load),
        Path {
            open: "open-sync",
            flags: libc::O_RDWR | libc::O_SYNC,
            ..mapped("load-sync", SYNC, Access::Load)
        },
        mapped("self-mem", SHARED, Access::SelfMemRead),
    ]
};

/// The paths of [`Way::ALL`].
const WRITES: [Path; 3] = {
    const fn way(id: &'static str, map: Option<(&'static str, &'static str, i32)>, access: Access) -> Path {
        Path { open: "open", flags: libc::O_RDWR, map, id, access }
    }
    const PAGE: Option<(&str, &str, i32)> = Some(("map", "page", libc::MAP_SHARED));
    [
        way("pwrite", None, Access::Pwrite),
        way("poke", PAGE, Access::Store),
        way("self-mem-write", PAGE, Access::SelfMemWrite),
    ]
};

/// Sweeps a guest.
pub fn sweep(target: &Target, interrupt: &Arc<AtomicBool>) -> Result<Swept, SweepError> {
    let kernel = Kernel::new(target)?.with_names();
    let mut booted = kernel.session(target, interrupt)?;
    let world = kernel.world(target, &booted).ok();
    let machine = booted.session.machine();
    let regions = guest::placed(machine);
    let addresses: Vec<u64> = places(machine, &booted.iomem, &regions).into_iter().collect();
    let written_to: Vec<u64> = last_bytes().filter(|gpa| machine.is_ram(*gpa)).collect();
    let mut swept = Swept { world, ..Swept::default() };
    let mut sweeper = Sweeper {
        session: &mut booted.session,
        saved: &booted.saved,
        regions: &regions,
        limit: target.limit,
        interrupt,
    };
    let mut places = unread_places(&addresses);
    for path in READS {
        swept.interrupted |= !sweeper.go(path, &mut places)?;
        let opened = places.iter().any(Place::has_opened);
        if swept.interrupted || !opened {
            // Without an open /dev/mem no page can be read.
            swept.unanswered.extend(places.iter().flat_map(Place::unanswered));
            return Ok(swept);
        }
    }
    for place in places {
        let unanswered = place.unanswered();
        swept.looked_at += usize::from(unanswered.is_empty());
        swept.unanswered.extend(unanswered);
        swept.probed.push(place.probed(Subject::Read(Spot::at(place.gpa, LEN))));
    }
    let mut not_written: BTreeSet<u64> = BTreeSet::new();
    for (way, path) in Way::ALL.into_iter().zip(WRITES) {
        let mut places = unread_places(&written_to);
        swept.interrupted |= !sweeper.go(path, &mut places)?;
        if swept.interrupted {
            return Ok(swept);
        }
        for place in places {
            let unanswered = place.unanswered();
            not_written.extend((!unanswered.is_empty()).then_some(place.gpa));
            swept.unanswered.extend(unanswered);
            swept.probed.push(place.probed(Subject::Write(Spot::at(place.gpa, LEN), way)));
        }
    }
    swept.written_to = written_to.len() - not_written.len();
    Ok(swept)
}

fn unread_places(places: &[u64]) -> Vec<Place> {
    places.iter().map(|gpa| Place { gpa: *gpa, steps: Vec::new() }).collect()
}

impl Place {
    fn has_opened(&self) -> bool {
        self.steps.first().is_some_and(|step| matches!(step.answer, Answer::Returned { .. }))
    }

    fn unanswered(&self) -> Vec<String> {
        incomplete::unanswered(&format!("{:#x}", self.gpa), &self.steps)
    }

    fn probed(&self, subject: Subject) -> Probed {
        let observed = CaseObservation { steps: self.steps.clone(), ..CaseObservation::default() };
        Probed { subject, case: subject.case(), observed }
    }
}

/// The last bytes of every page of the first MiB.
fn last_bytes() -> impl Iterator<Item = u64> {
    (0..HIGH_MEMORY).step_by(PAGE_SIZE as usize).map(|page| page + PAGE_SIZE - LEN)
}

/// Every address to read, ascending.
fn places(machine: &Machine, iomem: &Iomem, regions: &[PlacedRegion]) -> BTreeSet<u64> {
    let ram = machine.ram();
    let resources = iomem.resources().iter().map(|resource| (resource.start, resource.end));
    let firmware = ram.e820().into_iter().map(|entry| (entry.start, entry.len)).chain(ram.backed());
    let named = regions.iter().map(|placed| (placed.gpa, placed.len));
    let sized = firmware.chain(named).map(|(start, len)| (start, start.saturating_add(len.max(1) - 1)));
    last_bytes().chain(ends(resources.chain(sized))).collect()
}

/// The first bytes and the last bytes of each range of first and last address.
fn ends(ranges: impl Iterator<Item = (u64, u64)>) -> impl Iterator<Item = u64> {
    ranges.flat_map(|(first, last)| {
        let page = last & !(PAGE_SIZE - 1);
        [first, last.saturating_sub(LEN - 1).max(page).max(first)]
    })
}

/// Low RAM that the boot loader or the kernel left zero shows nothing; it holds a marker until the guest is restored. The kernel keeps
/// all of the first MiB reserved and uses none of it (`arch/x86/realmode/init.c:reserve_real_mode`), but for what is not zero.
fn fill(machine: &Machine, gpa: u64) -> Result<(), MemoryError> {
    let mut bytes = [0; LEN as usize];
    let owner = machine.memory().declared(gpa).unwrap_or(View::Private);
    if gpa >= HIGH_MEMORY || !machine.is_ram(gpa) || owner != View::Private {
        return Ok(());
    }
    machine.truth(owner, gpa, &mut bytes);
    if bytes.iter().all(|byte| *byte == 0) {
        vmm::marker::fill(vmm::marker::Tag::Private, gpa, &mut bytes);
        machine.memory().write(gpa, &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::probe;
    use super::*;
    use crate::observation::StepObservation;

    #[test]
    fn the_paths_are_those_of_the_cases() {
        let ids = |paths: &[Path]| paths.iter().map(|path| path.id).collect::<Vec<_>>();
        assert_eq!(ids(&READS), probe::SWEPT);
        let spot = Spot::at(0xf_ffe0, LEN);
        let look = probe::case_at(&spot);
        for path in READS {
            let steps = [Some(path.open), path.map.map(|map| map.0), Some(path.id)];
            assert!(steps.into_iter().flatten().all(|id| look.step(id).is_some()), "{}", path.id);
            if let Some((id, handle, _)) = path.map {
                assert_eq!(look.step(id).unwrap().action.obtains(), Some(handle));
            }
        }
        for (path, way) in WRITES.into_iter().zip(Way::ALL) {
            let case = Subject::Write(spot, way).case();
            assert!(case.step(path.id).is_some(), "{} is not the way of {}", path.id, case.name);
            assert_eq!(case.step(path.id).unwrap().action.data(), Some(&writes::DATA[..]));
        }
    }

    #[test]
    fn a_place_without_an_answer_is_reported() {
        let answer = |step: &str, answer| StepObservation::new(step, answer);
        let steps = vec![
            answer("open", Answer::Returned { value: 3 }),
            answer("pread", Answer::NotRun { reason: "the agent stopped before it".into() }),
        ];
        let place = Place { gpa: 0x1ff0, steps };
        assert_eq!(place.unanswered(), ["0x1ff0#pread: the agent stopped before it"]);
        assert!(Place { gpa: 0x1ff0, steps: place.steps[..1].to_vec() }.unanswered().is_empty());
    }

    #[test]
    fn every_page_of_the_first_mib_is_read_once() {
        let pages: BTreeSet<u64> = last_bytes().map(|gpa| gpa / PAGE_SIZE).collect();
        assert_eq!(pages, (0..256).collect());
    }

    proptest! {
        #[test]
        fn the_ends_of_a_range_hold_its_first_and_last_byte(first: u64, len in 0_u64..1 << 32) {
            let last = first.saturating_add(len);
            let read: Vec<u64> = ends(std::iter::once((first, last))).collect();
            let sees = |byte: u64| {
                read.iter().any(|gpa| {
                    let spot = Spot::at(*gpa, LEN);
                    *gpa <= byte && byte - gpa < spot.len
                })
            };
            prop_assert!(sees(first));
            prop_assert!(sees(last));
        }
    }
}
