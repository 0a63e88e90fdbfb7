// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that was saved, as bytes: the length of the head, the head, the pages.

use types::Platform;
use vmm::snapshot::Snapshot;
use vmm::snapshot::file::FileError;
use vmm::stored::{Reader, Writer};

/// A guest has no more memory, so a snapshot takes no more.
const MOST_PAGES: u64 = vmm::layout::MAX_RAM / vmm::layout::PAGE_SIZE;

/// Reads the bytes, and uses what comes back.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(snapshot) = decode(bytes) else { return };
    let memory = snapshot.memory();
    let filled: Vec<usize> = memory.filled().iter().collect();
    assert!(memory.pages() as u64 <= MOST_PAGES);
    assert!(filled.iter().all(|page| *page < memory.pages()));
    assert!(filled.len() as u64 * vmm::layout::PAGE_SIZE <= bytes.len() as u64);
    // What was taken is what would be stored.
    let stored = encode(&snapshot).expect("a snapshot that was read can be written");
    let same = decode(&stored).expect("a snapshot that was written can be read");
    assert_eq!(same.memory().states(), memory.states());
    assert!(same.memory().differences(memory).is_empty());
    assert!(encode(&same).is_ok_and(|again| again == stored));
}

/// A guest of each platform.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |platform: &Platform| {
        let bytes = encode(&Snapshot::sample(*platform).ok()?).ok()?;
        Some((platform.name().to_owned(), bytes))
    };
    Platform::ALL.iter().filter_map(seed).collect()
}

fn decode(bytes: &[u8]) -> Result<Snapshot, FileError> {
    let mut from = Reader::new(bytes);
    let head = from.bytes("head")?;
    Snapshot::decode(Reader::new(head), &mut from.rest())
}

fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, FileError> {
    let (mut head, mut bytes) = (Writer::default(), Writer::default());
    snapshot.encode(&mut head)?;
    bytes.bytes(&head.into_bytes());
    let mut pages = Vec::new();
    snapshot.write_pages(&mut pages).map_err(FileError::Pages)?;
    bytes.raw(&pages);
    Ok(bytes.into_bytes())
}
