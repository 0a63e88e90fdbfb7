// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The paths to a page: one case per region, made here and not read from a file, with no expectation in it.

use std::fmt::Write as _;

use types::Region;
use vmm::layout::PAGE_SIZE;

use crate::case::{Case, parse};

/// Bytes looked at in a region.
const LEN: u64 = 64;
/// What every name of a case that looks begins with.
pub(super) const PREFIX: &str = "audit/look/";

/// Where a probe looks, and the page it maps for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// In names of cases: a region, or an address.
    pub(super) label: String,
    /// The bytes, as a place.
    pub(super) at: String,
    /// The page, as a place.
    pub(super) page: String,
    /// The bytes in that page.
    pub(super) offset: u64,
    /// How many.
    pub(super) len: u64,
}

impl Spot {
    /// The spot in a region.
    pub fn of(region: Region) -> Self {
        let name = region.name();
        match region {
            // The first cells of these hold structures; markers stand behind them.
            Region::Page0 => Self::inside(name, 0x500),
            Region::Rom => Self::inside(name, 0x100),
            // They begin in the middle of their page.
            Region::Bda => Self {
                at: format!("{name} + 0x20"),
                page: "page0".into(),
                offset: 0x420,
                ..Self::inside(name, 0)
            },
            Region::Ebda => Self {
                at: format!("{name} + 0x100"),
                page: format!("{name} - 0xc00"),
                offset: 0xd00,
                ..Self::inside(name, 0)
            },
            _ => Self::inside(name, 0),
        }
    }

    fn inside(name: &str, offset: u64) -> Self {
        let at = format!("{name} + {offset:#x}");
        Self { label: name.to_owned(), at, page: name.to_owned(), offset, len: LEN }
    }

    /// The spot at an address, in one page.
    pub fn at(gpa: u64, len: u64) -> Self {
        let offset = gpa % PAGE_SIZE;
        Self {
            label: format!("{gpa:#x}"),
            at: format!("{gpa:#x}"),
            page: format!("{:#x}", gpa - offset),
            offset,
            len: len.min(PAGE_SIZE - offset),
        }
    }
}

/// A way to the bytes: the step that gets them, and those it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// The step's id.
    pub id: &'static str,
    /// Ids of the steps before it.
    needs: &'static [&'static str],
    /// For people.
    pub name: &'static str,
}

/// Every path, in the order they are tried.
pub const PATHS: &[Path] = &[
    Path { id: "pread", needs: &["open"], name: "pread(2)" },
    Path { id: "read", needs: &["open", "seek"], name: "read(2)" },
    Path { id: "pread-rw", needs: &["open-rw"], name: "pread(2), opened O_RDWR" },
    Path { id: "load-shared", needs: &["open", "map-shared"], name: "a load from a shared mapping" },
    Path { id: "load-private", needs: &["open", "map-private"], name: "a load from a private mapping" },
    Path { id: "load-sync", needs: &["open-sync", "map-sync"], name: "a load from an O_SYNC mapping" },
    Path { id: "self-mem", needs: &["open", "map-shared"], name: "/proc/self/mem over a mapping" },
    Path { id: "vm-readv", needs: &["open", "map-shared"], name: "process_vm_readv(2) over a mapping" },
    Path { id: "ptrace", needs: &["open", "map-shared"], name: "ptrace(2) over a mapping" },
];

/// Of the paths those through different functions of the kernel: the ones by which each single page is looked at.
pub const SWEPT: &[&str] = &["pread", "load-shared", "load-private", "load-sync", "self-mem"];

/// What a path is held to that may come back as it likes, in the words of a case.
pub const NOTHING_FORBIDDEN: &str = "{ is = \"ok\", events = [] }";

/// The cases that look at every region by every path, and the one about side doors.
pub fn cases() -> Vec<Case> {
    let regions = Region::ALL.iter().map(|region| {
        let text = look(&Spot::of(*region), &all(), &format!("Every path to {region}"), None);
        (format!("{PREFIX}{region}"), text)
    });
    let doors = std::iter::once((SIDE_DOORS.to_owned(), DOORS.to_owned()));
    // The texts are made here; one that does not parse is caught by a test.
    regions.chain(doors).filter_map(|(name, text)| parse(&text, &name).ok()).collect()
}

/// The case that looks at a spot by the paths of a sweep.
pub fn case_at(spot: &Spot) -> Option<Case> {
    // Each mapping goes before the next is made, as in a sweep: two that differ in caching exclude each other.
    const ORDER: [&str; 10] = [
        "open",
        "pread",
        "map-shared",
        "load-shared",
        "self-mem",
        "map-private",
        "load-private",
        "open-sync",
        "map-sync",
        "load-sync",
    ];
    let mut text = head("A page by every path");
    let steps = steps(spot);
    for id in ORDER {
        text.extend(steps.iter().filter(|(known, _)| *known == id).map(|(_, step)| step.as_str()));
        let unmapped = match id {
            "self-mem" => "shared",
            "load-private" => "private",
            "load-sync" => "sync",
            _ => continue,
        };
        let _ =
            write!(text, "\n[[step]]\nid = \"unmap-{unmapped}\"\ndo = \"munmap\"\nmap = \"{unmapped}\"\n");
    }
    parse(&text, &format!("{PREFIX}{}", spot.label)).ok()
}

/// The name of the case about side doors.
pub(super) const SIDE_DOORS: &str = "audit/side-doors";

/// The case with some steps of the one about side doors; the last is held to `expected`, in the words of a case.
pub(super) fn door(ids: &[&str], title: &str, expected: &str) -> String {
    let mut text = head(title);
    for step in DOORS.split("\n[[step]]\n").skip(1) {
        let id = step.split('"').nth(1).unwrap_or_default();
        if ids.contains(&id) {
            let _ = writeln!(text, "\n[[step]]\n{}", step.trim_end());
            if ids.last() == Some(&id) {
                let _ = writeln!(text, "expect = {expected}");
            }
        }
    }
    text
}

fn all() -> Vec<&'static str> {
    PATHS.iter().map(|path| path.id).collect()
}

/// The case that goes some paths to a spot, with the steps they need and no more. The last of the paths is held to
/// `expected`, in the words of a case; without, nothing is expected.
pub fn look(spot: &Spot, paths: &[&str], title: &str, expected: Option<&str>) -> String {
    let mut wanted: Vec<&str> = Vec::new();
    for path in PATHS.iter().filter(|path| paths.contains(&path.id)) {
        for id in path.needs.iter().chain([&path.id]) {
            if !wanted.contains(id) {
                wanted.push(id);
            }
        }
    }
    let mut text = head(title);
    for (id, step) in steps(spot) {
        if wanted.contains(&id) {
            text.push_str(&step);
            if let Some(expected) = expected.filter(|_| paths.last() == Some(&id)) {
                let _ = writeln!(text, "expect = {expected}");
            }
        }
    }
    text
}

pub(super) fn head(title: &str) -> String {
    format!(
        "title = {title:?}\nwhy = \"Found by copra audit; what the kernel decides here is not stated.\"\ntags = [\"audit\"]\n"
    )
}

/// Every step on a spot, with its id.
fn steps(spot: &Spot) -> Vec<(&'static str, String)> {
    let Spot { at, page, offset, len, .. } = spot;
    let open = |id: &'static str, flags: &str, handle: &str| {
        (id, format!("do = \"open\"\npath = \"/dev/mem\"\nflags = \"{flags}\"\nas = \"{handle}\"\n"))
    };
    let map = |id: &'static str, fd: &str, share: &str, handle: &str| {
        let what = format!(
            "do = \"mmap\"\nfd = \"{fd}\"\nat = \"{page}\"\nlen = 4096\nprot = \"r\"\nshare = \"{share}\"\nas = \"{handle}\"\n"
        );
        (id, what)
    };
    let look = |id: &'static str, action: &str, map: &str| {
        (id, format!("do = \"{action}\"\nmap = \"{map}\"\noffset = {offset}\nlen = {len}\n"))
    };
    let pread = |id: &'static str, fd: &str| {
        (id, format!("do = \"pread\"\nfd = \"{fd}\"\nat = \"{at}\"\nlen = {len}\n"))
    };
    let raw = vec![
        open("open", "O_RDONLY", "mem"),
        pread("pread", "mem"),
        ("seek", format!("do = \"lseek\"\nfd = \"mem\"\nto = \"{at}\"\n")),
        ("read", format!("do = \"read\"\nfd = \"mem\"\nlen = {len}\n")),
        open("open-rw", "O_RDWR", "mem-rw"),
        pread("pread-rw", "mem-rw"),
        map("map-shared", "mem", "shared", "shared"),
        look("load-shared", "peek", "shared"),
        map("map-private", "mem", "private", "private"),
        look("load-private", "peek", "private"),
        open("open-sync", "O_RDWR|O_SYNC", "mem-sync"),
        map("map-sync", "mem-sync", "shared", "sync"),
        look("load-sync", "peek", "sync"),
        look("self-mem", "self-mem-read", "shared"),
        look("vm-readv", "vm-readv", "shared"),
        look("ptrace", "ptrace-peek", "shared"),
    ];
    raw.into_iter()
        .map(|(id, body)| {
            let mut text = String::new();
            let _ = write!(text, "\n[[step]]\nid = \"{id}\"\n{body}");
            (id, text)
        })
        .collect()
}

/// Other ways to what /dev/mem gives, and what must keep working.
const DOORS: &str = r#"
title = "Side doors, and what must keep working"
why = "What is refused on /dev/mem may be had elsewhere; SMBIOS tables must stay readable."
tags = ["audit"]

[[step]]
id = "mem"
do = "open"
path = "/dev/mem"
flags = "O_RDONLY"
as = "mem"

[[step]]
id = "look"
do = "pread"
fd = "mem"
at = "reserved"
len = 16

[[step]]
id = "port"
do = "open"
path = "/dev/port"
flags = "O_RDONLY"
as = "port"

[[step]]
id = "kcore"
do = "open"
path = "/proc/kcore"
flags = "O_RDONLY"
as = "kcore"

[[step]]
id = "msr"
do = "open"
path = "/dev/cpu/0/msr"
flags = "O_RDONLY"
as = "msr"

[[step]]
id = "resource"
do = "open"
path = "/sys/bus/pci/devices/0000:00:01.0/resource0"
flags = "O_RDONLY"
as = "resource"

[[step]]
id = "map-resource"
do = "mmap"
fd = "resource"
at = 0
len = 4096
prot = "r"
share = "shared"
as = "bar"

[[step]]
id = "ioperm"
do = "ioperm"
port = 0x80
count = 1
on = true

[[step]]
id = "iopl"
do = "iopl"
level = 3

[[step]]
id = "dmi"
do = "read-file"
path = "/sys/firmware/dmi/tables/DMI"
len = 64

[[step]]
id = "dmi-entry"
do = "read-file"
path = "/sys/firmware/dmi/tables/smbios_entry_point"
len = 16
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_and_the_doors_become_a_case() {
        for region in Region::ALL {
            let text = look(&Spot::of(*region), &all(), "every path", None);
            assert!(parse(&text, "audit/x").is_ok(), "{region}: {text}");
        }
        assert!(parse(DOORS, "audit/doors").is_ok(), "{:?}", parse(DOORS, "audit/doors").err());
        assert_eq!(cases().len(), Region::ALL.len() + 1);
    }

    #[test]
    fn a_door_becomes_a_case_of_its_own() {
        for ids in [&["mem", "port"][..], &["mem", "resource", "map-resource"], &["dmi"]] {
            let case = parse(&door(ids, "a door", "\"EPERM\""), "door").unwrap();
            assert_eq!(case.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ids);
        }
    }

    #[test]
    fn every_page_becomes_a_case_with_its_paths() {
        for gpa in [0xff0, 0xf_fff0, 0x1bfe_0000, 0xffff_ffff_ffff_fff0] {
            let case = case_at(&Spot::at(gpa, 16)).unwrap();
            assert!(SWEPT.iter().all(|id| case.step(id).is_some()), "{gpa:#x}");
        }
    }

    #[test]
    fn a_minimal_case_has_what_its_paths_need_and_parses() {
        let spot = Spot::of(Region::LowRam);
        let text = look(&spot, &["pread", "load-shared"], "one \"answer\"", Some("\"zeros\""));
        let case = parse(&text, "found").unwrap();
        let ids: Vec<&str> = case.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["open", "pread", "map-shared", "load-shared"]);
    }
}
