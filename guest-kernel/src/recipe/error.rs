// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with a recipe.

use crate::config;
use std::io;
use std::path::PathBuf;

/// A recipe that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that comes with copra.
    #[error("`{name}` comes with copra and cannot be redefined; choose another name for the kernel")]
    Predefined {
        /// The name.
        name: String,
    },
    /// A user's name with a variant in it.
    #[error("`{name}` means the kernel `{recipe}` with other options; name yours without the `+`")]
    UndefinedVariants {
        /// The name.
        name: String,
        /// The part before.
        recipe: String,
    },
    /// A variant without effect.
    #[error("variant `{variant}` changes no option of the kernel {name}; leave it out")]
    NoDifference {
        /// The kernel.
        name: String,
        /// The variant.
        variant: String,
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
