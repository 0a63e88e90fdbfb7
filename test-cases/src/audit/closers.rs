//! Which policy of the thread would close a finding.

use super::finding::{Finding, Invariant};
use crate::platform::Platform;
use crate::policy::Policy;
use crate::region::Region;

/// Policies that shut off the path, or the memory, a finding is about. What a policy does is in `policy.rs` and in the
/// patches; that this table agrees with the kernels built with them is what `copra audit` on those kernels shows.
pub fn of(finding: &Finding, platform: Platform) -> Vec<Policy> {
    let applies = |policy: &Policy| platform.is_confidential() || !is_for_confidential_guests(*policy);
    Policy::ALL.iter().copied().filter(applies).filter(|policy| closes(*policy, finding)).collect()
}

/// Ordinary guests keep what they have.
const fn is_for_confidential_guests(policy: Policy) -> bool {
    matches!(policy, Policy::OpenEperm | Policy::RangeDeny | Policy::LockdownCc)
}

fn closes(policy: Policy, finding: &Finding) -> bool {
    let through_mem = !finding.regions.is_empty();
    let mapped =
        finding.paths.iter().all(|path| !matches!(path.as_str(), "pread" | "read" | "pread-rw" | "pwrite"));
    // RAM below 1 MiB, pages that are RAM in part included (`arch/x86/mm/init.c:devmem_is_allowed`).
    let low_ram =
        through_mem && finding.regions.iter().all(|region| matches!(region, Region::LowRam | Region::Ebda));
    match policy {
        Policy::Upstream => false,
        // `drivers/char/mem.c:open_port()` serves /dev/port as well.
        Policy::OpenEperm => through_mem || finding.paths == ["port"],
        Policy::LockdownCc => {
            through_mem || [["port"], ["map-resource"]].iter().any(|door| finding.paths == door)
        }
        Policy::LockdownAll => {
            let doors = [["port"], ["map-resource"], ["ioperm"], ["iopl"]];
            through_mem || doors.iter().any(|door| finding.paths == door)
        }
        Policy::NoDevmem | Policy::RangeDeny => through_mem,
        Policy::NoLow1m => low_ram,
        Policy::MmapZeros => low_ram && mapped && finding.invariant != Invariant::NothingLost,
    }
}
