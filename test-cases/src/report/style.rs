// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Colours, used only on a terminal.

use std::ffi::OsStr;
use std::fmt::Display;

use super::plain::plain;

/// Whether to use colours and to overwrite lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Text may be coloured.
    pub colour: bool,
    /// A line may be overwritten by the next.
    pub live: bool,
}

/// A meaning that has a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As specified.
    Good,
    /// A known hole.
    Known,
    /// A finding.
    Bad,
    /// Details.
    Faint,
    /// Emphasis.
    Strong,
}

impl Style {
    /// Decides from whether the output is a terminal and from the environment: `NO_COLOR` (any value but the
    /// empty one) forbids colours, `COPRA_TTY=1` states that the output is a terminal, as inside a KVM
    /// host.
    pub fn choose(is_terminal: bool, no_color: Option<&OsStr>, copra_tty: Option<&OsStr>) -> Self {
        let live = is_terminal || copra_tty.is_some_and(|value| value == "1");
        let forbidden = no_color.is_some_and(|value| !value.is_empty());
        Self { colour: live && !forbidden, live }
    }

    /// Text in the colour of its meaning, without control characters of its own.
    pub fn paint(self, tone: Tone, text: impl Display) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Known => "33",
            Tone::Bad => "1;31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        let text = text.to_string();
        let text = plain(&text);
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_need_a_terminal_without_no_color() {
        let on = |text: &'static str| Some(OsStr::new(text));
        assert!(Style::choose(true, None, None).colour);
        assert!(Style::choose(true, on(""), None).colour);
        assert!(Style::choose(false, None, on("1")).colour);
        assert!(!Style::choose(false, None, on("0")).live);
        assert_eq!(Style::choose(true, on("1"), None), Style { colour: false, live: true });
        assert_eq!(Style::default().paint(Tone::Bad, "x"), "x");
    }
}
