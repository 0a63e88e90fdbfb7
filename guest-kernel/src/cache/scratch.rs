// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::Error;
use super::lock::Lock;
use fs4::FileExt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory for work in progress. It goes away with this value, and if the process is killed, with the next sweep.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: TempDir,
    /// Locked for as long as the directory is in use.
    _held: File,
}

impl Scratch {
    /// Makes a directory in `parent`.
    pub(super) fn new(parent: &Path, guard: &Lock) -> Result<Self, Error> {
        let _ = guard;
        let failed = |e| Error::io("create a working directory in", parent, e);
        let dir = tempfile::Builder::new().prefix("work-").tempdir_in(parent).map_err(failed)?;
        let held = File::open(dir.path()).map_err(failed)?;
        // A file system without locks costs the sweep, not the work.
        let _ = FileExt::try_lock(&held);
        Ok(Self { dir, _held: held })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Gives the directory, by now complete, its final name.
    pub(crate) fn rename(self, target: &Path) -> Result<(), Error> {
        rename(self.dir.path(), target)?;
        let _ = self.dir.keep();
        Ok(())
    }
}

/// Renames and makes the new name durable.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|e| Error::io("give its final name to", to, e))?;
    to.parent().map_or(Ok(()), sync_dir)
}

/// Makes names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io("sync", dir, e))
}

/// Removes what killed processes left in `parent`. The guard keeps others from being between making and locking.
pub(super) fn sweep(parent: &Path, guard: &Lock) {
    let _ = guard;
    let Ok(entries) = fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(file) = File::open(&path) else { continue };
        if FileExt::try_lock(&file).is_ok() {
            remove(&path);
        }
    }
}

/// Removes a file or a whole directory, as far as possible.
pub(crate) fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        let _ = fs::remove_file(path);
    }
}

/// Moves something out of the way at once, then removes it.
pub(super) fn discard(path: &Path, tmp: &Path) -> Result<(), Error> {
    let grave = tempfile::Builder::new()
        .prefix("old-")
        .tempdir_in(tmp)
        .map_err(|e| Error::io("create a directory in", tmp, e))?;
    let moved: PathBuf = grave.path().join("it");
    match fs::rename(path, moved) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("move away", path, e)),
        _ => Ok(()),
    }
}
