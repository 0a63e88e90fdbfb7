// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of which as many are kept as fit into a limit: the least recently used go first.
//!
//! For what can be computed again at any time, so that no caller depends on a file being there. Every file has its final
//! name by one rename, complete and on the disk. An open file stays readable after its removal, and one that is in use is not removed:
//! each user holds a shared lock on it. (Locks do not reach from the KVM host in QEMU to this machine; there the open
//! file alone protects the reader.)

use super::scratch::{remove, rename};
use super::{Cache, Error, Key, Lock, regular};
use fs4::FileExt;
use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

#[cfg(test)]
mod tests;

/// What the files take together at most: the vmlinux of sixty distribution kernels.
pub const LIMIT: u64 = 4 << 30;
/// A file that was used less long ago is not marked as used again, since each mark is a write to the disk.
const MARK_INTERVAL: Duration = Duration::from_secs(60);
/// The directory in the cache.
const FOLDER: &str = "bounded";

/// Files by key, bounded in size.
#[derive(Clone, Debug)]
pub struct LruStore {
    cache: Cache,
    limit: u64,
}

/// An open file of the store. It stays readable for as long as this value lives.
#[derive(Debug)]
pub struct Stored {
    file: File,
}

impl Deref for Stored {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Stored {
    /// Holds the lock that keeps others from removing the file. A file system without locks costs that, not the file.
    fn hold(file: File) -> Self {
        let _ = FileExt::try_lock_shared(&file);
        Self { file }
    }
}

/// A file as the removal sees it.
struct Candidate {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

impl LruStore {
    /// The store in a cache, of the usual size. Creates nothing yet.
    pub fn of(cache: &Cache) -> Self {
        Self::with_limit(cache, LIMIT)
    }

    /// The same with a limit of the caller's choice, in bytes.
    pub fn with_limit(cache: &Cache, limit: u64) -> Self {
        Self { cache: cache.clone(), limit }
    }

    /// The file of a key, open for reading, and marked as used now; `None` if there is none. What is in it is the
    /// caller's to check: [`LruStore::bytes`] does.
    pub fn get(&self, key: &Key) -> Option<Stored> {
        let stored = Stored::hold(regular::open(&self.path(key)).ok()?);
        let used = stored.metadata().and_then(|metadata| metadata.modified()).ok()?;
        let now = SystemTime::now();
        // A time in the future is of a clock that was wrong.
        if now.duration_since(used).is_ok_and(|age| age < MARK_INTERVAL) {
            return Some(stored);
        }
        // A store that cannot be written to can be read.
        let _ = stored.set_modified(now);
        Some(stored)
    }

    /// Stores what `write` writes, in place of an older file of that key, and removes the least recently used files
    /// beyond the limit. A file that alone is larger than the limit is not kept, and can be read from the result.
    pub fn put<E: From<Error>>(
        &self,
        key: &Key,
        write: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<Stored, E> {
        let scratch = self.cache.scratch()?;
        let new = scratch.path().join("new");
        let mut file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&new)
            .map_err(|e| Error::io("create", &new, e))?;
        write(&mut file)?;
        let size = file.metadata().map_err(|e| Error::io("look at", &new, e))?.len();
        if size > self.limit {
            return Ok(Stored::hold(file));
        }
        // A write may succeed in the page cache and fail on the disk, later: when that is full, or for lack of power.
        file.sync_all().map_err(|e| Error::io("sync", &new, e))?;
        let stored = Stored::hold(file);
        let (folder, path) = (self.cache.dir(FOLDER)?, self.path(key));
        if path.is_dir() {
            // What no file can replace.
            remove(&path);
        }
        rename(&new, &path)?;
        self.shrink(&folder);
        Ok(stored)
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, key: &Key) {
        remove(&self.path(key));
    }

    /// A lock on a key, for work that should not be done twice at once. `wait` is called before waiting.
    pub fn lock(&self, key: &Key, wait: impl FnOnce()) -> Result<Lock, Error> {
        self.cache.lock(&format!("{FOLDER}-{}", key.as_str()), wait)
    }

    /// Where the file of a key is, or would be.
    pub(super) fn path(&self, key: &Key) -> PathBuf {
        self.cache.root().join(FOLDER).join(key.as_str())
    }

    /// Removes the least recently used files until the rest is within the limit. Files in use stay, and so the limit may
    /// be exceeded until they are not.
    fn shrink(&self, folder: &Path) {
        let mut files = candidates(folder);
        files.sort_by_key(|file| file.used);
        let mut total: u64 = files.iter().map(|file| file.size).sum();
        for file in files {
            if total <= self.limit {
                return;
            }
            if remove_unused(&file.path) {
                total -= file.size;
            }
        }
    }
}

fn candidates(folder: &Path) -> Vec<Candidate> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
            let used = metadata.modified().ok()?;
            Some(Candidate { path: file.path(), size: metadata.len(), used })
        })
        .collect()
}

/// Whether the file is gone: removed here, or by another process.
fn remove_unused(path: &Path) -> bool {
    let Ok(file) = regular::open(path) else { return !path.exists() };
    FileExt::try_lock(&file).is_ok() && fs::remove_file(path).is_ok()
}
