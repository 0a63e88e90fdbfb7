// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The names of kernels built here.

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::config_variant::CONFIG_VARIANTS;

/// The kernel that has all mutants, as `build:mutants`.
pub(crate) const MUTANTS: &str = "mutants";
/// The kernel that has KUnit suites, as `build:kunit`.
pub(crate) const KUNIT: &str = "kunit";

/// The name of a kernel built here; also part of the release string the kernel reports.
///
/// It may name [variants](CONFIG_VARIANTS) after the recipe: `open-eperm+strict-off`. They come in the order of the table,
/// however they were written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The longest name: a release string holds 64 characters, of which the kernel's version takes some.
    pub const MAX: usize = 40;

    /// The name of the kernel that has all mutants.
    pub(crate) fn of_mutants() -> Self {
        Self(MUTANTS.to_owned())
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without variants: the name of a recipe.
    pub fn recipe(&self) -> &str {
        self.0.split_once(VARIANT_SEPARATOR).map_or(&self.0, |(recipe, _)| recipe)
    }

    /// The variants.
    pub fn variants(&self) -> impl Iterator<Item = &str> {
        self.0.split(VARIANT_SEPARATOR).skip(1)
    }
}

/// Between a recipe and its variants.
const VARIANT_SEPARATOR: char = '+';

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let (recipe, variants) =
            text.split_once(VARIANT_SEPARATOR).map_or((text, None), |(r, c)| (r, Some(c)));
        let good = !recipe.is_empty()
            && text.len() <= Self::MAX
            && recipe.bytes().all(|b| plain(b) || b"-._".contains(&b))
            && recipe.bytes().next().is_some_and(plain);
        if !good {
            return Err(Error::Name { text: text.to_owned() });
        }
        let mut wanted =
            variants.into_iter().flat_map(|variants| variants.split(VARIANT_SEPARATOR)).collect::<Vec<_>>();
        let place = |name: &str| CONFIG_VARIANTS.iter().position(|variant| variant.name == name);
        if let Some(unknown) = wanted.iter().find(|name| place(name).is_none()) {
            return Err(Error::ConfigVariant { text: text.to_owned(), unknown: (*unknown).to_owned() });
        }
        wanted.sort_by_key(|name| place(name));
        if let Some(twice) = wanted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::RepeatedVariant { text: text.to_owned(), variant: twice[0].to_owned() });
        }
        let parts = std::iter::once(recipe).chain(wanted).collect::<Vec<_>>();
        Ok(Self(parts.join("+")))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
