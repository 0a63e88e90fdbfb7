// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernel releases as far as behaviour depends on them: major and minor number.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use thiserror::Error;

/// A kernel release such as `6.12`; what follows the second number is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

/// A text that does not start with a kernel release.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no kernel release: write two numbers, as in `6.12`")]
pub struct BadRelease(pub String);

impl Release {
    /// Reads the release at the start of a version string, for example `6.12.117-cloud-amd64`.
    pub fn of_version(version: &str) -> Result<Self, BadRelease> {
        let bad = || BadRelease(version.to_owned());
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().and_then(|digits| digits.parse().ok()).ok_or_else(bad);
        Ok(Self { major: next()?, minor: next()? })
    }
}

impl FromStr for Release {
    type Err = BadRelease;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let release = Self::of_version(text)?;
        if release.to_string() == text { Ok(release) } else { Err(BadRelease(text.to_owned())) }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for Release {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_two_numbers() {
        assert_eq!("6.12".parse(), Ok(Release { major: 6, minor: 12 }));
        for bad in ["", "6", "6.", ".12", "6.12.1", "6.012", "x6.12", "6.12 "] {
            assert!(bad.parse::<Release>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_version_string_starts_with_its_release() {
        let release = Release::of_version("6.12.117+deb12-cloud-amd64");
        assert_eq!(release, Ok(Release { major: 6, minor: 12 }));
        assert!(release.unwrap() < Release::of_version("7.2-rc1").unwrap());
        assert!(Release::of_version("next-20250101").is_err());
    }
}
