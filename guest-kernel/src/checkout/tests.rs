// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::progress::Silent;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// In place of the kernel's: takes the configuration given, and "builds" an ELF file that names a version.
const MAKEFILE: &str = r#"
O ?= .
KCONFIG_CONFIG ?= .config
CONF = $(if $(filter .,$(O)),$(KCONFIG_CONFIG),$(O)/.config)
allnoconfig:
	grep -v CONFIG_HYPERV= $(KCONFIG_ALLCONFIG) > $(CONF)
olddefconfig:
	echo CONFIG_NEW=y >> $(CONF)
vmlinux: $(O)/vmlinux
$(O)/vmlinux: drivers/char/mem.c
	echo "  CC      drivers/char/mem.o"
	if grep -q BROKEN $<; then echo "$<:1:1: error: BROKEN"; exit 1; fi
	mkdir -p $(O)/include/config
	{ printf '\177ELF\002'; head -c 13 /dev/zero; printf '\076\000'; head -c 200 /dev/zero; \
	  echo "Linux version 6.99.0-tree (me)"; cat $<; } > $@
.PHONY: allnoconfig olddefconfig vmlinux
"#;

struct Fixture {
    root: tempfile::TempDir,
    cache: Cache,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let fixture = Self { cache: Cache::at(root.path().join("copra")), root };
        for file in FILES {
            fixture.write(file, "");
        }
        fixture.write("Makefile", MAKEFILE);
        fixture.write(".gitignore", "");
        fixture
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("linux")
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.dir().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn configured(text: &str) -> Self {
        let fixture = Self::new();
        let options = NEEDED.map(|option| format!("CONFIG_{option}=y\n")).concat();
        fixture.write(CONFIG, &(options + text));
        fixture
    }

    fn build(&self) -> Result<Kernel, Error> {
        Checkout::open(&self.cache, &self.dir())?.build(&self.cache, &Silent)
    }

    fn message(&self) -> String {
        self.build().unwrap_err().to_string()
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![self.dir()];
        while let Some(dir) = dirs.pop() {
            for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    found.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        found
    }
}

fn can_build() -> bool {
    let missing = tools::require().err();
    if let Some(missing) = &missing {
        println!("skipped: {missing}");
    }
    missing.is_none()
}

#[derive(Default)]
struct RecordedProgress(Mutex<Vec<String>>);

impl Progress for RecordedProgress {
    fn step(&self, _what: &str) {}
    fn advance(&self, _amount: crate::progress::Amount) {}
    fn note(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_owned());
    }
}

#[test]
fn a_plain_tree_is_built_beside_and_not_changed() {
    let fixture = Fixture::new();
    let before = fixture.files();
    if !can_build() {
        return;
    }
    let checkout = Checkout::open(&fixture.cache, &fixture.dir()).unwrap();
    assert_eq!(checkout.built().unwrap(), None);
    let progress = RecordedProgress::default();
    let kernel = checkout.build(&fixture.cache, &progress).unwrap();
    assert_eq!(kernel.release, "6.99.0-tree");
    assert_eq!(kernel.spec.to_string(), format!("tree:{}", fixture.dir().display()));
    let config = Config::read(kernel.config.as_ref().unwrap()).unwrap();
    assert!(config.is_yes("STRICT_DEVMEM") && config.is_yes("SERIAL_8250_CONSOLE"));
    let notes = progress.0.into_inner().unwrap();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].ends_with("CONFIG_HYPERV should be y, is n"), "{notes:?}");
    assert_eq!(fixture.files(), before);
    // Without a compiler, too.
    assert_eq!(checkout.built().unwrap(), Some(kernel));
}

#[test]
fn a_configured_tree_is_built_in_place_with_its_options() {
    let fixture = Fixture::configured("CONFIG_MINE=y\n");
    let before = fixture.files();
    if !can_build() {
        return;
    }
    let kernel = fixture.build().unwrap();
    assert_eq!(kernel.image, fs::canonicalize(fixture.dir()).unwrap().join("vmlinux"));
    let config = Config::read(kernel.config.as_ref().unwrap()).unwrap();
    assert!(config.is_yes("MINE") && config.is_yes("NEW"));
    let mut after = fixture.files();
    assert!(after.remove(&fixture.dir().join("vmlinux")).is_some());
    assert_eq!(after, before, "not even .config");
}

#[test]
fn a_change_is_built_and_nothing_else() {
    let fixture = Fixture::new();
    if !can_build() {
        return;
    }
    let first = fixture.build().unwrap();
    let time = |kernel: &Kernel| fs::metadata(&kernel.image).unwrap().modified().unwrap();
    let built = time(&first);
    assert_eq!(fixture.build().unwrap().image_sha256, first.image_sha256);
    assert_eq!(time(&first), built);
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fixture.write("drivers/char/mem.c", "fixed");
    fs::File::options()
        .write(true)
        .open(fixture.dir().join("drivers/char/mem.c"))
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert_ne!(fixture.build().unwrap().image_sha256, first.image_sha256);
}

#[test]
fn mistakes_are_named() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.dir().join("arch/x86/Kconfig")).unwrap();
    assert!(fixture.message().ends_with("is no kernel source tree: it has no arch/x86/Kconfig"));
    let gone = Checkout::open(&fixture.cache, Path::new("/no/such")).unwrap_err().to_string();
    assert!(gone.starts_with("cannot use the kernel source tree /no/such: "), "{gone}");

    let fixture = Fixture::new();
    fixture.write("include/config/auto.conf", "");
    assert!(fixture.message().contains("(include/config is there), but its .config is gone"));

    if !can_build() {
        return;
    }
    let fixture = Fixture::configured("<<<<<<< HEAD\n");
    assert!(
        fixture.message().contains("is not usable: line 9 of the kernel configuration is `<<<<<<< HEAD`")
    );
    let fixture = Fixture::new();
    fixture.write(CONFIG, "CONFIG_64BIT=y\nCONFIG_PRINTK=y\n");
    assert!(fixture.message().contains("does not have CONFIG_TTY=y"));

    let fixture = Fixture::new();
    fixture.write("drivers/char/mem.c", "BROKEN");
    let message = fixture.message();
    assert!(message.contains("drivers/char/mem.c:1:1: error: BROKEN"), "{message}");
    assert!(message.contains("the complete log is"), "{message}");
}
