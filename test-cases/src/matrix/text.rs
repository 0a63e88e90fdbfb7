// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Line breaking.

/// Breaks a text into lines of at most `width` characters, at spaces; a longer word is a line of its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Breaks a name into lines of at most `width` characters: after `-`, `:`, `_` and `/` where it can, else anywhere.
pub fn fold(name: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for part in name.split_inclusive(['-', ':', '_', '/']) {
        for piece in part.chars().collect::<Vec<char>>().chunks(width.max(1)) {
            let fits = lines.last().is_some_and(|line| line.chars().count() + piece.len() <= width);
            if !fits {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.extend(piece);
            }
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_after_separators() {
        assert_eq!(fold("open-eperm", 9), ["open-", "eperm"]);
        assert_eq!(fold("debian:6.12", 9), ["debian:", "6.12"]);
        assert_eq!(fold("upstream", 9), ["upstream"]);
        assert_eq!(fold("abcdefghijkl", 9), ["abcdefghi", "jkl"]);
    }

    #[test]
    fn texts_wrap_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), Vec::<String>::new());
    }
}
