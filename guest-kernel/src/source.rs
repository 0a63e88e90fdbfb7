// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's kernel source, unpacked once per version, and patches on it for as long as a build takes.

use crate::apt::{self, Apt, Package, Reach};
use crate::cache::{self, Cache, remove};
use crate::command::{self, Tool};
use crate::piece::Piece;
use crate::progress::{Amount, Progress};
use crate::version::Version;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

mod patched;
pub(crate) use patched::Patched;

/// An unpacked source tree.
///
/// `linux/` is as Debian ships it unless a build is going on, in which case `journal.json` lists what was changed.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    dir: PathBuf,
    package: String,
    version: Version,
}

/// What unpacked source takes, with room for a build.
const SPACE: u64 = 2200 << 20;

impl Tree {
    /// The newest tree of a series in the cache.
    pub(crate) fn find(cache: &Cache, series: &str) -> Option<Self> {
        Self::all(cache, series).into_iter().max_by(|a, b| a.version.cmp(&b.version))
    }

    /// Every tree of a series in the cache.
    pub(crate) fn all(cache: &Cache, series: &str) -> Vec<Self> {
        let package = package(series);
        let dirs = fs::read_dir(cache.root().join(TREES)).into_iter().flatten().flatten();
        let tree = |dir: PathBuf| {
            let name = dir.file_name()?.to_str()?.to_owned();
            let version = Version::new(name.strip_prefix(&package)?.strip_prefix('_')?);
            Some(Self { dir, package: package.clone(), version })
        };
        dirs.filter_map(|entry| tree(entry.path())).collect()
    }

    /// A tree of the series, fetched if there is none, or if there is a newer one and the caller requests it.
    /// The caller holds the lock on builds of the series.
    pub(crate) fn obtain(
        cache: &Cache,
        progress: &dyn Progress,
        series: &str,
        newest: bool,
    ) -> Result<Self, Error> {
        let have = Self::find(cache, series);
        if let Some(have) = have.filter(|_| !newest) {
            return Ok(have);
        }
        apt::require_tools()?;
        let mut reasons = Vec::new();
        for reach in Reach::ALL {
            let Some(apt) = Apt::open(cache, progress, reach)? else { continue };
            apt.update(&mut reasons)?;
            let name = package(series);
            let found = apt.packages(&name, |other| other == name)?;
            if let Some(found) = found.into_iter().max_by(|a, b| a.version.cmp(&b.version)) {
                return Self::fetch(cache, progress, &apt, series, &found);
            }
        }
        Err(Error::NoSource { package: package(series), reasons: reasons.join("\n") })
    }

    fn fetch(
        cache: &Cache,
        progress: &dyn Progress,
        apt: &Apt<'_>,
        series: &str,
        found: &Package,
    ) -> Result<Self, Error> {
        let dir = cache.dir(TREES)?.join(format!("{}_{}", found.name, found.version));
        let tree = Self { dir, package: found.name.clone(), version: found.version.clone() };
        if tree.dir.is_dir() {
            return Ok(tree);
        }
        cache.require_space(SPACE, "the kernel source")?;
        let (downloads, scratch) = (cache.scratch()?, cache.scratch()?);
        let deb = apt.download(found, downloads.path())?;
        progress.step(&format!("Unpacking {} {}", found.name, found.version));
        let linux = scratch.path().join(LINUX);
        fs::create_dir(&linux).map_err(|e| cache::Error::io("create", &linux, e))?;
        let done = unpack(&deb, series, &linux, |done| {
            progress.advance(Amount::bytes(done.min(found.size), found.size));
        });
        match done {
            Err(_) if cache.is_full() => {
                return Err(cache::Error::full("the kernel source", scratch.path(), Some(SPACE)).into());
            }
            done => done?,
        }
        sync(scratch.path())?;
        scratch.rename(&tree.dir)?;
        for older in Self::all(cache, series).iter().filter(|other| other.version < tree.version) {
            cache.discard(&older.dir)?;
        }
        Ok(tree)
    }

    /// The source as the kernel's build needs it.
    pub(crate) fn linux(&self) -> PathBuf {
        self.dir.join(LINUX)
    }

    /// A place next to the source.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn package(&self) -> &str {
        &self.package
    }

    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    /// Applies patches until the result is dropped. Undoes first what an interrupted build left.
    pub(crate) fn patch(&self, cache: &Cache, patches: &[Piece]) -> Result<Patched, Error> {
        Patched::apply(cache, &self.dir, patches)
    }

    /// A copy of the source for the user to change, in a directory that is not there yet or empty. The caller holds the
    /// lock on builds of the series.
    pub(crate) fn copy(&self, cache: &Cache, dir: &Path) -> Result<(), Error> {
        // What an interrupted build left is undone first.
        self.patch(cache, &[])?.restore()?;
        let failed = |source| Error::Copy { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        if fs::read_dir(dir).map_err(failed)?.next().is_some() {
            return Err(Error::Occupied { dir: dir.to_owned() });
        }
        let purpose = format!("copy the kernel source to {}", dir.display());
        let tool = Tool::new("cp", purpose).args(["-a", "--reflink=auto", "--no-target-directory"]);
        tool.arg(self.linux()).arg(dir).output()?;
        Ok(())
    }

    /// Other names for the same files, in no order.
    pub(crate) fn siblings(&self, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path()).collect()
    }

    /// Removes a place next to the source.
    pub(crate) fn clear(&self, path: &Path) {
        debug_assert!(path.starts_with(&self.dir));
        remove(path);
    }
}

const TREES: &str = "trees";
const LINUX: &str = "linux";

fn package(series: &str) -> String {
    format!("linux-source-{series}")
}

/// The package holds one compressed archive; `dpkg-deb | tar | tar`, with the bytes in between counted.
fn unpack(deb: &Path, series: &str, into: &Path, mut progress: impl FnMut(u64)) -> Result<(), Error> {
    let purpose = "unpack the kernel source";
    let member = format!("./usr/src/{}.tar.xz", package(series));
    let (dpkg, outer) = Tool::new("dpkg-deb", purpose).arg("--fsys-tarfile").arg(deb).spawn_reading()?;
    let (tar, mut inner) =
        Tool::new("tar", purpose).args(["-xO", "-f", "-", &member]).stdin(outer).spawn_reading()?;
    let (xz, mut to) = Tool::new("tar", purpose)
        .args(["-xJ", "-f", "-", "--strip-components=1", "--no-same-owner", "-C"])
        .arg(into)
        .env("XZ_OPT", "-T0")
        .spawn_writing()?;
    let mut done = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match inner.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                // The reader's own failure is reported below.
                if to.write_all(&buffer[..n]).is_err() {
                    break;
                }
                done += n as u64;
                progress(done);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    drop((inner, to));
    xz.finish()?;
    tar.finish()?;
    Ok(dpkg.finish()?)
}

/// Writes a whole directory through to the disk, so that its final name never holds less.
pub(crate) fn sync(dir: &Path) -> Result<(), command::Error> {
    Tool::new("sync", "write the unpacked files to the disk").arg("-f").arg(dir).output().map(drop)
}

/// Why there is no source to build from.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such package, or no network.
    #[error(
        "cannot find the package {package} in Debian's archives; is there a network?{}{reasons}",
        if reasons.is_empty() { "" } else { "\n" }
    )]
    NoSource {
        /// The package.
        package: String,
        /// apt's output.
        reasons: String,
    },
    /// A patch names files outside the tree.
    #[error(
        "the patch {patch} changes `{path}`, which is not in the kernel source; paths must look like a/drivers/char/mem.c"
    )]
    Outside {
        /// The patch.
        patch: String,
        /// The path.
        path: String,
    },
    /// A patch without changes.
    #[error("the patch {patch} changes no file; it should be a unified diff as git writes it")]
    Empty {
        /// The patch.
        patch: String,
    },
    /// A patch that does not fit.
    #[error(
        "the patch {patch} does not apply to this kernel source exactly (no fuzz is allowed: a check must not land in another place); rebase it and try again. {source}"
    )]
    Mismatch {
        /// The patch.
        patch: String,
        /// patch's output.
        source: Box<command::Error>,
    },
    /// A copy cannot be made there.
    #[error("cannot put a kernel source tree into {}: {source}", dir.display())]
    Copy {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something is there already.
    #[error("cannot put a kernel source tree into {}: there are files in it; name a directory that is not there yet", dir.display())]
    Occupied {
        /// The directory.
        dir: PathBuf,
    },
    /// apt failed.
    #[error(transparent)]
    Apt(#[from] apt::Error),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] command::Error),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}
