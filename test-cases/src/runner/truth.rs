//! What memory holds at this moment, through each view: the ground truth observations are compared with.

use vmm::layout::PAGE_SIZE;
use vmm::machine::Machine;
use vmm::memory::View as MemoryView;
use vmm::memory::protected::PageState;
use vmm::platform::PlatformKind;

use crate::case::View;
use crate::class::{Class, Classes, Truth};
use crate::observation::{StepObservation, TruthTaken};

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
            // zeros come from somewhere else.
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

/// The truth behind `len` bytes from `gpa`.
pub fn of(machine: &Machine, gpa: u64, len: usize) -> Truth {
    let (_, gpa) = machine.platform().split(gpa);
    let read = |view| {
        let mut bytes = vec![0; len];
        machine.truth(view, gpa, &mut bytes);
        bytes
    };
    if !machine.is_ram(gpa) {
        return Truth { device: Some(read(MemoryView::Private)), ..Truth::default() };
    }
    let owner = machine.memory().declared(gpa).unwrap_or(MemoryView::Private);
    let plain = Some(read(owner));
    match machine.platform().kind() {
        PlatformKind::None => Truth { plain, ..Truth::default() },
        PlatformKind::Sev => Truth { plain, ciphertext: Some(read(owner.other())), ..Truth::default() },
        PlatformKind::Snp | PlatformKind::Tdx | PlatformKind::Vbs => separate(machine, gpa, read),
    }
}

/// Two contents: the owner's, and what the shared view has of its own. A page nobody has accepted has no owner.
fn separate(machine: &Machine, gpa: u64, read: impl Fn(MemoryView) -> Vec<u8>) -> Truth {
    let shared = read(MemoryView::Shared);
    match machine.memory().state(gpa) {
        Some(PageState::Shared) => Truth { plain: Some(shared), ..Truth::default() },
        Some(PageState::Unaccepted) => Truth { shared: Some(shared), ..Truth::default() },
        Some(PageState::Private) | None => {
            Truth { plain: Some(read(MemoryView::Private)), shared: Some(shared), ..Truth::default() }
        }
    }
}

/// What `view` shows of `len` bytes from `gpa`.
pub fn seen(machine: &Machine, gpa: u64, len: usize, view: View) -> Vec<u8> {
    let (_, gpa) = machine.platform().split(gpa);
    let view = match view {
        View::Owner => machine.memory().declared(gpa).unwrap_or(MemoryView::Private),
        View::Private => MemoryView::Private,
        View::Shared => MemoryView::Shared,
    };
    let mut bytes = vec![0; len];
    machine.truth(view, gpa, &mut bytes);
    bytes
}
