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

/// Every variant. The base has all options on that one takes away, and none that one adds.
pub static CONFIG_VARIANTS: [ConfigVariant; 4] = [
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
    ConfigVariant {
        name: "virtio",
        summary: "with drivers of virtio devices, as copra exec needs them",
        fragments: texts!("config": "virtio.config"),
    },
];
