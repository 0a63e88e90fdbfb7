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
    /// Programs that it starts.
    starts: &'static [&'static str],
}

const fn program(package: &'static str, path: &'static str) -> ProgramPackage {
    ProgramPackage { package, path, starts: &[] }
}

const PROGRAMS: [ProgramPackage; 26] = [
    program("acpica-tools", "/usr/bin/acpidump"),
    program("busybox-static", "/bin/busybox"),
    program("coreboot-utils", "/usr/sbin/inteltool"),
    program("coreboot-utils", "/usr/sbin/nvramtool"),
    program("dash", "/bin/sh"),
    program("dmidecode", "/usr/sbin/biosdecode"),
    program("dmidecode", "/usr/sbin/dmidecode"),
    program("dmidecode", "/usr/sbin/ownership"),
    program("dmidecode", "/usr/sbin/vpddecode"),
    program("flashrom", "/usr/sbin/flashrom"),
    program("hwinfo", "/usr/sbin/hwinfo"),
    // Its list of cards is lspci's, by popen(3).
    ProgramPackage {
        package: "i810switch",
        path: "/usr/bin/i810switch",
        starts: &["/bin/sh", "/usr/bin/lspci"],
    },
    program("kexec-tools", "/sbin/kexec"),
    program("lshw", "/usr/bin/lshw"),
    program("makedumpfile", "/usr/bin/makedumpfile"),
    program("memtester", "/usr/sbin/memtester"),
    program("msr-tools", "/usr/sbin/rdmsr"),
    program("msr-tools", "/usr/sbin/wrmsr"),
    program("pciutils", "/usr/bin/lspci"),
    program("pciutils", "/usr/bin/setpci"),
    program("radeontool", "/usr/sbin/radeontool"),
    program("radeontop", "/usr/bin/radeontop"),
    program("read-edid", "/usr/bin/get-edid"),
    program("smbios-utils", "/usr/sbin/smbios-sys-info-lite"),
    program("vbetool", "/usr/sbin/vbetool"),
    program("x86info", "/usr/bin/x86info"),
];

/// Where they are kept.
const FOLDER: &str = "programs";
const ABOUT: &str = "programs.json";
/// Where it is written which of them were fetched last, for which programs.
const NAMES: &str = "names";
const PREFIX: &str = "programs-";
/// Bumped when the same packages would give other files.
const VERSION: &str = "programs-4";
/// How long packages are taken for the newest.
const FRESH: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Programs and libraries for a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// Path in the guest, and file here.
    pub files: Vec<(String, PathBuf)>,
    /// What each program needs: paths in the guest.
    #[serde(default)]
    pub needs: BTreeMap<String, Vec<String>>,
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

    /// The files of some programs, and of what they need.
    pub fn files_of(&self, programs: &[&str]) -> Vec<&(String, PathBuf)> {
        let is_needed = |path: &String| {
            let needs = |program: &&str| self.needs.get(*program).is_some_and(|needs| needs.contains(path));
            programs.contains(&path.as_str()) || programs.iter().any(needs)
        };
        self.files.iter().filter(|(path, _)| is_needed(path)).collect()
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

/// Those of some paths, with those that they start.
fn chosen(paths: &[&str]) -> Vec<&'static ProgramPackage> {
    let is_started = |path| PROGRAMS.iter().any(|by| paths.contains(&by.path) && by.starts.contains(&path));
    PROGRAMS.iter().filter(|program| paths.contains(&program.path) || is_started(program.path)).collect()
}

/// The programs of these paths, if they were fetched before; changes nothing.
pub(crate) fn cached(cache: &Cache, paths: &[&str]) -> Result<Option<Programs>, cache::Error> {
    Ok(latest(cache, &chosen(paths))?.map(|(programs, _)| programs))
}

/// The programs of these paths; fetches them if they are not here, may be out of date, or are not all.
pub(crate) fn fetch(cache: &Cache, progress: &dyn Progress, paths: &[&str]) -> Result<Programs, Error> {
    let chosen = chosen(paths);
    let known = match latest(cache, &chosen) {
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
    match (look(cache, progress, &chosen), known) {
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

/// What was fetched last, and when: for these programs, or for more.
fn latest(cache: &Cache, chosen: &[&ProgramPackage]) -> Result<Option<(Programs, SystemTime)>, cache::Error> {
    if let Some(found) = recalled(cache, &name(cache, chosen))? {
        return Ok(Some(found));
    }
    let Ok(names) = fs::read_dir(cache.root().join(NAMES)) else { return Ok(None) };
    let mut names: Vec<PathBuf> = names.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let is_ours =
        |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    // What is damaged is reported where it is looked for by its own name.
    let all = names.iter().filter(is_ours).filter_map(|path| recalled(cache, path).ok().flatten());
    Ok(all
        .filter(|(programs, _)| chosen.iter().all(|program| programs.has(program.path)))
        .max_by_key(|(_, at)| *at))
}

fn recalled(cache: &Cache, name: &Path) -> Result<Option<(Programs, SystemTime)>, cache::Error> {
    let Some((text, at)) = Cache::read(name)? else { return Ok(None) };
    let Ok(key) = serde_json::from_slice::<Key>(&text) else { return Ok(None) };
    Ok(load(cache, &key)?.map(|programs| (programs, at)))
}

fn name(cache: &Cache, chosen: &[&ProgramPackage]) -> PathBuf {
    let key = Key::of(chosen.iter().map(|program| program.path));
    cache.root().join(NAMES).join(format!("{PREFIX}{}.json", key.as_str()))
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
fn look(cache: &Cache, progress: &dyn Progress, chosen: &[&ProgramPackage]) -> Result<Programs, Error> {
    apt::require_tools()?;
    let mut reasons = Vec::new();
    let mut best: Option<(Apt<'_>, Selection)> = None;
    for reach in Reach::ALL {
        let Some(apt) = Apt::open(cache, progress, reach)? else { continue };
        apt.update(&mut reasons)?;
        let wanted = packages::wanted(&apt, chosen)?;
        let is_whole = wanted.missing.is_empty();
        if best.as_ref().is_none_or(|(_, best)| wanted.missing.len() < best.missing.len()) {
            best = Some((apt, wanted));
        }
        if is_whole {
            break;
        }
    }
    match best.filter(|(_, wanted)| !wanted.packages.is_empty()) {
        Some((apt, wanted)) => obtain(cache, &apt, chosen, &wanted),
        None => Err(Error::NoPackages {
            reasons: if reasons.is_empty() { "no archive has them".to_owned() } else { reasons.join("\n") },
        }),
    }
}

fn obtain(
    cache: &Cache,
    apt: &Apt<'_>,
    programs: &[&ProgramPackage],
    wanted: &Selection,
) -> Result<Programs, Error> {
    let parts = wanted.packages.iter().map(|package| package.sha256.as_str());
    let parts = parts.chain(programs.iter().map(|program| program.path));
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
        let mut chosen = files::choose(&root, programs)?;
        chosen.missing.extend(wanted.programs_missing(programs));
        cache.store(FOLDER, &key, |dir| keep(dir, chosen, &wanted.packages))?;
    }
    cache.write(&name(cache, programs), &serde_json::to_vec(&key).unwrap_or_default())?;
    load(cache, &key)?.ok_or(Error::Lost)
}

/// Copies the files into a folder of the cache, with a list of them.
fn keep(dir: &Path, chosen: files::Chosen, packages: &[Package]) -> Result<(), cache::Error> {
    let mut programs = Programs { missing: chosen.missing, needs: chosen.needs, ..Programs::default() };
    for (path, file) in chosen.files {
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
    #[error("cannot get the programs from Debian's archives; is there a network? What was tried:\n{reasons}")]
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
    fn a_program_brings_those_that_it_starts() {
        let paths = |of: &[&str]| chosen(of).iter().map(|program| program.path).collect::<Vec<_>>();
        assert_eq!(paths(&["/bin/busybox"]), ["/bin/busybox"]);
        assert_eq!(paths(&["/usr/bin/i810switch"]), ["/bin/sh", "/usr/bin/i810switch", "/usr/bin/lspci"]);
        let is_known = |path: &&str| known().any(|known| known == *path);
        assert!(PROGRAMS.iter().all(|program| program.starts.iter().all(is_known)));
    }

    #[test]
    fn programs_that_were_fetched_with_others_are_found() {
        let (home, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cache = Cache::at(home.path().join("cache"));
        let both = chosen(&["/bin/busybox", "/usr/sbin/dmidecode"]);
        let file = |program: &&ProgramPackage| {
            let file = files.path().join(program.package);
            fs::write(&file, program.path).unwrap();
            (program.path.to_owned(), file)
        };
        let kept = files::Chosen { files: both.iter().map(file).collect(), ..files::Chosen::default() };
        let key = Key::of(["both"]);
        cache.store(FOLDER, &key, |dir| keep(dir, kept, &[])).unwrap();
        cache.write(&name(&cache, &both), &serde_json::to_vec(&key).unwrap()).unwrap();
        let one = cached(&cache, &["/usr/sbin/dmidecode"]).unwrap().unwrap();
        assert!(one.has("/usr/sbin/dmidecode"));
        assert_eq!(cached(&cache, &["/usr/sbin/hwinfo"]).unwrap(), None);
        assert_eq!(cached(&cache, &["/usr/sbin/hwinfo", "/bin/busybox"]).unwrap(), None);
    }

    #[test]
    fn a_program_that_is_not_there_has_a_reason() {
        let none = Programs::without("no network");
        assert!(known().all(|path| none.lacks(path).as_deref() == Some("no network")));
        let one = Programs {
            files: vec![("/bin/busybox".to_owned(), PathBuf::from("bin_busybox"))],
            ..Programs::default()
        };
        assert_eq!(one.files_of(&["/bin/busybox"]).len(), 1);
        assert!(one.files_of(&["/usr/sbin/hwinfo"]).is_empty());
        assert!(one.has("/bin/busybox") && one.lacks("/bin/busybox").is_none());
        assert!(one.lacks("/usr/sbin/hwinfo").is_some());
    }
}
