// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's kernels for clouds: the options of theirs that the model or a platform needs, so that their specification needs no
//! network. A test compares them with the packages.

use std::collections::BTreeMap;

use model::release::Release;

/// The default release.
pub const DEFAULT_RELEASE: &str = "6.12";

/// What all of them have. `m` is a module, which a guest does not load.
const COMMON: &[(&str, &str)] = &[
    ("AMD_MEM_ENCRYPT", "y"),
    ("DEVMEM", "y"),
    ("DEVPORT", "n"),
    ("DMI", "y"),
    ("IO_STRICT_DEVMEM", "y"),
    ("PROC_KCORE", "y"),
    ("SECURITY_LOCKDOWN_LSM", "y"),
    ("STRICT_DEVMEM", "y"),
    ("UNIX", "y"),
    ("USER_NS", "y"),
    ("X86_IOPL_IOPERM", "y"),
    ("X86_MSR", "m"),
    ("X86_PAT", "y"),
];

/// What each release has beside.
const RELEASES: [(&str, &[(&str, &str)]); 3] = [
    ("6.1", &[("HYPERV", "m"), ("INTEL_TDX_GUEST", "n"), ("UNACCEPTED_MEMORY", "n")]),
    ("6.12", &[("HYPERV", "m"), ("INTEL_TDX_GUEST", "y"), ("UNACCEPTED_MEMORY", "y")]),
    ("7.3", &[("HYPERV", "y"), ("INTEL_TDX_GUEST", "y"), ("UNACCEPTED_MEMORY", "y")]),
];

/// The releases, in order.
pub fn releases() -> impl Iterator<Item = &'static str> {
    RELEASES.iter().map(|(release, _)| *release)
}

/// The options of one.
pub fn options(release: Release) -> Option<BTreeMap<String, String>> {
    let (_, own) = RELEASES.iter().find(|(known, _)| *known == release.to_string())?;
    Some(COMMON.iter().chain(*own).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}
