//! Where apt should look.

use std::fs;
use std::path::Path;

/// Files for `sources.list.d`: name and text.
pub(super) type Sources = Vec<(String, String)>;

/// The system's sources, as far as they are Debian's: others can only fail, and cost time.
pub(super) fn of_system(etc: &Path) -> Sources {
    let mut files = vec![etc.join("sources.list")];
    let parts = fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten();
    files.extend(parts.map(|entry| entry.path()));
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let kept = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => one_line(&text),
            Some("sources") => deb822(&text),
            _ => continue,
        };
        if !kept.is_empty() {
            sources.push((name, kept));
        }
    }
    sources
}

/// `deb [options] URI suite component…`, one per line.
fn one_line(text: &str) -> String {
    let wanted = |line: &&str| line.trim_start().starts_with("deb ") && line.contains("debian");
    text.lines().filter(wanted).flat_map(|line| [line.trim(), "\n"]).collect()
}

/// Stanzas of fields.
fn deb822(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut kept = String::new();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            let value = |line: &&str| Some(line.split_once(':')?.1.trim().to_lowercase());
            stanza.iter().find(|line| line.to_lowercase().starts_with(&format!("{name}:"))).and_then(value)
        };
        let binary = field("types").is_some_and(|types| types.split(' ').any(|t| t == "deb"));
        let debian = field("uris").is_some_and(|uris| uris.contains("debian"));
        let enabled = field("enabled").is_none_or(|enabled| enabled != "no");
        if binary && debian && enabled {
            let types = |line: &&str| line.to_lowercase().starts_with("types:");
            kept.push_str("Types: deb\n");
            kept.extend(stanza.iter().filter(|line| !types(line)).flat_map(|line| [*line, "\n"]));
            kept.push('\n');
        }
    }
    kept
}

/// Suites beyond the system's own, if Debian's keys are there to check them with.
pub(super) fn archive(keyrings: &Path) -> Sources {
    let key = keyrings.join("debian-archive-keyring.gpg");
    if !key.exists() {
        return vec![];
    }
    let key = key.display();
    let stanza = |uri: &str, suites: &str| {
        format!("Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {key}\n\n")
    };
    let text =
        stanza("http://deb.debian.org/debian", "bookworm bookworm-backports trixie trixie-backports sid")
            + &stanza("http://deb.debian.org/debian-security", "bookworm-security trixie-security");
    vec![("archive.sources".to_owned(), text)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_debian_and_only_binaries() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        let write = |name: &str, text: &str| fs::write(etc.path().join(name), text).unwrap();
        write(
            "sources.list",
            "# deb http://x/debian a b\ndeb http://m/debian bookworm main\ndeb-src http://m/debian bookworm main\ndeb http://m/ubuntu jammy main\n",
        );
        write(
            "sources.list.d/debian.sources",
            "Types: deb deb-src\n# why\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n .\n -----END\n\nTypes: deb-src\nURIs: http://deb.debian.org/debian\n\nEnabled: no\nTypes: deb\nURIs: http://deb.debian.org/debian\n",
        );
        write("sources.list.d/node.sources", "Types: deb\nURIs: https://deb.nodesource.com/\n");
        write("sources.list.d/gone.list.disabled", "deb http://m/debian bookworm main\n");
        let sources = of_system(etc.path());
        assert_eq!(
            sources,
            [
                ("sources.list".to_owned(), "deb http://m/debian bookworm main\n".to_owned()),
                (
                    "debian.sources".to_owned(),
                    "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n .\n -----END\n\n".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn reaches_nothing_without_keys() {
        assert!(archive(Path::new("/no/such")).is_empty());
    }
}
