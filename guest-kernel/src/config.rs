// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernel configurations: the text of a `.config`, of a fragment, and what became of a fragment in a `.config`.

use crate::bounded;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

/// The value of one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `=y`
    Yes,
    /// `=m`
    Module,
    /// `is not set`, `=n`, or not mentioned: a `.config` leaves out what cannot be chosen.
    No,
    /// A number, decimal or hexadecimal, as written.
    Number(String),
    /// A quoted text, without its quotes and escapes.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("y"),
            Self::Module => f.write_str("m"),
            Self::No => f.write_str("n"),
            Self::Number(number) => f.write_str(number),
            Self::Text(text) => write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    }
}

/// A kernel configuration. Options are named without `CONFIG_`; lookups take both forms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    options: BTreeMap<String, Value>,
}

impl Config {
    /// Reads the text of a `.config` or of a fragment. A later line wins over an earlier one.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut config = Self::default();
        for (index, line) in text.lines().enumerate() {
            let wrong = || Error::Line { line: index + 1, text: line.to_owned() };
            let line = line.trim();
            if let Some(comment) = line.strip_prefix('#') {
                if let Some(name) = unset(comment) {
                    config.options.insert(name.to_owned(), Value::No);
                }
            } else if !line.is_empty() {
                let (name, value) = line.split_once('=').ok_or_else(wrong)?;
                let name = name.strip_prefix(PREFIX).filter(|name| is_name(name)).ok_or_else(wrong)?;
                config.options.insert(name.to_owned(), self::value(value).ok_or_else(wrong)?);
            }
        }
        Ok(config)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = bounded::read_text(path, bounded::CONFIG)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// The value of an option; [`Value::No`] where it is not mentioned.
    pub fn get(&self, name: &str) -> &Value {
        self.options.get(name.strip_prefix(PREFIX).unwrap_or(name)).unwrap_or(&Value::No)
    }

    /// Whether an option is built in. A module is not: copra loads none.
    pub fn is_yes(&self, name: &str) -> bool {
        *self.get(name) == Value::Yes
    }

    /// Options mentioned, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Takes over every option that `later` mentions.
    pub fn merge(&mut self, later: &Self) {
        self.options.extend(later.options.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    /// Options of `self` that `outcome` does not have. Kconfig drops such options silently.
    pub fn dropped_from(&self, outcome: &Self) -> Vec<Dropped> {
        self.iter()
            .filter(|(name, wanted)| outcome.get(name) != *wanted)
            .map(|(name, wanted)| Dropped {
                name: name.to_owned(),
                wanted: wanted.clone(),
                got: outcome.get(name).clone(),
            })
            .collect()
    }
}

impl fmt::Display for Config {
    /// As kconfig writes it, but in alphabetical order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.iter() {
            match value {
                Value::No => writeln!(f, "# {PREFIX}{name} is not set")?,
                value => writeln!(f, "{PREFIX}{name}={value}")?,
            }
        }
        Ok(())
    }
}

/// An option that did not come out as requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The option, without `CONFIG_`.
    pub name: String,
    /// Its value in the fragment.
    pub wanted: Value,
    /// Its value in the final configuration.
    pub got: Value,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{} should be {}, is {}", self.name, self.wanted, self.got)
    }
}

/// One line for each.
pub(crate) fn lines(dropped: &[Dropped]) -> String {
    dropped.iter().fold(String::new(), |mut text, dropped| {
        let _ = write!(text, "\n  {dropped}");
        text
    })
}

/// A configuration that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line that is none of the three forms.
    #[error(
        "line {line} of the kernel configuration is `{text}`; expected CONFIG_NAME=value, `# CONFIG_NAME is not set` or a comment"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The file could not be read.
    #[error("cannot read the kernel configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

const PREFIX: &str = "CONFIG_";

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The option that a comment (without its `#`) declares unset.
fn unset(comment: &str) -> Option<&str> {
    comment.trim().strip_suffix(" is not set")?.strip_prefix(PREFIX).filter(|name| is_name(name))
}

fn value(text: &str) -> Option<Value> {
    match text {
        "y" => Some(Value::Yes),
        "m" => Some(Value::Module),
        "n" => Some(Value::No),
        _ if text.starts_with('"') => quoted(text).map(Value::Text),
        _ if is_number(text) => Some(Value::Number(text.to_owned())),
        _ => None,
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn quoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"').filter(|_| text.len() > 1)?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            '"' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "\
#
# Automatically generated file; DO NOT EDIT.
# Linux/x86 6.12.117 Kernel Configuration
#
CONFIG_CC_VERSION_TEXT=\"gcc \\\"12\\\"\"
CONFIG_STRICT_DEVMEM=y
# CONFIG_DEVPORT is not set
CONFIG_SEV_GUEST=m
CONFIG_NR_CPUS=4
CONFIG_PHYSICAL_START=0x1000000
";

    #[test]
    fn reads_a_config() {
        let config = Config::parse(SAMPLE).unwrap();
        assert_eq!(config.get("STRICT_DEVMEM"), &Value::Yes);
        assert_eq!(config.get("CONFIG_STRICT_DEVMEM"), &Value::Yes);
        assert_eq!(config.get("DEVPORT"), &Value::No);
        assert_eq!(config.get("NEVER_HEARD_OF"), &Value::No);
        assert_eq!(config.get("SEV_GUEST"), &Value::Module);
        assert!(!config.is_yes("SEV_GUEST"));
        assert_eq!(config.get("NR_CPUS"), &Value::Number("4".into()));
        assert_eq!(config.get("PHYSICAL_START"), &Value::Number("0x1000000".into()));
        assert_eq!(config.get("CC_VERSION_TEXT"), &Value::Text("gcc \"12\"".into()));
    }

    #[test]
    fn names_the_bad_line() {
        for bad in
            ["CONFIG_X", "X=y", "CONFIG_=y", "CONFIG_X=yes", "CONFIG_X=\"", "CONFIG_X=0x", "CONFIG_X Y=y"]
        {
            let error = Config::parse(&format!("CONFIG_A=y\n{bad}\n")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line 2 of the kernel configuration is `{bad}`")), "{error}");
        }
    }

    #[test]
    fn later_fragments_win() {
        let mut config = Config::parse(SAMPLE).unwrap();
        config.merge(&Config::parse("# CONFIG_STRICT_DEVMEM is not set\nCONFIG_DEVPORT=y").unwrap());
        assert_eq!(config.get("STRICT_DEVMEM"), &Value::No);
        assert!(config.is_yes("DEVPORT"));
        assert_eq!(config.get("NR_CPUS"), &Value::Number("4".into()));
    }

    #[test]
    fn reports_what_was_dropped() {
        let wanted =
            Config::parse("CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n# CONFIG_D is not set").unwrap();
        let got = Config::parse("CONFIG_A=y\nCONFIG_C=y").unwrap();
        let dropped = wanted.dropped_from(&got);
        assert_eq!(lines(&dropped), "\n  CONFIG_B should be y, is n\n  CONFIG_C should be n, is y");
    }

    prop_compose! {
        fn any_value()(kind in 0..5, number in "-?(0x[0-9a-f]{1,8}|[0-9]{1,9})", text in "[^\\p{C}\\n\\r]*") -> Value {
            match kind {
                0 => Value::Yes,
                1 => Value::Module,
                2 => Value::No,
                3 => Value::Number(number),
                _ => Value::Text(text),
            }
        }
    }

    proptest! {
        #[test]
        fn writes_what_it_reads(options in prop::collection::btree_map("[A-Z0-9_]{1,12}", any_value(), 0..20)) {
            let config = Config { options };
            prop_assert_eq!(Config::parse(&config.to_string()).unwrap(), config);
        }

        #[test]
        fn any_text_is_a_config_or_an_error(text in "[CONFIG_XY=\"\\\\ymn# is not set0x\\n]*") {
            let _ = Config::parse(&text);
        }

        #[test]
        fn a_merged_fragment_is_not_dropped(a in prop::collection::btree_map("[A-C]", any_value(), 0..4), b in prop::collection::btree_map("[A-C]", any_value(), 0..4)) {
            let (mut merged, later) = (Config { options: a }, Config { options: b });
            merged.merge(&later);
            prop_assert_eq!(later.dropped_from(&merged), vec![]);
        }
    }
}
