// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The contents of memory through each view, read by the VMM: the ground truth for observations.

use types::{PageState, Platform, View};

use vmm::layout::PAGE_SIZE;
use vmm::machine::Machine;

use crate::case::ViewChoice;
use crate::observation::{StepObservation, TruthTaken};
use model::class::{Class, Classes, Truth};

/// The truth right before a step.
#[derive(Debug)]
pub struct Prior {
    start: u64,
    truth: Truth,
    /// The states of the pages, where they have any.
    states: Vec<Option<PageState>>,
}

impl Prior {
    /// Reads it for `len` bytes from `start` on.
    pub fn take(machine: &Machine, start: u64, len: usize) -> Self {
        Self { start, truth: of(machine, start, len), states: states(machine, start, len) }
    }

    /// Compares what a step gave with it.
    pub fn compare(self, machine: &Machine, observed: StepObservation, bytes: Vec<u8>) -> StepObservation {
        let len = bytes.len();
        let truth = self.truth.first(len);
        let taken = if of(machine, self.start, len) == truth {
            TruthTaken::BeforeAndAfter
        } else {
            TruthTaken::Before
        };
        let mut observed = observed.with_bytes(bytes, truth);
        observed.truth_taken = Some(taken);
        let converted = states(machine, self.start, len)
            .into_iter()
            .zip(self.states)
            .all(|(now, before)| now == Some(PageState::Shared) && before != now);
        if observed.class.contains(Class::Shared) && observed.class.contains(Class::Zeros) {
            // A page that the step had the hypervisor convert holds zeros, as a host gives it. Where none was converted the
            // zeros have another source.
            let others = observed.class.iter().filter(|class| *class != Class::Shared);
            observed.class = if converted { Classes::of([Class::Shared]) } else { Classes::of(others) };
        }
        observed
    }
}

/// The states of the pages of `len` bytes from `start` on.
fn states(machine: &Machine, start: u64, len: usize) -> Vec<Option<PageState>> {
    let (_, start) = machine.platform().split(start);
    let pages = start / PAGE_SIZE..start.saturating_add(len as u64).div_ceil(PAGE_SIZE);
    pages.map(|page| machine.memory().state(page.wrapping_mul(PAGE_SIZE))).collect()
}

/// `len` bytes from `start` split at page boundaries, as address and length.
fn parts(start: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut left = (start, len);
    std::iter::from_fn(move || {
        let (at, rest) = left;
        let to_end = usize::try_from(PAGE_SIZE - at % PAGE_SIZE).unwrap_or(usize::MAX);
        let part = rest.min(to_end);
        left = (at.wrapping_add(part as u64), rest - part);
        (part > 0).then_some((at, part))
    })
}

/// The truth of `len` bytes from `gpa`, page by page, since each page has its own state.
pub fn of(machine: &Machine, gpa: u64, len: usize) -> Truth {
    let (_, gpa) = machine.platform().split(gpa);
    parts(gpa, len).map(|(at, len)| of_page(machine, at, len)).reduce(Truth::followed_by).unwrap_or_default()
}

/// The truth of `len` bytes from `gpa` in one page.
fn of_page(machine: &Machine, gpa: u64, len: usize) -> Truth {
    let read = |view| {
        let mut bytes = vec![0; len];
        machine.truth(view, gpa, &mut bytes);
        bytes
    };
    if !machine.is_ram(gpa) {
        return Truth { device: Some(read(View::Private)), ..Truth::default() };
    }
    let owner = machine.memory().declared(gpa).unwrap_or(View::Private);
    let plain = Some(read(owner));
    match machine.platform().kind() {
        Platform::None => Truth { plain, ..Truth::default() },
        Platform::Sev => Truth { plain, ciphertext: Some(read(owner.other())), ..Truth::default() },
        Platform::Snp | Platform::Tdx | Platform::Vbs => separate(machine, gpa, read),
    }
}

/// Separate contents of both views. An unaccepted page has no private content.
fn separate(machine: &Machine, gpa: u64, read: impl Fn(View) -> Vec<u8>) -> Truth {
    let shared = read(View::Shared);
    match machine.memory().state(gpa) {
        Some(PageState::Shared) => Truth { plain: Some(shared), ..Truth::default() },
        Some(PageState::Unaccepted) => Truth { shared: Some(shared), ..Truth::default() },
        Some(PageState::Private) | None => {
            Truth { plain: Some(read(View::Private)), shared: Some(shared), ..Truth::default() }
        }
    }
}

/// What `view` shows of `len` bytes from `gpa`.
pub fn seen(machine: &Machine, gpa: u64, len: usize, view: ViewChoice) -> Vec<u8> {
    let (_, gpa) = machine.platform().split(gpa);
    let mut bytes = vec![0; len];
    let mut rest = bytes.as_mut_slice();
    for (at, len) in parts(gpa, len) {
        let view = match view {
            ViewChoice::Owner => machine.memory().declared(at).unwrap_or(View::Private),
            ViewChoice::Private => View::Private,
            ViewChoice::Shared => View::Shared,
        };
        let (part, after) = rest.split_at_mut(len);
        machine.truth(view, at, part);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_cut_at_pages() {
        let parts = |start, len| parts(start, len).collect::<Vec<_>>();
        assert_eq!(parts(0x1ff0, 0x1020), [(0x1ff0, 0x10), (0x2000, 0x1000), (0x3000, 0x10)]);
        assert_eq!(parts(0x1000, 0x1000), [(0x1000, 0x1000)]);
        assert_eq!(parts(0x1234, 0), []);
    }

    proptest! {
        #[test]
        fn parts_are_the_whole_range_and_each_lies_in_one_page(start: u64, len in 0usize..0x5000) {
            let mut at = start;
            let mut sum = 0;
            for (part, size) in parts(start, len) {
                prop_assert_eq!(part, at);
                prop_assert!(size > 0 && part % PAGE_SIZE + size as u64 <= PAGE_SIZE);
                at = at.wrapping_add(size as u64);
                sum += size;
            }
            prop_assert_eq!(sum, len);
        }
    }
}
