// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a kernel cannot be had.

use std::io;
use std::path::PathBuf;

use crate::spec::{KernelSpec, Name};
use crate::{builder, cache, checkout, debian, image, recipe, source};

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing may be fetched or built now, and the cache does not have it.
    #[error("the kernel {spec} is not in the cache; run `copra kernel fetch {spec}` first")]
    NotCached {
        /// The kernel.
        spec: KernelSpec,
    },
    /// No such recipe.
    #[error(
        "there is no recipe for build:{name}; known: {known}. Define one with `copra kernel build --base 6.12 --name {name}` and --policy, --patch or --config"
    )]
    NoRecipe {
        /// The name.
        name: Name,
        /// Those there are.
        known: String,
    },
    /// No such mutant.
    #[error("there is no mutant:{name}; known: {known}")]
    NoMutant {
        /// The name.
        name: Name,
        /// Those there are.
        known: String,
    },
    /// A recipe that another version wrote, or that was edited.
    #[error("cannot read the recipe for build:{name} in {}: {source}; define it again", file.display())]
    BadRecipe {
        /// The name.
        name: Name,
        /// The file.
        file: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The user's own file.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user's own file is no kernel.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// Fetching failed.
    #[error(transparent)]
    Debian(#[from] debian::Error),
    /// Building failed.
    #[error(transparent)]
    Build(#[from] builder::Error),
    /// Building the user's own source tree failed.
    #[error(transparent)]
    Checkout(#[from] checkout::Error),
    /// The recipe cannot be followed.
    #[error(transparent)]
    Recipe(#[from] recipe::Error),
    /// There is no source, or it cannot be copied.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

impl Error {
    /// A source tree of the user's does not build at this commit; another one may.
    pub fn is_of_this_version(&self) -> bool {
        matches!(self, Self::Checkout(error) if error.is_of_this_version())
    }
}
