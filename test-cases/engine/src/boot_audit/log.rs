// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines of a kernel's log by which it reports a fault of its own.

/// How such a line begins behind its time.
const COMPLAINTS: [&str; 9] = [
    "WARNING: ",
    "BUG: ",
    "kernel BUG at ",
    "Oops: ",
    "general protection fault",
    "unchecked MSR access error",
    "INFO: task ",
    "INFO: rcu_",
    "SEV: Unsupported exit-code ",
];

/// The lines that report a fault, without level and time; each once.
pub(super) fn complaints(log: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.lines() {
        let text = without_time(line);
        if COMPLAINTS.iter().any(|start| text.starts_with(start)) && !found.iter().any(|known| known == text)
        {
            found.push(text.to_owned());
        }
    }
    found
}

/// A line without `<6>` and `[    0.123456]`.
fn without_time(line: &str) -> &str {
    let line = line.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(line, |(_, text)| text);
    line.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(line, |(_, text)| text).trim()
}

/// A text without what differs from one boot to the next: numbers, and offsets in functions.
pub(super) fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_whitespace() {
        let word = word.split_once('+').map_or(word, |(name, _)| name);
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let hex = bare.strip_prefix("0x").unwrap_or(bare);
        if !hex.is_empty()
            && hex.chars().all(|c| c.is_ascii_hexdigit())
            && hex.chars().any(|c| c.is_ascii_digit())
        {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_and_ordinary_lines_are_not() {
        let log = "<6>[    0.000000] Linux version 6.12\n<4>[    0.5] WARNING: CPU: 0 PID: 1 at mm/memblock.c:1 f+0x1/0x2\n\
                   <1>[    0.6] BUG: unable to handle page fault for address: ffff\n<4>[    0.5] WARNING: CPU: 0 PID: 1 at mm/memblock.c:1 f+0x1/0x2\n\
                   <6>[    0.7] Speculative Return Stack Overflow: WARNING: See https://kernel.org";
        let found = complaints(log);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            without_numbers(&found[0]),
            "WARNING: CPU: PID: at mm/memblock.c:1 f",
            "the same warning of another boot is the same"
        );
    }
}
