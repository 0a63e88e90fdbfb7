// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels from a source tree of the user's, as it is now: `tree:DIR`, for `git bisect run`.
//!
//! A tree with a `.config` is one the user builds in, so it is built in place and with those options, on a copy that
//! `make olddefconfig` completes: the user's file stays as it is, and a bisection that passes a version without some
//! option does not lose it for the versions after. A tree without is built beside it, with the options of copra's own
//! kernels. Either way objects stay where they are, so that the next build costs what changed, and no file is written that
//! git tracks: make writes nothing else.

use crate::bounded;
use crate::cache::{self, Cache, Key, Lock, hash_file};
use crate::command::{self, Tool};
use crate::config::{self, Config, Dropped};
use crate::image::{self, Image};
use crate::kernel::Kernel;
use crate::make;
use crate::progress::Progress;
use crate::recipe::{self, BASES, Recipe};
use crate::spec::KernelSpec;
use crate::tools;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A source tree of the user's.
#[derive(Debug)]
pub(crate) struct Checkout {
    /// As the user wrote it.
    named: PathBuf,
    dir: PathBuf,
    /// Whether the user builds in it.
    is_configured: bool,
    /// Where copra keeps what belongs to this tree.
    beside: PathBuf,
    key: Key,
}

/// Some files of every kernel source tree that copra can build.
const FILES: [&str; 4] = ["Makefile", "Kbuild", "arch/x86/Kconfig", "drivers/char/mem.c"];

/// What the kernel's Makefile takes, besides `.config`, for the traces of a build in place.
const TRACES: [&str; 2] = ["include/config", "arch/x86/include/generated"];

/// What no guest of copra's can do without.
const NEEDED: [&str; 8] = [
    "64BIT",
    "PRINTK",
    "TTY",
    "SERIAL_8250",
    "SERIAL_8250_CONSOLE",
    "BLK_DEV_INITRD",
    "BINFMT_ELF",
    "PROC_FS",
];

impl Checkout {
    /// Looks at a directory; changes nothing.
    pub(crate) fn open(cache: &Cache, named: &Path) -> Result<Self, Error> {
        let dir = fs::canonicalize(named).map_err(|source| Error::Dir { dir: named.to_owned(), source })?;
        if let Some(missing) = FILES.into_iter().find(|file| !dir.join(file).is_file()) {
            return Err(Error::NotKernel { dir: named.to_owned(), missing });
        }
        let is_configured = dir.join(CONFIG).exists();
        if !is_configured && let Some(trace) = TRACES.into_iter().find(|trace| dir.join(trace).exists()) {
            return Err(Error::NotClean { dir: named.to_owned(), trace });
        }
        let key = Key::of([dir.as_os_str().as_encoded_bytes()]);
        let beside = cache.root().join(CHECKOUTS).join(key.as_str());
        Ok(Self { named: named.to_owned(), dir, is_configured, beside, key })
    }

    /// Builds it; costs little if nothing changed.
    pub(crate) fn build(&self, cache: &Cache, progress: &dyn Progress) -> Result<Kernel, Error> {
        tools::require()?;
        let wait = || progress.note("waiting for another copra that is building this tree");
        let lock = cache.lock(&format!("tree-{}", self.key.as_str()), wait)?;
        progress.step(&format!("Building {}", self.named.display()));
        fs::create_dir_all(&self.beside).map_err(|e| cache::Error::io("create", &self.beside, e))?;
        let dropped =
            if self.is_configured { self.complete(cache, &lock)? } else { self.configure(cache, &lock)? };
        let (fatal, other): (Vec<_>, Vec<_>) =
            dropped.into_iter().partition(|option| NEEDED.contains(&option.name.as_str()));
        if !fatal.is_empty() {
            return Err(Error::Dropped { dir: self.named.clone(), dropped: fatal });
        }
        if !other.is_empty() {
            progress.note(&format!(
                "this version of the kernel does not take {} of the options requested:{}",
                other.len(),
                config::lines(&other)
            ));
        }
        let name = format!("tree-{}", self.key.as_str());
        make::vmlinux(cache, progress, self.make(&lock, "build the kernel"), &name, None)?;
        self.built()?.ok_or_else(|| Error::NoImage { dir: self.named.clone() })
    }

    /// The kernel as it was built last, if it was.
    pub(crate) fn built(&self) -> Result<Option<Kernel>, Error> {
        let (image, config) = (self.objects().join("vmlinux"), self.config());
        if !image.is_file() || !config.is_file() {
            return Ok(None);
        }
        let about = Image::inspect(&image)?;
        let hash = |path: &Path| hash_file(path).map_err(|e| cache::Error::io("read", path, e));
        Ok(Some(Kernel {
            spec: KernelSpec::Tree(self.named.clone()),
            release: about.release.unwrap_or_else(|| "unknown".to_owned()),
            package: None,
            image_sha256: hash(&image)?,
            config_sha256: Some(hash(&config)?),
            image,
            config: Some(config),
            // The policy of the tree for /dev/mem is for the user to name.
            policy: None,
            patches: vec![],
            build_id: about.build_id,
            toolchain: tools::toolchain().ok(),
            command_line: vec![],
        }))
    }

    /// Takes the user's configuration, completed for this version in a copy.
    fn complete(&self, cache: &Cache, lock: &Lock) -> Result<Vec<Dropped>, Error> {
        let theirs = self.dir.join(CONFIG);
        let wrong = |source| Error::Config { dir: self.named.clone(), source };
        let wanted = Config::read(&theirs).map_err(wrong)?;
        if let Some(option) = NEEDED.into_iter().find(|option| !wanted.is_yes(option)) {
            return Err(Error::Lacking { dir: self.named.clone(), option });
        }
        let text =
            bounded::read_text(&theirs, bounded::CONFIG).map_err(|e| cache::Error::io("read", &theirs, e))?;
        cache.write(&self.config(), text.as_bytes())?;
        self.make(lock, "complete the kernel's configuration").arg("olddefconfig").output()?;
        // What is no longer known may be renamed, and is not what this build is about, unless no guest can do without.
        let dropped = wanted.dropped_from(&Config::read(&self.config()).map_err(wrong)?);
        Ok(dropped.into_iter().filter(|option| NEEDED.contains(&option.name.as_str())).collect())
    }

    /// Makes a configuration like that of copra's own kernels.
    fn configure(&self, cache: &Cache, lock: &Lock) -> Result<Vec<Dropped>, Error> {
        let wanted = Recipe::upstream(&BASES[0]).config()?;
        let file = self.beside.join("wanted.config");
        cache.write(&file, wanted.to_string().as_bytes())?;
        fs::create_dir_all(self.objects()).map_err(|e| cache::Error::io("create", &self.objects(), e))?;
        let tool = self.make(lock, "configure the kernel").env("KCONFIG_ALLCONFIG", &file.to_string_lossy());
        tool.arg("allnoconfig").output()?;
        let wrong = |source| Error::Config { dir: self.named.clone(), source };
        Ok(wanted.dropped_from(&Config::read(&self.config()).map_err(wrong)?))
    }

    fn objects(&self) -> PathBuf {
        if self.is_configured { self.dir.clone() } else { self.beside.join("objects") }
    }

    fn config(&self) -> PathBuf {
        if self.is_configured { self.beside.join("config") } else { self.objects().join(CONFIG) }
    }

    fn make(&self, lock: &Lock, purpose: &str) -> Tool {
        let tool = make::tool(lock, &self.dir, &format!("{purpose} in {}", self.named.display()));
        if self.is_configured {
            tool.env("KCONFIG_CONFIG", &self.config().to_string_lossy())
        } else {
            tool.arg(format!("O={}", self.objects().display()))
        }
    }
}

const CONFIG: &str = ".config";
const CHECKOUTS: &str = "checkouts";

/// Why a source tree gives no kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such directory.
    #[error("cannot use the kernel source tree {}: {source}", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else.
    #[error("{} is no kernel source tree: it has no {missing}", dir.display())]
    NotKernel {
        /// The directory.
        dir: PathBuf,
        /// What is not there.
        missing: &'static str,
    },
    /// Built in before, but not configured.
    #[error(
        "{0} was built in ({trace} is there), but its .config is gone; put one there, or run `make mrproper` in it to have it built beside with copra's own options",
        dir.display()
    )]
    NotClean {
        /// The directory.
        dir: PathBuf,
        /// What is left of the build.
        trace: &'static str,
    },
    /// A configuration that is none.
    #[error("the configuration of {} is not usable: {source}", dir.display())]
    Config {
        /// The directory.
        dir: PathBuf,
        /// Where and how.
        source: config::Error,
    },
    /// A configuration for something else.
    #[error(
        "the .config of {} does not have CONFIG_{option}=y, and no guest can do without; set it there, or remove the file and run `make mrproper` to have the tree built with copra's own options",
        dir.display()
    )]
    Lacking {
        /// The directory.
        dir: PathBuf,
        /// What is not there.
        option: &'static str,
    },
    /// Kconfig did not take what is needed.
    #[error("this version of the kernel, in {}, does not take options that no guest can do without:{}", dir.display(), config::lines(dropped))]
    Dropped {
        /// The directory.
        dir: PathBuf,
        /// What was lost.
        dropped: Vec<Dropped>,
    },
    /// make was content, and yet.
    #[error("building {} ended well but left no vmlinux", dir.display())]
    NoImage {
        /// The directory.
        dir: PathBuf,
    },
    /// Something is not installed.
    #[error(transparent)]
    Tools(#[from] tools::Error),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] command::Error),
    /// The compiler or linker failed.
    #[error(transparent)]
    Make(#[from] make::Error),
    /// copra's own options cannot be had.
    #[error(transparent)]
    Recipe(#[from] recipe::Error),
    /// The result is no kernel.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

impl Error {
    /// This version of the source gives no kernel; another one may.
    pub fn is_of_this_version(&self) -> bool {
        matches!(
            self,
            Self::Dropped { .. }
                | Self::NoImage { .. }
                | Self::Image(_)
                | Self::Make(make::Error::Failed { .. })
        )
    }
}

#[cfg(test)]
mod tests;
