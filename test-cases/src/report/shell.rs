// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands as one types them in a POSIX shell.

/// Words as a line that a shell splits into the same words.
pub fn line<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    words.into_iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it unchanged.
pub fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=,+@%-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_with_blanks_are_quoted() {
        assert_eq!(
            line(["copra", "debian:6.12", "a b", "it's", ""]),
            r"copra debian:6.12 'a b' 'it'\''s' ''"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_shell_splits_a_line_into_the_same_words(words in prop::collection::vec("[ -~\\n\\t\u{e4}]{0,20}", 1..4)) {
            let script = format!("printf '%s\\0' {}", line(&words));
            let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
            let expected: String = words.iter().flat_map(|word| [word.as_str(), "\0"]).collect();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }
}
