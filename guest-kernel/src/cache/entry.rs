// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::Error;
use super::regular;
use super::scratch::{Scratch, sync_dir};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A finished set of files, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    dir: PathBuf,
}

const MANIFEST: &str = "manifest.json";

/// What an entry was when it was stored.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, Stored>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    size: u64,
    sha256: String,
    /// Nanoseconds. A file with this size and time is taken for unchanged; any other is read and hashed.
    modified: i128,
}

impl Stored {
    fn looks_like(&self, metadata: &Metadata) -> bool {
        metadata.len() == self.size && modified(metadata) == self.modified
    }
}

fn modified(metadata: &Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

impl Entry {
    /// The entry in `dir`, if there is one.
    pub(super) fn find(dir: &Path) -> Result<Option<Self>, Error> {
        let manifest = dir.join(MANIFEST);
        let text = match regular::read(&manifest) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !dir.exists() => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(damaged(manifest, "missing")),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(damaged(manifest, &e.to_string()));
            }
            Err(e) => return Err(Error::io("read", &manifest, e)),
        };
        let Ok(contents) = serde_json::from_slice::<Manifest>(&text) else {
            return Err(damaged(manifest, "not readable"));
        };
        for (name, stored) in &contents.files {
            check(dir.join(name), stored)?;
        }
        Ok(Some(Self { dir: dir.to_owned() }))
    }

    /// Stores what is in `scratch` under its final name.
    pub(super) fn publish(scratch: Scratch, dir: &Path) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        let names = fs::read_dir(scratch.path()).map_err(|e| Error::io("list", scratch.path(), e))?;
        for path in names.flatten().map(|entry| entry.path()) {
            let stored = sync_and_describe(&path).map_err(|e| Error::io("store", &path, e))?;
            files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), stored);
        }
        let manifest = scratch.path().join(MANIFEST);
        let text = serde_json::to_vec_pretty(&Manifest { files }).unwrap_or_default();
        write_synced(&manifest, &text).map_err(|e| Error::io("write", &manifest, e))?;
        sync_dir(scratch.path())?;
        scratch.rename(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The path of a file of this entry.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }
}

fn damaged(file: PathBuf, how: &str) -> Error {
    Error::Damaged { file, how: how.to_owned() }
}

fn check(file: PathBuf, stored: &Stored) -> Result<(), Error> {
    let metadata = match fs::metadata(&file) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(damaged(file, "missing")),
        Err(e) => return Err(Error::io("look at", &file, e)),
    };
    if stored.looks_like(&metadata) {
        return Ok(());
    }
    if metadata.len() != stored.size {
        let how = format!("{} bytes instead of {}", metadata.len(), stored.size);
        return Err(Error::Damaged { file, how });
    }
    if !metadata.is_file() {
        return Err(damaged(file, "it is no regular file"));
    }
    let sha256 = hash_file(&file).map_err(|e| Error::io("read", &file, e))?;
    if sha256 == stored.sha256 { Ok(()) } else { Err(damaged(file, "its contents have changed")) }
}

/// Makes a file durable and describes it.
fn sync_and_describe(path: &Path) -> io::Result<Stored> {
    let file = regular::open(path)?;
    file.sync_all()?;
    let metadata = file.metadata()?;
    Ok(Stored { size: metadata.len(), sha256: hash(file)?, modified: modified(&metadata) })
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn hash_file(path: &Path) -> io::Result<String> {
    hash(regular::open(path)?)
}

fn hash(mut from: impl Read) -> io::Result<String> {
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hex(&sha.finalize())),
            Ok(n) => sha.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn hash_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|d| DIGITS[usize::from(d)] as char).collect()
}
