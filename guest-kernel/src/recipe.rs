//! What a kernel is built from: a base, a policy, and whatever else the user adds.

use crate::cache::{Key, hash_bytes};
use crate::config::{self, Config};
use crate::kernel::Applied;
use crate::mutants::{MUTANTS, Mutant};
use crate::spec::{self, KernelSpec, Name, Series};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A series that copra has a configuration for.
#[derive(Debug)]
pub struct Base {
    /// The series; the source is Debian's package `linux-source-SERIES`.
    pub series: &'static str,
    fragment: (&'static str, &'static str),
    /// About how many objects a build from nothing compiles.
    pub(crate) objects: u64,
}

impl Base {
    /// The base of a series.
    pub fn of(series: &str) -> Result<&'static Self, Error> {
        BASES.iter().find(|base| base.series == series).ok_or_else(|| Error::NoBase {
            series: series.to_owned(),
            known: BASES.iter().map(|base| base.series).collect::<Vec<_>>().join(", "),
        })
    }
}

/// The series kernels can be built from.
pub static BASES: [Base; 1] = [Base {
    series: "6.12",
    fragment: ("base-6.12.config", include_str!("../config/base-6.12.config")),
    objects: 1000,
}];

/// A rule set for /dev/mem, as kernel changes. Each is also the name of a kernel: `build:open-eperm`.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    patches: &'static [(&'static str, &'static str)],
    fragments: &'static [(&'static str, &'static str)],
}

/// Names and texts of files in a directory of this crate.
macro_rules! texts {
    ($dir:literal: $($path:literal),*) => {
        &[$(($path, include_str!(concat!("../", $dir, "/", $path)))),*]
    };
}

/// The policies that kernels can be built for. One more is one more line, and its patch or fragment.
pub static POLICIES: [Policy; 8] = [
    Policy {
        name: UPSTREAM,
        summary: "the kernel as it is, with STRICT_DEVMEM and IO_STRICT_DEVMEM",
        patches: &[],
        fragments: &[],
    },
    Policy {
        name: "open-eperm",
        summary: "opening /dev/mem or /dev/port in an encrypted guest fails with EPERM",
        patches: texts!("patches": "open-eperm/0001-devmem-refuse-open-in-encrypted-guests.patch"),
        fragments: &[],
    },
    Policy {
        name: "range-deny",
        summary: "no page of /dev/mem is allowed in an encrypted guest; it can still be opened",
        patches: texts!("patches": "range-deny/0001-x86-mm-allow-no-devmem-page-in-encrypted-guests.patch"),
        fragments: &[],
    },
    Policy {
        name: "lockdown-cc",
        summary: "lockdown is a bitmap; encrypted guests have the bits for /dev/mem and PCI access set",
        patches: texts!("patches": "lockdown-cc/0001-lockdown-bitmap-and-encrypted-guests.patch"),
        fragments: &[],
    },
    Policy {
        name: "lockdown-all",
        summary: "built with lockdown=integrity, in force on every platform",
        patches: &[],
        fragments: texts!("config": "lockdown-all.config"),
    },
    Policy {
        name: "no-low-1m",
        summary: "/dev/mem has no exceptions below 1 MiB, on every platform",
        patches: texts!("patches": "no-low-1m/0001-x86-mm-drop-devmem-special-cases-below-1-mib.patch"),
        fragments: &[],
    },
    Policy {
        name: "no-devmem",
        summary: "DEVMEM excludes ARCH_HAS_CC_PLATFORM: there is no /dev/mem",
        patches: texts!("patches": "no-devmem/0001-char-no-devmem-with-cc-platform.patch"),
        fragments: texts!("config": "no-devmem.config"),
    },
    Policy {
        name: "mmap-zeros",
        summary: "mmap(2) of /dev/mem maps zeros where read(2) gives zeros, on every platform",
        patches: texts!("patches": "mmap-zeros/0001-devmem-map-zeros-where-read-gives-zeros.patch"),
        fragments: &[],
    },
];

/// Other options for any recipe: `build:open-eperm+strict-off`.
#[derive(Debug)]
pub struct Crossing {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    fragments: &'static [(&'static str, &'static str)],
}

/// What a recipe can be crossed with. The base has all of these options on.
pub static CROSSINGS: [Crossing; 3] = [
    Crossing {
        name: "strict-off",
        summary: "without STRICT_DEVMEM, and so without IO_STRICT_DEVMEM",
        fragments: texts!("config": "strict-off.config"),
    },
    Crossing {
        name: "io-strict-off",
        summary: "without IO_STRICT_DEVMEM",
        fragments: texts!("config": "io-strict-off.config"),
    },
    Crossing { name: "port-off", summary: "without DEVPORT", fragments: texts!("config": "port-off.config") },
];

/// The policy without changes; its build is what every other build of the same base starts from.
pub(crate) const UPSTREAM: &str = "upstream";

/// A patch or a configuration fragment: its name and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The file name, for messages and reports.
    pub name: String,
    /// The contents.
    pub text: String,
}

impl Piece {
    fn read(path: &Path) -> Result<Self, Error> {
        let text =
            fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, text })
    }

    fn of((name, text): &(&str, &str)) -> Self {
        Self { name: (*name).to_owned(), text: (*text).to_owned() }
    }
}

/// How to build one kernel. `build:NAME` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    name: String,
    base: String,
    policy: Option<String>,
    /// Beyond those of the policy.
    patches: Vec<Piece>,
    /// Beyond those of base and policy.
    fragments: Vec<Piece>,
    /// The mistake in it.
    #[serde(skip)]
    mutant: Option<&'static Mutant>,
}

impl Recipe {
    /// A recipe of the user's own. Reads the files; later changes to them do not matter.
    ///
    /// # Errors
    /// Unknown base or policy, a predefined name, unreadable files, or a fragment that is no configuration.
    pub fn new(
        name: &Name,
        base: &Series,
        policy: Option<&str>,
        patches: &[PathBuf],
        fragments: &[PathBuf],
    ) -> Result<Self, Error> {
        if POLICIES.iter().any(|policy| policy.name == name.recipe()) {
            return Err(Error::Predefined { name: name.to_string() });
        }
        if name.crossings().next().is_some() {
            return Err(Error::Crossed { name: name.to_string(), recipe: name.recipe().to_owned() });
        }
        let recipe = Self {
            name: name.to_string(),
            base: base.to_string(),
            policy: policy.map(str::to_owned),
            patches: patches.iter().map(|path| Piece::read(path)).collect::<Result<_, _>>()?,
            fragments: fragments.iter().map(|path| Piece::read(path)).collect::<Result<_, _>>()?,
            mutant: None,
        };
        recipe.base()?;
        recipe.config()?;
        Ok(recipe)
    }

    /// The recipe that comes with copra under this name: a policy on the first base.
    pub fn predefined(name: &str) -> Option<Self> {
        let policy = POLICIES.iter().find(|policy| policy.name == name)?;
        Some(Self::of_policy(policy, &BASES[0]))
    }

    /// The mutant of this name, on the first base.
    pub fn mutant(name: &str) -> Option<Self> {
        let mutant = MUTANTS.iter().find(|mutant| mutant.name == name)?;
        Some(Self {
            name: format!("mutant-{name}"),
            mutant: Some(mutant),
            ..Self::predefined(mutant.policy)?
        })
    }

    /// The same with other options, under the name that says so.
    ///
    /// # Errors
    /// A crossing that makes no difference to this recipe.
    pub fn crossed<'a>(mut self, crossings: impl Iterator<Item = &'a str>) -> Result<Self, Error> {
        for crossing in crossings {
            let known = CROSSINGS.iter().find(|known| known.name == crossing);
            let before = self.config()?;
            self.fragments.extend(known.into_iter().flat_map(|known| known.fragments).map(Piece::of));
            if self.config()? == before {
                return Err(Error::NoDifference { name: self.name, crossing: crossing.to_owned() });
            }
            self.name = format!("{}+{crossing}", self.name);
        }
        Ok(self)
    }

    pub(crate) fn upstream(base: &Base) -> Self {
        Self::of_policy(&POLICIES[0], base)
    }

    fn of_policy(policy: &Policy, base: &Base) -> Self {
        Self {
            name: policy.name.to_owned(),
            base: base.series.to_owned(),
            policy: Some(policy.name.to_owned()),
            patches: vec![],
            fragments: vec![],
            mutant: None,
        }
    }

    /// What `build:` calls it, and its kernel itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to ask for to get it.
    pub fn spec(&self) -> Result<KernelSpec, spec::Error> {
        match self.mutant {
            Some(mutant) => Ok(KernelSpec::Mutant(mutant.name.parse()?)),
            None => Ok(KernelSpec::Build(self.name.parse()?)),
        }
    }

    /// The policy it is built for.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// The base it starts from.
    pub fn base(&self) -> Result<&'static Base, Error> {
        Base::of(&self.base)
    }

    /// All patches, in order.
    pub fn patches(&self) -> Result<Vec<Piece>, Error> {
        let policy = self.rules()?.into_iter().flat_map(|policy| policy.patches).map(Piece::of);
        let mistake = self.mutant.into_iter().map(|mutant| Piece::of(&mutant.patch));
        Ok(policy.chain(self.patches.iter().cloned()).chain(mistake).collect())
    }

    /// The patches as a report names them.
    pub(crate) fn applied(&self) -> Result<Vec<Applied>, Error> {
        let patches = self.patches()?.into_iter();
        Ok(patches.map(|p| Applied { sha256: hash_bytes(p.text.as_bytes()), name: p.name }).collect())
    }

    /// All fragments merged, the last word last.
    pub fn config(&self) -> Result<Config, Error> {
        let mut merged = Config::default();
        for piece in self.fragments()? {
            let fragment = Config::parse(&piece.text)
                .map_err(|source| Error::Fragment { name: piece.name.clone(), source })?;
            merged.merge(&fragment);
        }
        Ok(merged)
    }

    /// Stands for everything in the recipe that a build depends on.
    pub(crate) fn key(&self) -> Result<Key, Error> {
        let pieces = [self.patches()?, self.fragments()?].concat();
        let texts = pieces.iter().map(|piece| piece.text.as_str());
        Ok(Key::of([METHOD, &self.name, &self.base].into_iter().chain(texts)))
    }

    fn fragments(&self) -> Result<Vec<Piece>, Error> {
        let mut pieces = vec![Piece::of(&self.base()?.fragment)];
        pieces.extend(self.rules()?.into_iter().flat_map(|policy| policy.fragments).map(Piece::of));
        pieces.extend(self.fragments.iter().cloned());
        Ok(pieces)
    }

    fn rules(&self) -> Result<Option<&'static Policy>, Error> {
        let find = |name: &String| {
            POLICIES.iter().find(|policy| policy.name == name).ok_or_else(|| Error::NoPolicy {
                name: name.clone(),
                known: POLICIES.iter().map(|policy| policy.name).collect::<Vec<_>>().join(", "),
            })
        };
        self.policy.as_ref().map(find).transpose()
    }
}

/// Changes when the builder does something differently, so that kernels from before are built again.
const METHOD: &str = "1";

/// A recipe that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that comes with copra.
    #[error("`{name}` comes with copra and cannot be redefined; choose another name for the kernel")]
    Predefined {
        /// The name.
        name: String,
    },
    /// A name that crosses a recipe.
    #[error("`{name}` means the kernel `{recipe}` with other options; name yours without the `+`")]
    Crossed {
        /// The name.
        name: String,
        /// The part before.
        recipe: String,
    },
    /// A crossing without effect.
    #[error("crossing the kernel {name} with `{crossing}` changes none of its options; leave it out")]
    NoDifference {
        /// The kernel.
        name: String,
        /// The crossing.
        crossing: String,
    },
    /// A series without configuration.
    #[error(
        "no kernel can be built from series {series}; known bases: {known}. Another kernel can be named as path:FILE"
    )]
    NoBase {
        /// The series.
        series: String,
        /// Those there are.
        known: String,
    },
    /// No such policy.
    #[error("there is no policy `{name}` to build a kernel for; known policies: {known}")]
    NoPolicy {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// A file of the user's could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A fragment is wrong.
    #[error("the configuration fragment {name} is wrong: {source}")]
    Fragment {
        /// The fragment.
        name: String,
        /// Where and how.
        source: config::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(policy: Option<&str>, fragment: &str) -> Result<Recipe, Error> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my.config");
        fs::write(&file, fragment).unwrap();
        Recipe::new(&"mine".parse().unwrap(), &"6.12".parse().unwrap(), policy, &[], &[file])
    }

    fn crossed(name: &str) -> Result<Recipe, Error> {
        let name: Name = name.parse().unwrap();
        Recipe::predefined(name.recipe()).unwrap().crossed(name.crossings())
    }

    #[test]
    fn every_policy_is_a_kernel() {
        for policy in &POLICIES {
            let recipe = Recipe::predefined(policy.name).unwrap();
            assert_eq!(recipe.policy(), Some(policy.name));
            assert_eq!(recipe.config().unwrap().is_yes("DEVMEM"), policy.name != "no-devmem");
            assert!(recipe.patches().unwrap().iter().all(|patch| !patch.text.is_empty()));
        }
    }

    #[test]
    fn crossings_change_their_options_only() {
        let config = |name: &str| crossed(name).unwrap().config().unwrap();
        let differs = |name: &str| {
            let (plain, crossed) = (config("range-deny"), config(name));
            plain.dropped_from(&crossed).into_iter().map(|option| option.name).collect::<Vec<_>>()
        };
        assert_eq!(differs("range-deny+strict-off"), ["IO_STRICT_DEVMEM", "STRICT_DEVMEM"]);
        assert_eq!(differs("range-deny+io-strict-off"), ["IO_STRICT_DEVMEM"]);
        assert_eq!(differs("range-deny+port-off"), ["DEVPORT"]);
        let both = crossed("range-deny+port-off+strict-off").unwrap();
        assert_eq!(both.name(), "range-deny+strict-off+port-off");
        assert_eq!(both.policy(), Some("range-deny"));
        let message = |name| crossed(name).unwrap_err().to_string();
        assert!(message("upstream+strict-off+io-strict-off").contains("`io-strict-off` changes none"));
        assert!(message("no-devmem+strict-off").contains("leave it out"));
    }

    #[test]
    fn no_two_recipes_are_the_same_kernel() {
        let mut keys = std::collections::BTreeMap::new();
        let crossings = [
            "",
            "+strict-off",
            "+io-strict-off",
            "+port-off",
            "+strict-off+port-off",
            "+io-strict-off+port-off",
        ];
        let names =
            POLICIES.iter().flat_map(|policy| crossings.map(|crossing| format!("{}{crossing}", policy.name)));
        let recipes = names.filter_map(|name| crossed(&name).ok());
        let mutants = MUTANTS.iter().map(|mutant| Recipe::mutant(mutant.name).unwrap());
        let mut count = 0;
        for recipe in recipes.chain(mutants) {
            // But for the name, which is part of a kernel's release.
            let texts = [
                recipe.patches().unwrap(),
                vec![Piece { name: String::new(), text: recipe.config().unwrap().to_string() }],
            ];
            let texts: Vec<String> = texts.concat().into_iter().map(|piece| piece.text).collect();
            count += 1;
            if let Some(other) = keys.insert(texts, recipe.name().to_owned()) {
                panic!("{} and {other} are the same", recipe.name());
            }
            assert!(recipe.name().len() <= Name::MAX, "{}", recipe.name());
        }
        assert_eq!(count, 7 * 6 + 2 + MUTANTS.len());
    }

    #[test]
    fn the_users_fragment_has_the_last_word() {
        let recipe = own(Some("open-eperm"), "# CONFIG_DEVPORT is not set\n").unwrap();
        assert!(!recipe.config().unwrap().is_yes("DEVPORT"));
        assert_eq!(recipe.patches().unwrap().len(), 1);
    }

    #[test]
    fn the_key_covers_texts_and_name() {
        let key = |recipe: &Recipe| recipe.key().unwrap().as_str().to_owned();
        let one = own(None, "CONFIG_A=y").unwrap();
        assert_eq!(key(&one), key(&own(None, "CONFIG_A=y").unwrap()));
        assert_ne!(key(&one), key(&own(None, "CONFIG_B=y").unwrap()));
        assert_ne!(key(&one), key(&own(Some("open-eperm"), "CONFIG_A=y").unwrap()));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |result: Result<Recipe, Error>| result.unwrap_err().to_string();
        assert!(message(own(Some("nope"), "")).contains("known policies: upstream, open-eperm"));
        assert!(message(own(None, "CONFIG_X")).contains("my.config is wrong: line 1"));
        let (name, base) = ("mine".parse().unwrap(), "5.4".parse().unwrap());
        assert!(message(Recipe::new(&name, &base, None, &[], &[])).contains("known bases: 6.12"));
        let name = "open-eperm".parse().unwrap();
        let base = "6.12".parse().unwrap();
        assert!(message(Recipe::new(&name, &base, None, &[], &[])).contains("another name"));
        let name = "mine+port-off".parse().unwrap();
        assert!(message(Recipe::new(&name, &base, None, &[], &[])).contains("name yours without the `+`"));
        let missing = [PathBuf::from("/no/such.patch")];
        let name = "mine".parse().unwrap();
        assert!(message(Recipe::new(&name, &base, None, &missing, &[])).contains("/no/such.patch"));
    }
}
