// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One line of KTAP or TAP.

use types::names::named;

named! {
    /// What a result line ends with after `#`.
    pub enum Directive ("directive") {
        Skip = "SKIP", "it did not run";
        Todo = "TODO", "it is not expected to work yet";
        Xfail = "XFAIL", "it is expected to fail";
        Timeout = "TIMEOUT", "it did not end in time";
        Error = "ERROR", "it could not be executed";
    }
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// `KTAP version 1`, `TAP version 14`.
    Version,
    /// `1..N`.
    Plan { count: u64, skip: Option<String> },
    /// `ok 1 name # SKIP reason`.
    Result { ok: bool, number: Option<u64>, name: String, directive: Option<(Directive, String)> },
    /// `# Subtest: name`.
    Subtest(String),
    /// `Bail out! reason`.
    BailOut(String),
    /// Anything else.
    Other,
}

/// The text without what printk puts before it: `<6>[    1.234567][    T1] `.
pub(super) fn without_printk_prefix(text: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let level = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let text = level.filter(|(level, _)| is_number(level)).map_or(text, |(_, rest)| rest);
    let Some((time, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return text;
    };
    let Some((seconds, fraction)) = time.trim_start().split_once('.') else { return text };
    if !is_number(seconds) || !is_number(fraction) {
        return text;
    }
    let caller = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let rest = caller.map_or(rest, |(_, rest)| rest);
    rest.strip_prefix(' ').unwrap_or(rest)
}

/// The line `text`, which has no indentation.
pub(super) fn classify(text: &str) -> Line {
    let text = text.trim_end();
    version(text)
        .or_else(|| plan(text))
        .or_else(|| result(text))
        .or_else(|| Some(Line::Subtest(text.strip_prefix("# Subtest:")?.trim().to_owned())))
        .or_else(|| Some(Line::BailOut(text.strip_prefix("Bail out!")?.trim().to_owned())))
        .unwrap_or(Line::Other)
}

fn version(text: &str) -> Option<Line> {
    let number = text.strip_prefix("KTAP version ").or_else(|| text.strip_prefix("TAP version "))?;
    number.trim().parse::<u32>().ok().map(|_| Line::Version)
}

fn plan(text: &str) -> Option<Line> {
    let rest = text.strip_prefix("1..")?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let count = rest.get(..digits)?.parse().ok()?;
    let rest = rest.get(digits..)?.trim();
    if rest.is_empty() {
        return Some(Line::Plan { count, skip: None });
    }
    let reason = rest.strip_prefix('#')?.trim();
    let skip = without_word(reason, Directive::Skip).unwrap_or(reason);
    Some(Line::Plan { count, skip: Some(skip.to_owned()) })
}

fn result(text: &str) -> Option<Line> {
    let (ok, rest) = match text.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return None;
    }
    let rest = rest.trim_start();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = match rest.split_at_checked(digits) {
        Some((number, rest)) if rest.is_empty() || rest.starts_with([' ', '\t']) => {
            (number.parse().ok(), rest)
        }
        _ => (None, rest),
    };
    let rest = rest.trim();
    let rest = rest.strip_prefix("- ").unwrap_or(if rest == "-" { "" } else { rest }).trim_start();
    let (name, remark) = at_remark(rest);
    let directive = Directive::ALL.iter().find_map(|directive| {
        let reason = without_word(remark, *directive)?;
        Some((*directive, reason.to_owned()))
    });
    Some(Line::Result { ok, number, name: unescaped(name.trim_end()), directive })
}

/// Splits at a `#` that begins a remark, one at the start or after a space, which is not escaped: at the first with a directive,
/// as names have others (`Test #3 # SKIP`), else at the first.
fn at_remark(text: &str) -> (&str, &str) {
    let begins = |(at, _): &(usize, &str)| *at == 0 || text[..*at].ends_with([' ', '\t']);
    let is_directive = |(at, _): &(usize, &str)| {
        Directive::ALL.iter().any(|directive| without_word(text[at + 1..].trim(), *directive).is_some())
    };
    let remarks = || text.match_indices('#').filter(begins);
    match remarks().find(is_directive).or_else(|| remarks().next()) {
        Some((at, _)) => (&text[..at], text[at + 1..].trim()),
        None => (text, ""),
    }
}

/// What follows the directive's word; case does not matter.
fn without_word(text: &str, directive: Directive) -> Option<&str> {
    let (word, rest) = text.split_at_checked(directive.name().len())?;
    let ends = rest.is_empty() || rest.starts_with([' ', '\t', ':']);
    let is_it = ends && word.eq_ignore_ascii_case(directive.name());
    is_it.then(|| rest.trim_start_matches(':').trim())
}

/// TAP 14: `\#` and `\\` are `#` and `\`.
fn unescaped(text: &str) -> String {
    text.replace("\\#", "#").replace("\\\\", "\\")
}
