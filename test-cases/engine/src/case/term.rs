// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One word of an expectation: `ok`, an errno, a signal, a count, a class of bytes, a state of memory.

use std::fmt;

use thiserror::Error;

use super::step::Yield;
use crate::observation::DeathKind;
use crate::place::parse_number;
use model::class::{Class, MemoryState};
use types::names::UnknownName;
use types::{Errno, Signal};

/// Shorthand in cases for the deaths that a guest does not bring about by itself: `terminated | panic | triple-fault`.
const DEAD: &str = "dead";

/// One alternative of an expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// Success, with the whole requested length.
    Ok,
    /// This error.
    Errno(Errno),
    /// The step's process was ended by this signal.
    Signal(Signal),
    /// The guest died in this manner.
    Death(DeathKind),
    /// Success with exactly this number.
    Number(u64),
    /// Success with fewer bytes than requested, but at least one.
    Short,
    /// Success with bytes of this class, in the requested length.
    Class(Class),
    /// Memory in this state.
    State(MemoryState),
    /// Bytes that contain this text.
    Contains(String),
    /// Bytes that do not contain this text.
    Lacks(String),
    /// Bytes that as a whole fit this pattern of `*` and `?`.
    Matches(String),
}

/// Before a signal's name: `killed SIGBUS` is `SIGBUS`. Alone it would allow any signal, and is refused.
const KILLED: &str = "killed";

/// Why a text is no expectation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TermError {
    /// An alternative is empty.
    #[error("an alternative is missing: write one word on each side of `|`")]
    Empty,
    /// A count could not be read.
    #[error("`{0}` is no count: write `= N` with a decimal or 0x… number")]
    Number(String),
    /// A quoted text is not quoted, or not closed.
    #[error("`{0}` needs one text in double quotes after it")]
    Quotes(String),
    /// `killed` without the one signal that is expected.
    #[error("`{0}` does not name a signal: write `killed SIGBUS`, or `SIGBUS` alone")]
    Killed(String),
    /// A pattern is malformed.
    #[error("`{0}` is no pattern of `*`, `?` and `[…]`")]
    Pattern(String),
    /// Nothing of that name.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The step cannot give this.
    #[error("a step of this kind never gives `{term}`; it can give {allowed}")]
    Unfit {
        /// The word as written.
        term: String,
        /// The words that fit.
        allowed: String,
    },
}

impl Term {
    /// Reads alternatives separated by `|`, none of which the step could not give.
    pub fn parse_all(text: &str, yields: Yield) -> Result<Vec<Self>, TermError> {
        let mut terms = Vec::new();
        for alternative in split_alternatives(text) {
            let alternative = alternative.trim();
            if alternative == DEAD {
                terms.extend(DeathKind::DEAD.map(Self::Death));
            } else {
                terms.push(Self::parse(alternative)?);
            }
        }
        match terms.iter().find(|term| !term.fits(yields)) {
            Some(term) => Err(TermError::Unfit { term: term.to_string(), allowed: allowed(yields) }),
            None => Ok(terms),
        }
    }

    fn parse(text: &str) -> Result<Self, TermError> {
        if let Some(number) = text.strip_prefix('=') {
            let number = number.trim();
            return parse_number(number).map(Self::Number).ok_or_else(|| TermError::Number(text.to_owned()));
        }
        let (word, rest) =
            text.split_once([' ', '"']).map_or((text, ""), |(word, _)| (word, text[word.len()..].trim()));
        match word {
            "" => return Err(TermError::Empty),
            KILLED => {
                let signal = Signal::from_name(rest);
                let signal = signal.map(Self::Signal);
                return signal.ok_or_else(|| TermError::Killed(text.to_owned()));
            }
            "contains" => return quoted(word, rest).map(Self::Contains),
            "lacks" => return quoted(word, rest).map(Self::Lacks),
            "matches" => {
                let pattern = quoted(word, rest)?;
                return match glob::Pattern::new(&pattern) {
                    Ok(_) => Ok(Self::Matches(pattern)),
                    Err(_) => Err(TermError::Pattern(pattern)),
                };
            }
            _ => {}
        }
        Self::words().into_iter().find(|(name, _)| *name == text).map(|(_, term)| term).ok_or_else(|| {
            let more = [DEAD, "= N", "contains", "lacks", "matches", "an errno", "a signal"];
            let plain = Self::words().into_iter().map(|(name, _)| name);
            let plain = plain.filter(|name| !name.starts_with(|c: char| c.is_ascii_uppercase()));
            let mut error = UnknownName::new("expectation", text, plain.chain(more));
            let names = Self::words();
            let near = types::names::nearest(text, names.iter().map(|(name, _)| *name));
            error.nearest = near.map(str::to_owned);
            error.into()
        })
    }

    /// Every expectation that is one fixed word.
    fn words() -> Vec<(&'static str, Self)> {
        let mut words = vec![("ok", Self::Ok), ("short", Self::Short)];
        words.extend(DeathKind::ALL.iter().map(|death| (death.name(), Self::Death(*death))));
        words.extend(Class::ALL.iter().map(|class| (class.name(), Self::Class(*class))));
        words.extend(MemoryState::ALL.iter().map(|state| (state.name(), Self::State(*state))));
        words.extend(Errno::NAMES.iter().map(|(errno, name)| (*name, Self::Errno(*errno))));
        words.extend(Signal::NAMES.iter().map(|(signal, name)| (*name, Self::Signal(*signal))));
        words
    }

    const fn fits(&self, yields: Yield) -> bool {
        match self {
            Self::Ok | Self::Errno(_) | Self::Signal(_) | Self::Death(_) => !matches!(yields, Yield::State),
            Self::Number(_) => matches!(yields, Yield::Number | Yield::Count | Yield::Memory | Yield::Text),
            Self::Short => matches!(yields, Yield::Count | Yield::Memory),
            Self::Class(_) => matches!(yields, Yield::Memory),
            Self::State(_) => matches!(yields, Yield::State),
            Self::Contains(_) | Self::Lacks(_) | Self::Matches(_) => {
                matches!(yields, Yield::Memory | Yield::Text)
            }
        }
    }

    /// Whether the term means that something is refused or hidden.
    pub const fn is_denial(&self) -> bool {
        match self {
            Self::Errno(errno) => errno.is_denial(),
            Self::Signal(_) => true,
            Self::Class(class) => matches!(class, Class::Zeros),
            Self::State(state) => matches!(state, MemoryState::Unchanged),
            _ => false,
        }
    }

    /// Whether the term means that the step succeeds.
    pub const fn is_success(&self) -> bool {
        !matches!(self, Self::Errno(_) | Self::Signal(_) | Self::Death(_))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Errno(errno) => errno.fmt(f),
            Self::Signal(signal) => signal.fmt(f),
            Self::Death(death) => death.fmt(f),
            Self::Number(number) => write!(f, "= {number:#x}"),
            Self::Short => f.write_str("short"),
            Self::Class(class) => class.fmt(f),
            Self::State(state) => state.fmt(f),
            Self::Contains(text) => write!(f, "contains \"{text}\""),
            Self::Lacks(text) => write!(f, "lacks \"{text}\""),
            Self::Matches(text) => write!(f, "matches \"{text}\""),
        }
    }
}

/// What a step that gives `yields` can be expected to give.
fn allowed(yields: Yield) -> String {
    let words = Term::words();
    let mut fitting: Vec<&str> = words
        .iter()
        .filter(|(name, term)| term.fits(yields) && !name.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|(name, _)| *name)
        .collect();
    if Term::Number(0).fits(yields) {
        fitting.push("= N");
    }
    if Term::Contains(String::new()).fits(yields) {
        fitting.push("contains/lacks/matches \"…\"");
    }
    if Term::Signal(Signal::SIGBUS).fits(yields) {
        fitting.push("an errno or a signal");
    }
    fitting.join(", ")
}

/// Splits at each `|` that is not inside double quotes.
fn split_alternatives(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(|c| {
        inside ^= c == '"';
        c == '|' && !inside
    })
    .collect()
}

/// The text between the double quotes that must enclose all of `rest`.
fn quoted(word: &str, rest: &str) -> Result<String, TermError> {
    rest.strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|inner| !inner.is_empty() && !inner.contains('"'))
        .map(str::to_owned)
        .ok_or_else(|| TermError::Quotes(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alternatives_are_separated_by_bars_outside_quotes() {
        assert_eq!(
            Term::parse_all("zeros | EPERM|= 0x10 | contains \"a|b\"", Yield::Memory),
            Ok(vec![
                Term::Class(Class::Zeros),
                Term::Errno(Errno::EPERM),
                Term::Number(16),
                Term::Contains("a|b".into())
            ])
        );
    }

    #[test]
    fn an_impossible_expectation_is_refused_with_the_possible_ones() {
        let message = Term::parse_all("zeros", Yield::Nothing).unwrap_err().to_string();
        assert_eq!(
            message,
            "a step of this kind never gives `zeros`; it can give ok, terminated, panic, triple-fault, reset, power-off, hang, an errno or a signal"
        );
        let message = Term::parse_all("ok", Yield::State).unwrap_err().to_string();
        assert!(message.ends_with("unchanged, written, zeroed, corrupted"), "{message}");
    }

    #[test]
    fn a_mistyped_word_gets_the_nearest_one() {
        let message = Term::parse_all("EPREM", Yield::Nothing).unwrap_err().to_string();
        assert!(message.contains("did you mean `EPERM`"), "{message}");
        let message = Term::parse_all("zeroes", Yield::Memory).unwrap_err().to_string();
        assert!(message.contains("did you mean `zeros`"), "{message}");
    }

    #[test]
    fn killed_names_its_signal() {
        let bus = Ok(vec![Term::Signal(Signal::SIGBUS)]);
        assert_eq!(Term::parse_all("killed SIGBUS", Yield::Memory), bus);
        assert_eq!(Term::parse_all("SIGBUS", Yield::Memory), bus);
        for bad in ["killed", "killed SIGNAL", "killed EPERM", "ok | killed", "killed SIGBUS SIGSEGV"] {
            let message = Term::parse_all(bad, Yield::Memory).unwrap_err().to_string();
            assert!(message.contains("does not name a signal"), "{bad:?}: {message}");
        }
    }

    #[test]
    fn malformed_terms_are_errors() {
        for bad in ["", "ok |", "| ok", "= x", "=", "contains", "contains x", "contains \"", "matches \"[\""]
        {
            assert!(Term::parse_all(bad, Yield::Text).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            for yields in [Yield::Nothing, Yield::Memory, Yield::Text, Yield::State] {
                let _ = Term::parse_all(&text, yields);
            }
        }

        #[test]
        fn display_and_parse_agree(index in 0..Term::words().len()) {
            let (_, term) = Term::words().swap_remove(index);
            prop_assert_eq!(Term::parse(&term.to_string()), Ok(term));
        }
    }
}
