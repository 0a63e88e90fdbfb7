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

/// A rule set for /dev/mem, as kernel changes. Each is also the name of a kernel: `build:open-eperm`.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    pub(super) patches: &'static [(&'static str, &'static str)],
    pub(super) fragments: &'static [(&'static str, &'static str)],
}

/// Names and texts of files in a directory of this crate.
macro_rules! texts {
    ($dir:literal: $($path:literal),*) => {
        &[$(($path, include_str!(concat!("../../", $dir, "/", $path)))),*]
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
