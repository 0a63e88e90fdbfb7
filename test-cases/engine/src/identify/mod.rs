// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which policy a kernel follows, told from what it does alone: the same few steps as a confidential and as an ordinary
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

/// The case whose steps tell policies apart. A PCI resource file is what `LOCKDOWN_PCI_ACCESS` governs and nothing else here.
pub fn case() -> Case {
    let low = Place::in_region(Region::LowRam, 0);
    // The region begins with a structure; markers stand behind it.
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

/// What a step told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It went through.
    Ok,
    /// It was refused with an errno that says "not permitted".
    Denied,
    /// The thing is not there.
    Absent,
    /// It went through and gave zeros where memory holds something else.
    Zeros,
    /// Nothing: it could not be tried.
    Nothing,
}

/// One kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The policy; `upstream` says that it follows none of the thread's.
    pub policy: Policy,
    /// The observations that say so.
    pub because: Vec<String>,
}

/// Reads the policy off the same kernel as a confidential guest and as an ordinary one; `None` if the steps fit no policy.
pub fn identify(confidential: &Report, ordinary: &Report) -> Option<Identity> {
    let (there, here) = (Guest::of(confidential)?, Guest::of(ordinary)?);
    let told = |policy, steps: &[(&Guest<'_>, &str)]| {
        let because = steps.iter().filter_map(|(guest, id)| guest.line(id)).collect();
        Some(Identity { policy, because })
    };
    let (open, plain_open) = (there.told("open"), here.told("open"));
    match (open, plain_open) {
        (Told::Absent, Told::Absent) => told(Policy::NoDevmem, &[(&there, "open"), (&here, "open")]),
        (Told::Denied, Told::Denied) => told(Policy::LockdownAll, &[(&there, "open"), (&here, "open")]),
        (Told::Denied, Told::Ok) if there.told("map-resource") == Told::Denied => told(
            Policy::LockdownCc,
            &[(&there, "open"), (&there, "map-resource"), (&here, "open"), (&here, "map-resource")],
        ),
        (Told::Denied, Told::Ok) => told(
            Policy::OpenEperm,
            &[(&there, "open"), (&there, "port"), (&there, "map-resource"), (&here, "open")],
        ),
        (Told::Ok, Told::Ok) => {
            match (there.told("read-rom"), here.told("read-low"), here.told("load-low")) {
                (Told::Denied, ..) if here.told("read-rom") == Told::Ok => {
                    told(Policy::RangeDeny, &[(&there, "open"), (&there, "read-rom"), (&here, "read-rom")])
                }
                (_, Told::Denied, _) => {
                    told(Policy::NoLow1m, &[(&here, "read-rom"), (&here, "read-low"), (&here, "map-low")])
                }
                (_, _, Told::Zeros) => told(Policy::MmapZeros, &[(&here, "read-low"), (&here, "load-low")]),
                (Told::Ok, ..) => told(
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

    fn told(&self, id: &str) -> Told {
        let Some(step) = self.steps.iter().find(|step| step.step == id) else { return Told::Nothing };
        match &step.answer {
            Answer::Failed { errno } if errno.is_refusal() => Told::Denied,
            Answer::Failed { errno } if [Errno::ENOENT, Errno::ENXIO, Errno::ENODEV].contains(errno) => {
                Told::Absent
            }
            Answer::Returned { .. } if step.class.contains(Class::Zeros) => Told::Zeros,
            Answer::Returned { .. } => Told::Ok,
            _ => Told::Nothing,
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
