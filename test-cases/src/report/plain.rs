// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text from a guest or a kernel image, without control characters.
//!
//! A guest controls its console, the kernel's release and version, names of symbols and tasks. ESC sequences in them
//! could rewrite text on a terminal; other control characters break XML and TAP.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

/// The text with every control character but newline and tab as `\x1b` or `\u{202e}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_forbidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if !is_forbidden(character) {
            out.push(character);
        } else if u32::from(character) < 0x100 {
            let _ = write!(out, "\\x{:02x}", u32::from(character));
        } else {
            let _ = write!(out, "{}", character.escape_unicode());
        }
    }
    Cow::Owned(out)
}

/// Control characters (C0, DEL, C1), and those that change the direction in which the text around them is shown.
const fn is_forbidden(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // XML 1.0 has no way to write the last two.
        '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}'
        | '\u{fffe}'
        | '\u{ffff}' => true,
        other => other.is_ascii_control() || matches!(other, '\u{80}'..='\u{9f}'),
    }
}

/// Text for HTML, in elements and in attributes.
pub fn in_html(text: &str) -> String {
    plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// JSON with these characters, which serializers leave as they are in strings, in its own notation.
pub fn in_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_forbidden(character) {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// Writes text that was put together from parts that a guest may have chosen.
pub fn write(mut out: impl io::Write, text: &str) -> io::Result<()> {
    out.write_all(plain(text).as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_are_shown_and_text_is_left_alone() {
        assert_eq!(plain("a\x1b[2Jb\r\x07\n\tc\x7f\u{9b}1m"), "a\\x1b[2Jb\\x0d\\x07\n\tc\\x7f\\x9b1m");
        assert_eq!(plain("x\u{202e}y"), "x\\u{202e}y");
        assert!(matches!(plain("Größe → 4 × \u{1f600}\n"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn no_control_character_gets_through(text in "\\PC*[\\x00-\\x1f\\x7f-\\u{9f}\\u{2028}-\\u{202e}]*\\PC*") {
            let shown = plain(&text);
            let is_clean = |c: char| c == '\n' || c == '\t' || !c.is_control();
            prop_assert!(shown.chars().all(is_clean));
            prop_assert_eq!(plain(&shown), shown.as_ref());
        }
    }
}
