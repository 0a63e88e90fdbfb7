// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::kernel::DebianPackage;
use crate::progress::Silent;
use crate::tools::is_installed;
use std::process::Command;

struct Fixture {
    dir: tempfile::TempDir,
    catalogue: Catalogue,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::new(Cache::at(dir.path().join("copra")), Box::new(Silent));
        Self { dir, catalogue }
    }

    fn cached(&self, spec: &str) -> Result<Kernel, Error> {
        self.catalogue.resolve_cached(&spec.parse().unwrap())
    }

    /// As if this had been fetched or built.
    fn put(&self, spec: &str, inputs: &[&str]) -> Key {
        let spec: KernelSpec = spec.parse().unwrap();
        let key = Key::of([spec.to_string()]);
        let image = self.dir.path().join("image");
        fs::write(&image, "image").unwrap();
        let mut kernel = Kernel {
            spec: spec.clone(),
            image: "vmlinuz".into(),
            release: "6.12.117-test".into(),
            package: Some(DebianPackage { name: "linux-image".into(), version: "6.12.117-1".into() }),
            image_sha256: String::new(),
            config: None,
            config_sha256: None,
            policy: None,
            patches: vec![],
            build_id: None,
            toolchain: None,
            command_line: vec![],
        };
        let fill = |dir: &Path| store::put(dir, &mut kernel, &image, None);
        self.catalogue.cache.store(store::FOLDER, &key, fill).unwrap();
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        store::remember(&self.catalogue.cache, &spec, &key, inputs).unwrap();
        key
    }
}

#[test]
fn what_is_not_cached_is_named_with_the_remedy() {
    let message = |spec| Fixture::new().cached(spec).unwrap_err().to_string();
    assert_eq!(
        message("debian:6.12"),
        "the kernel debian:6.12 is not in the cache; run `copra kernel fetch debian:6.12` first"
    );
    assert!(message("build:open-eperm").contains("run `copra kernel fetch build:open-eperm`"));
    assert!(message("build:nope").contains("known: upstream, open-eperm"));
    assert!(message("path:/no/such").contains("/no/such"));
}

#[test]
fn looking_changes_nothing() {
    let fixture = Fixture::new();
    let _ = fixture.cached("debian:6.12");
    let _ = fixture.catalogue.list();
    assert!(!fixture.catalogue.cache().root().exists());
}

#[test]
fn cached_kernels_are_found_without_network() {
    let fixture = Fixture::new();
    let key = fixture.put("debian:6.12", &[]);
    for kernel in [fixture.cached("debian:6.12"), fixture.catalogue.resolve(&"debian:6.12".parse().unwrap())]
    {
        let kernel = kernel.unwrap();
        assert_eq!(kernel.release, "6.12.117-test");
        assert_eq!(fs::read_to_string(&kernel.image).unwrap(), "image");
        assert!(kernel.image.to_string_lossy().contains(key.as_str()));
    }
}

#[test]
fn damaged_kernels_are_not_served() {
    let fixture = Fixture::new();
    fixture.put("debian:6.12", &[]);
    let image = fixture.cached("debian:6.12").unwrap().image;
    fs::write(image, "imag").unwrap();
    let error = fixture.cached("debian:6.12").unwrap_err().to_string();
    assert!(error.contains("vmlinuz is damaged (4 bytes instead of 5)"), "{error}");
}

#[test]
fn a_kernel_built_from_another_recipe_is_not_served() {
    let fixture = Fixture::new();
    let recipe = Recipe::predefined("open-eperm").unwrap().key().unwrap();
    fixture.put("build:open-eperm", &["another", "6.12.117-1", "gcc"]);
    assert!(matches!(fixture.cached("build:open-eperm"), Err(Error::NotCached { .. })));
    fixture.catalogue.cache.evict(store::FOLDER, &Key::of(["build:open-eperm"])).unwrap();
    fixture.put("build:open-eperm", &[recipe.as_str(), "6.12.117-1", "gcc"]);
    assert!(fixture.cached("build:open-eperm").is_ok());
}

#[test]
fn recipes_are_kept() {
    let fixture = Fixture::new();
    let fragment = fixture.dir.path().join("no-port.config");
    fs::write(&fragment, "# CONFIG_DEVPORT is not set\n").unwrap();
    let (name, base) = ("no-port".parse().unwrap(), "6.12".parse().unwrap());
    let recipe = Recipe::new(&name, &base, Some("open-eperm"), &[], std::slice::from_ref(&fragment)).unwrap();
    fixture.catalogue.define(&recipe).unwrap();
    fs::remove_file(fragment).unwrap();
    assert_eq!(fixture.catalogue.recipe(&name).unwrap(), recipe);
    let names: Vec<String> =
        fixture.catalogue.list().into_iter().map(|known| known.spec.to_string()).collect();
    assert_eq!(names.iter().filter(|name| *name == "build:no-port").count(), 1);
    assert_eq!(names.len(), POLICIES.len() + 3 + mutants::names().count());
    assert!(names.is_sorted());
}

#[test]
fn a_file_finds_its_configuration() {
    let fixture = Fixture::new();
    let boot = fixture.dir.path().join("arch/x86/boot");
    fs::create_dir_all(&boot).unwrap();
    let mut image = vec![0; 0x2000];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x1000u16.to_le_bytes());
    image[0x1200..0x1206].copy_from_slice(b"6.12-x");
    fs::write(boot.join("bzImage"), image).unwrap();
    fs::write(fixture.dir.path().join(".config"), "CONFIG_DEVMEM=y\n").unwrap();
    let kernel = fixture.cached(&format!("path:{}/bzImage", boot.display())).unwrap();
    assert_eq!(kernel.release, "6.12-x");
    assert!(kernel.read_config().unwrap().unwrap().is_yes("DEVMEM"));
}

#[test]
fn variants_and_mutants_resolve_by_name() {
    let fixture = Fixture::new();
    let message = |spec: &str| fixture.cached(spec).unwrap_err().to_string();
    assert!(message("build:open-eperm+strict-off").contains("fetch build:open-eperm+strict-off"));
    assert!(message("mutant:range-short").contains("fetch build:mutants"));
    assert!(message("mutant:nope").starts_with("there is no mutant:nope; known: upstream, "));
    assert!(message("build:nope+port-off").starts_with("there is no recipe for build:nope+port-off"));
    assert!(message("build:no-devmem+strict-off").contains("changes no option of the kernel"));
    assert!(message("tree:/no/such").contains("/no/such"));

    let recipe = fixture.catalogue.recipe(&"open-eperm+strict-off".parse().unwrap()).unwrap();
    fixture.put("build:open-eperm+strict-off", &[recipe.key().unwrap().as_str(), "6.12.117-1", "gcc"]);
    let listed = fixture.catalogue.list();
    let configured =
        listed.iter().find(|known| known.spec.to_string() == "build:open-eperm+strict-off").unwrap();
    assert_eq!(configured.summary, "open-eperm, without STRICT_DEVMEM, and so without IO_STRICT_DEVMEM");
    assert!(configured.kernel.is_some());
}

#[test]
fn a_mutant_is_the_one_kernel_with_words_on_its_command_line() {
    let fixture = Fixture::new();
    let recipe = fixture.catalogue.recipe(&"mutants".parse().unwrap()).unwrap();
    fixture.put("build:mutants", &[recipe.key().unwrap().as_str(), "6.12.117-1", "gcc"]);
    let all = fixture.cached("build:mutants").unwrap();
    assert!(all.policy.is_none() && all.command_line.is_empty());
    let plain = fixture.cached("mutant:open-eperm").unwrap();
    assert_eq!(
        (plain.policy.as_deref(), &plain.command_line[..]),
        (Some("open-eperm"), &["copra_policy=open-eperm".to_owned()][..])
    );
    let mutant = fixture.cached("mutant:eperm-eacces").unwrap();
    assert_eq!(mutant.policy.as_deref(), Some("open-eperm"));
    assert_eq!(mutant.command_line.len(), 2);
    assert_eq!((mutant.spec.to_string(), mutant.image), ("mutant:eperm-eacces".to_owned(), all.image));
}

/// Lines that patches change, and by how many lines: a change here is a change of what a policy means.
#[test]
fn policies_change_the_files_they_name() {
    let mut found = vec![];
    for policy in &POLICIES {
        for patch in Recipe::predefined(policy.name).unwrap().patches().unwrap() {
            let mut file = "";
            let mut counts = std::collections::BTreeMap::new();
            for line in patch.text.lines().skip_while(|line| *line != "---").skip(1) {
                match line.strip_prefix("+++ b/") {
                    Some(name) => file = name,
                    None if line.starts_with("--- ") => {}
                    None if line.starts_with('+') => counts.entry(file).or_insert((0, 0)).0 += 1,
                    None if line.starts_with('-') => counts.entry(file).or_insert((0, 0)).1 += 1,
                    None => {}
                }
            }
            for (file, (added, removed)) in counts {
                found.push(format!("{}: {file} +{added} -{removed}", policy.name));
            }
        }
    }
    assert_eq!(found, GOLDEN.lines().collect::<Vec<_>>());
}

const GOLDEN: &str = "\
open-eperm: drivers/char/mem.c +11 -0
range-deny: arch/x86/mm/init.c +7 -0
lockdown-cc: arch/x86/mm/mem_encrypt.c +8 -0
lockdown-cc: include/linux/lockdown.h +17 -0
lockdown-cc: security/lockdown/lockdown.c +47 -5
no-low-1m: arch/x86/mm/init.c +5 -22
no-devmem: drivers/char/Kconfig +4 -1
mmap-zeros: drivers/char/mem.c +31 -3
";

/// Builds every policy, variant, and the kernels of mutants and of KUnit into the real cache: `cargo test -p copra-guest-kernel -- --ignored`.
#[test]
#[ignore = "takes half an hour"]
fn everything_compiles() {
    let catalogue = Catalogue::new(Cache::open().unwrap(), Box::new(Silent));
    let policies = POLICIES.iter().map(|policy| format!("build:{}", policy.name));
    let variants = CONFIG_VARIANTS.iter().map(|variant| format!("build:open-eperm+{}", variant.name));
    let mutants = [spec::MUTANTS, spec::KUNIT].map(|name| format!("build:{name}"));
    let mut failed = vec![];
    for spec in policies.chain(variants).chain(mutants) {
        let begun = std::time::Instant::now();
        if let Err(error) = catalogue.resolve(&spec.parse().unwrap()) {
            failed.push(error.to_string());
        }
        println!("{spec}: {:.0} s", begun.elapsed().as_secs_f32());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Every policy's patches fit the source in the cache exactly. Works on copies of the files they change.
#[test]
fn patches_apply_to_the_cached_source() {
    let found = Cache::open().ok().and_then(|cache| Some((Tree::find(&cache, "6.12")?, cache)));
    let Some((tree, cache)) = found.filter(|_| is_installed("patch")) else {
        println!(
            "skipped: no kernel source in the cache (or no patch program); any `build:` kernel brings it"
        );
        return;
    };
    // A build that goes on has patches on the tree, and one that was killed has left them there.
    let _lock =
        cache.lock("build-6.12", || println!("waiting for another copra that is building a kernel")).unwrap();
    tree.patch(&cache, &[]).unwrap().restore().unwrap();
    let policies = POLICIES.iter().map(|policy| Recipe::predefined(policy.name).unwrap());
    let mutants = [spec::MUTANTS, spec::KUNIT].into_iter().filter_map(Recipe::predefined);
    for recipe in policies.chain(mutants) {
        let dir = tempfile::tempdir().unwrap();
        for patch in recipe.patches().unwrap() {
            for file in patch.text.lines().filter_map(|line| line.strip_prefix("--- a/")) {
                let copy = dir.path().join(file);
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                if !copy.exists() {
                    fs::copy(tree.linux().join(file), copy).unwrap();
                }
            }
            let file = dir.path().join("the.patch");
            fs::write(&file, &patch.text).unwrap();
            let mut command = Command::new("patch");
            command
                .args(["-p1", "--fuzz=0", "--batch", "--forward", "-d"])
                .arg(dir.path())
                .arg("-i")
                .arg(file);
            let run = command.output().unwrap();
            let said = String::from_utf8_lossy(&run.stdout);
            assert!(
                run.status.success() && !said.contains("offset") && !said.contains("fuzz"),
                "{}: {said}",
                patch.name
            );
        }
    }
}
