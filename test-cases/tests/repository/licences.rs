// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Licences and sources of dependencies, checked against deny.toml as far as possible without cargo-deny.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::top;

/// Whether an SPDX expression leaves a choice in which every licence is in `allow`; `None` if it is none. Crates from before
/// SPDX have `/` for `OR`.
fn is_allowed(expression: &str, allow: &[&str]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allow };
    let allowed = parser.any_of()?;
    parser.words.is_empty().then_some(allowed)
}

struct Parser<'a> {
    words: &'a [&'a str],
    allow: &'a [&'a str],
}

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        let found = self.words.first() == Some(&token);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn any_of(&mut self) -> Option<bool> {
        let mut allowed = self.all_of()?;
        while self.take("OR") {
            allowed |= self.all_of()?;
        }
        Some(allowed)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let allowed = self.any_of()?;
            return self.take(")").then_some(allowed);
        }
        let mut licence = self.name()?;
        if self.take("WITH") {
            licence = format!("{licence} WITH {}", self.name()?);
        }
        Some(self.allow.contains(&licence.as_str()))
    }

    fn name(&mut self) -> Option<String> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        (!["OR", "AND", "WITH", "(", ")"].contains(first)).then(|| (*first).to_owned())
    }
}

#[test]
fn an_expression_is_allowed_if_a_choice_is() {
    let allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
    for (expression, expected) in [
        ("MIT", Some(true)),
        ("GPL-2.0", Some(false)),
        ("MIT OR GPL-2.0", Some(true)),
        ("MIT/GPL-2.0", Some(true)),
        ("MIT AND GPL-2.0", Some(false)),
        ("GPL-2.0 OR MIT AND Apache-2.0", Some(true)),
        ("(GPL-2.0 OR MIT) AND Zlib", Some(false)),
        ("Apache-2.0 WITH LLVM-exception", Some(true)),
        ("MIT WITH LLVM-exception", Some(false)),
        ("", None),
        ("MIT OR", None),
        ("(MIT", None),
        ("MIT)", None),
        ("MIT MIT", None),
    ] {
        assert_eq!(is_allowed(expression, &allow), expected, "{expression}");
    }
}

#[test]
fn dependencies_have_licences_and_sources_that_are_allowed() {
    let top = top();
    let deny: toml::Table = fs::read_to_string(top.join("deny.toml")).unwrap().parse().unwrap();
    let texts = |section: &str, key: &str| -> Vec<String> {
        deny[section][key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let allow = texts("licenses", "allow");
    let allow: Vec<&str> = allow.iter().map(String::as_str).collect();
    let registries: Vec<String> =
        texts("sources", "allow-registry").iter().map(|url| format!("registry+{url}")).collect();

    let mut wrong = Vec::new();
    for (manifest, fewest) in [("Cargo.toml", 50), ("guest-kernel/agent/Cargo.toml", 2)] {
        // Dependencies of this platform were compiled, so their sources are there; those of other platforms may not be.
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path"])
            .arg(top.join(manifest))
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata of {manifest}: {complaint}");
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        assert!(packages.len() >= fewest, "{manifest}: only {} packages", packages.len());
        for package in packages {
            let name = format!("{manifest}: {} {}", package["name"], package["version"]);
            match package["license"].as_str().map(|licence| (licence, is_allowed(licence, &allow))) {
                Some((_, Some(true))) => {}
                Some((licence, _)) => wrong.push(format!("{name}: licence `{licence}`")),
                None => wrong.push(format!("{name}: no licence")),
            }
            // Without a source it is a directory of this repository.
            if let Some(source) = package["source"].as_str()
                && !registries.iter().any(|registry| registry == source)
            {
                wrong.push(format!("{name}: from {source}"));
            }
        }
    }
    assert!(wrong.is_empty(), "deny.toml does not allow:\n{}", wrong.join("\n"));
}
