// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Forbidden accesses that stock kernels make while booting, as known-boot-accesses.toml states them.

use std::sync::OnceLock;

use serde::Deserialize;
use types::{AccessEvent, EventKind, Platform, RomArea};

use super::Context;
use crate::observation::SetupFacts;
use model::release::Release;

const LIST: &str = include_str!("../../../known-boot-accesses.toml");

/// The list of the repository is not in its form.
#[derive(Debug, thiserror::Error)]
#[error("known-boot-accesses.toml: {0}; compare with the form described at its beginning")]
pub struct BadList(String);

/// One kind of access that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Platforms it is known on.
    pub platforms: Vec<Platform>,
    /// States of the ROM area, one of which was chosen; empty where that does not matter.
    pub rom: Vec<RomArea>,
    /// The first kernel release that has it.
    pub since: Option<Release>,
    /// The first kernel release that has it no more.
    pub before: Option<Release>,
    /// The kernel function that makes the access, itself or through one it calls.
    pub function: String,
    /// What it does.
    pub access: EventKind,
    /// The first and the last address it may concern.
    pub range: (u64, u64),
    /// What is wrong, and where in the kernel's source.
    pub hole: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    access: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    platforms: Vec<String>,
    #[serde(default)]
    rom: Vec<String>,
    since: Option<String>,
    before: Option<String>,
    function: String,
    access: String,
    range: (u64, u64),
    hole: String,
}

/// The list.
pub fn all() -> Result<&'static [Known], &'static BadList> {
    static PARSED: OnceLock<Result<Vec<Known>, BadList>> = OnceLock::new();
    PARSED.get_or_init(|| parse(LIST)).as_ref().map(Vec::as_slice)
}

fn parse(text: &str) -> Result<Vec<Known>, BadList> {
    let file: File = toml::from_str(text).map_err(|error| BadList(error.to_string()))?;
    file.access.into_iter().map(|entry| Known::of(entry).map_err(BadList)).collect()
}

impl Known {
    fn of(entry: Entry) -> Result<Self, String> {
        let parsed = |text: Option<String>| text.map(|text| text.parse::<Release>()).transpose();
        let rom: Result<Vec<_>, _> = entry.rom.iter().map(|name| name.parse()).collect();
        let platforms: Result<Vec<_>, _> = entry.platforms.iter().map(|name| name.parse()).collect();
        let known = Self {
            platforms: platforms.map_err(|error: types::names::UnknownName| error.to_string())?,
            rom: rom.map_err(|error: types::names::UnknownName| error.to_string())?,
            since: parsed(entry.since).map_err(|error| error.to_string())?,
            before: parsed(entry.before).map_err(|error| error.to_string())?,
            function: entry.function,
            access: entry.access.parse().map_err(|error| format!("{error}"))?,
            range: entry.range,
            hole: entry.hole,
        };
        if known.platforms.is_empty() || known.function.is_empty() || known.hole.is_empty() {
            return Err("an entry has no platform, no function or no hole".to_owned());
        }
        if known.range.0 > known.range.1 {
            return Err(format!("a range ends before it begins, at {:#x}", known.range.1));
        }
        Ok(known)
    }

    /// Whether an access is one of these. Where the kernel's functions are not known, it is not.
    pub(super) fn covers(&self, event: &AccessEvent, setup: SetupFacts, context: Context) -> bool {
        let last = event.gpa.saturating_add(event.len.unwrap_or(1).saturating_sub(1));
        let in_time = match context.release {
            Some(release) => {
                self.since.is_none_or(|since| release >= since)
                    && self.before.is_none_or(|before| release < before)
            }
            None => self.since.is_none() && self.before.is_none(),
        };
        self.platforms.contains(&context.platform)
            && (self.rom.is_empty() || setup.rom.is_some_and(|rom| self.rom.contains(&rom)))
            && in_time
            && event.kind == self.access
            && self.range.0 <= event.gpa
            && last <= self.range.1
            && event.cpl == 0
            && functions(event).any(|name| name == self.function)
    }
}

/// The functions on the stack that are there for certain, the innermost first.
fn functions(event: &AccessEvent) -> impl Iterator<Item = &str> {
    let frames = event.symbol.iter().chain(&event.backtrace).filter(|frame| !frame.starts_with("? "));
    frames.filter_map(|frame| frame.split_once("+0x")).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_its_form() {
        assert!(!all().unwrap().is_empty());
    }

    #[test]
    fn what_is_not_in_the_form_is_refused() {
        let good = "[[access]]\nplatforms = [\"tdx\"]\nfunction = \"f\"\naccess = \"private-read\"\nrange = [0, 1]\nhole = \"h\"\n";
        assert_eq!(parse(good).unwrap().len(), 1);
        for (from, to) in [
            ("tdx", "tdz"),
            ("private-read", "peek"),
            ("[0, 1]", "[1, 0]"),
            ("\"f\"", "\"\""),
            ("[\"tdx\"]", "[]"),
            ("function", "funktion"),
        ] {
            assert!(parse(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
