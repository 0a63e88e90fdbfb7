// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The paths to a page: one case per region, made here and not read from a file, with no expectation in it.

use std::fmt;

use types::Region;
use vmm::layout::PAGE_SIZE;

use crate::case::{Action, Case, Direction, Expected, Share, Step, Term, UserBuffer};
use crate::place::{Base, Place};

/// Bytes read in a region.
const LEN: u64 = 64;
/// The prefix of the names of cases that read.
const PREFIX: &str = "audit/look/";

/// The address a probe reads, and the page it maps for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// The region or the address; the spot's name in names of cases.
    pub(super) base: Base,
    /// The bytes.
    pub(super) at: Place,
    /// The page.
    pub(super) page: Place,
    /// The bytes in that page.
    pub(super) offset: u64,
    /// How many.
    pub(super) len: u64,
}

impl Spot {
    /// The spot in a region.
    pub const fn of(region: Region) -> Self {
        // Structures are in the first cells of the first two, markers after them; the next two begin in the middle of their
        // page.
        match region {
            Region::Page0 => Self::inside(region, 0x500),
            Region::Rom => Self::inside(region, 0x100),
            Region::Bda => {
                Self { page: Place::in_region(Region::Page0, 0), offset: 0x420, ..Self::inside(region, 0x20) }
            }
            Region::Ebda => {
                Self { page: Place::in_region(region, -0xc00), offset: 0xd00, ..Self::inside(region, 0x100) }
            }
            _ => Self::inside(region, 0),
        }
    }

    const fn inside(region: Region, offset: u32) -> Self {
        let at = Place::in_region(region, offset as i64);
        Self {
            base: Base::Region(region),
            at,
            page: Place::in_region(region, 0),
            offset: offset as u64,
            len: LEN,
        }
    }

    /// The spot at an address, in one page.
    pub const fn at(gpa: u64, len: u64) -> Self {
        let offset = gpa % PAGE_SIZE;
        let rest = PAGE_SIZE - offset;
        Self {
            base: Base::Address(gpa),
            at: Place::address(gpa),
            page: Place::address(gpa - offset),
            offset,
            len: if len < rest { len } else { rest },
        }
    }
}

impl fmt::Display for Spot {
    /// The region's name, or the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Place { base: self.base, offset: 0 }.fmt(f)
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

/// Of the paths those through different functions of the kernel: the ones by which each single page is read.
pub const SWEPT: &[&str] = &["pread", "load-shared", "load-private", "load-sync", "self-mem"];

/// The expectation of a path that must not make a forbidden access.
pub(super) fn nothing_forbidden() -> Expected {
    Expected::only(Term::Ok).with_events(Vec::new())
}

/// The case that reads a region by every path.
pub fn case(region: Region) -> Case {
    let paths: Vec<&str> = PATHS.iter().map(|path| path.id).collect();
    read_case(&Spot::of(region), &paths, &format!("Every path to {region}"), None)
}

/// The name of the case that reads a spot.
pub(super) fn name(spot: &Spot) -> String {
    format!("{PREFIX}{spot}")
}

/// The case that reads a spot by the paths of a sweep.
pub fn case_at(spot: &Spot) -> Case {
    // Each mapping is removed before the next is made: two with different cache modes exclude each other (memtype.c).
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
    let all = steps(spot);
    let mut case = of_audit(&name(spot), "A page by every path");
    for id in ORDER {
        case.steps.extend(all.iter().filter(|step| step.id == id).cloned());
        let unmapped = match id {
            "self-mem" => "shared",
            "load-private" => "private",
            "load-sync" => "sync",
            _ => continue,
        };
        case.steps.push(Step::new(&format!("unmap-{unmapped}"), Action::Munmap { map: unmapped.to_owned() }));
    }
    case
}

/// The case that reads a spot by some paths, with only the steps they need. `expected` is the expectation of the last path;
/// without it nothing is expected.
pub fn read_case(spot: &Spot, paths: &[&str], title: &str, expected: Option<Expected>) -> Case {
    let needed = PATHS.iter().filter(|path| paths.contains(&path.id));
    let ids: Vec<&str> = needed.flat_map(|path| path.needs.iter().chain([&path.id])).copied().collect();
    let mut case = of_audit(&name(spot), title);
    case.steps = steps(spot).into_iter().filter(|step| ids.contains(&step.id.as_str())).collect();
    match (paths.last(), expected) {
        (Some(id), Some(expected)) => case.expecting(id, &expected),
        _ => case,
    }
}

/// A case of the audit, without steps.
pub(super) fn of_audit(name: &str, title: &str) -> Case {
    let why = "Found by copra audit; what the kernel decides here is not stated.";
    Case { tags: vec!["audit".to_owned()], ..Case::new(name, title, why) }
}

/// Every step on a spot.
fn steps(spot: &Spot) -> Vec<Step> {
    let Spot { at, page, offset, len, .. } = *spot;
    let open = |id, flags, handle| Step::open(id, "/dev/mem", flags, handle);
    let map = |id, fd, share, handle| Step::map_to_read(id, fd, page, PAGE_SIZE, share, handle);
    let pread =
        |id, fd: &str| Step::new(id, Action::Pread { fd: fd.to_owned(), at, len, buffer: UserBuffer::Good });
    let peek = |id, map| Step::peek(id, map, offset, len);
    let (mem, shared) = (|| "mem".to_owned(), || "shared".to_owned());
    vec![
        open("open", libc::O_RDONLY, "mem"),
        pread("pread", "mem"),
        Step::new("seek", Action::Lseek { fd: mem(), to: at, whence: Direction::Set }),
        Step::new("read", Action::Read { fd: mem(), len, buffer: UserBuffer::Good }),
        open("open-rw", libc::O_RDWR, "mem-rw"),
        pread("pread-rw", "mem-rw"),
        map("map-shared", "mem", Share::Shared, "shared"),
        peek("load-shared", "shared"),
        map("map-private", "mem", Share::Private, "private"),
        peek("load-private", "private"),
        open("open-sync", libc::O_RDWR | libc::O_SYNC, "mem-sync"),
        map("map-sync", "mem-sync", Share::Shared, "sync"),
        peek("load-sync", "sync"),
        Step::new("self-mem", Action::SelfMemRead { map: shared(), offset, len }),
        Step::new("vm-readv", Action::VmReadv { map: shared(), offset, len }),
        Step::new("ptrace", Action::PtracePeek { map: shared(), offset, len }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{parse, write};

    #[test]
    fn every_region_has_a_case_of_its_own_name_that_can_be_written() {
        for region in Region::ALL {
            let case = case(*region);
            assert_eq!(case.name, format!("audit/look/{region}"));
            assert_eq!(parse(&write(&case), &case.name).unwrap(), case);
        }
    }

    #[test]
    fn every_page_becomes_a_case_with_its_paths() {
        for gpa in [0xff0, 0xf_fff0, 0x1bfe_0000, 0xffff_ffff_ffff_fff0] {
            let case = case_at(&Spot::at(gpa, 16));
            assert!(SWEPT.iter().all(|id| case.step(id).is_some()), "{gpa:#x}");
            assert_eq!(parse(&write(&case), &case.name).unwrap(), case);
        }
    }

    #[test]
    fn a_minimal_case_has_what_its_paths_need() {
        let spot = Spot::of(Region::LowRam);
        let expected = Expected::only(Term::Ok);
        let case = read_case(&spot, &["pread", "load-shared"], "one \"answer\"", Some(expected.clone()));
        let ids: Vec<&str> = case.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["open", "pread", "map-shared", "load-shared"]);
        assert_eq!(case.step("load-shared").unwrap().expect.entries[0].1, expected);
        assert_eq!(parse(&write(&case), &case.name).unwrap(), case);
    }
}
