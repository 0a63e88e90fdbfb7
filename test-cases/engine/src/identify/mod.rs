// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which policy a kernel follows, determined from its behaviour alone: the same few steps as a confidential and as an ordinary
//! guest, and a table of what only one policy answers.

use serde::Serialize;

use types::{Errno, Policy, Region};
use vmm::layout::PAGE_SIZE;

use crate::audit::doors;
use crate::case::{Action, Case, Share, Step, UserBuffer};
use crate::observation::{Answer, StepObservation};
use crate::place::Place;
use crate::report::Report;
use model::class::Class;

/// The case whose steps distinguish the policies. `LOCKDOWN_PCI_ACCESS` applies to the PCI resource file only.
pub fn case() -> Case {
    let low = Place::in_region(Region::LowRam, 0);
    // The region begins with a structure; markers follow it.
    let rom = Place::in_region(Region::Rom, 0x100);
    let pread =
        |id, at| Step::new(id, Action::Pread { fd: "mem".to_owned(), at, len: 64, buffer: UserBuffer::Good });
    let steps = vec![
        Step::open("open", "/dev/mem", libc::O_RDONLY, "mem"),
        Step::open("port", "/dev/port", libc::O_RDONLY, "port"),
        pread("read-rom", rom),
        pread("read-low", low),
        Step::map_to_read("map-low", "mem", low, PAGE_SIZE, Share::Shared, "low"),
        Step::peek("load-low", "low", 0, 64),
        Step::open("resource", doors::RESOURCE, libc::O_RDWR, "resource"),
        doors::map_resource(),
    ];
    let why = "Each policy of the thread answers at least one of these steps as no other does.";
    Case { steps, ..Case::new("identify", "What tells one policy from another", why) }
}

/// The result of a step, as far as it distinguishes policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepResult {
    /// It succeeded.
    Ok,
    /// It failed with EPERM or EACCES.
    Denied,
    /// The file or device does not exist.
    Absent,
    /// It succeeded and returned zeros where memory holds other data.
    Zeros,
    /// It could not be tried.
    Nothing,
}

/// One kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The policy; `upstream` if it follows none of the patched policies.
    pub policy: Policy,
    /// The observations that show it.
    pub because: Vec<String>,
}

/// Reads the policy off the same kernel as a confidential guest and as an ordinary one; `None` if the steps fit no policy.
pub fn identify(confidential: &Report, ordinary: &Report) -> Option<Identity> {
    let (there, here) = (Guest::of(confidential)?, Guest::of(ordinary)?);
    let identity = |policy, steps: &[(&Guest<'_>, &str)]| {
        let because = steps.iter().filter_map(|(guest, id)| guest.line(id)).collect();
        Some(Identity { policy, because })
    };
    let (open, plain_open) = (there.result("open"), here.result("open"));
    match (open, plain_open) {
        (StepResult::Absent, StepResult::Absent) => {
            identity(Policy::NoDevmem, &[(&there, "open"), (&here, "open")])
        }
        (StepResult::Denied, StepResult::Denied) => {
            identity(Policy::LockdownAll, &[(&there, "open"), (&here, "open")])
        }
        (StepResult::Denied, StepResult::Ok) if there.result("map-resource") == StepResult::Denied => {
            identity(
                Policy::LockdownCc,
                &[(&there, "open"), (&there, "map-resource"), (&here, "open"), (&here, "map-resource")],
            )
        }
        (StepResult::Denied, StepResult::Ok) => identity(
            Policy::OpenEperm,
            &[(&there, "open"), (&there, "port"), (&there, "map-resource"), (&here, "open")],
        ),
        (StepResult::Ok, StepResult::Ok) => {
            match (there.result("read-rom"), here.result("read-low"), here.result("load-low")) {
                (StepResult::Denied, ..) if here.result("read-rom") == StepResult::Ok => identity(
                    Policy::RangeDeny,
                    &[(&there, "open"), (&there, "read-rom"), (&here, "read-rom")],
                ),
                (_, StepResult::Denied, _) => {
                    identity(Policy::NoLow1m, &[(&here, "read-rom"), (&here, "read-low"), (&here, "map-low")])
                }
                (_, _, StepResult::Zeros) => {
                    identity(Policy::MmapZeros, &[(&here, "read-low"), (&here, "load-low")])
                }
                (StepResult::Ok, ..) => identity(
                    Policy::Upstream,
                    &[(&there, "open"), (&there, "read-rom"), (&here, "read-low"), (&here, "load-low")],
                ),
                _ => None,
            }
        }
        _ => None,
    }
}

struct Guest<'a> {
    report: &'a Report,
    steps: &'a [StepObservation],
}

impl<'a> Guest<'a> {
    fn of(report: &'a Report) -> Option<Self> {
        let result = report.cases.first().filter(|result| result.observed.not_run.is_none())?;
        Some(Self { report, steps: &result.observed.steps })
    }

    fn result(&self, id: &str) -> StepResult {
        let Some(step) = self.steps.iter().find(|step| step.step == id) else { return StepResult::Nothing };
        match &step.answer {
            Answer::Failed { errno } if errno.is_refusal() => StepResult::Denied,
            Answer::Failed { errno } if [Errno::ENOENT, Errno::ENXIO, Errno::ENODEV].contains(errno) => {
                StepResult::Absent
            }
            Answer::Returned { .. } if step.class.contains(Class::Zeros) => StepResult::Zeros,
            Answer::Returned { .. } => StepResult::Ok,
            _ => StepResult::Nothing,
        }
    }

    fn line(&self, id: &str) -> Option<String> {
        let case = &self.report.cases.first()?.case;
        let (step, observed) = (case.step(id)?, self.steps.iter().find(|step| step.step == id)?);
        let platform = self.report.platform.platform;
        Some(format!("{platform}: {}  → {}", step.action, crate::judge::describe(step, observed)))
    }
}

#[cfg(test)]
mod tests;
