// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which packages the programs are in.

use std::collections::BTreeMap;

use super::ProgramPackage;
use crate::apt::{self, Apt, Package};

/// The packages of an archive that hold the programs needed.
pub(super) struct Selection {
    /// Packages to unpack, by name.
    pub(super) packages: Vec<Package>,
    /// Packages of programs that are not to be had, and why.
    pub(super) missing: BTreeMap<&'static str, String>,
}

impl Selection {
    /// The same by the programs' paths.
    pub(super) fn programs_missing(&self, of: &[&ProgramPackage]) -> BTreeMap<String, String> {
        let missing = |program: &&ProgramPackage| {
            self.missing.get(program.package).map(|why| (program.path.to_owned(), why.clone()))
        };
        of.iter().filter_map(missing).collect()
    }
}

/// The programs' packages and the libraries they depend on.
pub(super) fn wanted(apt: &Apt<'_>, programs: &[&ProgramPackage]) -> Result<Selection, apt::Error> {
    let mut known: BTreeMap<String, Option<Package>> = BTreeMap::new();
    let mut names: Vec<String> = programs.iter().map(|program| program.package.to_owned()).collect();
    // One call for all of a level: each call takes a second.
    while !names.is_empty() {
        let mut found = apt.named(&names)?;
        found.sort_by(|a, b| a.version.cmp(&b.version));
        let mut next = Vec::new();
        known.extend(names.drain(..).map(|name| (name, None)));
        for package in found {
            next.extend(libraries(&package.depends));
            known.insert(package.name.clone(), Some(package));
        }
        next.retain(|name| !known.contains_key(name));
        next.sort();
        next.dedup();
        names = next;
    }
    choose(programs, |name| Ok(known.get(name).cloned().flatten()))
}

/// The same by `newest`, which finds the newest package of a name. A program is taken with all its libraries or
/// not at all.
fn choose<E>(
    programs: &[&ProgramPackage],
    mut newest: impl FnMut(&str) -> Result<Option<Package>, E>,
) -> Result<Selection, E> {
    let mut chosen = Selection { packages: Vec::new(), missing: BTreeMap::new() };
    for program in programs {
        let mut names = vec![program.package.to_owned()];
        let mut new: Vec<Package> = Vec::new();
        while let Some(name) = names.pop() {
            if chosen.packages.iter().chain(&new).any(|package| package.name == name) {
                continue;
            }
            let Some(package) = newest(&name)? else {
                chosen.missing.insert(program.package, format!("Debian's archives have no package {name}"));
                new.clear();
                break;
            };
            names.extend(libraries(&package.depends));
            new.push(package);
        }
        chosen.packages.append(&mut new);
    }
    chosen.packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(chosen)
}

/// The libraries among dependencies; of alternatives, the first.
fn libraries(depends: &str) -> Vec<String> {
    let name = |dependency: &str| {
        let name = dependency.split(['(', '|', ':']).next().unwrap_or_default().trim();
        (name.starts_with("lib") || name == "zlib1g").then(|| name.to_owned())
    };
    depends.split(',').filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    #[test]
    fn libraries_are_distinguished_from_other_dependencies() {
        let depends = "libc6 (>= 2.33), debconf | libx, libhd21 (>= 21.0), libuuid1:any | liby, zlib1g";
        assert_eq!(libraries(depends), ["libc6", "libhd21", "libuuid1", "zlib1g"]);
    }

    /// An archive, as names and dependencies.
    fn from(archive: &[(&str, &str)]) -> Selection {
        let newest = |name: &str| -> Result<Option<Package>, std::convert::Infallible> {
            Ok(archive.iter().find(|(known, _)| *known == name).map(|(name, depends)| Package {
                name: (*name).to_owned(),
                version: Version::new("1"),
                size: 1,
                sha256: String::new(),
                depends: (*depends).to_owned(),
            }))
        };
        choose(&programs(), newest).unwrap()
    }

    fn programs() -> Vec<&'static ProgramPackage> {
        super::super::chosen(&[
            "/bin/busybox",
            "/usr/sbin/dmidecode",
            "/usr/sbin/biosdecode",
            "/usr/sbin/hwinfo",
        ])
    }

    #[test]
    fn one_missing_package_takes_only_its_programs_away() {
        let whole = [
            ("busybox-static", ""),
            ("dmidecode", "libc6"),
            ("hwinfo", "libc6, libhd21"),
            ("libc6", "libgcc-s1"),
            ("libgcc-s1", "libc6"),
            ("libhd21", "libc6"),
        ];
        let names = |wanted: &Selection| {
            wanted.packages.iter().map(|package| package.name.clone()).collect::<Vec<String>>()
        };
        let all = from(&whole);
        assert!(all.missing.is_empty());
        assert_eq!(names(&all), ["busybox-static", "dmidecode", "hwinfo", "libc6", "libgcc-s1", "libhd21"]);
        let part = from(&whole[..5]);
        assert_eq!(names(&part), ["busybox-static", "dmidecode", "libc6", "libgcc-s1"]);
        let missing: Vec<_> = part.programs_missing(&programs()).into_iter().collect();
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].0, "/usr/sbin/hwinfo");
        assert!(missing[0].1.contains("libhd21"));
        assert_eq!(from(&whole[..1]).programs_missing(&programs()).len(), 3);
        assert!(from(&[]).packages.is_empty());
    }
}
