// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Converts facts of a machine to report types.

use std::time::Duration;

use protocol::Step;
use types::{BadCall, PlacedRegion, Region};
use vmm::boot::linux::UnservedModule;
use vmm::boot::opcode::Site;
use vmm::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};
use vmm::machine::Machine;
use vmm::trace::kernel::KernelNames;

use crate::observation::{RewrittenOpcode, Unaccepted};
use crate::session::{Ended, Session};

pub(crate) fn rewritten(site: &Site) -> RewrittenOpcode {
    RewrittenOpcode {
        address: site.address,
        was: site.opcode.name().to_owned(),
        code_hash: format!("{:016x}", site.hash),
    }
}

pub(crate) fn unserved(module: &UnservedModule) -> String {
    let names: Vec<&str> = module.opcodes.iter().map(|opcode| opcode.name()).collect();
    format!("{} ({})", module.path, names.join(", "))
}

pub(crate) fn bad_call(call: &vmm::trace::RecordedCall, names: Option<&KernelNames>) -> BadCall {
    BadCall {
        call: call.call.to_owned(),
        why: call.why.clone(),
        rip: call.rip,
        symbol: names.and_then(|names| names.name(call.rip)),
    }
}

/// The unaccepted memory that guest and VMM count at the same time.
pub(crate) fn unaccepted(session: &mut Session, limit: Duration) -> Result<Option<Unaccepted>, Ended> {
    let step = Step::ReadFile { path: b"/proc/meminfo", offset: 0, len: 8192 };
    let Some(text) = session.text(&step, limit)? else { return Ok(None) };
    let line = text.lines().find_map(|line| line.strip_prefix("Unaccepted:"));
    let guest_kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let vmm_kib = session.machine().memory().unaccepted() >> 10;
    Ok(guest_kib.map(|guest_kib| Unaccepted { guest_kib, vmm_kib }))
}

/// Kernel log lines that name the guest type.
pub(crate) fn names_guest_type(line: &str) -> bool {
    [
        "Memory Encryption Features",
        "SEV: Status",
        "SNP running",
        "tdx:",
        "Hypervisor detected",
        "Kernel is locked down",
    ]
    .iter()
    .any(|type_line| line.contains(type_line))
}

/// syslog(2) gives each line its level, `<6>`.
pub(crate) fn without_level(line: &str) -> String {
    let bare = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    bare.map_or(line, |(_, text)| text).trim_end().to_owned()
}

/// The regions of a guest.
pub(crate) fn placed(machine: &Machine) -> Vec<PlacedRegion> {
    let bits = machine.guest_physical_bits();
    let unaccepted = unaccepted_ram(machine).map(|gpa| PlacedRegion {
        region: Region::Unaccepted,
        gpa,
        len: LARGE_PAGE_SIZE,
        kind: "System RAM that was not accepted when the agent came up".into(),
    });
    vmm::region::regions(machine.ram(), machine.platform(), bits).into_iter().chain(unaccepted).collect()
}

/// The guest has not accepted any page of `unaccepted` until now; true where it has no such region.
pub(crate) fn is_still_unaccepted(machine: &Machine, regions: &[PlacedRegion]) -> bool {
    let pages = regions
        .iter()
        .filter(|placed| placed.region == Region::Unaccepted)
        .flat_map(|placed| (placed.gpa..placed.gpa + placed.len).step_by(PAGE_SIZE as usize));
    let unaccepted = Some(types::PageState::Unaccepted);
    pages.into_iter().all(|gpa| machine.memory().state(gpa) == unaccepted)
}

/// The middle one of all 2 MiB units that are not accepted: the guest takes them from the ends, and only when it must.
fn unaccepted_ram(machine: &Machine) -> Option<u64> {
    let units = |(start, len): (u64, u64)| {
        (start.next_multiple_of(LARGE_PAGE_SIZE)..start + len).step_by(LARGE_PAGE_SIZE as usize)
    };
    let is_unaccepted = |gpa: &u64| {
        let ends = [*gpa, gpa + LARGE_PAGE_SIZE - PAGE_SIZE];
        ends.iter().all(|gpa| machine.memory().state(*gpa) == Some(types::PageState::Unaccepted))
    };
    let found: Vec<u64> = machine.ram().backed().into_iter().flat_map(units).filter(is_unaccepted).collect();
    found.get(found.len() / 2).copied()
}
