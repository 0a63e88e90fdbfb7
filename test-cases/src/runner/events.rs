//! The VMM's events, in the words of observations: with names of code and places.

use vmm::audit::backtrace::Method;
use vmm::audit::kernel::KernelNames;
use vmm::memory::{AccessKind, View};

use crate::case::EventKind;
use crate::observation::{AccessEvent, PageChange};
use crate::region::PlacedRegion;
use crate::session::Session;

/// The events from the `seen`-th on.
pub fn since(session: &Session, seen: usize, regions: &[PlacedRegion]) -> Vec<AccessEvent> {
    // Some may have been withdrawn meanwhile.
    let events = session.machine().events();
    events[seen.min(events.len())..].iter().map(|event| of(event, session.names(), regions)).collect()
}

/// What became of the watched page from the `seen`-th change on.
pub fn changes_since(session: &Session, seen: usize) -> Vec<PageChange> {
    let names = session.names();
    let of = |change: &vmm::audit::Change| {
        let at = change.at.as_ref();
        let trace = at.and_then(|at| at.backtrace.as_ref());
        PageChange {
            what: change.change.to_string(),
            symbol: at.map(|at| {
                let name = names.filter(|_| at.cpl == 0).and_then(|names| names.name(at.rip));
                name.unwrap_or_else(|| format!("{:#x}, CPL {}", at.rip, at.cpl))
            }),
            task: at.and_then(|at| at.task.clone()),
            backtrace: trace.zip(names).map(|(trace, names)| names.frames(trace)).unwrap_or_default(),
        }
    };
    session.machine().history()[seen..].iter().map(of).collect()
}

/// One event.
pub fn of(
    event: &vmm::audit::AccessEvent,
    names: Option<&KernelNames>,
    regions: &[PlacedRegion],
) -> AccessEvent {
    let kind = match (event.view, event.kind) {
        (View::Shared, AccessKind::Read) => EventKind::SharedRead,
        (View::Shared, AccessKind::Write) => EventKind::SharedWrite,
        (View::Shared, AccessKind::Fetch) => EventKind::SharedFetch,
        (View::Private, AccessKind::Read) => EventKind::PrivateRead,
        (View::Private, AccessKind::Write) => EventKind::PrivateWrite,
        (View::Private, AccessKind::Fetch) => EventKind::PrivateFetch,
    };
    let gpa = event.gpa + event.operand.map_or(0, |operand| operand.offset);
    let trace = event.at.as_ref().and_then(|at| at.backtrace.as_ref());
    let in_kernel = event.at.as_ref().filter(|at| at.cpl == 0);
    AccessEvent {
        kind,
        gpa,
        len: event.operand.map(|operand| operand.len as u64).filter(|len| *len > 0),
        region: region(gpa, regions),
        state: event.state.to_string(),
        rip: event.at.as_ref().map_or(0, |at| at.rip),
        symbol: in_kernel.zip(names).and_then(|(at, names)| names.name(at.rip)),
        cpl: event.at.as_ref().map_or(0, |at| at.cpl),
        task: event.at.as_ref().and_then(|at| at.task.clone()),
        backtrace: trace.zip(names).map(|(trace, names)| names.frames(trace)).unwrap_or_default(),
        unwound_by: trace.map(|trace| match trace.method {
            Method::Orc => "orc",
            Method::StackScan => "stack-scan",
            Method::OrcThenScan => "orc-then-scan",
        }),
    }
}

/// The smallest region around an address.
fn region(gpa: u64, regions: &[PlacedRegion]) -> Option<crate::region::Region> {
    regions
        .iter()
        .filter(|placed| gpa.checked_sub(placed.gpa).is_some_and(|offset| offset < placed.len))
        .min_by_key(|placed| placed.len)
        .map(|placed| placed.region)
}
