// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Working directories. Each is locked by its maker; the locks of one machine are not seen by another that has the same
//! cache, so the name also has the machine, since its start.

use super::Error;
use super::lock::Lock;
use fs4::FileExt;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A working directory of another machine, or of this one before its start, is taken for left behind when neither it nor a
/// file in it has changed for this long.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// A directory for work in progress. It goes away with this value, and if the process is killed, with the next sweep.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
    /// Locked for as long as the directory is in use.
    _held: File,
}

impl Scratch {
    /// Makes a directory in `parent`.
    pub(super) fn new(parent: &Path, guard: &Lock) -> Result<Self, Error> {
        let _ = guard;
        let failed = |e| Error::io("create a working directory in", parent, e);
        let dir = tempfile::Builder::new().prefix(&prefix(parent)).tempdir_in(parent).map_err(failed)?;
        let held = File::open(dir.path()).map_err(failed)?;
        // A file system without locks costs the sweep, not the work.
        let _ = FileExt::try_lock(&held);
        Ok(Self { dir, _held: held })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
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

/// How the names of this machine's working directories in `parent` begin.
pub(super) fn prefix(parent: &Path) -> String {
    match machine(parent) {
        Some(id) => format!("work-{id}-"),
        None => "work-".to_owned(),
    }
}

/// This machine, until it starts again; `None` if its locks in `parent` may be invisible to others with the same `boot_id`:
/// KVM hosts in QEMU that were restored from one state have one (`drivers/char/random.c:proc_do_uuid`).
fn machine(parent: &Path) -> Option<String> {
    if is_9p(parent) {
        return None;
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().replace('-', ""))
}

/// Whether the file system of a directory is that of another machine, through 9p.
fn is_9p(dir: &Path) -> bool {
    /// `V9FS_MAGIC` (`include/uapi/linux/magic.h`).
    const MAGIC: i64 = 0x0102_1997;
    let Ok(dir) = File::open(dir) else { return false };
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open, and `found` has room for the result, which is read only if there is one.
    unsafe { libc::fstatfs(dir.as_raw_fd(), found.as_mut_ptr()) == 0 && found.assume_init().f_type == MAGIC }
}

/// Removes what killed processes left in `parent`. The guard keeps others from being between making and locking.
pub(super) fn sweep(parent: &Path, guard: &Lock) {
    let _ = guard;
    let ours = machine(parent).map(|id| format!("work-{id}-"));
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // A pipe would wait for its writer.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let is_free = file.as_ref().is_ok_and(|file| FileExt::try_lock(file).is_ok());
        let is_ours =
            ours.as_deref().is_some_and(|ours| entry.file_name().to_string_lossy().starts_with(ours));
        if is_free && (is_ours || is_abandoned(&path)) {
            remove(&path);
        }
    }
}

/// Whether a file, or a directory and what is in it, has not changed for long.
fn is_abandoned(path: &Path) -> bool {
    let is_old = |path: &Path| {
        let changed = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
        // A time in the future is of a clock that was wrong.
        changed
            .is_ok_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|age| age > ABANDONED))
    };
    let mut inside = fs::read_dir(path).into_iter().flatten().flatten();
    is_old(path) && inside.all(|entry| is_old(&entry.path()))
}

/// Removes a file or a whole directory, as far as possible.
pub(crate) fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        let _ = fs::remove_file(path);
    }
}

/// Moves something out of the way at once; it is removed with `grave`.
pub(super) fn discard(path: &Path, grave: &Scratch) -> Result<(), Error> {
    let moved: PathBuf = grave.path().join("it");
    match fs::rename(path, moved) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("move away", path, e)),
        _ => Ok(()),
    }
}
