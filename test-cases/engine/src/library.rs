// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cases that come with copra, those in files the user names, and how to choose among them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use guest_kernel::bounded;
use thiserror::Error;

use crate::case::{self, Case, CaseErrors};
use types::names::{UnknownName, nearest};

/// Name and text of every case that comes with copra, in the order of their names.
static EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/cases.rs"));

/// Why cases could not be loaded or chosen.
#[derive(Debug, Error)]
pub enum LibraryError {
    /// A case file is invalid.
    #[error(transparent)]
    Case(#[from] CaseErrors),
    /// A case file or folder cannot be read.
    #[error("cannot read {} as a case: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Two files whose cases have the same name.
    #[error(
        "{} and {} both have the case `{name}`: a case has the path below the last folder `cases`, or its whole path, as its name; \
         rename one or run them apart",
        first.display(),
        second.display()
    )]
    SameName {
        /// The name.
        name: String,
        /// The file given first.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A folder without a case.
    #[error("the folder {} has no case: no file in it or below it ends in .toml; name another", path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// No case of that name.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// A malformed pattern.
    #[error("`{given}` is no pattern of `*`, `?` and `[…]`: {source}")]
    Pattern {
        /// The pattern.
        given: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// A pattern or tag that fits no case.
    #[error("no case fits `{given}`; `copra list --cases` shows them all{}", types::names::suggestion(nearest.as_deref()))]
    NoMatch {
        /// The pattern or tag.
        given: String,
        /// The nearest tag.
        nearest: Option<String>,
    },
}

/// Every case that comes with copra, in the order of their names.
pub fn all() -> Result<Vec<Case>, LibraryError> {
    named(|_| true)
}

/// The cases that come with copra and whose names fit. Only these are read: on an emulated processor all of them take a
/// second.
fn named(fits: impl Fn(&str) -> bool) -> Result<Vec<Case>, LibraryError> {
    let read = |(name, text): &(&str, &str)| {
        case::parse(text, name)
            .map_err(|errors| CaseErrors { name: format!("test-cases/cases/{name}.toml"), ..errors }.into())
    };
    EMBEDDED.iter().filter(|(name, _)| fits(name)).map(read).collect()
}

/// The text of a case that comes with copra.
pub fn source(name: &str) -> Option<&'static str> {
    EMBEDDED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Cases that were chosen.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The cases.
    pub cases: Vec<Case>,
    /// The files of those that do not come with copra, by name.
    pub files: BTreeMap<String, PathBuf>,
}

/// The cases chosen by names, patterns, `tag:NAME` and paths of files or folders, each once, in the order
/// given; all of them if nothing is given.
pub fn select(patterns: &[String]) -> Result<Selection, LibraryError> {
    if patterns.is_empty() {
        return Ok(Selection { cases: all()?, files: BTreeMap::new() });
    }
    let mut cases: Vec<Case> = Vec::new();
    // By name; none for those that come with copra.
    let mut origins: BTreeMap<String, Option<PathBuf>> = BTreeMap::new();
    for given in patterns {
        for (case, file) in select_one(given)? {
            match origins.get(&case.name) {
                Some(first) if same_file(first.as_deref(), file.as_deref()) => continue,
                Some(first) => {
                    let of = |file: Option<&Path>| {
                        file.map_or_else(|| PathBuf::from(format!("{} of copra", case.name)), Path::to_owned)
                    };
                    let (first, second) = (of(first.as_deref()), of(file.as_deref()));
                    return Err(LibraryError::SameName { name: case.name, first, second });
                }
                None => {}
            }
            origins.insert(case.name.clone(), file);
            cases.push(case);
        }
    }
    let files = origins.into_iter().filter_map(|(name, file)| Some((name, file?))).collect();
    Ok(Selection { cases, files })
}

/// Both come with copra, or are one file.
fn same_file(first: Option<&Path>, second: Option<&Path>) -> bool {
    match (first, second) {
        (Some(first), Some(second)) => {
            let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            first == second || real(first) == real(second)
        }
        (first, second) => first.is_none() && second.is_none(),
    }
}

/// A case, with its file if it does not come with copra.
type Found = (Case, Option<PathBuf>);

fn select_one(given: &str) -> Result<Vec<Found>, LibraryError> {
    let path = Path::new(given);
    if is_file(path) {
        return Ok(vec![load(path)?]);
    }
    let bundled = |cases: Vec<Case>| cases.into_iter().map(|case| (case, None)).collect();
    if let Some(tag) = given.strip_prefix("tag:") {
        let known = all()?;
        let fitting: Vec<Case> =
            known.iter().filter(|case| case.tags.iter().any(|other| other == tag)).cloned().collect();
        let tags = known.iter().flat_map(|case| case.tags.iter().map(String::as_str));
        let near = nearest(tag, tags).map(|near| format!("tag:{near}"));
        return some(fitting, given, near).map(bundled);
    }
    if given.contains(['*', '?', '[']) {
        let pattern = glob::Pattern::new(given)
            .map_err(|source| LibraryError::Pattern { given: given.to_owned(), source })?;
        return some(named(|name| pattern.matches(name))?, given, None).map(bundled);
    }
    let exact = named(|name| name == given)?;
    if !exact.is_empty() {
        return Ok(bundled(exact));
    }
    let theme = format!("{}/", given.trim_end_matches('/'));
    let fitting = named(|name| name.starts_with(&theme))?;
    if !fitting.is_empty() {
        return Ok(bundled(fitting));
    }
    if path.is_dir() {
        let cases = load_folder(path)?;
        return if cases.is_empty() {
            Err(LibraryError::EmptyFolder { path: path.to_owned() })
        } else {
            Ok(cases)
        };
    }
    Err(unknown(given).into())
}

fn some(cases: Vec<Case>, given: &str, nearest: Option<String>) -> Result<Vec<Case>, LibraryError> {
    if cases.is_empty() {
        return Err(LibraryError::NoMatch { given: given.to_owned(), nearest });
    }
    Ok(cases)
}

/// The error for a name that fits no case: its list of known names is short, since there are many cases.
fn unknown(given: &str) -> UnknownName {
    let names = || EMBEDDED.iter().map(|(name, _)| *name);
    let by_end = names().max_by(|a, b| likeness(given, a).total_cmp(&likeness(given, b)));
    let mut error = UnknownName::new("case", given, std::iter::empty());
    error.nearest = nearest(given, names())
        .or_else(|| by_end.filter(|name| likeness(given, name) > 0.75))
        .map(str::to_owned);
    let mut themes: Vec<String> =
        names().filter_map(|name| Some(format!("{}/…", name.split_once('/')?.0))).collect();
    themes.dedup();
    error.known = themes;
    error
}

/// How much a name resembles the last part of a case's name.
fn likeness(given: &str, name: &str) -> f64 {
    strsim::jaro_winkler(given, name.rsplit('/').next().unwrap_or(name))
}

/// Whether an argument names one file with a case.
fn is_file(given: &Path) -> bool {
    given.extension().is_some_and(|extension| extension == "toml")
}

/// The name of the case in a file: the path below the last folder called `cases`, or the whole path.
fn name_of_file(path: &Path) -> String {
    let whole = path.with_extension("");
    let parts: Vec<Component<'_>> = whole.components().collect();
    let folders = parts.len().saturating_sub(1);
    let below = parts[..folders].iter().rposition(|part| part.as_os_str() == "cases");
    below.map_or(whole.display().to_string(), |at| {
        parts[at + 1..].iter().collect::<PathBuf>().display().to_string()
    })
}

/// Reads one file.
fn load(path: &Path) -> Result<Found, LibraryError> {
    let text = bounded::read_text(path, bounded::CASE)
        .map_err(|source| LibraryError::Read { path: path.to_owned(), source })?;
    case::parse(&text, &name_of_file(path))
        .map(|case| (case, Some(path.to_owned())))
        .map_err(|errors| CaseErrors { name: path.display().to_string(), ..errors }.into())
}

fn load_folder(folder: &Path) -> Result<Vec<Found>, LibraryError> {
    let failed = |source| LibraryError::Read { path: folder.to_owned(), source };
    let mut paths = fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        if path.is_dir() {
            cases.extend(load_folder(&path)?);
        } else if is_file(&path) {
            cases.push(load(&path)?);
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|given| (*given).to_owned()).collect();
        select(&patterns).unwrap().cases.into_iter().map(|case| case.name).collect()
    }

    fn refusal(given: &str) -> String {
        select(&[given.to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn every_case_that_comes_with_copra_can_be_read() {
        if let Err(error) = all() {
            panic!("{error}");
        }
    }

    #[test]
    fn a_case_that_comes_with_copra_names_the_exact_death() {
        for (name, text) in EMBEDDED {
            let shorthand =
                ["\"dead\"", "'dead'", "dead |", "| dead"].iter().find(|word| text.contains(**word));
            assert_eq!(shorthand, None, "{name}: write terminated, panic, triple-fault or several of them");
        }
    }

    #[test]
    fn cases_are_chosen_by_name_theme_pattern_and_tag() {
        assert_eq!(names(&["mmap/low-ram"]), ["mmap/low-ram"]);
        assert_eq!(names(&["mmap/low-ram", "mmap/low-*"]), ["mmap/low-ram"]);
        assert!(names(&["mmap"]).len() > 2);
        assert_eq!(names(&["mmap"]), names(&["mmap/*"]));
        assert!(names(&["tag:mmap-hole"]).contains(&"mmap/rom".to_owned()));
        assert_eq!(names(&[]).len(), EMBEDDED.len());
    }

    #[test]
    fn a_file_is_read_from_its_path_and_named_by_its_place() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../cases/mmap/low-ram.toml");
        assert_eq!(names(&[path]), ["mmap/low-ram"]);
        assert!(refusal("no/such.toml").starts_with("cannot read no/such.toml as a case"));
    }

    #[test]
    fn two_files_of_one_name_are_refused_and_one_file_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str| {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, source("open/modes").unwrap()).unwrap();
            file.display().to_string()
        };
        let (a, b) = (file("a/cases/x.toml"), file("b/cases/x.toml"));
        let refused = select(&[a.clone(), b.clone()]).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{a} and {b} both have the case `x`")), "{refused}");
        let again = folder.path().join("a/../a/cases/x.toml").display().to_string();
        assert_eq!(names(&[&a, &again]), ["x"]);
        let own = file("cases/open/modes.toml");
        assert!(select(&[own, "open/modes".to_owned()]).unwrap_err().to_string().contains("of copra"));
        // Only a whole folder's name counts.
        let like = file("morecases/x.toml");
        assert_eq!(names(&[&like]), [like.trim_end_matches(".toml")]);
    }

    #[test]
    fn a_folder_without_cases_and_a_file_without_end_are_refused() {
        let empty = tempfile::tempdir().unwrap();
        fs::create_dir(empty.path().join("below")).unwrap();
        let given = empty.path().display().to_string();
        assert!(
            refusal(&given).starts_with(&format!("the folder {given} has no case")),
            "{}",
            refusal(&given)
        );
        std::os::unix::fs::symlink("/dev/zero", empty.path().join("endless.toml")).unwrap();
        assert!(refusal(&given).contains("more than 1024 KiB"), "{}", refusal(&given));
    }

    #[test]
    fn what_fits_nothing_is_refused_with_the_nearest() {
        assert!(
            refusal("mmap/low-rom").contains("unknown case `mmap/low-rom` (did you mean `mmap/low-ram`?)")
        );
        assert!(refusal("tag:mmap-hol").contains("did you mean `tag:mmap-hole`"));
        assert!(refusal("zzz*").contains("no case fits `zzz*`"));
        assert!(refusal("[").contains("is no pattern"));
    }
}
