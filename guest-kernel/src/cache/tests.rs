// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use proptest::prelude::*;
use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn cache() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path().join("copra"));
    (dir, cache)
}

#[expect(clippy::unnecessary_wraps, reason = "the signature that `store` takes")]
fn fill(dir: &Path) -> Result<(), Error> {
    fs::write(dir.join("image"), "bits").unwrap();
    fs::write(dir.join("config"), "CONFIG_A=y").unwrap();
    Ok(())
}

/// Everything below the cache but locks and the tag.
fn contents(cache: &Cache) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut dirs = vec![cache.root().to_owned()];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.ends_with("locks") {
                dirs.push(path.clone());
            }
            let kept = ["locks", "tmp", "rooms", "CACHEDIR.TAG"];
            if !kept.iter().any(|name| path == cache.root().join(name)) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn stores_and_finds() {
    let (_dir, cache) = cache();
    let key = Key::of(["a", "b"]);
    assert_eq!(cache.get("rooms", &key).unwrap(), None);
    assert!(!cache.root().exists(), "looking must not create");
    let stored = cache.store("rooms", &key, fill).unwrap();
    let found = cache.get("rooms", &key).unwrap().unwrap();
    assert_eq!(stored, found);
    assert_eq!(fs::read_to_string(found.path("image")).unwrap(), "bits");
    cache.evict("rooms", &key).unwrap();
    assert_eq!(cache.get("rooms", &key).unwrap(), None);
    assert_eq!(contents(&cache), Vec::<PathBuf>::new());
}

#[test]
fn a_failure_leaves_nothing() {
    let (_dir, cache) = cache();
    let key = Key::of(["a"]);
    let failed = cache.store("rooms", &key, |dir| {
        fill(dir)?;
        Err(Error::NoHome)
    });
    assert!(matches!(failed, Err(Error::NoHome)));
    assert_eq!(contents(&cache), Vec::<PathBuf>::new());
}

#[test]
fn what_a_killed_process_left_is_swept_and_never_found() {
    let (_dir, cache) = cache();
    let key = Key::of(["a"]);
    let scratch = cache.scratch().unwrap();
    fill(scratch.path()).unwrap();
    let mine = scratch.path().to_owned();
    // Killed: the directory stays, its lock does not.
    let tmp = cache.dir(TMP).unwrap();
    let left = tmp.join(format!("{}left", scratch::prefix(&tmp)));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("half"), "hal").unwrap();
    cache.sweep().unwrap();
    assert!(!left.exists());
    assert!(mine.exists(), "its directory is still in use");
    assert_eq!(cache.get("rooms", &key).unwrap(), None);
}

/// Sets when a file changed last, in seconds before now.
fn aged(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn what_another_machine_works_on_is_not_swept_until_it_was_left_for_long() {
    const HOUR: u64 = 3600;
    let (_dir, cache) = cache();
    let tmp = cache.dir(TMP).unwrap();
    // Of other machines, without a machine, and of another program.
    for name in ["work-0123456789abcdef0123456789abcdef-x", "work-x", "old-x"] {
        let work = tmp.join(name);
        fs::create_dir(&work).unwrap();
        fs::write(work.join("new"), "hal").unwrap();
        let ages = [(0, 0), (2 * HOUR, 0), (0, 2 * HOUR), (HOUR / 2, HOUR / 2), (2 * HOUR, 2 * HOUR)];
        for (directory, file) in ages {
            aged(&work.join("new"), file);
            aged(&work, directory);
            cache.sweep().unwrap();
            let is_abandoned = directory.min(file) > HOUR;
            assert_eq!(work.exists(), !is_abandoned, "{name}, {directory} s, its file {file} s");
        }
    }
    // A pipe does not block the sweep.
    regular::OTHERS[0].1(&tmp.join("pipe"));
    cache.sweep().unwrap();
}

#[test]
fn a_process_on_another_machine_works_in_a_directory_that_the_first_one_holds() {
    let (_dir, first) = cache();
    let held = first.scratch().unwrap();
    let inner = Cache { work: Some(held.path().to_owned()), ..first.clone() };
    let work = inner.scratch().unwrap();
    assert_eq!(work.path().parent(), Some(held.path()));
    // Neither sweeps what the other works on, as if the inner one's lock were not seen.
    fs::create_dir(held.path().join("unlocked")).unwrap();
    first.sweep().unwrap();
    inner.sweep().unwrap();
    assert!(work.path().exists() && held.path().join("unlocked").exists());
    inner.store("rooms", &Key::of(["a"]), fill).unwrap();
    assert!(first.get("rooms", &Key::of(["a"])).unwrap().is_some());
    // A directory that is gone, or of another cache, is not used.
    let tmp = first.dir(TMP).unwrap();
    for elsewhere in [tmp.join("gone"), std::env::temp_dir()] {
        let lost = Cache { work: Some(elsewhere), ..first.clone() };
        assert_eq!(lost.scratch().unwrap().path().parent(), Some(tmp.as_path()));
    }
}

/// Works until it is killed.
#[test]
#[ignore = "runs in a child of its own, which is killed"]
fn works_until_killed() {
    let Some(place) = std::env::var_os("COPRA_KILLED") else { return };
    let cache = Cache::at(Path::new(&place));
    let _building = cache.lock("build-6.12", || {}).unwrap();
    let scratch = cache.scratch().unwrap();
    fill(scratch.path()).unwrap();
    fs::create_dir_all(cache.root().join("trees/linux-source-6.12_1/linux/objects/drivers")).unwrap();
    fs::write(Path::new(&place).join("ready"), "").unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn what_a_killed_build_left_goes_with_the_next_start_and_not_before_it_ended() {
    let (_dir, cache) = cache();
    fs::create_dir_all(cache.root()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::tests::works_until_killed", "--include-ignored"])
        .env("COPRA_KILLED", cache.root())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !cache.root().join("ready").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = || {
        let work = fs::read_dir(cache.root().join(TMP)).unwrap().count();
        (work, cache.root().join("trees/linux-source-6.12_1/linux/objects").exists())
    };
    crate::builder::remove_leftovers(&cache).unwrap();
    assert_eq!(left(), (1, true), "its work was removed while it lived");
    child.kill().unwrap();
    child.wait().unwrap();
    crate::builder::remove_leftovers(&cache).unwrap();
    assert_eq!(left(), (0, false));
}

#[test]
fn an_entry_without_manifest_is_damaged() {
    let (_dir, cache) = cache();
    let key = Key::of(["a"]);
    let dir = cache.dir("rooms").unwrap().join(key.as_str());
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("image"), "bi").unwrap();
    assert!(matches!(cache.get("rooms", &key), Err(Error::Damaged { .. })));
}

#[test]
fn what_is_no_regular_file_is_damage_and_does_not_block() {
    for (what, make) in regular::OTHERS {
        for name in ["image", "manifest.json"] {
            let (_dir, cache) = cache();
            let key = Key::of(["a"]);
            let entry = cache.store("rooms", &key, fill).unwrap();
            fs::remove_file(entry.path(name)).unwrap();
            make(&entry.path(name));
            let found = cache.get("rooms", &key);
            assert!(matches!(found, Err(Error::Damaged { .. })), "{what} as {name}: {found:?}");
        }
    }
}

#[test]
fn damage_is_noticed() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("2 bytes instead of 4", |file| fs::write(file, "bi").unwrap()),
        ("its contents have changed", |file| fs::write(file, "bots").unwrap()),
        ("missing", |file| fs::remove_file(file).unwrap()),
        ("not readable", |file| fs::write(file.with_file_name("manifest.json"), "{").unwrap()),
    ];
    for (message, harm) in harms {
        let (_dir, cache) = cache();
        let key = Key::of(["a"]);
        let entry = cache.store("rooms", &key, fill).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        harm(&entry.path("image"));
        let error = cache.get("rooms", &key).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_copied_cache_is_still_good() {
    let (_dir, cache) = cache();
    let key = Key::of(["a"]);
    let entry = cache.store("rooms", &key, fill).unwrap();
    let file = File::options().write(true).open(entry.path("image")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(cache.get("rooms", &key).unwrap().is_some());
}

#[test]
fn waits_for_others_and_reports_it() {
    let (_dir, cache) = cache();
    let waited = AtomicUsize::new(0);
    let lock = cache.lock("x", || unreachable!()).unwrap();
    std::thread::scope(|s| {
        let other = s.spawn(|| cache.lock("x", || waited.store(1, Ordering::SeqCst)).unwrap());
        while waited.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert!(!other.is_finished());
        drop(lock);
    });
    // A lock file without a lock on it is no lock.
    cache.lock("x", || unreachable!()).unwrap();
}

#[test]
fn a_child_that_outlives_us_keeps_the_lock() {
    let (_dir, cache) = cache();
    let lock = cache.lock("x", || unreachable!()).unwrap();
    let mut child = Command::new("sleep").arg("60").stdin(lock.as_stdin()).spawn().unwrap();
    drop(lock);
    let waited = AtomicUsize::new(0);
    std::thread::scope(|s| {
        let other = s.spawn(|| cache.lock("x", || waited.store(1, Ordering::SeqCst)).unwrap());
        while waited.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert!(!other.is_finished());
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn needs_are_checked_first() {
    let (_dir, cache) = cache();
    let error = cache.require_space(u64::MAX, "the kernel source").unwrap_err().to_string();
    assert!(error.starts_with("no space for the kernel source: it takes 17179869183"), "{error}");
    assert!(error.contains("XDG_CACHE_HOME"), "{error}");
    cache.require_space(1, "a byte").unwrap();
}

/// Runs as a child of the next test, on a file system of 256 KiB.
#[test]
#[ignore = "runs in a child of its own, on a small file system"]
fn on_a_small_disk() {
    let Some(place) = std::env::var_os("COPRA_SMALL_DISK") else { return };
    let cache = Cache::at(Path::new(&place).join("copra"));
    let store = LruStore::of(&cache);
    let (small, big, next) = (Key::of(["small"]), Key::of(["big"]), Key::of(["next"]));
    store.store_bytes(&small, &[7; 1000]).unwrap();
    let error = store.store_bytes(&big, &vec![7; 1 << 20]).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&place.to_string_lossy().into_owned()) && text.contains(" KiB free in "), "{text}");
    assert_eq!(fs::read_dir(cache.root().join("tmp")).unwrap().count(), 0, "something was left behind");
    assert_eq!(fs::read_dir(cache.root().join("bounded")).unwrap().count(), 1);
    // The space is there again, and what was stored before is untouched.
    assert_eq!(store.bytes(&small).unwrap(), vec![7; 1000]);
    store.store_bytes(&next, &vec![7; 100_000]).unwrap();
    // As a program that fills the disk would find it.
    let mut file = File::create(Path::new(&place).join("rest")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    assert!(cache.is_full());
}

#[test]
fn a_full_disk_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=256k none "$COPRA_SMALL_DISK" || exit 77
exec "$0" --exact cache::tests::on_a_small_disk --include-ignored --nocapture"#;
    for flags in ["-m", "-Urm"] {
        let run = Command::new("unshare")
            .args([flags, "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .env("COPRA_SMALL_DISK", dir.path())
            .output();
        let Ok(run) = run else { break };
        let said = [run.stdout, run.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        if said.contains("1 passed") {
            return;
        }
        assert!(!said.contains("running 1 test"), "{said}");
    }
    println!("skipped: this user may not mount a small file system");
}

proptest! {
    #[test]
    fn keys_keep_parts_apart(parts in prop::collection::vec("[ab]{0,3}", 0..5), other in prop::collection::vec("[ab]{0,3}", 0..5)) {
        prop_assert_eq!(Key::of(&parts) == Key::of(&other), parts == other);
        prop_assert_eq!(Key::of(&parts).as_str().len(), 32);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_change_of_a_byte_is_noticed(at in 0usize..64, bit in 0u8..8) {
        let (_dir, cache) = cache();
        let key = Key::of(["a"]);
        let entry = cache.store("rooms", &key, |dir| {
            fs::write(dir.join("image"), [0u8; 64]).map_err(|e| Error::io("write", dir, e))
        }).unwrap();
        let mut bytes = [0u8; 64];
        bytes[at] ^= 1 << bit;
        fs::write(entry.path("image"), bytes).unwrap();
        // As if the clock had not moved on is as good as not written: give it another time.
        let file = File::options().write(true).open(entry.path("image")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let damaged = matches!(cache.get("rooms", &key), Err(Error::Damaged { .. }));
        prop_assert!(damaged);
    }
}
