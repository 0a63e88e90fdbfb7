//! Accesses that met memory through a view the page's state forbids, with what the vCPU was doing.

pub mod backtrace;
pub mod kernel;
pub mod operand;
pub mod task;

use std::fmt;

use crate::memory::{AccessKind, View};

/// One such access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessEvent {
    /// Counts up from 0 in one guest.
    pub number: u64,
    /// GPA of the page, without any encryption bit. Faults have page granularity.
    pub gpa: u64,
    /// View used.
    pub view: View,
    /// What the page is.
    pub state: PageView,
    /// Load, store or fetch.
    pub kind: AccessKind,
    /// Where the vCPU was.
    pub at: Option<Instruction>,
}

/// What stands at the page touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageView {
    /// RAM the guest claims to use through this view.
    Memory(View),
    /// No RAM: a device answers.
    Device,
}

impl fmt::Display for PageView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(view) => write!(f, "{view}"),
            Self::Device => f.write_str("device"),
        }
    }
}

/// The instruction that touched, exact when the vCPU was stopped at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// RIP.
    pub rip: u64,
    /// Current privilege level.
    pub cpl: u8,
    /// Root of the page tables.
    pub cr3: u64,
    /// RSP.
    pub rsp: u64,
    /// The vCPU stood at this very instruction; otherwise a host-side access while it was there.
    pub exact: bool,
}

impl fmt::Display for AccessEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "GPA {:#x}: {} through the {} view, page is {}",
            self.gpa, self.kind, self.view, self.state
        )?;
        if let Some(at) = &self.at {
            let near = if at.exact { "" } else { " (near)" };
            write!(f, ", RIP {:#x}{near}, CPL {}", at.rip, at.cpl)?;
        }
        Ok(())
    }
}
