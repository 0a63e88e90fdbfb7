// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes in an [`LruStore`] that are checked when they are read.
//!
//! The file ends with a trailer: the content's length and checksum, and the key it was stored under. What is cut off,
//! changed or under the name of another key is as good as not there. The checksum is XXH64: it finds damage, at a few
//! instructions for eight bytes, since the reader may be on an emulated processor; it is no protection against intent.

use super::{Error, Key, LruStore};
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom, Write};
use twox_hash::XxHash64;

/// The first bytes of a trailer. Changes with its form.
const MAGIC: [u8; 8] = *b"copra.1\n";
/// Length of a key's text.
const KEY: usize = 32;
/// Length of a trailer: magic, length, checksum, key.
const TRAILER: usize = 8 + 8 + 8 + KEY;
/// The checksum begins with this.
const SEED: u64 = 0;

fn trailer(key: &Key, length: u64, checksum: u64) -> [u8; TRAILER] {
    let mut trailer = [0; TRAILER];
    trailer[..8].copy_from_slice(&MAGIC);
    trailer[8..16].copy_from_slice(&length.to_le_bytes());
    trailer[16..24].copy_from_slice(&checksum.to_le_bytes());
    for (to, from) in trailer[24..].iter_mut().zip(key.as_str().bytes()) {
        *to = from;
    }
    trailer
}

/// The content of a file while it is read: what was read is known to be intact when all of it was.
#[derive(Debug)]
pub struct Content<'a> {
    file: &'a File,
    left: u64,
    hash: XxHash64,
}

impl Content<'_> {
    /// Bytes that are left to read.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| buffer.len().min(left));
        let count = self.file.read(&mut buffer[..most])?;
        self.hash.write(&buffer[..count]);
        self.left -= count as u64;
        Ok(count)
    }
}

/// A file while its content is written.
#[derive(Debug)]
pub struct Unsealed<'a> {
    file: &'a File,
    written: u64,
    hash: XxHash64,
}

impl Write for Unsealed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.write(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Fails unless the file has as many bytes as were written to it.
pub(super) fn check_length(file: &File, wanted: u64) -> io::Result<()> {
    match file.metadata()?.len() {
        length if length == wanted => Ok(()),
        length => Err(io::Error::other(format!("the file has {length} bytes and not the {wanted} written"))),
    }
}

impl LruStore {
    /// What `read` makes of the content stored under a key, if that is there and intact. `read` gets it before it is known to
    /// be, and has to read all of it. A file that is damaged, or that `read` has no use for, is removed.
    pub fn read<T>(&self, key: &Key, read: impl FnOnce(&mut Content<'_>) -> Option<T>) -> Option<T> {
        let stored = self.get(key)?;
        // An error of the disk is one more kind of damage.
        let checked = || {
            let length = stored.metadata().ok()?.len().checked_sub(TRAILER as u64)?;
            let mut content = Content { file: &stored, left: length, hash: XxHash64::with_seed(SEED) };
            let value = read(&mut content)?;
            let mut found = [0; TRAILER];
            (&*stored).read_exact(&mut found).ok()?;
            (content.left == 0 && found == trailer(key, length, content.hash.finish())).then_some(value)
        };
        let value = checked();
        if value.is_none() {
            self.remove(key);
        }
        value
    }

    /// The bytes stored under a key, if they are there and intact. A damaged file is removed.
    pub fn bytes(&self, key: &Key) -> Option<Vec<u8>> {
        self.read(key, |content| {
            let mut bytes = Vec::with_capacity(usize::try_from(content.left()).ok()?);
            content.read_to_end(&mut bytes).ok()?;
            Some(bytes)
        })
    }

    /// Whether a file of that key is there that seems intact by its trailer alone. Marks it as used.
    pub fn seems_intact(&self, key: &Key) -> bool {
        let check = || {
            let stored = self.get(key)?;
            let length = stored.metadata().ok()?.len().checked_sub(TRAILER as u64)?;
            let mut found = [0; TRAILER];
            (&*stored).seek(SeekFrom::Start(length)).ok()?;
            (&*stored).read_exact(&mut found).ok()?;
            let checksum = u64::from_le_bytes(*found.get(16..)?.first_chunk()?);
            Some(found == trailer(key, length, checksum))
        };
        check() == Some(true)
    }

    /// Stores bytes.
    pub fn store_bytes(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.store(key, |file| file.write_all(bytes))
    }

    /// Stores what `write` writes.
    pub fn store(
        &self,
        key: &Key,
        write: impl FnOnce(&mut Unsealed<'_>) -> io::Result<()>,
    ) -> Result<(), Error> {
        self.put(key, |file| {
            let mut content = Unsealed { file, written: 0, hash: XxHash64::with_seed(SEED) };
            let written = write(&mut content).and_then(|()| {
                let trailer = trailer(key, content.written, content.hash.finish());
                content.file.write_all(&trailer)
            });
            let wanted = content.written + TRAILER as u64;
            written
                .and_then(|()| check_length(content.file, wanted))
                .map_err(|e| Error::io("write", &self.path(key), e))
        })
        .map(drop)
    }
}
