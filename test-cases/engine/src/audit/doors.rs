// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Other interfaces to the memory and ports that /dev/mem exposes, and those that must keep working: one case.

use types::Region;
use vmm::layout::PAGE_SIZE;

use super::probe::of_audit;
use crate::case::{Action, Case, Expected, Share, Step, UserBuffer};
use crate::place::Place;

/// The case's name.
pub const NAME: &str = "audit/side-doors";
/// The resource file of the PCI BAR that no driver claims.
pub(crate) const RESOURCE: &str = "/sys/bus/pci/devices/0000:00:01.0/resource0";
/// The port that [`ioperm`] requests: the diagnostic port, which any kernel ignores.
const PORT: u16 = 0x80;

/// The case with every step.
pub fn case() -> Case {
    let title = "Side doors, and what must keep working";
    let why = "What is refused on /dev/mem may be had elsewhere; SMBIOS tables must stay readable.";
    Case { why: why.to_owned(), steps: steps(), ..of_audit(NAME, title) }
}

/// The case with some of the steps; the last is expected to give `expected`.
pub fn some(ids: &[&str], title: &str, expected: &Expected) -> Case {
    let mut case = of_audit(NAME, title);
    case.steps = steps().into_iter().filter(|step| ids.contains(&step.id.as_str())).collect();
    match ids.last() {
        Some(id) => case.expecting(id, expected),
        None => case,
    }
}

/// ioperm(2) of one port.
pub(crate) fn ioperm() -> Step {
    Step::new("ioperm", Action::Ioperm { port: PORT, count: 1, on: true })
}

/// iopl(2) of all ports.
pub(crate) fn iopl() -> Step {
    Step::new("iopl", Action::Iopl { level: 3 })
}

/// Reads the SMBIOS structure table and its entry point from sysfs (`drivers/firmware/dmi_scan.c:dmi_init`).
pub(crate) fn dmi() -> [Step; 2] {
    let read = |id, name, len| {
        Step::new(id, Action::ReadFile { path: format!("/sys/firmware/dmi/tables/{name}"), len })
    };
    [read("dmi", "DMI", 64), read("dmi-entry", "smbios_entry_point", 16)]
}

/// Maps the first page of an open resource file.
pub(crate) fn map_resource() -> Step {
    Step::map_to_read("map-resource", "resource", Place::address(0), PAGE_SIZE, Share::Shared, "bar")
}

fn steps() -> Vec<Step> {
    let open = |id, path| Step::open(id, path, libc::O_RDONLY, id);
    let at = Place::in_region(Region::Reserved, 0);
    let mut steps = vec![
        open("mem", "/dev/mem"),
        Step::new("look", Action::Pread { fd: "mem".to_owned(), at, len: 16, buffer: UserBuffer::Good }),
        open("port", "/dev/port"),
        open("kcore", "/proc/kcore"),
        open("msr", "/dev/cpu/0/msr"),
        open("resource", RESOURCE),
        map_resource(),
        ioperm(),
        iopl(),
    ];
    steps.extend(dmi());
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Term, parse, write};

    #[test]
    fn a_door_becomes_a_case_of_its_own() {
        for ids in [&["mem", "port"][..], &["mem", "resource", "map-resource"], &["dmi"]] {
            let case = some(ids, "a door", &Expected::only(Term::Ok));
            assert_eq!(case.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ids);
        }
        let case = some(&["mem", "port"], "a door", &Expected::only(Term::Ok));
        assert_eq!(parse(&write(&case), &case.name).unwrap(), case);
    }
}
