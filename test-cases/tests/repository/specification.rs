// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SPECIFICATION.md: each promise names tests that exist, or states why there is none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::top;

/// What begins a promise without a test; the reason follows.
const NOT_VERIFIED: &str = "Not verified: ";

/// A numbered promise.
struct Promise {
    id: String,
    text: String,
}

impl Promise {
    /// Every promise of a specification: a list item that begins with its number in bold.
    fn all(text: &str) -> Vec<Self> {
        let mut promises: Vec<Self> = Vec::new();
        let mut open = false;
        for line in text.lines() {
            if let Some((id, rest)) = line.strip_prefix("- **").and_then(|line| line.split_once("** ")) {
                promises.push(Self { id: id.to_owned(), text: rest.to_owned() });
                open = true;
            } else if !line.starts_with("  ") {
                open = false;
            } else if let Some(promise) = promises.last_mut().filter(|_| open) {
                promise.text.push(' ');
                promise.text.push_str(line.trim());
            }
        }
        promises
    }

    /// `place: test`, as the promise has them in backticks.
    fn references(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.split('`').skip(1).step_by(2).filter_map(|span| span.split_once(": "))
    }

    /// What is wrong with it.
    fn problems(&self, tree: &[Source]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut count = 0;
        for (place, test) in self.references() {
            count += 1;
            if !tree.iter().any(|source| source.has(place, test)) {
                problems.push(format!("{}: there is no test `{place}: {test}`", self.id));
            }
        }
        let reason = self.text.split_once(NOT_VERIFIED).map_or("", |(_, reason)| reason.trim());
        if count == 0 && reason.is_empty() {
            problems.push(format!(
                "{}: names neither a test (`place: test`) nor \"{NOT_VERIFIED}\" and a reason",
                self.id
            ));
        }
        problems
    }
}

/// A file that may have tests.
struct Source {
    /// Below the top directory.
    path: PathBuf,
    text: String,
}

impl Source {
    /// Whether the file lies at `place` (a file or directory of that name, anywhere) and has the test.
    fn has(&self, place: &str, test: &str) -> bool {
        if place == "case" && self.path.ends_with(format!("cases/{test}.toml")) {
            return true;
        }
        let named = |part: &Path| part.file_stem().is_some_and(|stem| stem == place);
        if !self.path.iter().any(|part| named(Path::new(part))) {
            return false;
        }
        let below = |dir: &str| self.path.iter().any(|part| part == dir);
        let literal = |before: &str, after: &str| self.text.contains(&format!("{before}{test}{after}"));
        if test == "*" {
            return self.path.ends_with(format!("tests/{place}/main.rs"));
        }
        if below("scripts") {
            return literal("check \"", "");
        }
        if below("examples") {
            return literal("println!(\"", "");
        }
        let trial = below("tests") && self.text.contains("Trial");
        self.has_test_function(test) || trial && (literal("\"", "\"") || literal("::", "\""))
    }

    fn has_test_function(&self, test: &str) -> bool {
        let head = format!("fn {test}(");
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        lines.iter().enumerate().any(|(at, line)| {
            let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with('#'));
            line.starts_with(&head) && attributes.into_iter().any(|line| *line == "#[test]")
        })
    }
}

/// Every file of the repository in which a test can be.
fn tree() -> Vec<Source> {
    let top = top();
    let mut sources = Vec::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = entry.file_name().into_string().unwrap_or_default();
            if kind.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if kind.is_file() {
                let below = path.strip_prefix(&top).unwrap().to_owned();
                let kind = below.extension().unwrap_or_default();
                let may_have_tests = kind == "rs" || kind == "toml" || below.starts_with("scripts");
                if let Some(text) = may_have_tests.then(|| fs::read_to_string(&path).ok()).flatten() {
                    sources.push(Source { path: below, text });
                }
            }
        }
    }
    sources
}

/// All that is wrong with a specification.
fn problems(text: &str) -> Vec<String> {
    let tree = tree();
    Promise::all(text).iter().flat_map(|promise| promise.problems(&tree)).collect()
}

#[test]
fn every_promise_names_tests_that_exist_or_says_that_it_is_not_verified() {
    let text = fs::read_to_string(top().join("SPECIFICATION.md")).unwrap();
    let problems = problems(&text);
    assert!(problems.is_empty(), "SPECIFICATION.md:\n{}", problems.join("\n"));
}

#[test]
fn promises_are_numbered_once() {
    let text = fs::read_to_string(top().join("SPECIFICATION.md")).unwrap();
    let promises = Promise::all(&text);
    assert!(promises.len() > 40, "only {} promises were found", promises.len());
    let ids: BTreeSet<&str> = promises.iter().map(|promise| promise.id.as_str()).collect();
    assert_eq!(ids.len(), promises.len(), "a number occurs twice");
    assert_eq!(text.matches("**").count(), 2 * promises.len(), "a promise is not in the form `- **N1** …`");
}

#[test]
fn names_of_no_test_are_found() {
    for (planted, complaint) in [
        ("Held by `judge: there_is_no_such_test`.", "no test `judge: there_is_no_such_test`"),
        ("Held by `vmm: there_is_always_a_verdict`.", "no test `vmm: there_is_always_a_verdict`"),
        ("Held by\n  `judge: there_is_always_a_verdict`, `judge: no`.", "no test `judge: no`"),
        ("Held by `repository: has_test_function`.", "no test `repository: has_test_function`"),
        ("Held by `no_such_binary: *`.", "no test `no_such_binary: *`"),
        ("Held by `case: mmap/no-such-case`.", "no test `case: mmap/no-such-case`"),
        ("Held by `test-setup: no such check`.", "no test `test-setup: no such check`"),
        ("It works.", "names neither a test"),
        ("Not verified: ", "names neither a test"),
    ] {
        let problems =
            problems(&format!("# Title\n\n- **X1** A promise.\n  {planted}\n\nHeld by nothing.\n"));
        assert_eq!(problems.len(), 1, "{planted}: {problems:?}");
        assert!(
            problems[0].starts_with("X1: ") && problems[0].contains(complaint),
            "{planted}: {problems:?}"
        );
    }
}
