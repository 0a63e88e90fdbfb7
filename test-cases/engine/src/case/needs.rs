// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest must have for a case to run, and whether a given guest has it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use types::{PlacedRegion, Platform, Region};

use model::release::{BadRelease, Release};

/// What a case needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Kernel options and their values.
    pub config: Vec<ConfigNeed>,
    /// Bounds on the kernel release.
    pub kernel: Vec<ReleaseBound>,
}

/// A kernel option that must have a value, `DEVPORT=y`; `n` also means "is not set".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigNeed {
    /// The option without `CONFIG_`.
    pub option: String,
    /// The value.
    pub value: String,
}

/// A bound on the kernel release: `>= 6.1`, `< 6.15`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseBound {
    /// This release or a newer one.
    From(Release),
    /// A release older than this one.
    Before(Release),
}

/// Why a text is no need.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NeedError {
    /// Not `OPTION=VALUE`.
    #[error("`{0}` is no kernel option with a value: write it as in `DEVPORT=y` or `DEVKMEM=n`")]
    Config(String),
    /// Not a bound.
    #[error("`{0}` is no bound: write `>= 6.1` or `< 6.15`")]
    Bound(String),
    /// The release in a bound cannot be read.
    #[error(transparent)]
    Release(#[from] BadRelease),
}

/// What is known of the guest a case is to run in.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// The platform it runs on.
    pub platform: Platform,
    /// Its kernel's release, where known.
    pub release: Option<Release>,
    /// Its kernel's options without `CONFIG_` and with their values, where known.
    pub config: Option<&'a BTreeMap<String, String>>,
    /// Where its regions are.
    pub regions: &'a [PlacedRegion],
}

impl Guest<'_> {
    /// Whether the guest has the region.
    pub fn has(&self, region: Region) -> bool {
        self.regions.iter().any(|placed| placed.region == region)
    }
}

impl Needs {
    /// The first requirement that the guest does not satisfy, as a text.
    pub fn unmet(&self, guest: &Guest<'_>) -> Option<String> {
        let kernel = self.kernel.iter().find_map(|bound| match guest.release {
            None => Some(format!("needs a kernel {bound}, and this kernel's release is not known")),
            Some(release) if bound.admits(release) => None,
            Some(release) => Some(format!("needs a kernel {bound}, this is {release}")),
        });
        kernel.or_else(|| {
            self.config.iter().find_map(|need| match guest.config {
                None => Some(format!("needs {need}, and this kernel's configuration is not known")),
                Some(config) => need.unmet(config),
            })
        })
    }
}

impl ConfigNeed {
    fn unmet(&self, config: &BTreeMap<String, String>) -> Option<String> {
        let value = config.get(&self.option).map_or("n", String::as_str);
        (value != self.value).then(|| format!("needs {self}, this kernel has {}={value}", self.option))
    }
}

impl FromStr for ConfigNeed {
    type Err = NeedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || NeedError::Config(text.to_owned());
        let (option, value) = text.split_once('=').ok_or_else(bad)?;
        let option = option.strip_prefix("CONFIG_").unwrap_or(option);
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if option.is_empty() || value.is_empty() || !option.chars().all(legal) {
            return Err(bad());
        }
        Ok(Self { option: option.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for ConfigNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.option, self.value)
    }
}

impl ReleaseBound {
    fn admits(self, release: Release) -> bool {
        match self {
            Self::From(first) => release >= first,
            Self::Before(end) => release < end,
        }
    }
}

impl FromStr for ReleaseBound {
    type Err = NeedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(release) = text.strip_prefix(">=") {
            Ok(Self::From(release.trim().parse()?))
        } else if let Some(release) = text.strip_prefix('<') {
            Ok(Self::Before(release.trim().parse()?))
        } else {
            Err(NeedError::Bound(text.to_owned()))
        }
    }
}

impl fmt::Display for ReleaseBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(first) => write!(f, ">= {first}"),
            Self::Before(end) => write!(f, "< {end}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet(needs: &Needs, release: &str, config: &[(&str, &str)]) -> Option<String> {
        let config = config.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let release = release.parse().ok();
        needs.unmet(&Guest { platform: Platform::None, release, config: Some(&config), regions: &[] })
    }

    #[test]
    fn an_option_that_is_not_set_counts_as_n() {
        let needs = Needs { config: vec!["CONFIG_DEVPORT=y".parse().unwrap()], kernel: vec![] };
        assert_eq!(unmet(&needs, "6.12", &[("DEVPORT", "y")]), None);
        assert_eq!(unmet(&needs, "6.12", &[]).unwrap(), "needs DEVPORT=y, this kernel has DEVPORT=n");
        let needs = Needs { config: vec!["DEVPORT=n".parse().unwrap()], kernel: vec![] };
        assert_eq!(unmet(&needs, "6.12", &[]), None);
    }

    #[test]
    fn bounds_include_the_first_release_and_exclude_the_end() {
        let bounds = vec![">= 6.1".parse().unwrap(), "<6.15".parse().unwrap()];
        let needs = Needs { config: vec![], kernel: bounds };
        assert_eq!(unmet(&needs, "6.1", &[]), None);
        assert_eq!(unmet(&needs, "6.14", &[]), None);
        assert_eq!(unmet(&needs, "6.15", &[]).unwrap(), "needs a kernel < 6.15, this is 6.15");
        assert!(unmet(&needs, "", &[]).unwrap().contains("not known"));
    }
}
