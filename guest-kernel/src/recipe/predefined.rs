// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What comes with copra to make recipes of: bases, policies, and what they can be crossed with.

use super::Error;

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

/// Every policy: a name for code, its name, and what it is. There is no other list of them: `policies!(MACRO)` hands this one to
/// a macro that makes of it what it needs.
#[macro_export]
macro_rules! policies {
    ($make:ident) => {
        $make! {
            Upstream = "upstream", "the kernel as released: STRICT_DEVMEM and nothing about confidential guests";
            OpenEperm = "open-eperm", "open(2) of /dev/mem and /dev/port is refused in confidential guests (patch v3 to v5)";
            RangeDeny = "range-deny", "devmem_is_allowed() refuses every page in confidential guests; open(2) still works";
            LockdownCc = "lockdown-cc", "confidential guests always have the lockdown bits for /dev/mem and PCI access set";
            LockdownAll = "lockdown-all", "lockdown=integrity, on every platform";
            NoLow1m = "no-low-1m", "devmem_is_allowed() without the exceptions for the first MiB, on every platform";
            NoDevmem = "no-devmem", "the kernel has no /dev/mem at all (DEVMEM excludes ARCH_HAS_CC_PLATFORM)";
            MmapZeros = "mmap-zeros", "mmap(2) maps zeros where read(2) gives zeros, on every platform";
        }
    };
}

/// A rule set for /dev/mem, as kernel changes. Each is also the name of a kernel: `build:open-eperm`.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    pub(super) patches: Texts,
    pub(super) fragments: Texts,
}

/// Names and texts of files.
type Texts = &'static [(&'static str, &'static str)];

/// Names and texts of files in a directory of this crate.
macro_rules! texts {
    ($dir:literal: $($path:literal),*) => {
        &[$(($path, include_str!(concat!("../../", $dir, "/", $path)))),*]
    };
}

macro_rules! table {
    ($($variant:ident = $name:literal, $about:literal;)+) => {
        /// The policies that kernels can be built for.
        pub static POLICIES: [Policy; [$($name),+].len()] = [$(Policy {
            name: $name,
            summary: $about,
            patches: changes($name).0,
            fragments: changes($name).1,
        }),+];
    };
}
policies!(table);

/// The patches and the options of a policy.
const fn changes(policy: &str) -> (Texts, Texts) {
    match policy.as_bytes() {
        b"open-eperm" => {
            (texts!("patches": "open-eperm/0001-devmem-refuse-open-in-encrypted-guests.patch"), &[])
        }
        b"range-deny" => {
            (texts!("patches": "range-deny/0001-x86-mm-allow-no-devmem-page-in-encrypted-guests.patch"), &[])
        }
        b"lockdown-cc" => {
            (texts!("patches": "lockdown-cc/0001-lockdown-bitmap-and-encrypted-guests.patch"), &[])
        }
        b"lockdown-all" => (&[], texts!("config": "lockdown-all.config")),
        b"no-low-1m" => {
            (texts!("patches": "no-low-1m/0001-x86-mm-drop-devmem-special-cases-below-1-mib.patch"), &[])
        }
        b"no-devmem" => (
            texts!("patches": "no-devmem/0001-char-no-devmem-with-cc-platform.patch"),
            texts!("config": "no-devmem.config"),
        ),
        b"mmap-zeros" => {
            (texts!("patches": "mmap-zeros/0001-devmem-map-zeros-where-read-gives-zeros.patch"), &[])
        }
        // A policy without a change is the base; a test says so if that is an oversight.
        _ => (&[], &[]),
    }
}

/// Other options for any recipe: `build:open-eperm+strict-off`.
#[derive(Debug)]
pub struct Crossing {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    pub(super) fragments: &'static [(&'static str, &'static str)],
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
