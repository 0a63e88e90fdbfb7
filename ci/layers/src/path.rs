// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files as modules, and the paths in them that begin at the crate's root.

use std::path::{Path, PathBuf};

use crate::Violation;
use crate::source::{Source, Token};

/// Every Rust file below `root`, relative to it, in order.
pub(crate) fn rust_files(root: &Path, violations: &mut Vec<Violation>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(e) => {
                violations.push(Violation::Unreadable(root.join(&folder), e.to_string()));
                continue;
            }
        };
        for entry in entries.filter_map(Result::ok) {
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Names from the crate's root to the module a file holds; empty for the root itself.
fn module_path(file: &Path) -> Vec<String> {
    let path = file.with_extension("");
    let mut names: Vec<String> =
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let is_root = names.len() == 1 && matches!(names[0].as_str(), "lib" | "main") || names[0] == "bin";
    if is_root {
        return Vec::new();
    }
    if names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    names
}

/// The top-level module a file belongs to; `None` for the crate's root and its binaries.
pub(crate) fn top_module(file: &Path) -> Option<String> {
    module_path(file).into_iter().next()
}

/// Modules that a file declares for tests alone.
pub(crate) fn test_modules(file: &Path, source: &Source) -> Vec<PathBuf> {
    let parent: PathBuf = module_path(file).iter().collect();
    source.test_modules.iter().map(|name| parent.join(name)).collect()
}

/// Whether a file is compiled for tests alone.
pub(crate) fn is_test(file: &Path, test_modules: &[PathBuf]) -> bool {
    let names = module_path(file);
    let module: PathBuf = names.iter().collect();
    names.iter().any(|name| name == "tests") || test_modules.iter().any(|tests| module.starts_with(tests))
}

/// Macros that a file defines.
pub(crate) fn macros(source: &Source) -> impl Iterator<Item = String> {
    source.tokens.windows(3).filter_map(|tokens| match tokens {
        [keyword, mark, name] if keyword.text == "macro_rules" && mark.text == "!" => Some(name.text.clone()),
        _ => None,
    })
}

/// The first name of every path from the crate's root, with its line: `crate::name`, each name of `crate::{…}`, and
/// `super::…` that leads there.
pub(crate) fn root_paths(file: &Path, source: &Source) -> Vec<(String, usize)> {
    let depth = module_path(file).len();
    let mut found = Vec::new();
    let mut at = 0;
    while at < source.tokens.len() {
        let rest = &source.tokens[at..];
        let after_root = match rest[0].text.as_str() {
            "crate" => separator(&rest[1..]).then_some(3),
            "super" => root_of_supers(rest, depth),
            _ => None,
        };
        if let Some(after) = after_root {
            found.extend(first_names(&rest[after..]));
        }
        at += after_root.unwrap_or(1);
    }
    found
}

fn separator(tokens: &[Token]) -> bool {
    matches!(tokens, [one, two, ..] if one.text == ":" && two.text == ":")
}

/// Tokens of `super::super::…::` that lead from a module at `depth` to the root.
fn root_of_supers(tokens: &[Token], depth: usize) -> Option<usize> {
    let supers = tokens.chunks(3).take_while(|t| t[0].text == "super" && separator(&t[1..])).count();
    (depth > 0 && supers >= depth).then_some(3 * supers)
}

/// The names a path goes on with behind its root: one, or each of those in braces.
fn first_names(tokens: &[Token]) -> Vec<(String, usize)> {
    let is_name = |token: &Token| token.text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    match tokens {
        [first, ..] if is_name(first) => vec![(first.text.clone(), first.line)],
        [first, rest @ ..] if first.text == "{" => {
            let (mut depth, mut expects_name, mut names) = (1, true, Vec::new());
            for token in rest {
                match token.text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    "," if depth == 1 => expects_name = true,
                    _ if depth == 1 && expects_name && is_name(token) => {
                        names.push((token.text.clone(), token.line));
                        expects_name = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            names
        }
        _ => Vec::new(),
    }
}
