// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Other options for any recipe.

use crate::piece::{Texts, texts};

/// A config variant, other options for any recipe: `build:open-eperm+strict-off`.
#[derive(Debug)]
pub struct ConfigVariant {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    pub(crate) fragments: Texts,
}

/// Every variant. The base has all of these options on.
pub static CONFIG_VARIANTS: [ConfigVariant; 3] = [
    ConfigVariant {
        name: "strict-off",
        summary: "without STRICT_DEVMEM, and so without IO_STRICT_DEVMEM",
        fragments: texts!("config": "strict-off.config"),
    },
    ConfigVariant {
        name: "io-strict-off",
        summary: "without IO_STRICT_DEVMEM",
        fragments: texts!("config": "io-strict-off.config"),
    },
    ConfigVariant {
        name: "port-off",
        summary: "without DEVPORT",
        fragments: texts!("config": "port-off.config"),
    },
];
