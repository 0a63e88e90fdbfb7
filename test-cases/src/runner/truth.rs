//! What memory holds at this moment, through each view: the ground truth observations are compared with.

use vmm::machine::Machine;
use vmm::memory::View as MemoryView;
use vmm::memory::protected::PageState;
use vmm::platform::PlatformKind;

use crate::case::View;
use crate::class::Truth;

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
