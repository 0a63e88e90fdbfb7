// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of Debian's that read /dev/mem, to be run in a guest: out of their packages, with the libraries they need.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use self::packages::Selection;
use crate::apt::{self, Apt, Package, Reach};
use crate::cache::{self, Cache, Key};
use crate::command;
use crate::debian;
use crate::progress::Progress;

mod files;
mod packages;

/// A program that guests can have, and its Debian package.
struct ProgramPackage {
    package: &'static str,
    /// Its path in the guest.
    path: &'static str,
}

const PROGRAMS: [ProgramPackage; 4] = [
    ProgramPackage { package: "busybox-static", path: "/bin/busybox" },
    ProgramPackage { package: "dmidecode", path: "/usr/sbin/dmidecode" },
    ProgramPackage { package: "dmidecode", path: "/usr/sbin/biosdecode" },
    ProgramPackage { package: "hwinfo", path: "/usr/sbin/hwinfo" },
];

/// Where they are kept.
const FOLDER: &str = "programs";
const ABOUT: &str = "programs.json";
const LATEST: &str = "programs.json";
/// Bumped when the same packages would give other files.
const VERSION: &str = "programs-3";
/// How long packages are taken for the newest.
const FRESH: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Programs and libraries for a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// Path in the guest, and file here.
    pub files: Vec<(String, PathBuf)>,
    /// The packages they come from, with their versions.
    pub packages: BTreeMap<String, String>,
    /// Programs that could not be had, by their paths in the guest, and why.
    pub missing: BTreeMap<String, String>,
}

impl Programs {
    /// None at all, for a reason.
    pub fn without(why: &str) -> Self {
        let missing = known().map(|path| (path.to_owned(), why.to_owned())).collect();
        Self { missing, ..Self::default() }
    }

    /// Whether a program of that path is among them.
    pub fn has(&self, path: &str) -> bool {
        self.files.iter().any(|(known, _)| known == path)
    }

    /// Why a program is not among them, if so.
    pub fn lacks(&self, path: &str) -> Option<String> {
        let why = || self.missing.get(path).cloned().unwrap_or_else(|| "it was not requested".to_owned());
        (!self.has(path)).then(why)
    }
}

/// The programs that can be had, by their paths in the guest.
pub fn known() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|program| program.path)
}

/// The programs, if they were fetched before; changes nothing.
pub(crate) fn cached(cache: &Cache) -> Result<Option<Programs>, cache::Error> {
    Ok(latest(cache)?.map(|(programs, _)| programs))
}

/// The programs; fetches them if they are not here, may be out of date, or are not all.
pub(crate) fn fetch(cache: &Cache, progress: &dyn Progress) -> Result<Programs, Error> {
    let known = match latest(cache) {
        Err(damage @ cache::Error::Damaged { .. }) => {
            progress.note(&damage.to_string());
            None
        }
        known => known?,
    };
    if let Some((programs, at)) = &known
        && programs.missing.is_empty()
        && SystemTime::now().duration_since(*at).unwrap_or_default() < FRESH
    {
        return Ok(programs.clone());
    }
    match (look(cache, progress), known) {
        (Ok(programs), _) => Ok(programs),
        (Err(error), Some((programs, _))) => {
            progress.note(&format!(
                "using the programs fetched before, because looking for newer ones failed: {error}"
            ));
            Ok(programs)
        }
        (Err(error), None) => Err(error),
    }
}

/// What was fetched last, and when.
fn latest(cache: &Cache) -> Result<Option<(Programs, SystemTime)>, cache::Error> {
    let Some((text, at)) = Cache::read(&name(cache))? else { return Ok(None) };
    let Ok(key) = serde_json::from_slice::<Key>(&text) else { return Ok(None) };
    Ok(load(cache, &key)?.map(|programs| (programs, at)))
}

fn name(cache: &Cache) -> PathBuf {
    cache.root().join("names").join(LATEST)
}

fn load(cache: &Cache, key: &Key) -> Result<Option<Programs>, cache::Error> {
    let Some(entry) = cache.get(FOLDER, key)? else { return Ok(None) };
    let about = entry.path(ABOUT);
    let text = fs::read(&about).map_err(|e| cache::Error::io("read", &about, e))?;
    let Ok(mut programs) = serde_json::from_slice::<Programs>(&text) else {
        return Err(cache::Error::Damaged { file: about, how: "not readable".to_owned() });
    };
    for (_, file) in &mut programs.files {
        *file = entry.path(&*file);
    }
    Ok(Some(programs))
}

/// Looks for the packages in one archive after the other, until one has them all; else takes the one that has most.
fn look(cache: &Cache, progress: &dyn Progress) -> Result<Programs, Error> {
    apt::require_tools()?;
    let mut reasons = Vec::new();
    let mut best: Option<(Apt<'_>, Selection)> = None;
    for reach in Reach::ALL {
        let Some(apt) = Apt::open(cache, progress, reach)? else { continue };
        // Lists that are partly old are better than none.
        if let Err(reason) = apt.update() {
            if matches!(reason, apt::Error::Cache(_)) {
                return Err(reason.into());
            }
            reasons.push(reason.to_string());
        }
        let wanted = packages::wanted(&apt)?;
        let is_whole = wanted.missing.is_empty();
        if best.as_ref().is_none_or(|(_, best)| wanted.missing.len() < best.missing.len()) {
            best = Some((apt, wanted));
        }
        if is_whole {
            break;
        }
    }
    match best.filter(|(_, wanted)| !wanted.packages.is_empty()) {
        Some((apt, wanted)) => obtain(cache, &apt, &wanted),
        None => Err(Error::NoPackages {
            reasons: if reasons.is_empty() { "no archive has them".to_owned() } else { reasons.join("\n") },
        }),
    }
}

fn obtain(cache: &Cache, apt: &Apt<'_>, wanted: &Selection) -> Result<Programs, Error> {
    let parts = wanted.packages.iter().map(|package| package.sha256.as_str());
    let key = Key::of([VERSION].into_iter().chain(parts).chain(wanted.missing.keys().copied()));
    let known = match load(cache, &key) {
        Err(cache::Error::Damaged { .. }) => {
            cache.evict(FOLDER, &key)?;
            None
        }
        known => known?,
    };
    if known.is_none() {
        cache.sweep()?;
        let downloads = cache.scratch()?;
        let root = downloads.path().join("root");
        fs::create_dir(&root).map_err(|e| cache::Error::io("create", &root, e))?;
        for package in &wanted.packages {
            let deb = apt.download(package, downloads.path())?;
            debian::unpack(cache, &deb, &root)?;
        }
        let (chosen, mut missing) = files::choose(&root)?;
        missing.extend(wanted.programs_missing());
        cache.store(FOLDER, &key, |dir| keep(dir, chosen, missing, &wanted.packages))?;
    }
    cache.write(&name(cache), &serde_json::to_vec(&key).unwrap_or_default())?;
    load(cache, &key)?.ok_or(Error::Lost)
}

/// Copies the files into a folder of the cache, with a list of them.
fn keep(
    dir: &Path,
    chosen: Vec<(String, PathBuf)>,
    missing: BTreeMap<String, String>,
    packages: &[Package],
) -> Result<(), cache::Error> {
    let mut programs = Programs { missing, ..Programs::default() };
    for (path, file) in chosen {
        let name = path.trim_start_matches('/').replace('/', "_");
        let to = dir.join(&name);
        fs::copy(&file, &to).map_err(|e| cache::Error::io("write", &to, e))?;
        programs.files.push((path, PathBuf::from(name)));
    }
    let version = |package: &Package| (package.name.clone(), package.version.to_string());
    programs.packages = packages.iter().map(version).collect();
    let about = dir.join(ABOUT);
    let text = serde_json::to_vec_pretty(&programs).unwrap_or_default();
    fs::write(&about, text).map_err(|e| cache::Error::io("write", &about, e))
}

/// Why there are no programs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No archive has them, or none answered.
    #[error(
        "cannot get dmidecode, busybox and hwinfo from Debian's archives; is there a network? What was tried:\n{reasons}"
    )]
    NoPackages {
        /// apt's output.
        reasons: String,
    },
    /// The cache was emptied meanwhile.
    #[error("the programs are gone from the cache they were just put into; try again")]
    Lost,
    /// apt failed.
    #[error(transparent)]
    Apt(#[from] apt::Error),
    /// A package could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] Box<debian::Error>),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] command::Error),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

impl From<debian::Error> for Error {
    fn from(error: debian::Error) -> Self {
        Self::Unpack(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_has_a_reason() {
        let none = Programs::without("no network");
        assert!(known().all(|path| none.lacks(path).as_deref() == Some("no network")));
        let one = Programs {
            files: vec![("/bin/busybox".to_owned(), PathBuf::from("bin_busybox"))],
            ..Programs::default()
        };
        assert!(one.has("/bin/busybox") && one.lacks("/bin/busybox").is_none());
        assert!(one.lacks("/usr/sbin/hwinfo").is_some());
    }
}
