// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counters of a run.

use crate::memory::MemoryCounters;

/// Exits by kind, and what enforcement did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Exits to user space, all kinds.
    pub exits: u64,
    /// Port I/O exits.
    pub port_io: u64,
    /// Device memory exits.
    pub mmio: u64,
    /// MSR exits.
    pub msr: u64,
    /// Hypercalls.
    pub hypercalls: u64,
    /// Calls to the platform's module, firmware or hypervisor: rewritten instructions executed, hypercall pages called.
    pub calls: u64,
    /// Exceptions delivered for accesses that did not complete.
    pub exceptions: u64,
    /// Stops at an instruction that accessed a forbidden page.
    pub memory_faults: u64,
    /// Heartbeats and other signals.
    pub interruptions: u64,
    /// Port writes that needed no exit of their own.
    pub coalesced: u64,
    /// Forbidden accesses, kept or not, withdrawn or not.
    pub accesses: u64,
    /// Forbidden accesses beyond the limit of the log: counted, not kept.
    pub events_not_kept: u64,
    /// Page moves and faults.
    pub memory: MemoryCounters,
}
