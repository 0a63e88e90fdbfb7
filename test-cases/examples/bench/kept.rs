// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What it costs to keep a guest on disk, and to start one from there.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use engine::session::{GuestFiles, SavedGuest, Surroundings};
use guest_kernel::Cache;
use guest_kernel::cache::{Key, LruStore};
use guest_kernel::initramfs::Initramfs;

use crate::figures::{MIB, median, ms, print_ratio};
use crate::{Outcome, guest, restore};

/// Guests started, of which the median is printed.
const ROUNDS: usize = 3;

/// Keeps the guest as `copra run` does, in a cache of its own, and starts others from it. `boot` is the time of its boot.
pub fn keep_and_start(platform: &str, saved: &SavedGuest, boot: Duration) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let cache = Cache::at(folder.path().join("copra"));
    let (store, key) = (LruStore::of(&cache), Key::of(["bench", platform]));
    let started = Instant::now();
    store.store(&key, |file| saved.write(&[], file))?;
    let written = started.elapsed();
    let size: u64 = fs::read_dir(cache.root().join("bounded"))?
        .map(|file| Ok(file?.metadata()?.len()))
        .sum::<Outcome<u64>>()?;

    let files = Arc::new(GuestFiles::new(Initramfs::new().build()?));
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let around = Surroundings {
            config: guest::config(platform)?,
            names: None,
            files: Arc::clone(&files),
            interrupt: Arc::new(AtomicBool::new(false)),
        };
        let started = Instant::now();
        let read = store.read(&key, |content| SavedGuest::read(content, around).ok());
        let (_, kept) = read.ok_or("the guest that was kept cannot be read")?;
        let mut session = kept.start()?;
        times.push(ms(started.elapsed()));
        restore::case(&mut session)?;
    }
    println!(
        "kept {platform}: {:.1} MiB on disk, written in {:.1} ms; another guest started from there in {:.1} ms",
        size as f64 / MIB,
        ms(written),
        median(&times)
    );
    print_ratio(&format!("kept-{platform}/boot-{platform}"), median(&times) / ms(boot));
    Ok(())
}
