// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The words of a Rust source file: identifiers and punctuation with their lines, without comments, literals and
//! test code.

/// One identifier or one character of punctuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub text: String,
    pub line: usize,
}

/// What a file holds outside its test code.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub tokens: Vec<Token>,
    /// Names of the modules in files of their own that only tests compile.
    pub test_modules: Vec<String>,
}

/// Reads a file.
pub(crate) fn read(text: &str) -> Source {
    let tokens = tokens(&blank_comments_and_literals(text));
    let mut source = Source::default();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            let end = item_end(&tokens, at);
            let item = &tokens[at..end];
            if let [.., keyword, name, semicolon] = item
                && keyword.text == "mod"
                && semicolon.text == ";"
            {
                source.test_modules.push(name.text.clone());
            }
            at = end;
        } else {
            source.tokens.push(tokens[at].clone());
            at += 1;
        }
    }
    source
}

fn is_test_attribute(tokens: &[Token]) -> bool {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    tokens.len() >= attribute.len() && tokens.iter().zip(attribute).all(|(token, text)| token.text == text)
}

/// One past the item that the attributes at `start` belong to: behind its `;`, or behind the brace that closes it.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            // The end of what surrounds an attribute of a field or an expression.
            "}" | ")" | "]" if depth == 0 => return index,
            "}" if depth == 1 => return index + 1,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        let mut word = String::new();
        for c in text.chars().chain([' ']) {
            if c.is_alphanumeric() || c == '_' {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                tokens.push(Token { text: std::mem::take(&mut word), line });
            }
            if !c.is_whitespace() {
                tokens.push(Token { text: c.into(), line });
            }
        }
    }
    tokens
}

/// The same text with every comment, string and character literal replaced by spaces; line breaks stay.
fn blank_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = at + comment_or_literal(&chars[at..], at.checked_sub(1).map(|before| chars[before]));
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Length of the comment or literal that begins here; 0 if none does.
fn comment_or_literal(chars: &[char], before: Option<char>) -> usize {
    let to = |position: Option<usize>| position.unwrap_or(chars.len());
    match *chars {
        ['/', '/', ..] => to(chars.iter().position(|c| *c == '\n')),
        ['/', '*', ..] => block_comment(chars),
        ['"', ..] => 1 + quoted(&chars[1..], '"'),
        ['\'', '\\', ..] => 1 + quoted(&chars[1..], '\''),
        ['\'', _, '\'', ..] => 3,
        ['r', ..] if !before.is_some_and(|c| c.is_alphanumeric() && c != 'b' && c != 'c') => {
            raw_string(chars)
        }
        _ => 0,
    }
}

fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

/// Length of the rest of a literal, its closing quote included.
fn quoted(chars: &[char], quote: char) -> usize {
    let mut at = 0;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string(chars: &[char]) -> usize {
    let hashes = chars[1..].iter().take_while(|c| **c == '#').count();
    if chars.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let body = 2 + hashes;
    let end: Vec<char> = ['"'].into_iter().chain(std::iter::repeat_n('#', hashes)).collect();
    let closing = chars[body..].windows(end.len()).position(|w| w == end);
    closing.map_or(chars.len(), |closing| body + closing + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        read(text).tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(
            words(r##"x("crate::up \" y", 'z', '\'', r#"a "b" c"#, br"q") 'life"##),
            "x ( , , , , b ) ' life"
        );
        assert_eq!(words("let r#type = after;"), "let r # type = after ;");
    }

    #[test]
    fn items_under_cfg_test_are_left_out() {
        assert_eq!(words("#[cfg(test)] use a::{b, c}; d"), "; d");
        assert_eq!(words("#[cfg(test)] #[path = \"x\"] mod t { fn f() { g } } d"), "d");
        assert_eq!(words("struct S { a: u8, #[cfg(test)] b: u8 } d"), "struct S { a : u8 , } d");
        let source = read("#[cfg(test)]\npub(crate) mod fake;\nmod real;");
        assert_eq!(source.test_modules, ["fake"]);
        assert_eq!(source.tokens[0], Token { text: "mod".into(), line: 3 });
    }
}
