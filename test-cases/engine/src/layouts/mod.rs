// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest layouts in files: those that come with copra, named after real firmware or a report, and a user's own.

mod facts;
mod random;

use std::path::{Path, PathBuf};
use std::{fmt, io};

use guest_kernel::bounded;
use serde::{Deserialize, Serialize};
use types::names::{UnknownName, nearest};
use types::{GuestLayout, LayoutError, Platform};
use vmm::memory::ram::{Ram, RamError};

pub use self::facts::{simpler, single};
pub use self::random::draw;

/// Name and text of every layout that comes with copra, in the order of their names.
static EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/layouts.rs"));
/// Most bytes of a layout file.
const MOST_BYTES: u64 = 64 << 10;

/// A layout with its name, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedLayout {
    /// Its name, or its file as the user named it.
    #[serde(skip)]
    pub name: String,
    /// One line.
    pub title: String,
    /// Whose firmware does so, or what was reported.
    pub why: String,
    /// The platforms it is for; empty for all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// The guest's RAM in MiB, where it matters.
    #[serde(rename = "memory-mib", skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// What is chosen.
    pub layout: GuestLayout,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    title: String,
    #[serde(default)]
    why: String,
    #[serde(default)]
    platforms: Vec<Platform>,
    memory_mib: Option<u64>,
    #[serde(default)]
    layout: GuestLayout,
}

/// Why a layout cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadLayout {
    /// No such name, and no such file.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The file cannot be read.
    #[error("cannot read {} as a layout: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not in the form of a layout file.
    #[error("{name}: {message}; `copra list --layouts --json` shows layouts with every field")]
    Form {
        /// The file.
        name: String,
        /// What is wrong, with its line.
        message: String,
    },
    /// It contradicts itself.
    #[error("{name}: on {platform}, {source}")]
    Contradiction {
        /// The file.
        name: String,
        /// The platform.
        platform: Platform,
        /// How.
        source: LayoutError,
    },
    /// Memory cannot be placed so.
    #[error("{name}: on {platform}, {source} (memory-mib, --memory)")]
    Memory {
        /// The file.
        name: String,
        /// The platform.
        platform: Platform,
        /// Why.
        source: RamError,
    },
    /// It is not for this platform.
    #[error("layout {name} is for {}, not for {platform}: choose another platform or layout", list(.platforms))]
    Platform {
        /// The file.
        name: String,
        /// The platforms it is for.
        platforms: Vec<Platform>,
        /// The one asked for.
        platform: Platform,
    },
}

fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(|platform| platform.name()).collect::<Vec<_>>().join(", ")
}

impl NamedLayout {
    /// The layout of a guest that nothing was chosen for.
    pub fn usual() -> Self {
        Self {
            name: "usual".to_owned(),
            title: "What every guest gets that nothing was chosen for".to_owned(),
            why: String::new(),
            platforms: Vec::new(),
            memory_mib: None,
            layout: GuestLayout::default(),
        }
    }

    /// It may be had on a platform.
    pub fn is_for(&self, platform: Platform) -> bool {
        self.platforms.is_empty() || self.platforms.contains(&platform)
    }

    /// Refuses what no guest of `platform` with `memory_mib`, or as much as the layout asks for, can be given.
    pub fn check(&self, platform: Platform, memory_mib: u64) -> Result<(), BadLayout> {
        let name = || self.name.clone();
        if !self.is_for(platform) {
            return Err(BadLayout::Platform { name: name(), platforms: self.platforms.clone(), platform });
        }
        self.layout.check(platform).map_err(|source| BadLayout::Contradiction {
            name: name(),
            platform,
            source,
        })?;
        let memory = self.memory_mib.unwrap_or(memory_mib).saturating_mul(1 << 20);
        Ram::laid_out(memory, &self.layout, platform).map_err(|source| BadLayout::Memory {
            name: name(),
            platform,
            source,
        })?;
        Ok(())
    }
}

/// The layout as a file.
impl fmt::Display for NamedLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Every layout that comes with copra, the usual one first.
pub fn all() -> Result<Vec<NamedLayout>, BadLayout> {
    let embedded = EMBEDDED.iter().map(|(name, text)| parse(name, text));
    std::iter::once(Ok(NamedLayout::usual())).chain(embedded).collect()
}

/// The layout of that name, or in the file of that path.
pub fn find(given: &str) -> Result<NamedLayout, BadLayout> {
    let all = all()?;
    if let Some(found) = all.iter().find(|layout| layout.name == given) {
        return Ok(found.clone());
    }
    let path = Path::new(given);
    let is_path = given.contains('/') || path.extension().is_some_and(|end| end == "toml");
    if !is_path {
        let names = || all.iter().map(|layout| layout.name.as_str());
        return Err(UnknownName {
            what: "layout",
            given: given.to_owned(),
            nearest: nearest(given, names()).map(str::to_owned),
            known: names().map(str::to_owned).chain(["a file: ./FILE.toml".to_owned()]).collect(),
        }
        .into());
    }
    let text = bounded::read_text(path, MOST_BYTES)
        .map_err(|source| BadLayout::Read { path: path.to_owned(), source })?;
    parse(given, &text)
}

/// A layout from the text of its file.
pub fn parse(name: &str, text: &str) -> Result<NamedLayout, BadLayout> {
    let bad = |message: String| BadLayout::Form { name: name.to_owned(), message };
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        bad(format!("{line}{}", error.message()))
    })?;
    let File { title, why, platforms, memory_mib, layout } = file;
    let why = why.trim().to_owned();
    Ok(NamedLayout { name: name.to_owned(), title, why, platforms, memory_mib, layout })
}

#[cfg(test)]
mod tests;
