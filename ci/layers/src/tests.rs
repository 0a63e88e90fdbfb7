// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Trees of fabricated sources, good and bad.

use std::fs;

use super::*;

const ORDER: &[&str] = &["low", "middle", "high"];

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [("lib.rs", "mod low; use crate::high::Top;"), ("low.rs", ""), ("middle/mod.rs", "")]
        .iter()
        .chain([("high.rs", "use crate::middle::{deep, M};\nuse crate::low;")].iter())
        .chain(files)
    {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn messages(files: &[(&str, &str)]) -> Vec<String> {
    let root = tree(files);
    let found = check(root.path(), ORDER).err().unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn a_tree_in_order_passes() {
    assert_eq!(messages(&[]), [""; 0]);
    let bin = ("bin/tool.rs", "use crate::anything;");
    let inside = (
        "middle/deep.rs",
        "use super::M;\nuse crate::middle::N;\nuse crate::low::{self, X};\npub(in crate::middle) fn f() {}",
    );
    assert_eq!(messages(&[bin, inside]), [""; 0]);
}

#[test]
fn a_planted_upward_import_fails_with_file_and_line() {
    let expected = ["middle/deep.rs:3: `middle` imports `high`, which is above it; \
                     `high` imports `middle` at high.rs:1: a circle"];
    for import in [
        "use crate::high::Top;",
        "use crate::{low, high::{A, low}};",
        "fn f() -> crate::high::Top {}",
        "use super::super::high;",
    ] {
        assert_eq!(
            messages(&[("middle/deep.rs", &format!("use crate::low;\n\n{import}"))]),
            expected,
            "{import}"
        );
    }
}

#[test]
fn an_upward_import_without_a_way_back_fails_too() {
    assert_eq!(
        messages(&[("low.rs", "\nuse crate::middle;")]),
        ["low.rs:2: `low` imports `middle`, which is above it"]
    );
    assert_eq!(
        messages(&[("low.rs", "use super::middle;")]),
        ["low.rs:1: `low` imports `middle`, which is above it"]
    );
}

#[test]
fn tests_comments_and_strings_are_exempt() {
    let upward = "use crate::high::Top;";
    let declared =
        ("low.rs", "//! See [`crate::high`].\n#[cfg(test)]\npub mod fake;\nconst S: &str = \"crate::high\";");
    let in_line = ("middle/mod.rs", "#[cfg(test)]\nmod tests { use crate::high::Top; }");
    assert_eq!(
        messages(&[declared, ("low/fake.rs", upward), ("low/fake/more.rs", upward), in_line]),
        [""; 0]
    );
    assert_eq!(messages(&[("middle/tests.rs", upward), ("middle/tests/more.rs", upward)]), [""; 0]);
}

#[test]
fn a_macro_counts_as_its_module() {
    let defined = ("high.rs", "#[macro_export]\nmacro_rules! thing { () => {} }");
    assert_eq!(
        messages(&[defined, ("low.rs", "crate::thing!();")]),
        ["low.rs:1: `low` imports `high`, which is above it"]
    );
    let below = ("low.rs", "macro_rules! thing { () => {} }");
    assert_eq!(messages(&[below, ("high.rs", "crate::thing!();")]), [""; 0]);
}

#[test]
fn every_module_is_in_the_order_and_every_name_a_module() {
    assert_eq!(
        messages(&[("extra.rs", "")]),
        ["module `extra` is not in the order: add it where it belongs"]
    );
    assert_eq!(
        messages(&[("low.rs", "use crate::Reexported;")]),
        [
            "low.rs:1: `crate::Reexported` is neither a module of the order nor a macro of one; import it from its module"
        ]
    );
    let root = tree(&[]);
    let found = check(root.path(), &["low", "middle", "high", "gone"]).unwrap_err();
    assert_eq!(found, [Violation::Missing("gone".into())]);
    assert!(matches!(check(&root.path().join("none"), &[]).unwrap_err()[..], [Violation::Unreadable(..)]));
}
