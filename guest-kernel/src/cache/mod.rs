// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What copra keeps between runs, by content, under `${XDG_CACHE_HOME:-~/.cache}/copra`.
//!
//! Nothing unfinished is ever visible under a final name: work happens in a directory of its own, is written through to
//! the disk, and gets its name by one rename. Every file of an entry is listed with its hash, so a file that changed
//! later is noticed. Locks end with their holder. Deleting the whole cache is always safe.

mod entry;
mod error;
mod lock;
mod lru;
mod regular;
mod scratch;
mod sealed;
#[cfg(test)]
mod tests;

pub use entry::hash_bytes;
pub(crate) use entry::{Entry, hash_file, hex};
pub use error::Error;
pub use lock::Lock;
pub use lru::{LIMIT, LruStore, Stored};
pub use scratch::Scratch;
pub(crate) use scratch::{remove, rename};

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The cache directory.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    /// Where working directories are made, if another process holds them all.
    work: Option<PathBuf>,
}

/// Names a working directory that the copra holds which started this process on another machine with the same cache: a
/// KVM host in QEMU, whose locks the first machine does not see.
pub const WORK_FOLDER: &str = "COPRA_WORK_FOLDER";

/// The name of a cache entry: a hash over everything its content depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// A key over parts. The borders between parts count: `ab`, `c` is not `a`, `bc`.
    pub fn of<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> Self {
        let mut bytes = Vec::new();
        for part in parts {
            let part = part.as_ref();
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        let mut hex = hash_bytes(&bytes);
        hex.truncate(32);
        Self(hex)
    }

    /// The key as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Cache {
    /// The user's cache. Creates nothing yet.
    pub fn open() -> Result<Self, Error> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .ok_or(Error::NoHome)?;
        let work = absolute(WORK_FOLDER);
        Ok(Self { work, ..Self::at(base.join("copra")) })
    }

    /// A cache in a directory of the caller's choice.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), work: None }
    }

    /// Where the cache is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The entry of that key, if it is there and intact.
    pub(crate) fn get(&self, room: &str, key: &Key) -> Result<Option<Entry>, Error> {
        Entry::find(&self.place(room, key))
    }

    /// Makes an entry of what `fill` puts into the directory it is given. The caller holds a lock on the key.
    pub(crate) fn store<E: From<Error>>(
        &self,
        room: &str,
        key: &Key,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Entry, E> {
        let scratch = self.scratch()?;
        fill(scratch.path())?;
        self.dir(room)?;
        Ok(Entry::publish(scratch, &self.place(room, key))?)
    }

    /// Forgets an entry.
    pub(crate) fn evict(&self, room: &str, key: &Key) -> Result<(), Error> {
        scratch::discard(&self.place(room, key), &self.scratch()?)
    }

    /// Forgets any path inside the cache.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), Error> {
        scratch::discard(path, &self.scratch()?)
    }

    /// A lock that other processes see. `wait` is called before waiting for one of them.
    pub(crate) fn lock(&self, name: &str, wait: impl FnOnce()) -> Result<Lock, Error> {
        Lock::take(&self.dir("locks")?.join(name), wait)
    }

    /// The same lock, if it is free.
    pub(crate) fn try_lock(&self, name: &str) -> Result<Option<Lock>, Error> {
        Ok(Lock::try_take(&self.dir("locks")?.join(name)))
    }

    /// A directory for work in progress, on the same file system as everything else here.
    pub fn scratch(&self) -> Result<Scratch, Error> {
        let guard = self.lock(TMP, || {})?;
        let held = self.work.as_deref().filter(|work| work.starts_with(&self.root) && work.is_dir());
        match held {
            Some(held) => Scratch::new(held, &guard),
            None => Scratch::new(&self.dir(TMP)?, &guard),
        }
    }

    /// Removes working directories of killed processes.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        if self.work.is_some() || !self.root.is_dir() {
            return Ok(());
        }
        let guard = self.lock(TMP, || {})?;
        scratch::sweep(&self.dir(TMP)?, &guard);
        Ok(())
    }

    /// Fails unless there are `needed` bytes for `what`.
    pub(crate) fn require_space(&self, needed: u64, what: &str) -> Result<(), Error> {
        if error::free(&self.root) < needed {
            return Err(Error::full(what, &self.root, Some(needed)));
        }
        Ok(())
    }

    /// Turns any failure into that of a full disk, if the disk is full: programs seldom report that as the cause.
    pub(crate) fn is_full(&self) -> bool {
        const ALMOST: u64 = 8 << 20;
        error::free(&self.root) < ALMOST
    }

    /// Replaces a small file.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let failed = |e| Error::io("write", path, e);
        let scratch = self.scratch()?;
        let new = scratch.path().join("new");
        entry::write_synced(&new, bytes).map_err(failed)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        rename(&new, path)
    }

    /// Reads a small file written by [`Cache::write`], and when that was.
    pub(crate) fn read(path: &Path) -> Result<Option<(Vec<u8>, SystemTime)>, Error> {
        let read = || io::Result::Ok((regular::read(path)?, fs::metadata(path)?.modified()?));
        match read() {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path, e)),
        }
    }

    /// A directory directly under the root, made if it is not there.
    pub(crate) fn dir(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.root.join(name);
        if !dir.is_dir() {
            fs::create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
            // Backup programs skip directories with this file.
            let tag = self.root.join("CACHEDIR.TAG");
            if !tag.exists() {
                let text = "Signature: 8a477f597d28d172789f06886806bc55\n# copra's cache; safe to delete\n";
                fs::write(&tag, text).map_err(|e| Error::io("write", &tag, e))?;
            }
        }
        Ok(dir)
    }

    fn place(&self, room: &str, key: &Key) -> PathBuf {
        self.root.join(room).join(&key.0)
    }
}

const TMP: &str = "tmp";
