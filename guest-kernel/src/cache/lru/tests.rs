// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of an empty entry of [`LruStore::store_bytes`].
const TRAILER: u64 = 56;

fn store(limit: u64) -> (tempfile::TempDir, LruStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = LruStore::with_limit(&Cache::at(dir.path().join("copra")), limit);
    (dir, store)
}

fn key(name: &str) -> Key {
    Key::of([name])
}

fn put(store: &LruStore, name: &str, size: usize) {
    store
        .put(&key(name), |file| {
            file.write_all(&vec![7; size]).map_err(|e| Error::io("write", Path::new("x"), e))
        })
        .unwrap();
}

/// Sets when a file was used last, in seconds before now.
fn used(store: &LruStore, name: &str, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::open(store.path(&key(name))).unwrap().set_modified(then).unwrap();
}

fn names<'a>(store: &LruStore, all: &[&'a str]) -> Vec<&'a str> {
    all.iter().copied().filter(|name| store.path(&key(name)).exists()).collect()
}

#[test]
fn bytes_come_back_and_looking_creates_nothing() {
    let (_dir, store) = store(1 << 20);
    assert!(store.get(&key("a")).is_none() && store.bytes(&key("a")).is_none());
    assert!(!store.seems_intact(&key("a")));
    assert!(!store.cache.root().exists());
    store.store_bytes(&key("a"), b"text").unwrap();
    assert!(store.seems_intact(&key("a")));
    assert_eq!(store.bytes(&key("a")).unwrap(), b"text");
    store.store_bytes(&key("a"), b"").unwrap();
    assert_eq!(store.bytes(&key("a")).unwrap(), b"");
    store.remove(&key("a"));
    assert!(store.bytes(&key("a")).is_none());
    assert_eq!(fs::read_dir(store.cache.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn the_least_recently_used_go_first() {
    let (_dir, store) = store(30);
    for (name, seconds) in [("a", 300), ("b", 200), ("c", 100)] {
        put(&store, name, 10);
        used(&store, name, seconds);
    }
    // Being read is being used.
    drop(store.get(&key("a")).unwrap());
    assert!(
        store.get(&key("a")).unwrap().metadata().unwrap().modified().unwrap().elapsed().unwrap()
            < MARK_INTERVAL
    );
    used(&store, "a", 50);
    put(&store, "d", 10);
    assert_eq!(names(&store, &["a", "b", "c", "d"]), ["a", "c", "d"]);
    put(&store, "e", 20);
    assert_eq!(names(&store, &["a", "b", "c", "d", "e"]), ["d", "e"]);
}

#[test]
fn a_file_in_use_is_not_removed_and_an_open_one_stays_readable() {
    let (_dir, store) = store(10);
    put(&store, "a", 10);
    used(&store, "a", 1000);
    let in_use = store.get(&key("a")).unwrap();
    // As if it had been used long ago, for all its reader does.
    used(&store, "a", 1000);
    put(&store, "b", 5);
    assert_eq!(names(&store, &["a", "b"]), ["a", "b"], "neither the one being read nor the new one goes");
    store.remove(&key("a"));
    let mut bytes = Vec::new();
    (&*in_use).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [7; 10]);
    drop(in_use);
    put(&store, "c", 10);
    assert_eq!(names(&store, &["a", "b", "c"]), ["c"]);
}

#[test]
fn what_alone_exceeds_the_limit_is_not_kept_and_removes_nothing() {
    let (_dir, store) = store(100);
    put(&store, "a", 10);
    let large =
        store.put(&key("b"), |file| file.set_len(101).map_err(|e| Error::io("extend", Path::new("x"), e)));
    assert_eq!(large.unwrap().metadata().unwrap().len(), 101);
    assert_eq!(names(&store, &["a", "b"]), ["a"]);
}

#[test]
fn a_failing_writer_leaves_the_older_file() {
    let (_dir, store) = store(100);
    store.store_bytes(&key("a"), b"old").unwrap();
    let failed = store.put(&key("a"), |file| {
        file.write_all(b"half").unwrap();
        Err(Error::NoHome)
    });
    assert!(matches!(failed, Err(Error::NoHome)));
    assert_eq!(store.bytes(&key("a")).unwrap(), b"old");
    assert_eq!(fs::read_dir(store.cache.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_file_under_the_name_of_another_key_is_not_taken() {
    let (_dir, store) = store(1 << 20);
    store.store_bytes(&key("image A"), b"of A").unwrap();
    fs::copy(store.path(&key("image A")), store.path(&key("image B"))).unwrap();
    assert!(!store.seems_intact(&key("image B")));
    assert!(store.bytes(&key("image B")).is_none());
    assert!(!store.path(&key("image B")).exists(), "a damaged file is removed");
    assert_eq!(store.bytes(&key("image A")).unwrap(), b"of A");
}

#[test]
fn what_is_no_regular_file_is_not_read_and_is_replaced() {
    for (what, make) in regular::OTHERS {
        let (_dir, store) = store(100);
        store.store_bytes(&key("a"), b"text").unwrap();
        let path = store.path(&key("a"));
        fs::remove_file(&path).unwrap();
        make(&path);
        assert!(store.get(&key("a")).is_none(), "{what}");
        assert!(!store.seems_intact(&key("a")) && store.bytes(&key("a")).is_none(), "{what}");
        // Nor does it block the removal of others.
        put(&store, "b", 90);
        put(&store, "c", 90);
        store.remove(&key("b"));
        store.remove(&key("c"));
        store.store_bytes(&key("a"), b"text").unwrap();
        assert_eq!(store.bytes(&key("a")).unwrap(), b"text", "{what}");
        assert_eq!(fs::read_dir(store.cache.root().join("tmp")).unwrap().count(), 0);
    }
}

#[test]
fn a_file_that_is_shorter_than_what_was_written_is_an_error() {
    let file = tempfile::tempfile().unwrap();
    for length in [0, 3] {
        file.set_len(length).unwrap();
        let error = super::super::sealed::check_length(&file, 4).unwrap_err().to_string();
        assert_eq!(error, format!("the file has {length} bytes and not the 4 written"));
    }
    file.set_len(4).unwrap();
    super::super::sealed::check_length(&file, 4).unwrap();
}

#[test]
fn many_writers_and_readers_at_once_see_whole_files_only() {
    // Room for two of three.
    let (_dir, store) = store(2 * (4096 + TRAILER));
    let (done, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let (store, done, seen) = (&store, &done, &seen);
            scope.spawn(move || {
                for round in 0..40_u8 {
                    store.store_bytes(&key(name), &[round; 4096]).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    if let Some(bytes) = store.bytes(&key(name)) {
                        assert!(bytes.len() == 4096 && bytes.iter().all(|b| *b == bytes[0]));
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(seen.into_inner() > 0);
    put(&store, "last", 1);
    let total: u64 = candidates(&store.cache.root().join(FOLDER)).iter().map(|file| file.size).sum();
    assert!(total <= store.limit, "{total}");
}

/// Computes what its parent waits for, as one of several processes.
#[test]
#[ignore = "runs in children of its own, several at once"]
fn makes_once() {
    let Some(place) = std::env::var_os("COPRA_LRU_CHILD") else { return };
    let store = LruStore::with_limit(&Cache::at(Path::new(&place)), 1 << 20);
    let _lock = store.lock(&key("a"), || {}).unwrap();
    if store.bytes(&key("a")).is_none() {
        let mut log = File::options().append(true).create(true).open(Path::new(&place).join("made")).unwrap();
        log.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(100));
        store.store_bytes(&key("a"), b"once").unwrap();
    }
    assert_eq!(store.bytes(&key("a")).unwrap(), b"once");
}

#[test]
fn of_several_processes_one_does_the_work() {
    let (_dir, store) = store(1 << 20);
    fs::create_dir_all(store.cache.root()).unwrap();
    let children: Vec<_> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "cache::lru::tests::makes_once", "--include-ignored"])
                .env("COPRA_LRU_CHILD", store.cache.root())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(fs::read(store.cache.root().join("made")).unwrap(), b"x");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_is_never_taken_for_content(content in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0u8..8, cut in any::<bool>()) {
        let (_dir, store) = store(1 << 20);
        store.store_bytes(&key("a"), &content).unwrap();
        let path = store.path(&key("a"));
        let mut file = fs::read(&path).unwrap();
        let at = at.index(file.len());
        if cut { file.truncate(at) } else { file[at] ^= 1 << bit }
        fs::write(&path, file).unwrap();
        prop_assert_eq!(store.bytes(&key("a")), None);
        prop_assert!(!path.exists());
        // And it can be stored again.
        store.store_bytes(&key("a"), &content).unwrap();
        prop_assert_eq!(store.bytes(&key("a")), Some(content));
    }

    #[test]
    fn the_limit_holds_and_the_most_recently_used_stay(sizes in prop::collection::vec(1usize..50, 1..12), limit in 1u64..200) {
        let (_dir, store) = store(limit);
        let name = |index: usize| format!("{index}");
        for (index, &size) in sizes.iter().enumerate() {
            put(&store, &name(index), size);
            if store.path(&key(&name(index))).exists() {
                used(&store, &name(index), 10_000 - index as u64);
            }
        }
        let kept: BTreeSet<usize> = (0..sizes.len()).filter(|&index| store.path(&key(&name(index))).exists()).collect();
        let mut expected = BTreeSet::new();
        for (index, &size) in sizes.iter().enumerate().filter(|(_, size)| **size as u64 <= limit) {
            expected.insert(index);
            while expected.iter().map(|&i| sizes[i] as u64).sum::<u64>() > limit {
                expected.pop_first();
            }
            prop_assert!(size as u64 <= limit);
        }
        prop_assert_eq!(kept, expected);
    }
}
