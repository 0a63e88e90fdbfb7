// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses through a view that the page's state forbids, with what the vCPU executed.

pub mod backtrace;
pub mod code_page;
pub mod conversion;
pub mod event_log;
pub mod kernel;
pub mod log;
pub mod operand;
pub mod output;
pub mod printk;
pub mod task;

use std::fmt;

use types::{AccessKind, AccessTarget, DmaOrigin, VcpuId, View};

use self::backtrace::Backtrace;
use self::code_page::CodePage;
use self::operand::Operand;
use crate::memory::history::StateChange;

/// One forbidden access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAccess {
    /// Counts accesses up from 0 in one guest.
    pub number: u64,
    /// Accesses it covers: the same instruction made the same access this often in a row.
    pub count: u64,
    /// GPA of the page, without any encryption bit. Faults have page granularity.
    pub gpa: u64,
    /// View used.
    pub view: View,
    /// What the page is.
    pub state: AccessTarget,
    /// Load, store or fetch.
    pub kind: AccessKind,
    /// Which bytes of the page, where the instruction shows it.
    pub operand: Option<Operand>,
    /// The device that made it; `None` for the vCPU.
    pub device: Option<DmaOrigin>,
    /// Where the vCPU was.
    pub at: Option<Instruction>,
}

/// One change of a watched page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedChange {
    /// The page.
    pub gpa: u64,
    /// What happened.
    pub change: StateChange,
    /// By which instruction; `None` where the change came with an exit without one.
    pub at: Option<Instruction>,
}

/// A call to the platform's module, firmware or hypervisor that was malformed, or was made from where it must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCall {
    /// The vCPU that made it.
    pub vcpu: VcpuId,
    /// Name of the call.
    pub call: &'static str,
    /// What was wrong, and what the guest got.
    pub why: String,
    /// RIP.
    pub rip: u64,
}

impl fmt::Display for RecordedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at RIP {:#x}: {}", self.call, self.rip, self.why)
    }
}

/// The instruction that made an access, exact when the vCPU was stopped at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The vCPU that executes it.
    pub vcpu: VcpuId,
    /// RIP.
    pub rip: u64,
    /// Current privilege level.
    pub cpl: u8,
    /// Root of the page tables.
    pub cr3: u64,
    /// RSP.
    pub rsp: u64,
    /// The vCPU was stopped at this instruction; otherwise the access was made on its behalf near it.
    pub exact: bool,
    /// Name of the task, where the kernel's is known.
    pub task: Option<String>,
    /// The kernel functions on the stack, where the vCPU was in the kernel and its image is known.
    pub backtrace: Option<Backtrace>,
    /// Lines in the kernel's log that its console had not printed yet, where that is known.
    pub open_log_lines: Option<u64>,
    /// The page of code RIP is in, where the vCPU was in user mode and the page is in RAM.
    pub user_code: Option<CodePage>,
}

impl fmt::Display for RecordedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "GPA {:#x}: {} through the {} view, page is {}",
            self.gpa, self.kind, self.view, self.state
        )?;
        if let Some(device) = &self.device {
            write!(f, ", by {device}")?;
        }
        if let Some(at) = &self.at {
            let near = if at.exact { "" } else { " (near)" };
            write!(f, ", RIP {:#x}{near}, CPL {}", at.rip, at.cpl)?;
        }
        Ok(())
    }
}
