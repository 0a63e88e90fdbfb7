// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes in an [`LruStore`] that are checked when they are read.
//!
//! The file ends with a trailer: the content's length and checksum, and the key it was stored under. What is cut off,
//! changed or under the name of another key is as good as not there. The checksum is XXH64: it finds damage, at a few
//! instructions for eight bytes, since the reader may be on an emulated processor; it is no protection against intent.

use super::{Error, Key, LruStore};
use std::io::{Read, Seek, SeekFrom, Write};
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

impl LruStore {
    /// The bytes stored under a key, if they are there and intact. A damaged file is removed.
    pub fn bytes(&self, key: &Key) -> Option<Vec<u8>> {
        let stored = self.get(key)?;
        let length = usize::try_from(stored.metadata().ok()?.len()).ok()?;
        let mut bytes = Vec::with_capacity(length);
        // An error of the disk is one more kind of damage.
        let read = (&*stored).read_to_end(&mut bytes);
        let content = read.ok().and_then(|_| bytes.split_last_chunk::<TRAILER>());
        let intact = content.and_then(|(content, found)| {
            let expected = trailer(key, content.len() as u64, XxHash64::oneshot(SEED, content));
            (*found == expected).then_some(content.len())
        });
        let Some(length) = intact else {
            self.remove(key);
            return None;
        };
        bytes.truncate(length);
        Some(bytes)
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
        let trailer = trailer(key, bytes.len() as u64, XxHash64::oneshot(SEED, bytes));
        self.put(key, |file| {
            let written = file.write_all(bytes).and_then(|()| file.write_all(&trailer));
            written.map_err(|e| Error::io("write", &self.path(key), e))
        })
        .map(drop)
    }
}
