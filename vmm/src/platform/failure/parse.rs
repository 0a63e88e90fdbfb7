// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A rule as text: `map-gpa:nth=3,error=retry,done=2`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use types::View;
use types::names::{UnknownName, suggestion};

use super::{ConversionCall, ConversionFailure, Failures, Which};
use crate::layout::PAGE_SIZE;

/// The keys of a rule.
const KEYS: [&str; 6] = ["nth", "every", "range", "to", "error", "done"];

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadRule {
    /// The call or a name in it is unknown.
    #[error(transparent)]
    Name(#[from] UnknownName),
    /// No `KEY=VALUE`.
    #[error("`{0}` is no KEY=VALUE: write a rule as in map-gpa:nth=3,error=retry")]
    NoValue(String),
    /// An unknown key.
    #[error("a rule has no key `{given}`{}; known: {}", suggestion(nearest.as_deref()), KEYS.join(", "))]
    Key {
        /// As given.
        given: String,
        /// The nearest that there is.
        nearest: Option<String>,
    },
    /// A key twice, or two that exclude each other.
    #[error("{0}: leave one of them out")]
    Twice(String),
    /// A number that is none, or out of bounds.
    #[error("`{key}={value}` is no number from {least} to {}", u32::MAX)]
    Number {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The least.
        least: u32,
    },
    /// Not a range of pages.
    #[error(
        "`range={0}` is no range of whole pages: write two addresses, the end excluded, as in range=0x100000-0x200000"
    )]
    Range(String),
    /// The call is done whole or not at all.
    #[error("{call} reports no progress, so it is done whole or not at all: leave `done` out")]
    Done {
        /// Its name in the ABI.
        call: &'static str,
    },
    /// The call never does this.
    #[error("{call} makes no memory {to}: leave `to` out")]
    Direction {
        /// Its name in the ABI.
        call: &'static str,
        /// What was requested.
        to: View,
    },
}

impl FromStr for ConversionFailure {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (call, rest) = text.split_once(':').map_or((text, None), |(call, rest)| (call, Some(rest)));
        let call: ConversionCall = call.trim().parse()?;
        let mut rule = Self::all(call);
        let mut seen: Vec<&str> = Vec::new();
        for item in rest.into_iter().flat_map(|rest| rest.split(',')).map(str::trim) {
            let (key, value) = item.split_once('=').ok_or_else(|| BadRule::NoValue(item.to_owned()))?;
            if seen.contains(&key) {
                return Err(BadRule::Twice(format!("`{key}` is given twice")));
            }
            match key {
                "nth" => rule.which = Which::Nth(number("nth", value, 1)?),
                "every" => rule.which = Which::Every(number("every", value, 1)?),
                "range" => rule.range = Some(range(value)?),
                "to" => rule.to = Some(value.parse()?),
                "error" => rule.error = call.error(value)?,
                "done" => rule.done = number("done", value, 0)?,
                _ => {
                    let nearest = types::names::nearest(key, KEYS.into_iter()).map(str::to_owned);
                    return Err(BadRule::Key { given: key.to_owned(), nearest });
                }
            }
            seen.push(key);
        }
        if seen.contains(&"nth") && seen.contains(&"every") {
            return Err(BadRule::Twice("a rule refuses the `nth` call or `every` Nth one".into()));
        }
        if rule.done > 0 && !call.reports_progress() {
            return Err(BadRule::Done { call: call.abi() });
        }
        match rule.to {
            Some(to) if !call.can_make(to) => Err(BadRule::Direction { call: call.abi(), to }),
            _ => Ok(rule),
        }
    }
}

fn number(key: &'static str, value: &str, least: u32) -> Result<u32, BadRule> {
    let number = value.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| BadRule::Number { key, value: value.to_owned(), least })
}

fn range(value: &str) -> Result<(u64, u64), BadRule> {
    let address = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let ends = value.split_once('-').and_then(|(first, end)| address(first).zip(address(end)));
    ends.filter(|(first, end)| {
        first < end && first.is_multiple_of(PAGE_SIZE) && end.is_multiple_of(PAGE_SIZE)
    })
    .ok_or_else(|| BadRule::Range(value.to_owned()))
}

/// The shortest text that is read as this rule.
impl fmt::Display for ConversionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, which, range, to, error, done } = self;
        f.write_str(call.name())?;
        let which = match which {
            Which::All => None,
            Which::Nth(nth) => Some(format!("nth={nth}")),
            Which::Every(nth) => Some(format!("every={nth}")),
        };
        let items = [
            which,
            range.map(|(first, end)| format!("range={first:#x}-{end:#x}")),
            to.map(|to| format!("to={to}")),
            (*error != call.default_error()).then(|| format!("error={}", error.name)),
            (*done > 0).then(|| format!("done={done}")),
        ];
        items
            .into_iter()
            .flatten()
            .zip([':'].into_iter().chain(std::iter::repeat(',')))
            .try_for_each(|(item, separator)| write!(f, "{separator}{item}"))
    }
}

impl Serialize for Failures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Failures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for ConversionFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConversionFailure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
