// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds the kernel a user named, and prepares it for booting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::guest::KernelImage;
use guest_kernel::cache::LruStore;
use guest_kernel::{CONFIG_VARIANTS, Cache, Catalogue, Config, DebianPackage, Kernel, KernelSpec, Programs};
use vmm::boot::opcode::scan_module_file;

use super::progress::{self, Lines};
use super::{Failed, host};
use crate::report::plain::plain;
use engine::case::Case;
use engine::observation::KernelFacts;
use types::Policy;

/// Options a report names, whatever the cases need.
const REPORTED_OPTIONS: [&str; 16] = [
    "AMD_MEM_ENCRYPT",
    "DEVMEM",
    "DEVPORT",
    "DMI",
    "HARDENED_USERCOPY",
    "HYPERV",
    "INTEL_TDX_GUEST",
    "IO_STRICT_DEVMEM",
    "KVM_GUEST",
    "PROC_PAGE_MONITOR",
    "RANDOMIZE_BASE",
    "SECURITY_LOCKDOWN_LSM",
    "SMP",
    "STRICT_DEVMEM",
    "UNACCEPTED_MEMORY",
    "X86_PAT",
];

/// A kernel ready to be booted.
#[derive(Debug)]
pub struct Found {
    /// Its release, hashes and policy.
    pub facts: KernelFacts,
    /// Its image.
    pub image: KernelImage,
    /// Every option it was built with, where known.
    pub config: Option<BTreeMap<String, String>>,
    /// Its kernel command line.
    pub command_line: Vec<String>,
}

/// The catalogue of kernels; progress goes to standard error.
pub fn catalogue(quiet: bool) -> Result<Catalogue, Failed> {
    let cache = Cache::open().map_err(Failed::new)?;
    if !host::is_inside() {
        // An entry that cannot be removed takes room, and does not prevent a run.
        let _ = guest_kernel::remove_leftovers(&cache);
    }
    Ok(Catalogue::new(cache, Box::new(Lines::new(quiet))))
}

/// Finds the kernel a user named; fetches or builds it if it is not in the cache.
pub fn find(name: &str, config: Option<&Path>, quiet: bool) -> Result<Found, Failed> {
    find_spec(&name.parse().map_err(Failed::new)?, config, quiet)
}

/// What is known of a kernel without its image.
#[derive(Debug)]
pub struct Known {
    /// `uname -r`, or `unknown`.
    pub release: String,
    /// The policy it was built for, if it is one of the thread's.
    pub policy: Option<Policy>,
    /// Every option it was built with, where known.
    pub config: Option<BTreeMap<String, String>>,
    /// Its kernel command line.
    pub command_line: Vec<String>,
}

/// The same of the kernel a user named; fetches or builds it if it is not in the cache.
pub fn known(name: &str, quiet: bool) -> Result<Known, Failed> {
    let spec: KernelSpec = name.parse().map_err(Failed::new)?;
    let kernel = catalogue(quiet)?.resolve(&spec).map_err(|error| Failed::of_kernel(&error))?;
    let config = kernel.read_config().map_err(Failed::new)?;
    let policy = kernel.policy.as_deref().and_then(|name| name.parse().ok());
    Ok(Known {
        release: kernel.release,
        policy,
        config: config.map(|config| options(&config)),
        command_line: kernel.command_line,
    })
}

/// Options by name, without `CONFIG_`.
pub fn options(config: &Config) -> BTreeMap<String, String> {
    config.iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect()
}

fn find_spec(spec: &KernelSpec, config: Option<&Path>, quiet: bool) -> Result<Found, Failed> {
    let catalogue = catalogue(quiet)?;
    // A file that cannot be read is reported before anything is fetched or built.
    let config = config.map(Config::read).transpose().map_err(Failed::new)?;
    if let (KernelSpec::Path(file), false) = (spec, host::is_inside()) {
        // A file that is not a kernel is reported here, before a KVM host is started for it.
        engine::guest::check_file(file).map_err(Failed::new)?;
    }
    let kernel = if host::is_inside() { catalogue.resolve_cached(spec) } else { catalogue.resolve(spec) };
    ready(&catalogue, &kernel.map_err(|error| Failed::of_kernel(&error))?, config, quiet)
}

/// The programs that the cases run; fetches those that are not in the cache. A missing program has a reason, which is
/// reported on standard error where the fetch failed.
pub fn programs(cases: &[Case], quiet: bool) -> Programs {
    let needed: Vec<&str> = cases.iter().flat_map(Case::programs).collect();
    if needed.is_empty() {
        return Programs::default();
    }
    let found = if host::is_inside() {
        let cached = catalogue(quiet).and_then(|it| it.programs_cached(&needed).map_err(Failed::new));
        let none = || {
            Failed::new(
                "it is not in the cache, and could not be fetched when the run began: the reason is on standard error",
            )
        };
        cached.and_then(|programs| programs.ok_or_else(none))
    } else {
        catalogue(quiet).and_then(|catalogue| catalogue.programs(&needed).map_err(Failed::new))
    };
    let report = |what: &str, why: &str| {
        if !host::is_inside() {
            eprintln!("copra: without {what}: {why}");
        }
    };
    match found {
        Ok(programs) => {
            programs.missing.iter().for_each(|(path, why)| report(path, why));
            programs
        }
        Err(error) => {
            let why = error.to_string();
            report("programs", &why);
            Programs::without(&why)
        }
    }
}

/// A folder with the files of Debian packages and of those they depend on; fetches those that are not in the cache.
pub fn packages(wanted: &[String], quiet: bool) -> Result<Vec<PathBuf>, Failed> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let catalogue = catalogue(quiet)?;
    if !host::is_inside() {
        return catalogue.packages(wanted).map(|root| vec![root]).map_err(Failed::new);
    }
    let found = catalogue.packages_cached(wanted).map_err(Failed::new)?;
    found.map(|root| vec![root]).ok_or_else(|| {
        Failed::new(format!(
            "the packages {} are not in the cache, though they were fetched when the command began; try again",
            wanted.join(", ")
        ))
    })
}

/// What a command sees in place of this machine's files, from the lowest: the kernel's modules, and packages.
pub fn above(found: &Found, packages: &[String], quiet: bool) -> Result<Vec<PathBuf>, Failed> {
    let modules = modules(found, quiet)?;
    Ok(modules.into_iter().chain(self::packages(packages, quiet)?).collect())
}

/// A folder with the modules that come with a kernel of Debian's; `None` for others, or, with a line on standard error, where they
/// cannot be had. Those with an instruction that KVM cannot carry out, which copra rewrites in kernels only, are left out.
fn modules(found: &Found, quiet: bool) -> Result<Option<PathBuf>, Failed> {
    let text = found.facts.package.as_deref().and_then(|package| package.split_once(' '));
    // A kernel built from a package of source has the modules that it was built with, which is none.
    let is_image = |name: &str| ["linux-image-", "linux-binary-"].iter().any(|start| name.starts_with(start));
    let Some((name, version)) = text.filter(|(name, _)| is_image(name)) else {
        return Ok(None);
    };
    let package = DebianPackage { name: name.to_owned(), version: version.to_owned() };
    let catalogue = catalogue(quiet)?;
    if host::is_inside() {
        let known = catalogue.modules_cached(&package).map_err(Failed::new)?;
        return Ok(known.map(|modules| modules.root));
    }
    match catalogue.modules(&package, &found.facts.release, &reason_to_leave_out) {
        Ok(modules) => {
            for (name, why) in modules.left_out.iter().filter(|_| !quiet) {
                eprintln!("copra: without the module {}: {}", plain(name), plain(why));
            }
            Ok(Some(modules.root))
        }
        Err(error) => {
            eprintln!("copra: without the modules of {}: {error}", found.facts.spec);
            Ok(None)
        }
    }
}

fn reason_to_leave_out(module: &[u8]) -> Option<String> {
    match scan_module_file(module) {
        Ok(opcodes) if opcodes.is_empty() => None,
        Ok(opcodes) => {
            let names: Vec<String> = opcodes.iter().map(ToString::to_string).collect();
            Some(format!("it has {}, which KVM cannot carry out", names.join(", ")))
        }
        Err(error) => Some(format!("it cannot be looked through: {error}")),
    }
}

/// Finds a kernel that copra builds; `None` if it is not in the cache and `no_build` is set.
pub fn find_built(spec: &KernelSpec, no_build: bool, quiet: bool) -> Result<Option<Found>, Failed> {
    if !no_build {
        return find_spec(spec, None, quiet).map(Some);
    }
    let catalogue = catalogue(quiet)?;
    match catalogue.resolve_cached(spec) {
        Ok(kernel) => ready(&catalogue, &kernel, None, quiet).map(Some),
        Err(_) => Ok(None),
    }
}

fn ready(
    catalogue: &Catalogue,
    kernel: &Kernel,
    config: Option<Config>,
    quiet: bool,
) -> Result<Found, Failed> {
    let config = match config {
        Some(config) => Some(config),
        None => kernel.read_config().map_err(Failed::new)?,
    };
    let config = config.map(|config| options(&config));
    let reported = |all: &BTreeMap<String, String>| {
        let value = |name: &str| all.get(name).cloned().unwrap_or_else(|| "n".into());
        REPORTED_OPTIONS.iter().map(|name| ((*name).to_owned(), value(name))).collect()
    };
    let facts = KernelFacts {
        spec: kernel.spec.to_string(),
        release: kernel.release.clone(),
        version: String::new(),
        package: kernel.package.as_ref().map(|package| format!("{} {}", package.name, package.version)),
        sha256: kernel.image_sha256.clone(),
        build_id: kernel.build_id.clone(),
        config_sha256: kernel.config_sha256.clone(),
        policy: kernel.policy.as_deref().and_then(|name| name.parse::<Policy>().ok()),
        config: config.as_ref().map(reported).unwrap_or_default(),
        cmdline: String::new(),
        log: Vec::new(),
    };
    let command_line = kernel.command_line.clone();
    Ok(Found { facts, image: image(catalogue, kernel, quiet)?, config, command_line })
}

/// The image, with what follows from it computed and stored: on the KVM host in QEMU that would take seconds.
fn image(catalogue: &Catalogue, kernel: &Kernel, quiet: bool) -> Result<KernelImage, Failed> {
    let image = KernelImage {
        path: kernel.image.clone(),
        sha256: kernel.image_sha256.clone(),
        store: Some(LruStore::of(catalogue.cache())),
    };
    if host::is_inside() {
        return Ok(image);
    }
    let what = format!("unpacking {} and reading its symbols", kernel.spec);
    progress::after_a_second(quiet, &what, || image.prepare(|| {}))
        .map_err(|error| Failed::of_engine(&error))?;
    Ok(image)
}

/// Lists kernels.
pub fn list(json: bool) -> Result<(), Failed> {
    for known in catalogue(true)?.list() {
        let here = known.kernel.as_ref();
        if !json && matches!(known.spec, KernelSpec::Mutant(_)) {
            continue;
        }
        if json {
            let line = serde_json::json!({
                "kind": "kernel",
                "name": known.spec.to_string(),
                "about": known.summary,
                "release": here.map(|kernel| kernel.release.clone()),
                "sha256": here.map(|kernel| kernel.image_sha256.clone()),
            });
            outln!("{line}");
        } else {
            let state = here.map_or("not in the cache", |kernel| &kernel.release);
            outln!("{:<31} {state:<43} {}", known.spec.to_string(), known.summary);
        }
    }
    if !json {
        for variant in &CONFIG_VARIANTS {
            let spec = format!("build:NAME+{}", variant.name);
            outln!("{spec:<31} any of the above {}", variant.summary);
        }
        for (spec, about) in [
            (
                "mutant:NAME",
                "build:mutants with one mistake, or as a policy without; `copra list --kernels --json` has them all",
            ),
            ("debian:SERIES", "Debian's newest packaged kernel of a series, fetched when named"),
            ("path:FILE", "a bzImage or vmlinux of yours"),
            ("tree:DIR", "a kernel source tree of yours, built as it is now"),
        ] {
            outln!("{spec:<31} {about}");
        }
    }
    Ok(())
}
