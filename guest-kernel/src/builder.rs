// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels built from Debian's source.
//!
//! One source tree and one set of objects per base: the first build compiles everything, as the `upstream` kernel, and
//! keeps the objects. Every other kernel starts from a copy of them, so that it costs the objects its patches and options
//! change, and a link. All builds happen in the same place, because the kernel's build tools remember absolute paths and
//! would start over in another one.

use crate::cache::{self, Cache, Key, Lock, hash_file, remove, rename};
use crate::command::{self, Tool};
use crate::config::{self, Config, Dropped};
use crate::image::{self, Image};
use crate::kernel::{DebianPackage, Kernel};
use crate::make;
use crate::progress::Progress;
use crate::recipe::{self, BASES, Base, Recipe};
use crate::source::{self, Tree, sync};
use crate::spec;
use crate::store;
use crate::tools;
use std::fs;
use std::path::{Path, PathBuf};

/// Builds kernels into a cache.
pub(crate) struct Builder<'a> {
    cache: &'a Cache,
    progress: &'a dyn Progress,
    toolchain: String,
}

/// A source tree locked for one build.
struct Bench {
    tree: Tree,
    base: &'static Base,
    lock: Lock,
}

/// The lock on the source tree of a series.
pub(crate) fn lock(base: &Base) -> String {
    format!("build-{}", base.series)
}

/// Removes what killed processes left behind: working directories, and objects of unfinished builds. Those of a build that
/// goes on are locked.
pub fn remove_leftovers(cache: &Cache) -> Result<(), cache::Error> {
    cache.sweep()?;
    for base in &BASES {
        let objects: Vec<PathBuf> = Tree::all(cache, base.series)
            .iter()
            .map(|tree| tree.linux().join(OBJECTS))
            .filter(|objects| objects.is_dir())
            .collect();
        // What the lock guards may be gone by the time it is taken.
        if !objects.is_empty()
            && let Some(_lock) = cache.try_lock(&lock(base))?
        {
            for objects in &objects {
                remove(objects);
            }
        }
    }
    Ok(())
}

/// Where objects are while a build goes on, below the source.
const OBJECTS: &str = "objects";

/// Objects and result of one build.
const SPACE: u64 = 600 << 20;

impl<'a> Builder<'a> {
    /// Checks that everything needed is installed.
    pub(crate) fn new(cache: &'a Cache, progress: &'a dyn Progress) -> Result<Self, Error> {
        tools::require()?;
        Ok(Self { cache, progress, toolchain: tools::toolchain()? })
    }

    /// Builds the kernel, unless the cache has it. `newest` looks for newer source first.
    pub(crate) fn build(&self, recipe: &Recipe, newest: bool) -> Result<Key, Error> {
        let base = recipe.base()?;
        let wait = || self.progress.note("waiting for another copra that is building a kernel");
        let lock = self.cache.lock(&lock(base), wait)?;
        let tree = Tree::obtain(self.cache, self.progress, base.series, newest)?;
        let bench = Bench { tree, base, lock };
        let key = self.key(&bench, recipe)?;
        if store::find(self.cache, self.progress, &key)?.is_none() {
            self.cache.sweep()?;
            self.cache.require_space(SPACE, "building a kernel")?;
            self.make(&bench, recipe, &key)?;
        }
        self.remember(&bench, recipe, &key)?;
        Ok(key)
    }

    /// Records the kernel that the name leads to, and what decided that.
    fn remember(&self, bench: &Bench, recipe: &Recipe, key: &Key) -> Result<(), Error> {
        let version = bench.tree.version().to_string();
        let inputs = vec![recipe.key()?.as_str().to_owned(), version, self.toolchain.clone()];
        Ok(store::remember(self.cache, &recipe.spec().map_err(Error::Name)?, key, inputs)?)
    }

    fn key(&self, bench: &Bench, recipe: &Recipe) -> Result<Key, Error> {
        Ok(Key::of([
            "built-kernel",
            bench.tree.package(),
            bench.tree.version().as_str(),
            recipe.key()?.as_str(),
            &self.toolchain,
        ]))
    }

    fn make(&self, bench: &Bench, recipe: &Recipe, key: &Key) -> Result<(), Error> {
        let upstream = Recipe::upstream(bench.base);
        let objects = bench.base_objects(&self.toolchain, &upstream)?;
        if !objects.is_dir() {
            let upstream_key = self.key(bench, &upstream)?;
            self.progress.step(&format!("Building the Linux {} base, once", bench.tree.version().upstream()));
            bench.clear_objects();
            self.compile(bench, &upstream, &upstream_key, Some(bench.base.objects))?;
            bench.keep_objects(&objects)?;
            self.remember(bench, &upstream, &upstream_key)?;
            if upstream_key == *key {
                return Ok(());
            }
        }
        self.progress.step(&format!("Building {} on it", recipe.name()));
        bench.take_objects(&objects)?;
        let built = self.compile(bench, recipe, key, None);
        bench.clear_objects();
        built
    }

    /// Configures, compiles and stores one kernel, in the place for objects as it is.
    fn compile(&self, bench: &Bench, recipe: &Recipe, key: &Key, expected: Option<u64>) -> Result<(), Error> {
        let patched = bench.tree.patch(self.cache, &recipe.patches()?)?;
        let made = self.configure(bench, recipe).and_then(|()| self.run_make(bench, recipe, expected));
        match made {
            Err(_) if self.cache.is_full() => {
                bench.clear_objects();
                return Err(cache::Error::full("building a kernel", self.cache.root(), Some(SPACE)).into());
            }
            made => made?,
        }
        patched.restore()?;
        if let Some(damaged) = self.cache.get(store::FOLDER, key).err() {
            self.progress.note(&damaged.to_string());
            self.cache.evict(store::FOLDER, key)?;
        }
        if self.cache.get(store::FOLDER, key)?.is_none() {
            self.cache.store(store::FOLDER, key, |dir| self.collect(bench, recipe, dir))?;
        }
        Ok(())
    }

    fn configure(&self, bench: &Bench, recipe: &Recipe) -> Result<(), Error> {
        let wanted = recipe.config()?;
        let file = bench.tree.beside("wanted.config");
        self.cache.write(&file, wanted.to_string().as_bytes())?;
        let tool = bench.make("configure the kernel").env("KCONFIG_ALLCONFIG", &file.to_string_lossy());
        tool.arg("allnoconfig").output()?;
        let dropped = wanted.dropped_from(&Config::read(&bench.objects().join(".config"))?);
        if dropped.is_empty() {
            return Ok(());
        }
        Err(Error::Dropped { recipe: recipe.name().to_owned(), dropped })
    }

    fn run_make(&self, bench: &Bench, recipe: &Recipe, expected: Option<u64>) -> Result<(), Error> {
        let tool = bench
            .make(&format!("build the kernel {}", recipe.name()))
            .arg(format!("LOCALVERSION=-copra-{}", recipe.name()));
        Ok(make::vmlinux(self.cache, self.progress, tool, recipe.name(), expected)?)
    }

    /// Puts the finished kernel into its entry.
    fn collect(&self, bench: &Bench, recipe: &Recipe, dir: &Path) -> Result<(), Error> {
        let (vmlinux, config) = (bench.objects().join("vmlinux"), bench.objects().join(".config"));
        let hash = |path: &Path| hash_file(path).map_err(|e| cache::Error::io("read", path, e));
        let about = Image::inspect(&vmlinux)?;
        let mut kernel = Kernel {
            spec: recipe.spec().map_err(Error::Name)?,
            image: PathBuf::from("vmlinux"),
            release: about.release.unwrap_or_else(|| "unknown".to_owned()),
            package: Some(DebianPackage {
                name: bench.tree.package().to_owned(),
                version: bench.tree.version().to_string(),
            }),
            image_sha256: hash(&vmlinux)?,
            config_sha256: Some(hash(&config)?),
            config: Some(PathBuf::from("config")),
            policy: recipe.policy().map(str::to_owned),
            patches: recipe.applied()?,
            build_id: about.build_id,
            toolchain: Some(self.toolchain.clone()),
            command_line: vec![],
        };
        // A copy of the configuration: the objects that stay go on needing theirs.
        let copy = dir.join("config");
        fs::copy(&config, &copy).map_err(|e| cache::Error::io("write", &copy, e))?;
        Ok(store::put(dir, &mut kernel, &vmlinux, None)?)
    }
}

impl Bench {
    /// Where objects are while a build goes on. Below the source, so that the commands make remembers are relative.
    fn objects(&self) -> PathBuf {
        self.tree.linux().join(OBJECTS)
    }

    /// Removes them: those of a finished build, or what a killed one left, some of it perhaps half written.
    fn clear_objects(&self) {
        self.tree.clear(&self.objects());
    }

    /// Where the objects of the base are kept.
    fn base_objects(&self, toolchain: &str, upstream: &Recipe) -> Result<PathBuf, Error> {
        let place = self.tree.linux();
        let key = Key::of([toolchain, upstream.key()?.as_str(), &place.to_string_lossy()]);
        Ok(self.tree.beside(&format!("{BASE}{}", key.as_str())))
    }

    /// Keeps what was just built, but for what is linked again anyway, and forgets older ones.
    fn keep_objects(&self, kept: &Path) -> Result<(), Error> {
        for linked in ["vmlinux", "vmlinux.o", "vmlinux.unstripped"] {
            self.tree.clear(&self.objects().join(linked));
        }
        sync(&self.objects())?;
        for older in self.tree.siblings(BASE) {
            self.tree.clear(&older);
        }
        Ok(rename(&self.objects(), kept)?)
    }

    /// A copy of the base's objects, times and all, in the place where they were made.
    fn take_objects(&self, kept: &Path) -> Result<(), Error> {
        self.clear_objects();
        let copy = Tool::new("cp", "copy the objects of the base").args(["-a", "--reflink=auto"]);
        copy.arg(kept).arg(self.objects()).output()?;
        Ok(())
    }

    fn make(&self, purpose: &str) -> Tool {
        make::tool(&self.lock, &self.tree.linux(), purpose).arg("O=objects")
    }
}

const BASE: &str = "base-";

/// Why a kernel could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kconfig did not take everything.
    #[error(
        "the configuration of {recipe} did not come out as requested; this kernel does not have these options, or others forbid or force them:{}\nset in the fragment what they depend on, or leave them out",
        config::lines(dropped)
    )]
    Dropped {
        /// The kernel.
        recipe: String,
        /// What was lost.
        dropped: Vec<Dropped>,
    },
    /// The compiler or linker failed.
    #[error(transparent)]
    Make(#[from] make::Error),
    /// A recipe from elsewhere with a name that is none.
    #[error("{0}; define the kernel again under another name")]
    Name(spec::Error),
    /// Something is not installed.
    #[error(transparent)]
    Tools(#[from] tools::Error),
    /// The recipe cannot be followed.
    #[error(transparent)]
    Recipe(#[from] recipe::Error),
    /// The source could not be had, or patched.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// A configuration could not be read.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] command::Error),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The result is no kernel.
    #[error(transparent)]
    Image(#[from] image::Error),
}
