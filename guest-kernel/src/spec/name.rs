// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The names of kernels built here.

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::recipe::CROSSINGS;

/// The name of a kernel built here; also part of the release string the kernel reports.
///
/// It may name [crossings](CROSSINGS) after the recipe: `open-eperm+strict-off`. They come in the order of the table,
/// however they were written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The longest name: a release string holds 64 characters, of which the kernel's version takes some.
    pub const MAX: usize = 40;

    /// The name of the kernel that has all mutants.
    pub(crate) fn of_mutants() -> Self {
        Self(crate::mutants::KERNEL.to_owned())
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without crossings: the name of a recipe.
    pub fn recipe(&self) -> &str {
        self.0.split_once(CROSSED).map_or(&self.0, |(recipe, _)| recipe)
    }

    /// The crossings.
    pub fn crossings(&self) -> impl Iterator<Item = &str> {
        self.0.split(CROSSED).skip(1)
    }
}

/// Between a recipe and its crossings.
const CROSSED: char = '+';

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let (recipe, crossings) = text.split_once(CROSSED).map_or((text, None), |(r, c)| (r, Some(c)));
        let good = !recipe.is_empty()
            && text.len() <= Self::MAX
            && recipe.bytes().all(|b| plain(b) || b"-._".contains(&b))
            && recipe.bytes().next().is_some_and(plain);
        if !good {
            return Err(Error::Name { text: text.to_owned() });
        }
        let mut wanted =
            crossings.into_iter().flat_map(|crossings| crossings.split(CROSSED)).collect::<Vec<_>>();
        let place = |name: &str| CROSSINGS.iter().position(|crossing| crossing.name == name);
        if let Some(unknown) = wanted.iter().find(|name| place(name).is_none()) {
            return Err(Error::Crossing { text: text.to_owned(), unknown: (*unknown).to_owned() });
        }
        wanted.sort_by_key(|name| place(name));
        if let Some(twice) = wanted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::CrossedTwice { text: text.to_owned(), crossing: twice[0].to_owned() });
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
