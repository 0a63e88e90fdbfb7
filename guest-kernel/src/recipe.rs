// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a kernel is built from: a base, a policy, and whatever else the user adds.

use crate::cache::{Key, hash_bytes};
use crate::config::Config;
use crate::config_variant::CONFIG_VARIANTS;
use crate::kernel::Applied;
use crate::mutants;
use crate::piece::Piece;
use crate::spec::{self, KernelSpec, Name, Series};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

mod error;
mod predefined;

pub use error::Error;
pub use predefined::{BASES, Base, POLICIES, PolicyRecipe};
pub(crate) use predefined::{KUNIT_SUMMARY, UPSTREAM};

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
        if Self::predefined(name.recipe()).is_some() {
            return Err(Error::Predefined { name: name.to_string() });
        }
        if name.variants().next().is_some() {
            return Err(Error::UndefinedVariants {
                name: name.to_string(),
                recipe: name.recipe().to_owned(),
            });
        }
        let recipe = Self {
            name: name.to_string(),
            base: base.to_string(),
            policy: policy.map(str::to_owned),
            patches: patches.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
            fragments: fragments.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
        };
        recipe.base()?;
        recipe.config()?;
        Ok(recipe)
    }

    /// The recipe that comes with copra under this name, on the first base: a policy, the kernel with all mistakes, or the one
    /// with KUnit suites.
    pub fn predefined(name: &str) -> Option<Self> {
        match name {
            spec::MUTANTS => return Some(Self::mutants(&BASES[0])),
            spec::KUNIT => return Some(Self::kunit(&BASES[0])),
            _ => {}
        }
        let policy = POLICIES.iter().find(|policy| policy.name == name)?;
        Some(Self::of_policy(policy, &BASES[0]))
    }

    fn mutants(base: &Base) -> Self {
        Self {
            name: spec::MUTANTS.to_owned(),
            base: base.series.to_owned(),
            policy: None,
            patches: mutants::patches(),
            // Mistakes about memory that devices reach show with devices only, some of them by a suite only.
            fragments: mutants::FRAGMENTS.iter().map(Piece::of).collect(),
        }
    }

    /// It follows the policy `upstream`: neither its suites nor their options change what /dev/mem gives.
    fn kunit(base: &Base) -> Self {
        Self {
            name: spec::KUNIT.to_owned(),
            base: base.series.to_owned(),
            policy: Some(UPSTREAM.to_owned()),
            patches: predefined::KUNIT_PATCHES.iter().map(Piece::of).collect(),
            fragments: predefined::KUNIT_FRAGMENTS.iter().map(Piece::of).collect(),
        }
    }

    /// The same with other options, under the name with the variants.
    ///
    /// # Errors
    /// A variant that makes no difference to this recipe.
    pub fn with_variants<'a>(mut self, variants: impl Iterator<Item = &'a str>) -> Result<Self, Error> {
        for variant in variants {
            let known = CONFIG_VARIANTS.iter().find(|known| known.name == variant);
            let before = self.config()?;
            self.fragments.extend(known.into_iter().flat_map(|known| known.fragments).map(Piece::of));
            if self.config()? == before {
                return Err(Error::NoDifference { name: self.name, variant: variant.to_owned() });
            }
            self.name = format!("{}+{variant}", self.name);
        }
        Ok(self)
    }

    pub(crate) fn upstream(base: &Base) -> Self {
        Self::of_policy(&POLICIES[0], base)
    }

    fn of_policy(policy: &PolicyRecipe, base: &Base) -> Self {
        Self {
            name: policy.name.to_owned(),
            base: base.series.to_owned(),
            policy: Some(policy.name.to_owned()),
            patches: vec![],
            fragments: vec![],
        }
    }

    /// What `build:` calls it, and its kernel itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name to request it by.
    pub fn spec(&self) -> Result<KernelSpec, spec::Error> {
        Ok(KernelSpec::Build(self.name.parse()?))
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
        Ok(policy.chain(self.patches.iter().cloned()).collect())
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

    /// Covers everything in the recipe that a build depends on.
    pub(crate) fn key(&self) -> Result<Key, Error> {
        let pieces = [self.patches()?, self.fragments()?].concat();
        let texts = pieces.iter().map(|piece| without_licence_line(&piece.text));
        Ok(Key::of([METHOD, &self.name, &self.base].into_iter().chain(texts)))
    }

    fn fragments(&self) -> Result<Vec<Piece>, Error> {
        let mut pieces = vec![Piece::of(&self.base()?.fragment)];
        pieces.extend(self.rules()?.into_iter().flat_map(|policy| policy.fragments).map(Piece::of));
        pieces.extend(self.fragments.iter().cloned());
        Ok(pieces)
    }

    fn rules(&self) -> Result<Option<&'static PolicyRecipe>, Error> {
        let find = |name: &String| {
            POLICIES.iter().find(|policy| policy.name == name).ok_or_else(|| Error::NoPolicy {
                name: name.clone(),
                known: POLICIES.iter().map(|policy| policy.name).collect::<Vec<_>>().join(", "),
            })
        };
        self.policy.as_ref().map(find).transpose()
    }
}

/// The text of a fragment below its licence line, on which no build depends.
fn without_licence_line(text: &str) -> &str {
    match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("# SPDX-License-Identifier: ") => rest,
        _ => text,
    }
}

/// Changes when the builder does something differently, so that kernels from before are built again.
const METHOD: &str = "1";

fn read(path: &Path) -> Result<Piece, Error> {
    Piece::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
