// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fixed list of things a matrix tries, and the cases that try them.

use types::Region;

use super::programs;
use crate::audit::{doors, probe};
use crate::case::{Action, Case, Step, UserBuffer};

/// A way to the bytes of a region: name, and the steps of the region's case, of which the last one gives them.
const WAYS: [(&str, &str, &[&str]); 3] = [
    ("read", "read(2)", &["pread"]),
    ("mmap", "mmap(2)", &["map-shared", "load-shared"]),
    ("self-mem", "/proc/self/mem", &["map-shared", "self-mem"]),
];

/// Regions, and whether a mail has a line for each: those of the mail thread.
const REGIONS: [(Region, bool); 14] = [
    (Region::Page0, true),
    (Region::LowRam, true),
    (Region::Ebda, true),
    (Region::Vga, false),
    (Region::OptionRom, false),
    (Region::Rom, true),
    (Region::Ram, true),
    (Region::Reserved, true),
    (Region::AcpiData, false),
    (Region::Bar32, true),
    (Region::MmioClaimed, false),
    (Region::MmioUnclaimed, false),
    (Region::HighRam, false),
    (Region::Bar64, false),
];

/// The name of the case that tries everything beside regions.
const DOORS: &str = "matrix/doors";

/// How an operation's cell is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// It shows the result.
    Shown,
    /// A program: whether its output is the same as in an ordinary guest of an unpatched kernel.
    Program(&'static programs::Row),
    /// Steps as a program would do them, that search for SMBIOS's signature: whether they find it as there.
    Scan,
}

/// One row of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// A stable name: `rom/mmap`, `open/mem`.
    pub id: String,
    /// What it belongs to: the heading above the row.
    pub group: String,
    /// For people.
    pub name: String,
    /// The region it is about.
    pub region: Option<Region>,
    /// Whether a table meant for a mail has it.
    pub brief: bool,
    /// The case that tries it.
    pub case: String,
    /// Its steps, in order.
    pub steps: Vec<&'static str>,
    /// How it is judged, if the result is not just shown.
    pub judged: Judged,
}

/// Every operation, in the order of the tables.
pub fn all() -> Vec<Operation> {
    let door = |(id, group, name, steps): &(&str, &str, &str, &[&'static str])| Operation {
        id: (*id).to_owned(),
        group: (*group).to_owned(),
        name: (*name).to_owned(),
        region: None,
        brief: true,
        case: DOORS.to_owned(),
        steps: steps.to_vec(),
        judged: Judged::Shown,
    };
    let regions = REGIONS.iter().flat_map(|(region, brief)| {
        WAYS.iter().map(move |(id, name, steps)| Operation {
            id: format!("{region}/{id}"),
            group: heading(*region).to_owned(),
            name: (*name).to_owned(),
            region: Some(*region),
            brief: *brief,
            case: format!("matrix/{region}"),
            steps: steps.to_vec(),
            judged: Judged::Shown,
        })
    });
    OPENS
        .iter()
        .map(door)
        .chain(regions)
        .chain(OTHERS.iter().map(door))
        .chain(programs::operations())
        .collect()
}

/// The names of the ways to a region's bytes, in order.
pub fn ways() -> impl Iterator<Item = (&'static str, &'static str)> {
    WAYS.iter().map(|(id, name, _)| (*id, *name))
}

/// The regions that are tried.
pub fn regions() -> impl Iterator<Item = Region> {
    REGIONS.iter().map(|(region, _)| *region)
}

/// The cases of them. None has an expectation: the results are shown, not judged.
pub fn cases() -> Vec<Case> {
    let regions = REGIONS.iter().map(|(region, _)| {
        let title = format!("{region}, three ways");
        let ways = ["pread", "load-shared", "self-mem"];
        Case {
            name: format!("matrix/{region}"),
            ..probe::read_case(&probe::Spot::of(*region), &ways, &title, None)
        }
    });
    regions.chain([doors()]).chain(programs::cases()).collect()
}

fn heading(region: Region) -> &'static str {
    match region {
        Region::Page0 => "page 0 (BIOS data area)",
        Region::LowRam => "System RAM below 1 MiB",
        Region::Ebda => "EBDA",
        Region::Vga => "VGA window",
        Region::OptionRom => "option ROM area",
        Region::Rom => "system ROM (SMBIOS entry point)",
        Region::Ram => "System RAM above 1 MiB (kernel text)",
        Region::Reserved => "e820 reserved, above 1 MiB",
        Region::AcpiData => "e820 ACPI data",
        Region::Bar32 => "PCI BAR below 4 GiB, no driver",
        Region::MmioClaimed => "device memory, claimed",
        Region::MmioUnclaimed => "hole below 4 GiB",
        Region::HighRam => "System RAM above 4 GiB",
        Region::Bar64 => "PCI BAR above RAM, no driver",
        other => other.name(),
    }
}

const OPEN: &str = "open(2)";
const BESIDE: &str = "beside /dev/mem";

type Door = (&'static str, &'static str, &'static str, &'static [&'static str]);

const OPENS: [Door; 2] =
    [("open/mem", OPEN, "/dev/mem", &["open-mem"]), ("open/port", OPEN, "/dev/port", &["open-port"])];

const OTHERS: [Door; 7] = [
    ("sysfs/resource", BESIDE, "sysfs BAR mmap(2)", &["open-resource", "map-resource", "load-resource"]),
    ("iopl", BESIDE, "iopl(2)", &["iopl"]),
    ("ioperm", BESIDE, "ioperm(2)", &["ioperm"]),
    ("open/msr", BESIDE, "/dev/cpu/0/msr", &["open-msr"]),
    ("open/kcore", BESIDE, "/proc/kcore", &["open-kcore", "read-kcore"]),
    ("sysfs/dmi", BESIDE, "sysfs DMI table", &["dmi"]),
    ("sysfs/entry", BESIDE, "sysfs DMI entry", &["dmi-entry"]),
];

fn doors() -> Case {
    let open = |id, path, handle| Step::open(id, path, libc::O_RDONLY, handle);
    let fd = "kcore".to_owned();
    let read_kcore = Action::Read { fd, len: 64, buffer: UserBuffer::Good };
    let mut steps = vec![
        open("open-mem", "/dev/mem", "mem"),
        open("open-port", "/dev/port", "port"),
        Step::open("open-resource", doors::RESOURCE, libc::O_RDWR, "resource"),
        doors::map_resource(),
        Step::peek("load-resource", "bar", 0, 64),
        doors::iopl(),
        doors::ioperm(),
        open("open-msr", "/dev/cpu/0/msr", "msr"),
        open("open-kcore", "/proc/kcore", "kcore"),
        Step::new("read-kcore", read_kcore),
    ];
    steps.extend(doors::dmi());
    of_matrix(DOORS, "Beside memory itself", steps)
}

/// A case of a matrix.
pub(super) fn of_matrix(name: &str, title: &str, steps: Vec<Step>) -> Case {
    let why = "The results are shown, not judged by a policy.";
    Case { steps, ..Case::new(name, title, why) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{parse, write};

    #[test]
    fn every_operation_is_tried_by_steps_that_are_there() {
        let cases = cases();
        for case in &cases {
            assert_eq!(parse(&write(case), &case.name).unwrap(), *case);
        }
        for operation in all() {
            let case = cases.iter().find(|case| case.name == operation.case).unwrap();
            for id in operation.steps {
                assert!(case.step(id).is_some(), "{} lacks {id}", case.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_short_enough_for_a_mail() {
        let mut ids: Vec<String> = all().into_iter().map(|operation| operation.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(all().iter().all(|operation| operation.name.chars().count() <= 17));
    }
}
