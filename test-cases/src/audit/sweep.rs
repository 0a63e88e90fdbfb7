//! Every page of the first MiB, and both ends of every range the guest or the VMM knows: looked at by the paths that go through
//! different functions of the kernel, and written to where that can be put back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm::boot::marker;
use vmm::layout::{HIGH_MEMORY, PAGE_SIZE};
use vmm::machine::Machine;
use vmm::memory::View;

use super::probe::{self, Spot};
use super::{Probed, writes};
use crate::case::Case;
use crate::engine::{self, Target};
use crate::explore::{GuestError, Kernel};
use crate::model::World;
use crate::model::iomem::Iomem;
use crate::observation::Answer;
use crate::region::PlacedRegion;
use crate::runner;
use crate::session::{Ended, Session};

/// Bytes looked at: two blocks of the memory cipher, so that a part of one shows.
pub(super) const LEN: u64 = 32;

/// What a sweep gave.
#[derive(Debug, Default)]
pub struct Swept {
    /// Each case with what it gave.
    pub probed: Vec<Probed>,
    /// Places looked at.
    pub looked_at: usize,
    /// Pages written to.
    pub written_to: usize,
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
    /// The guest ended under it.
    #[error("the guest ended while {case} ran, in step {step}: {ended}")]
    Ended {
        /// The case.
        case: String,
        /// Its step.
        step: String,
        /// How it ended.
        ended: Box<Ended>,
    },
    /// What a case changed could not be put back.
    #[error("the guest is not as it was before {case}, so what comes next would be no evidence: {why}")]
    Remains {
        /// The case.
        case: String,
        /// What remains.
        why: String,
    },
}

/// Sweeps a guest of its own.
pub fn sweep(target: &Target, interrupt: &Arc<AtomicBool>) -> Result<Swept, SweepError> {
    let kernel = Kernel::load(target)?.with_names();
    let mut booted = kernel.session(target, interrupt)?;
    let mut swept = Swept { world: kernel.world(target, &booted).ok(), ..Swept::default() };
    let regions = engine::placed(booted.session.machine());
    let mut run = |session: &mut Session, case: Case, spot_at: u64| -> Result<Option<Answer>, SweepError> {
        if swept.interrupted {
            return Ok(None);
        }
        let filled = fill(session.machine(), spot_at);
        let run = runner::run_case_on_named_pages(session, &case, &regions, target.limit);
        if filled {
            clear(session.machine(), spot_at);
        }
        match run.ended {
            Some(_) if interrupt.load(Ordering::Relaxed) => swept.interrupted = true,
            Some((ended, step)) => {
                return Err(SweepError::Ended { case: case.name, step, ended: Box::new(ended) });
            }
            None if run.observation.remains.is_some() => {
                let why = run.observation.remains.unwrap_or_default();
                return Err(SweepError::Remains { case: case.name, why });
            }
            None => {
                let answer = run.observation.step("open").map(|step| step.answer.clone());
                swept.probed.push(Probed { case, observed: run.observation });
                return Ok(answer);
            }
        }
        Ok(None)
    };
    let session = &mut booted.session;
    let places = places(session.machine(), &booted.iomem, &regions);
    let (mut looked_at, mut written_to) = (0, 0);
    for gpa in places {
        let Some(case) = probe::case_at(&Spot::at(gpa, LEN)) else { continue };
        // Where /dev/mem does not open, no page of it is to be had.
        if matches!(run(session, case, gpa)?, Some(Answer::Failed { .. })) {
            break;
        }
        looked_at += 1;
    }
    if looked_at > 0 {
        for gpa in last_bytes().filter(|gpa| session.machine().is_ram(*gpa)).collect::<Vec<_>>() {
            for case in writes::cases_at(&Spot::at(gpa, LEN)) {
                run(session, case, gpa)?;
            }
            written_to += 1;
        }
    }
    swept.looked_at = looked_at;
    swept.written_to = written_to;
    Ok(swept)
}

/// The last bytes of every page of the first MiB.
fn last_bytes() -> impl Iterator<Item = u64> {
    (0..HIGH_MEMORY).step_by(PAGE_SIZE as usize).map(|page| page + PAGE_SIZE - LEN)
}

/// Every address looked at, ascending.
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

/// Low RAM that the boot loader or the kernel left zero shows nothing; until it is cleared, it holds a marker. The kernel keeps
/// all of the first MiB reserved and uses none of it (`arch/x86/realmode/init.c:reserve_real_mode`), but for what is not zero.
fn fill(machine: &Machine, gpa: u64) -> bool {
    let mut bytes = [0; LEN as usize];
    let owner = machine.memory().declared(gpa).unwrap_or(View::Private);
    if gpa >= HIGH_MEMORY || !machine.is_ram(gpa) || owner != View::Private {
        return false;
    }
    machine.truth(owner, gpa, &mut bytes);
    if bytes.iter().any(|byte| *byte != 0) {
        return false;
    }
    marker::fill(marker::Tag::Private, gpa, &mut bytes);
    machine.memory().write(gpa, &bytes).is_ok()
}

fn clear(machine: &Machine, gpa: u64) {
    // What could be written before can be written again.
    let _ = machine.memory().write(gpa, &[0; LEN as usize]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_page_of_the_first_mib_is_looked_at_once() {
        let pages: BTreeSet<u64> = last_bytes().map(|gpa| gpa / PAGE_SIZE).collect();
        assert_eq!(pages, (0..256).collect());
    }

    proptest! {
        #[test]
        fn the_ends_of_a_range_hold_its_first_and_last_byte(first: u64, len in 0_u64..1 << 32) {
            let last = first.saturating_add(len);
            let looked: Vec<u64> = ends(std::iter::once((first, last))).collect();
            let sees = |byte: u64| {
                looked.iter().any(|gpa| {
                    let spot = Spot::at(*gpa, LEN);
                    *gpa <= byte && byte - gpa < spot.len
                })
            };
            prop_assert!(sees(first));
            prop_assert!(sees(last));
        }
    }
}
