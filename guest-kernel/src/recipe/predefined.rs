// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of recipes that come with copra: bases, policies and config variants.

use types::Policy;

use super::Error;
use crate::piece::{Texts, texts};

/// A series that copra has a configuration for.
#[derive(Debug)]
pub struct Base {
    /// The series; the source is Debian's package `linux-source-SERIES`.
    pub series: &'static str,
    pub(super) fragment: (&'static str, &'static str),
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
    fragment: ("base-6.12.config", include_str!("../../config/base-6.12.config")),
    objects: 1000,
}];

/// A rule set for /dev/mem, as kernel changes. Each is also the name of a kernel: `build:open-eperm`.
#[derive(Debug, Clone, Copy)]
pub struct PolicyRecipe {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    pub(super) patches: Texts,
    pub(super) fragments: Texts,
}

/// The policies that kernels can be built for, in the order of [`Policy::ALL`].
pub static POLICIES: [PolicyRecipe; Policy::ALL.len()] = {
    let mut all = [recipe(Policy::ALL[0]); Policy::ALL.len()];
    let mut index = 1;
    while index < all.len() {
        all[index] = recipe(Policy::ALL[index]);
        index += 1;
    }
    all
};

const fn recipe(policy: Policy) -> PolicyRecipe {
    let (patches, fragments) = changes(policy);
    PolicyRecipe { name: policy.name(), summary: policy.about(), patches, fragments }
}

/// The patches and the options of a policy.
const fn changes(policy: Policy) -> (Texts, Texts) {
    match policy {
        Policy::OpenEperm => {
            (texts!("patches": "open-eperm/0001-devmem-refuse-open-in-encrypted-guests.patch"), &[])
        }
        Policy::RangeDeny => {
            (texts!("patches": "range-deny/0001-x86-mm-allow-no-devmem-page-in-encrypted-guests.patch"), &[])
        }
        Policy::LockdownCc => {
            (texts!("patches": "lockdown-cc/0001-lockdown-bitmap-and-encrypted-guests.patch"), &[])
        }
        Policy::LockdownAll => (&[], texts!("config": "lockdown-all.config")),
        Policy::NoLow1m => {
            (texts!("patches": "no-low-1m/0001-x86-mm-drop-devmem-special-cases-below-1-mib.patch"), &[])
        }
        Policy::NoDevmem => (
            texts!("patches": "no-devmem/0001-char-no-devmem-with-cc-platform.patch"),
            texts!("config": "no-devmem.config"),
        ),
        Policy::MmapZeros => {
            (texts!("patches": "mmap-zeros/0001-devmem-map-zeros-where-read-gives-zeros.patch"), &[])
        }
        Policy::Upstream => (&[], &[]),
    }
}

/// The policy without changes; its build is what every other build of the same base starts from.
pub(crate) const UPSTREAM: &str = "upstream";

/// The KUnit suites for /dev/mem, the DMA API and unaccepted memory, and what turns these and other suites on.
pub(super) const KUNIT_PATCHES: Texts = texts!(
    "kunit": "0001-char-mem-kunit-tests.patch",
    "0002-dma-kunit-tests.patch",
    "0003-unaccepted-memory-kunit-tests.patch"
);
pub(super) const KUNIT_FRAGMENTS: Texts = texts!("config": "kunit.config");
/// In one line.
pub(crate) const KUNIT_SUMMARY: &str =
    "upstream with KUnit suites, those of /dev/mem and of the DMA API among them, for copra suite --kunit";
