// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any text is a case or a list of problems, each with a place in it.

use engine::{case, library};

/// Parses the bytes as a case file, and prints what is wrong with it.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match case::parse(&text, "fuzzed") {
        Ok(case) => assert!(!case.steps.is_empty() || case.name == "fuzzed"),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

/// The cases that come with copra.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let cases = library::all().unwrap_or_default();
    let seed = |name: String| Some((name.replace('/', "-"), library::source(&name)?.as_bytes().to_vec()));
    cases.into_iter().filter_map(|case| seed(case.name)).collect()
}
