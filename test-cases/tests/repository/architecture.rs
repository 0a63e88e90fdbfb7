// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/architecture.md: the files and functions it names exist, and its tables of modules have every module in the
//! order that the tests of the layers check.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::layers;
use crate::top;

/// The document, below the top directory.
const DOCUMENT: &str = "docs/architecture.md";
/// What begins the table of a crate's modules: the source folder in backticks follows.
const TABLE: &str = "### `";
/// What a path of this repository ends with, unless it begins with a folder of it. All others are another project's.
const EXTENSIONS: [&str; 4] = [".rs", ".toml", ".md", "/"];
/// Folders of the repository.
const FOLDERS: [&str; 6] = ["ci/", "docs/", "guest-kernel/", "scripts/", "test-cases/", "vmm/"];
/// Words before the name that a Rust item defines.
const ITEMS: [&str; 8] = ["fn", "struct", "enum", "trait", "const", "static", "type", "macro_rules!"];

/// All that is wrong with the document.
fn problems(text: &str) -> Vec<String> {
    let prose = without_fences(text);
    let references = prose.split('`').skip(1).step_by(2).filter_map(reference_problem);
    references.chain(links(&prose).filter_map(link_problem)).chain(table_problems(text)).collect()
}

/// The text without its fenced blocks.
fn without_fences(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// What is wrong with `path` or `path:name`, if that is what a span in backticks is.
fn reference_problem(span: &str) -> Option<String> {
    let (path, name) = span.split_once(':').map_or((span, None), |(path, name)| (path, Some(name)));
    let is_path = EXTENSIONS.iter().any(|extension| path.ends_with(extension)) && !path.starts_with('/')
        || FOLDERS.iter().any(|folder| path.starts_with(folder));
    if !is_path || path.contains(char::is_whitespace) || path.contains('*') {
        return None;
    }
    let file = top().join(path);
    if !file.exists() {
        return Some(format!("`{span}`: there is no {path}"));
    }
    let name = name?;
    let text = fs::read_to_string(file).unwrap_or_default();
    (!defines(&text, name)).then(|| format!("`{span}`: {path} does not define {name}"))
}

/// Whether a source file defines an item of this name.
fn defines(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    !name.is_empty()
        && text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
            ITEMS.iter().any(|item| {
                let head = format!("{item} {name}");
                line.match_indices(&head).any(|(at, _)| {
                    !line[..at].ends_with(is_word) && !line[at + head.len()..].starts_with(is_word)
                })
            })
        })
}

/// Targets of links in the text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

fn link_problem(target: &str) -> Option<String> {
    let path = target.split('#').next().unwrap_or_default();
    let outside = path.is_empty() || path.contains("://");
    let exists = || top().join(DOCUMENT).with_file_name(path).exists();
    (!outside && !exists()).then(|| format!("({target}): there is no such file"))
}

/// What is wrong with the tables of modules: each crate has one, with all its modules, the lowest first.
fn table_problems(text: &str) -> Vec<String> {
    let tables = tables(text);
    let mut problems = Vec::new();
    for (source, listed) in &tables {
        let on_disk = modules(&top().join(source));
        if let Some(order) = layers::order(source) {
            if *listed != order {
                problems.push(format!("{source}: the table has {listed:?}, the order is {order:?}"));
            }
        } else if listed.len() != on_disk.len() || listed.iter().any(|module| !on_disk.contains(module)) {
            problems.push(format!("{source}: the table has {listed:?}, the folder {on_disk:?}"));
        }
    }
    let missing = layers::sources().filter(|source| !tables.iter().any(|(table, _)| table == source));
    problems.extend(missing.map(|source| format!("{source}: there is no table of its modules")));
    problems
}

/// Source folder and first cells of each table of modules.
fn tables(text: &str) -> Vec<(String, Vec<String>)> {
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        if line.starts_with('#') {
            let source =
                line.strip_prefix(TABLE).and_then(|rest| rest.split_once('`')).map(|(source, _)| source);
            open = source.is_some();
            tables.extend(source.map(|source| (source.to_owned(), Vec::new())));
        } else if let Some((module, _)) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`'))
            && open
            && let Some((_, modules)) = tables.last_mut()
        {
            modules.push(module.to_owned());
        }
    }
    tables
}

/// The top-level modules in a source folder.
fn modules(source: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(source).into_iter().flatten().filter_map(Result::ok);
    let stems = entries.filter_map(|entry| entry.path().file_stem()?.to_str().map(str::to_owned));
    stems.filter(|stem| !["lib", "main", "bin", "tests"].contains(&stem.as_str())).collect()
}

#[test]
fn what_the_architecture_document_names_exists() {
    let text = fs::read_to_string(top().join(DOCUMENT)).unwrap();
    let prose = without_fences(&text);
    let functions = prose.split('`').skip(1).step_by(2).filter(|span| span.contains(".rs:")).count();
    assert!(functions > 50, "only {functions} functions were found");
    let problems = problems(&text);
    assert!(problems.is_empty(), "{DOCUMENT}:\n{}", problems.join("\n"));
}

#[test]
fn names_of_no_file_function_or_module_are_found() {
    let text = fs::read_to_string(top().join(DOCUMENT)).unwrap();
    let known = problems(&text);
    for (planted, complaint) in [
        ("`vmm/src/no_such_file.rs`", "there is no vmm/src/no_such_file.rs"),
        ("`vmm/src/no_such_folder/`", "there is no vmm/src/no_such_folder/"),
        ("`scripts/no-such-script`", "there is no scripts/no-such-script"),
        ("`vmm/src/machine/run.rs:no_such_function`", "does not define no_such_function"),
        // The beginning of a name, and a word of a comment.
        ("`vmm/src/machine/run.rs:ste`", "does not define ste"),
        ("`vmm/src/machine/run.rs:loop`", "does not define loop"),
        ("`vmm/src/machine/run.rs:`", "does not define "),
        ("[here](no-such-file.md)", "there is no such file"),
        ("### `vmm/types/src`\n\n| `page` | |", "vmm/types/src: the table has"),
        ("### `vmm/src`\n\n| `layout` | |", "the order is"),
    ] {
        let mut problems = problems(&format!("{text}\n{planted}\n"));
        problems.retain(|problem| !known.contains(problem));
        assert_eq!(problems.len(), 1, "{planted}: {problems:?}");
        assert!(problems[0].contains(complaint), "{planted}: {problems:?}");
    }
    let problems = problems("# Title\n");
    assert!(problems.iter().any(|problem| problem.contains("there is no table")), "{problems:?}");
}
