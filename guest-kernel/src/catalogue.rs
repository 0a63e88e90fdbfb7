// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the name of a kernel to a kernel on disk.

mod error;

pub use self::error::Error;
use crate::builder::{self, Builder};
use crate::cache::{self, Cache, Key, hash_file};
use crate::checkout::Checkout;
use crate::config_variant::CONFIG_VARIANTS;
use crate::debian;
use crate::image::Image;
use crate::kernel::{DebianPackage, Kernel};
use crate::modules::{self, Modules};
use crate::mutants::{self, Choice};
use crate::packages;
use crate::programs::{self, Programs};
use crate::progress::Progress;
use crate::recipe::{Base, KUNIT_SUMMARY, POLICIES, Recipe};
use crate::source::Tree;
use crate::spec::{self, KernelSpec, Name, Series};
use crate::store;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Finds, fetches and builds kernels.
///
/// ```no_run
/// # use guest_kernel::{Cache, Catalogue, Silent};
/// let catalogue = Catalogue::new(Cache::open()?, Box::new(Silent));
/// let kernel = catalogue.resolve(&"debian:6.12".parse()?)?;
/// println!("{} in {}", kernel.release, kernel.image.display());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Catalogue {
    cache: Cache,
    progress: Box<dyn Progress>,
}

/// A name in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// Its name.
    pub spec: KernelSpec,
    /// What it is, in a few words.
    pub summary: String,
    /// The kernel, if it needs no fetching or building.
    pub kernel: Option<Kernel>,
}

/// How long a fetched kernel is taken for the newest.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

impl Catalogue {
    /// A catalogue over a cache.
    pub fn new(cache: Cache, progress: Box<dyn Progress>) -> Self {
        Self { cache, progress }
    }

    /// The cache below.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The kernel of that name; fetches or builds it if the cache does not have it.
    pub fn resolve(&self, spec: &KernelSpec) -> Result<Kernel, Error> {
        self.obtain(spec, false)
    }

    /// The same, but looks for something newer first: a newer package, or newer source to build from.
    pub fn refresh(&self, spec: &KernelSpec) -> Result<Kernel, Error> {
        self.obtain(spec, true)
    }

    /// The kernel of that name, without network, compiler or a change to the cache.
    pub fn resolve_cached(&self, spec: &KernelSpec) -> Result<Kernel, Error> {
        let not_cached = || Error::NotCached { spec: spec.clone() };
        let recipe = match spec {
            KernelSpec::Path(path) => return file(path),
            KernelSpec::Tree(dir) => {
                return Checkout::open(&self.cache, dir)?.built()?.ok_or_else(not_cached);
            }
            KernelSpec::Build(name) => Some(self.recipe(name)?),
            KernelSpec::Mutant(name) => {
                let chosen = mutant(name)?;
                return Ok(chosen.of(self.resolve_cached(&all_mutants())?, spec));
            }
            KernelSpec::Debian { .. } => None,
        };
        let mut known = store::recall(&self.cache, spec)?;
        if let Some(recipe) = recipe {
            // What was built from another recipe of that name is another kernel.
            let key = recipe.key()?;
            known =
                known.filter(|(known, _)| known.inputs.first().is_some_and(|built| built == key.as_str()));
        }
        let kernel = known.map(|(known, _)| store::load(&self.cache, &known.key)).transpose()?.flatten();
        kernel.ok_or_else(not_cached).map(|kernel| named(kernel, spec))
    }

    /// Copies the source that kernels of a series are built from to a directory, unpatched, for the user to change and build
    /// as `tree:DIR`.
    pub fn source(&self, series: &Series, dir: &Path) -> Result<(), Error> {
        let base = Base::of(series.as_str())?;
        let wait = || self.progress.note("waiting for another copra that is building a kernel");
        let _lock = self.cache.lock(&builder::lock(base), wait)?;
        let tree = Tree::obtain(&self.cache, &*self.progress, base.series, false)?;
        self.progress.step(&format!("Copying {} {} to {}", tree.package(), tree.version(), dir.display()));
        Ok(tree.copy(&self.cache, dir)?)
    }

    /// Programs to run in a guest, by their paths in it; fetches them if the cache does not have them.
    pub fn programs(&self, paths: &[&str]) -> Result<Programs, programs::Error> {
        programs::fetch(&self.cache, &*self.progress, paths)
    }

    /// The same without network or a change to the cache; `None` if they are not there.
    pub fn programs_cached(&self, paths: &[&str]) -> Result<Option<Programs>, cache::Error> {
        programs::cached(&self.cache, paths)
    }

    /// A folder with the files of Debian packages, named or as paths of files, and of those they depend on and this machine
    /// does not have; fetches them if the cache does not have them.
    pub fn packages(&self, wanted: &[String]) -> Result<PathBuf, packages::Error> {
        packages::obtain(&self.cache, &*self.progress, wanted)
    }

    /// The same without network or a change to the cache; `None` if they are not there.
    pub fn packages_cached(&self, wanted: &[String]) -> Result<Option<PathBuf>, cache::Error> {
        packages::cached(&self.cache, wanted)
    }

    /// The modules of a kernel of Debian's, but those that `check` refuses; fetches them if the cache does not have them.
    pub fn modules(
        &self,
        package: &DebianPackage,
        release: &str,
        check: modules::Check<'_>,
    ) -> Result<Modules, modules::Error> {
        modules::obtain(&self.cache, &*self.progress, (package, release), check)
    }

    /// The same without network or a change to the cache; `None` if they are not there.
    pub fn modules_cached(&self, package: &DebianPackage) -> Result<Option<Modules>, cache::Error> {
        modules::cached(&self.cache, package)
    }

    /// Takes a recipe into the catalogue, under its name.
    pub fn define(&self, recipe: &Recipe) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(recipe).unwrap_or_default();
        Ok(self.cache.write(&self.recipe_file(recipe.name()), &text)?)
    }

    /// The recipe behind `build:NAME`.
    pub fn recipe(&self, name: &Name) -> Result<Recipe, Error> {
        let recipe = match Recipe::predefined(name.recipe()) {
            Some(recipe) => recipe,
            None => self.defined(name)?,
        };
        Ok(recipe.with_variants(name.variants())?)
    }

    /// One of the user's own, without its variants.
    fn defined(&self, name: &Name) -> Result<Recipe, Error> {
        let file = self.recipe_file(name.recipe());
        let Some((text, _)) = Cache::read(&file)? else {
            return Err(Error::NoRecipe { name: name.clone(), known: self.recipes().join(", ") });
        };
        serde_json::from_slice(&text).map_err(|source| Error::BadRecipe { name: name.clone(), file, source })
    }

    /// Everything that has a name here: what copra comes with, what the user defined, what was fetched.
    pub fn list(&self) -> Vec<CatalogueEntry> {
        let mut known = Vec::new();
        for name in self.recipes() {
            let Ok(spec) = format!("build:{name}").parse::<KernelSpec>() else { continue };
            let summary = match POLICIES.iter().find(|policy| policy.name == name) {
                Some(policy) => policy.summary,
                None if name == spec::MUTANTS => mutants::SUMMARY,
                None if name == spec::KUNIT => KUNIT_SUMMARY,
                None => "your own",
            };
            let kernel = self.resolve_cached(&spec).ok();
            known.push(CatalogueEntry { spec, summary: summary.to_owned(), kernel });
        }
        let all = self.resolve_cached(&all_mutants()).ok();
        for name in mutants::names() {
            let (Some(chosen), Ok(spec)) = (mutants::choice(name), name.parse().map(KernelSpec::Mutant))
            else {
                continue;
            };
            let kernel = all.clone().map(|kernel| chosen.of(kernel, &spec));
            known.push(CatalogueEntry { spec, summary: chosen.about, kernel });
        }
        for resolved in store::recall_all(&self.cache) {
            let Ok(spec) = resolved.spec.parse::<KernelSpec>() else { continue };
            let Ok(kernel) = self.resolve_cached(&spec) else { continue };
            let summary = match &spec {
                KernelSpec::Debian { .. } => {
                    format!(
                        "Debian {}",
                        kernel.package.as_ref().map_or("", |package| package.version.as_str())
                    )
                }
                KernelSpec::Build(name) if name.variants().next().is_some() => {
                    let variants =
                        CONFIG_VARIANTS.iter().filter(|known| name.variants().any(|c| c == known.name));
                    let what: Vec<_> = variants.map(|variant| variant.summary).collect();
                    format!("{}, {}", name.recipe(), what.join(", "))
                }
                _ => continue,
            };
            known.push(CatalogueEntry { spec, summary, kernel: Some(kernel) });
        }
        known.sort_by(|a, b| a.spec.cmp(&b.spec));
        known
    }

    fn obtain(&self, spec: &KernelSpec, newest: bool) -> Result<Kernel, Error> {
        match spec {
            KernelSpec::Path(path) => file(path),
            KernelSpec::Build(name) => self.built(spec, &self.recipe(name)?, newest),
            KernelSpec::Mutant(name) => {
                let chosen = mutant(name)?;
                Ok(chosen.of(self.obtain(&all_mutants(), newest)?, spec))
            }
            KernelSpec::Tree(dir) => {
                Ok(Checkout::open(&self.cache, dir)?.build(&self.cache, &*self.progress)?)
            }
            KernelSpec::Debian { series, flavour } => {
                let known = self.intact(spec)?;
                if let Some((kernel, at)) = &known
                    && !newest
                    && age(*at) < FRESH
                {
                    return Ok(kernel.clone());
                }
                match (debian::fetch(&self.cache, &*self.progress, series, *flavour), known) {
                    (Ok(key), _) => {
                        store::remember(&self.cache, spec, &key, vec![])?;
                        self.stored(spec, &key)
                    }
                    (Err(error), Some((kernel, at))) if !matches!(error, debian::Error::Cache(_)) => {
                        let days = age(at).as_secs() / (24 * 60 * 60);
                        self.progress.note(&format!(
                            "using {} as found {days} days ago, because looking for a newer one failed: {error}",
                            kernel.release
                        ));
                        Ok(kernel)
                    }
                    (Err(error), _) => Err(error.into()),
                }
            }
        }
    }

    fn built(&self, spec: &KernelSpec, recipe: &Recipe, newest: bool) -> Result<Kernel, Error> {
        let recipe_key = recipe.key()?;
        let source = |tree: &Tree| tree.version().to_string();
        let tree = Tree::find(&self.cache, recipe.base()?.series).as_ref().map(source);
        let toolchain = crate::tools::toolchain().ok();
        // Without source or compiler, what was built before is still served.
        let current = |inputs: &[String]| {
            let [known_recipe, known_tree, known_tools] = inputs else { return false };
            known_recipe == recipe_key.as_str()
                && tree.as_ref().is_none_or(|tree| tree == known_tree)
                && toolchain.as_ref().is_none_or(|tools| tools == known_tools)
        };
        if !newest
            && let Some((known, _)) = store::recall(&self.cache, spec)?
            && current(&known.inputs)
            && let Some(kernel) = store::find(&self.cache, &*self.progress, &known.key)?
        {
            return Ok(named(kernel, spec));
        }
        let builder = Builder::new(&self.cache, &*self.progress)?;
        self.stored(spec, &builder.build(recipe, newest)?)
    }

    /// The kernel the name led to last time, if it is still cached, and when that was.
    fn intact(&self, spec: &KernelSpec) -> Result<Option<(Kernel, SystemTime)>, Error> {
        let Some((known, at)) = store::recall(&self.cache, spec)? else { return Ok(None) };
        let kernel = store::find(&self.cache, &*self.progress, &known.key)?;
        Ok(kernel.map(|kernel| (named(kernel, spec), at)))
    }

    fn stored(&self, spec: &KernelSpec, key: &Key) -> Result<Kernel, Error> {
        let kernel = store::load(&self.cache, key)?;
        kernel.ok_or_else(|| Error::NotCached { spec: spec.clone() }).map(|kernel| named(kernel, spec))
    }

    fn recipes(&self) -> Vec<String> {
        let mut names: Vec<String> = POLICIES.iter().map(|policy| policy.name.to_owned()).collect();
        names.extend([spec::MUTANTS, spec::KUNIT].map(str::to_owned));
        let files = fs::read_dir(self.cache.root().join(RECIPES)).into_iter().flatten().flatten();
        names.extend(files.filter_map(|f| Some(f.file_name().to_str()?.strip_suffix(".json")?.to_owned())));
        names
    }

    fn recipe_file(&self, name: &str) -> PathBuf {
        self.cache.root().join(RECIPES).join(format!("{name}.json"))
    }
}

const RECIPES: &str = "recipes";

/// The kernel that `mutant:NAME` names.
fn mutant(name: &Name) -> Result<Choice, Error> {
    mutants::choice(name.as_str()).ok_or_else(|| Error::NoMutant {
        name: name.clone(),
        known: mutants::names().collect::<Vec<_>>().join(", "),
    })
}

/// The kernel that has all mistakes.
fn all_mutants() -> KernelSpec {
    KernelSpec::Build(Name::of_mutants())
}

impl Choice {
    /// The kernel with all mistakes as this choice.
    fn of(&self, kernel: Kernel, spec: &KernelSpec) -> Kernel {
        let (policy, command_line) = (Some(self.policy.to_owned()), self.words.clone());
        Kernel { spec: spec.clone(), policy, command_line, ..kernel }
    }
}

/// An entry may have been made under another name.
fn named(kernel: Kernel, spec: &KernelSpec) -> Kernel {
    Kernel { spec: spec.clone(), ..kernel }
}

fn age(at: SystemTime) -> Duration {
    SystemTime::now().duration_since(at).unwrap_or_default()
}

/// A file of the user's.
fn file(path: &Path) -> Result<Kernel, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let image = fs::canonicalize(path).map_err(failed)?;
    let about = Image::inspect(&image)?;
    let release = about.release.unwrap_or_else(|| "unknown".to_owned());
    let config = config_of(&image, &release);
    let hash = |path: &PathBuf| hash_file(path).map_err(|source| Error::File { path: path.clone(), source });
    Ok(Kernel {
        spec: KernelSpec::Path(path.to_owned()),
        image_sha256: hash(&image)?,
        config_sha256: config.as_ref().map(hash).transpose()?,
        image,
        release,
        package: None,
        config,
        policy: None,
        patches: vec![],
        build_id: about.build_id,
        toolchain: None,
        command_line: vec![],
    })
}

/// The configuration that belongs to a kernel file: `/boot/config-*`, or that of the tree it was built in.
fn config_of(image: &Path, release: &str) -> Option<PathBuf> {
    let dir = image.parent()?;
    let mut places = vec![dir.join(format!("config-{release}")), dir.join(".config"), dir.join("config")];
    if dir.ends_with("arch/x86/boot") {
        places.extend(dir.ancestors().nth(3).map(|tree| tree.join(".config")));
    }
    places.into_iter().find(|place| place.is_file())
}

#[cfg(test)]
mod tests;
