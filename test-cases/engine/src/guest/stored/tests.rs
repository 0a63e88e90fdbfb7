// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::fs;
use std::path::Path;

use guest_kernel::Cache;

use super::*;

#[allow(dead_code, reason = "its other kernels are for tests that boot them")]
#[path = "../../../../tests/common/elf.rs"]
mod elf;

/// A folder with a cache and kernels of a few bytes.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> LruStore {
        LruStore::of(&Cache::at(self.folder.path().join("cache")))
    }

    /// A kernel with this code.
    fn image(&self, name: &str, code: &[u8]) -> KernelImage {
        let path = self.folder.path().join(name);
        let file = elf::vmlinux(code);
        fs::write(&path, &file).unwrap();
        KernelImage { path, sha256: hash_bytes(&file), store: Some(self.store()) }
    }

    /// All files of the store.
    fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("cache/bounded")).into_iter().flatten();
        files.map(|file| file.unwrap().path()).collect()
    }
}

/// The code of the kernel loaded.
fn code(image: &KernelImage) -> Vec<u8> {
    let loaded = image.load().unwrap();
    loaded.kernel.segment_bytes(&loaded.kernel.facts.segments[0]).to_vec()
}

fn names_of(image: &KernelImage) -> KernelNames {
    Arc::new(LazyImage::new(image)).names()
}

#[test]
fn a_prepared_image_is_loaded_without_its_file() {
    let fixture = Fixture::new();
    let image = fixture.image("a", elf::HANG);
    assert!(!image.is_prepared());
    image.prepare(|| unreachable!()).unwrap();
    assert!(image.is_prepared());
    fs::remove_file(&image.path).unwrap();
    assert_eq!(code(&image), elf::HANG);
    assert!(image.load().unwrap().sites.is_some(), "the instructions were searched again");
    assert!(names_of(&image).unavailable().is_some_and(|why| why.contains("CONFIG_KALLSYMS")));
    let unstored = KernelImage { store: None, ..image };
    assert!(matches!(unstored.load(), Err(EngineError::Unreadable(_))));
}

#[test]
fn one_image_never_gets_what_is_of_another() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.image("a", elf::HANG), fixture.image("b", elf::RESET));
    a.prepare(|| {}).unwrap();
    assert!(!b.is_prepared());
    assert_eq!((code(&a), code(&b)), (elf::HANG.to_vec(), elf::RESET.to_vec()));
    // Not even where the files' names are exchanged.
    b.prepare(|| {}).unwrap();
    let name = |image: &KernelImage| {
        fixture.folder.path().join("cache/bounded").join(image.key(Kept::Boot).as_str())
    };
    fs::copy(name(&a), name(&b)).unwrap();
    assert_eq!(code(&b), elf::RESET);
    // The same name with another content is another image.
    let changed = fixture.image("a", elf::MUTE);
    assert_eq!(code(&changed), elf::MUTE);
}

#[test]
fn what_another_version_of_the_code_stored_is_not_used() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.image("a", elf::HANG), fixture.image("b", elf::RESET));
    let of_b = prepared::encode(&b.load().unwrap().kernel);
    fixture.store().store_bytes(&a.key_of(Kept::Boot, "an earlier version"), &of_b).unwrap();
    assert!(!a.is_prepared());
    assert_eq!(code(&a), elf::HANG);
    // This test would fail if keys did not work: under its own key it is found.
    fixture.store().store_bytes(&a.key(Kept::Boot), &of_b).unwrap();
    assert_eq!(code(&a), elf::RESET);
}

#[test]
fn damaged_files_are_computed_again() {
    type Harm = fn(&mut Vec<u8>);
    let harms: [Harm; 4] = [
        |file| file[30] ^= 1,
        |file| file.truncate(file.len() - 1),
        Vec::clear,
        |file| {
            let end = file.len();
            file[end - 40] ^= 0x80;
        },
    ];
    for harm in harms {
        let fixture = Fixture::new();
        let image = fixture.image("a", elf::HANG);
        image.prepare(|| {}).unwrap();
        assert_eq!(fixture.files().len(), 2);
        for path in fixture.files() {
            let mut file = fs::read(&path).unwrap();
            harm(&mut file);
            fs::write(&path, file).unwrap();
        }
        assert_eq!(code(&image), elf::HANG);
        assert!(names_of(&image).symbols().is_none());
        assert!(image.is_prepared(), "not stored again");
    }
}

#[test]
fn a_cache_that_cannot_be_written_to_costs_time_only() {
    let fixture = Fixture::new();
    fs::write(fixture.folder.path().join("cache"), "no folder").unwrap();
    let image = fixture.image("a", elf::HANG);
    image.prepare(|| {}).unwrap();
    assert!(!image.is_prepared());
    assert_eq!(code(&image), elf::HANG);
    assert!(names_of(&image).symbols().is_none());
}

#[test]
fn a_file_that_is_no_kernel_is_named() {
    let fixture = Fixture::new();
    let image = fixture.image("a", elf::HANG);
    fs::write(&image.path, "text").unwrap();
    let image = KernelImage { sha256: hash_bytes(b"text"), ..image };
    for error in [image.prepare(|| {}).unwrap_err(), image.load().unwrap_err()] {
        let path: &Path = &image.path;
        assert!(error.to_string().starts_with(&format!("{}: ", path.display())), "{error}");
        assert!(error.is_of_this_version());
    }
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());
}

#[test]
fn names_are_found_in_what_is_loaded_if_the_file_is_gone() {
    let fixture = Fixture::new();
    let image = fixture.image("a", elf::HANG);
    let names = names_of(&image);
    fs::remove_file(&image.path).unwrap();
    assert!(names.unavailable().is_some());
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_refused_and_nothing_is_kept() {
    let fixture = Fixture::new();
    let image = fixture.image("a", elf::HANG);
    // Another kernel under the same name, after the first was looked at.
    fixture.image("a", elf::RESET);
    for error in [image.prepare(|| {}).unwrap_err(), image.load().unwrap_err()] {
        assert!(error.to_string().contains("was replaced or changed"), "{error}");
    }
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());
    // Its names are not taken either: those of the kernel that is loaded are found.
    let image = fixture.image("a", elf::HANG);
    let loaded = Arc::new(LazyImage::new(&image));
    loaded.get().unwrap();
    fixture.image("a", elf::RESET);
    assert!(loaded.names().symbols().is_none());
    assert!(image.stored(Kept::Names).is_none());
}
