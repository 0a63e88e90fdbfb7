// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tables against the cases.

use std::collections::BTreeMap;

use types::Errno;

use super::*;
use crate::case::{self, Action, Case, Direction, Expected, Share, Term, UserBuffer};
use crate::library;
use crate::place::{Base, Place};
use crate::setup::SetupOverrides;
use model::class::Class;
use model::release::Release;

/// Every step of the library that does what a table has: the answer is one of those expected, with the forbidden accesses.
#[test]
fn the_cases_expect_what_the_tables_have() {
    let cases = library::all().unwrap();
    let (mut compared, mut differ) = (0, Vec::new());
    for release in stock::releases() {
        let kernel = stock_kernel(release);
        for platform in Platform::ALL {
            let Ok(page) = Page::of(&kernel, *platform, Policy::ALL, MEMORY) else { continue };
            let guest = case::Guest {
                platform: *platform,
                release: Some(kernel.release),
                config: Some(&kernel.options),
                regions: &page.guest.regions,
            };
            let runs =
                |case: &&Case| case.guest == SetupOverrides::default() && case.skip_reason(&guest).is_none();
            for case in cases.iter().filter(runs) {
                for sheet in &page.sheets {
                    for (id, column, answer, expected) in steps(case, sheet, *platform, kernel.release) {
                        compared += 1;
                        if !fits(answer, &expected) {
                            differ.push(format!(
                                "{} {id} on {release} {platform} {}: {column} gives {} {:?}, expected {expected}",
                                case.name,
                                sheet.policy,
                                answer.text(),
                                answer.forbidden
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(differ.is_empty(), "{} of {compared} steps differ:\n{}", differ.len(), differ.join("\n"));
    assert!(compared > 1000, "only {compared} steps were compared");
}

/// The steps of a case that do what a table has, up to the first that changes what later ones mean.
fn steps<'a>(
    case: &Case,
    sheet: &'a Sheet,
    platform: Platform,
    release: Release,
) -> Vec<(String, &'static str, &'a Answer, Expected)> {
    let mut found = Vec::new();
    let mut maps: BTreeMap<String, Mapping> = BTreeMap::new();
    let mut files: BTreeMap<&str, i32> = BTreeMap::new();
    for step in &case.steps {
        let place = match &step.action {
            Action::Open { path, flags, handle } => {
                let usual = [libc::O_RDONLY, libc::O_RDWR].contains(&flags.0);
                if path == "/dev/mem" && usual {
                    files.insert(handle, flags.0);
                    if let Some(expected) = step.expect.resolve(sheet.policy, platform, Some(release)) {
                        found.push((step.id.clone(), "open", &sheet.doors[0], expected.clone()));
                    }
                }
                continue;
            }
            Action::Pread { fd, at, len, buffer: UserBuffer::Good } if files.contains_key(fd.as_str()) => {
                inside(at, *len).map(|region| (region, "read"))
            }
            Action::Pwrite { fd, at, data, buffer: UserBuffer::Good }
                if files.get(fd.as_str()) == Some(&libc::O_RDWR) =>
            {
                inside(at, data.len() as u64).map(|region| (region, "write"))
            }
            Action::Mmap { fd, at, len, prot, share, over: None, handle }
                if files.contains_key(fd.as_str()) =>
            {
                maps.remove(handle);
                // The table maps to read and write, with a descriptor that may do both.
                let stores = prot.0 & 2 != 0;
                let refused = stores && *share == Share::Shared && files[fd.as_str()] == libc::O_RDONLY;
                let usual = *len > 0 && *len <= 4096 && prot.0 & 1 != 0 && !refused;
                let place = page(at).filter(|_| usual);
                if let Some((region, begins)) = place {
                    maps.insert(handle.clone(), Mapping { region, begins, share: *share, stores });
                }
                place.map(|(region, _)| (region, "mmap"))
            }
            Action::Peek { map, offset, len } => {
                maps.get(map).and_then(|it| it.column(*offset, *len, ["load", "load"]))
            }
            Action::Poke { map, offset, data } => {
                let found = maps.get(map).filter(|it| it.stores);
                let found =
                    found.and_then(|it| it.column(*offset, data.len() as u64, ["store", "store-private"]));
                // From here on a private mapping shows its own copy.
                maps.retain(|name, it| name != map || it.share == Share::Shared);
                found
            }
            Action::SelfMemRead { map, offset, len } | Action::PtracePeek { map, offset, len } => {
                maps.get(map).and_then(|it| it.column(*offset, *len, ["kernel-read", ""]))
            }
            Action::SelfMemWrite { map, offset, data } => maps
                .get(map)
                .filter(|it| it.stores)
                .and_then(|it| it.column(*offset, data.len() as u64, ["kernel-write", ""])),
            Action::VmReadv { map, offset, len } => {
                maps.get(map).and_then(|it| it.column(*offset, *len, ["process-vm", ""]))
            }
            Action::Memory { .. }
            | Action::Lseek { whence: Direction::Set, .. }
            | Action::ReadFile { .. } => continue,
            _ => break,
        };
        let Some((region, column)) = place else { continue };
        let Some(row) = sheet.row(region) else { continue };
        let index = COLUMNS.iter().position(|known| known.id == column).unwrap();
        let [(_, answer)] = row.cells[index].as_slice() else { continue };
        let Some(expected) = step.expect.resolve(sheet.policy, platform, Some(release)) else { continue };
        // What an operation that was refused leaves is judged by the case as "not reached".
        if answer.word != Word::NotReached && sheet.opens() {
            found.push((step.id.clone(), column, answer, expected.clone()));
        }
    }
    found
}

/// The region that `len` bytes from a place are in, on one page.
fn inside(at: &Place, len: u64) -> Option<Region> {
    let Base::Region(region) = at.base else { return None };
    // The last region below the top of RAM, and those that begin inside a page, end soon.
    let room = match region {
        Region::Ebda => 0x400,
        Region::Bda => 0x100,
        _ => 4096,
    };
    (at.offset >= 0 && len > 0 && at.offset.cast_unsigned() + len <= room).then_some(region)
}

/// The region whose first page a place is, and where in the page the region begins.
fn page(at: &Place) -> Option<(Region, u64)> {
    let Base::Region(region) = at.base else { return None };
    match (region, at.offset) {
        (Region::Ebda, -0xc00) => Some((region, 0xc00)),
        (Region::Bda | Region::Ebda, _) => None,
        (_, 0) => Some((region, 0)),
        _ => None,
    }
}

/// A mapping of a case.
struct Mapping {
    region: Region,
    /// Where in the page the region begins.
    begins: u64,
    share: Share,
    /// It admits stores.
    stores: bool,
}

impl Mapping {
    /// The region and the column of an access, by whether the mapping is shared or private.
    fn column(&self, offset: u64, len: u64, names: [&'static str; 2]) -> Option<(Region, &'static str)> {
        let name = names[usize::from(self.share == Share::Private)];
        let inside = offset >= self.begins && len > 0 && offset + len <= 4096;
        (inside && !name.is_empty()).then_some((self.region, name))
    }
}

fn fits(answer: &Answer, expected: &Expected) -> bool {
    let class = match answer.word {
        Word::Plain => Some(Class::Plain),
        Word::Cipher => Some(Class::Ciphertext),
        Word::Shared => Some(Class::Shared),
        Word::Device => Some(Class::Device),
        Word::Zeros => Some(Class::Zeros),
        _ => None,
    };
    let word = expected.alternatives.iter().any(|term| match term {
        Term::Class(expected) => class == Some(*expected),
        Term::Errno(errno) => answer.error.as_deref() == errno_name(*errno),
        // Contents of memory are not in a table.
        Term::Ok | Term::Number(_) | Term::Contains(_) | Term::Lacks(_) | Term::Matches(_) => {
            answer.error.is_none()
        }
        _ => false,
    });
    let events = expected.events.as_ref().is_none_or(|events| {
        let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
        answer.forbidden.iter().all(|access| kinds.contains(&access.kind))
            && kinds.iter().all(|kind| answer.forbidden.iter().any(|access| access.kind == *kind))
    });
    word && events
}

fn errno_name(errno: Errno) -> Option<&'static str> {
    errno.name()
}
