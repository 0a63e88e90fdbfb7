// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks in tests that a crate's top-level modules form layers: each imports only those below it.
//!
//! A path counts wherever it is written, in a `use` or in an expression, if it begins with `crate::` or with as many
//! `super::` as lead to the crate's root. Test code is exempt: `tests.rs`, `tests/` and items under
//! `#[cfg(test)]`. So are `lib.rs`, `main.rs` and `bin/`, which are above every module. Modules in a total order
//! cannot import each other in a circle without an upward import, so a circle is reported as one.

mod path;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use self::source::Source;

/// What is wrong with the layers of a crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A module imports one above itself.
    Upward {
        /// File that does.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The module it belongs to.
        module: String,
        /// The module imported.
        imports: String,
        /// Where that module imports this one, if it does: the two form a circle.
        back: Option<(PathBuf, usize)>,
    },
    /// A path from the crate's root begins with a name that is no module of the order and no macro of one.
    Unknown {
        /// File with the path.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// The source tree has a module that the order does not list.
    Unlisted(String),
    /// The order lists a module that the source tree does not have.
    Missing(String),
    /// A file could not be read.
    Unreadable(PathBuf, String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upward { file, line, module, imports, back } => {
                write!(f, "{}:{line}: `{module}` imports `{imports}`, which is above it", file.display())?;
                if let Some((file, line)) = back {
                    write!(f, "; `{imports}` imports `{module}` at {}:{line}: a circle", file.display())?;
                }
                Ok(())
            }
            Self::Unknown { file, line, name } => write!(
                f,
                "{}:{line}: `crate::{name}` is neither a module of the order nor a macro of one; import it from its module",
                file.display()
            ),
            Self::Unlisted(module) => {
                write!(f, "module `{module}` is not in the order: add it where it belongs")
            }
            Self::Missing(module) => write!(f, "the order lists `{module}`, but there is no such module"),
            Self::Unreadable(path, why) => write!(f, "{}: cannot read: {why}", path.display()),
        }
    }
}

/// Checks the sources below `root`, a crate's `src` folder, against `order`, the crate's top-level modules from the
/// lowest to the highest.
pub fn check(root: &Path, order: &[&str]) -> Result<(), Vec<Violation>> {
    let mut violations = Vec::new();
    let files = path::rust_files(root, &mut violations);
    let mut sources: BTreeMap<PathBuf, Source> = BTreeMap::new();
    for file in files {
        match std::fs::read_to_string(root.join(&file)) {
            Ok(text) => {
                sources.insert(file, source::read(&text));
            }
            Err(e) => violations.push(Violation::Unreadable(file, e.to_string())),
        }
    }
    let tests: Vec<PathBuf> =
        sources.iter().flat_map(|(file, source)| path::test_modules(file, source)).collect();
    sources.retain(|file, _| !path::is_test(file, &tests));

    let modules: Vec<String> = sources.keys().filter_map(|file| path::top_module(file)).collect();
    violations.extend(
        order
            .iter()
            .filter(|name| !modules.iter().any(|m| m == *name))
            .map(|name| Violation::Missing((*name).into())),
    );
    let mut unlisted: Vec<_> =
        modules.into_iter().filter(|module| !order.contains(&module.as_str())).collect();
    unlisted.dedup();
    violations.extend(unlisted.into_iter().map(Violation::Unlisted));

    violations.extend(imports_against(order, &sources));
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// Upward imports and names that are in no layer.
fn imports_against(order: &[&str], sources: &BTreeMap<PathBuf, Source>) -> Vec<Violation> {
    let macros: BTreeMap<String, String> = sources
        .iter()
        .filter_map(|(file, source)| Some((path::top_module(file)?, source)))
        .flat_map(|(module, source)| path::macros(source).map(move |name| (name, module.clone())))
        .collect();
    let rank = |module: &str| order.iter().position(|name| *name == module);
    let mut imports = Vec::new();
    let mut violations = Vec::new();
    for (file, source) in sources {
        let Some(module) = path::top_module(file) else { continue };
        for (name, line) in path::root_paths(file, source) {
            let to = macros.get(&name).unwrap_or(&name);
            if rank(to).is_none() {
                violations.push(Violation::Unknown { file: file.clone(), line, name });
            } else if *to != module {
                imports.push((module.clone(), to.clone(), file, line));
            }
        }
    }
    let upward = imports.iter().filter(|(module, to, ..)| rank(module) < rank(to));
    violations.extend(upward.map(|(module, to, file, line)| {
        let back = imports.iter().find(|(from, into, ..)| from == to && into == module);
        Violation::Upward {
            file: (*file).clone(),
            line: *line,
            module: module.clone(),
            imports: to.clone(),
            back: back.map(|(_, _, file, line)| ((*file).clone(), *line)),
        }
    }));
    violations
}

#[cfg(test)]
mod tests;
