// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::Error;
use fs4::{FileExt, TryLockError};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::Stdio;

/// A lock that ends with its holder, however that dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, and calls `wait` first if another process has it.
    pub(super) fn take(path: &Path, wait: impl FnOnce()) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(path)
            .map_err(|e| Error::io("open the lock file", path, e))?;
        match FileExt::try_lock(&file) {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => {
                wait();
                FileExt::lock(&file).map_err(|e| Error::io("lock", path, e))?;
                Ok(Self { file })
            }
            Err(TryLockError::Error(e)) => Err(Error::io("lock", path, e)),
        }
    }

    /// Takes the lock if it is free.
    pub(super) fn try_take(path: &Path) -> Option<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(path).ok()?;
        FileExt::try_lock(&file).ok().map(|()| Self { file })
    }

    /// An empty standard input that makes a child process a holder of the lock too, so that a child that outlives this
    /// process keeps others off what it still writes to.
    pub(crate) fn as_stdin(&self) -> Stdio {
        self.file.try_clone().map_or_else(|_| Stdio::null(), Stdio::from)
    }
}
