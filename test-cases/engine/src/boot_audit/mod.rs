// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Boots a kernel in many layouts, and reports what no boot should show: forbidden accesses, warnings, deaths. Each finding is shrunk
//! to the layout with the fewest facts that still shows it.

mod finding;
mod log;
mod shrink;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use types::{Mode, Platform};

pub use self::finding::{Finding, FindingKind, Signature};
use self::workers::Guests;
use crate::boot::BootResult;
use crate::guest::{EngineError, Target};
use crate::layouts::NamedLayout;

/// One boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootPlan {
    /// What firmware gives the guest.
    #[serde(serialize_with = "named")]
    pub layout: NamedLayout,
    /// The platform.
    pub platform: Platform,
    /// Added to the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

/// A layout by its name and what it chooses.
fn named<S: serde::Serializer>(layout: &NamedLayout, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Named<'a> {
        name: &'a str,
        memory_mib: Option<u64>,
        differs: String,
    }
    let NamedLayout { name, memory_mib, layout, .. } = layout;
    Named { name, memory_mib: *memory_mib, differs: layout.to_string() }.serialize(serializer)
}

/// A boot that was done.
#[derive(Debug, Clone, Serialize)]
pub struct BootDone {
    /// Which.
    pub plan: BootPlan,
    /// Its forbidden accesses and its end, judged.
    pub result: BootResult,
    /// Lines of the kernel's log that report a fault of the kernel.
    pub complaints: Vec<String>,
    /// Why the boot says nothing about the kernel, where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inconclusive: Option<String>,
    /// From the start of the VMM's work to the agent's answer, or the end.
    pub seconds: f64,
}

/// What is to be booted.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All boots.
    pub boots: Vec<BootPlan>,
    /// Failures are shrunk.
    pub shrink: bool,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct BootAudit {
    /// Every boot, in the order of the plan.
    pub boots: Vec<BootDone>,
    /// What they showed, each once.
    pub findings: Vec<Finding>,
    /// Boots that shrinking took.
    pub shrinking_boots: usize,
    /// It was interrupted: boots are missing.
    pub interrupted: bool,
}

/// Receives what happens.
pub trait Watcher: Sync {
    /// A boot was done; `done` of `all` are.
    fn booted(&self, boot: &BootDone, done: usize, all: usize);
    /// A finding is shrunk, with this many boots until now.
    fn shrinking(&self, finding: &Finding, boots: usize);
}

/// Boots everything, in as many guests at once as the target allows.
pub fn audit(
    target: &Target,
    plan: &Plan,
    watcher: &dyn Watcher,
    interrupt: &Arc<AtomicBool>,
) -> Result<BootAudit, EngineError> {
    let platforms = plan.boots.iter().map(|boot| boot.platform);
    let guests = Guests::new(target, platforms, interrupt)?;
    let boots = guests.boot_all(&plan.boots, watcher);
    let mut findings = finding::collect(&boots);
    let mut shrinking_boots = 0;
    if plan.shrink {
        for finding in &mut findings {
            if interrupt.load(Ordering::Relaxed) {
                break;
            }
            shrinking_boots += shrink::shrink(finding, &guests, watcher);
        }
    }
    Ok(BootAudit { boots, findings, shrinking_boots, interrupted: interrupt.load(Ordering::Relaxed) })
}

/// The mode of all boots: one shows every access.
pub const MODE: Mode = Mode::Record;

#[cfg(test)]
mod tests;
