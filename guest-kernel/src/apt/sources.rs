// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where apt should look: Debian's archives and their mirrors, and of those only what Debian itself signed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The keys of Debian's archives, as the package debian-archive-keyring installs them.
const KEYRING: &str = "debian-archive-keyring.gpg";
/// Where kernels, their source and the programs of the cases are.
const COMPONENT: &str = "main";
/// How the last folder of a mirror of Debian is called.
const FOLDERS: [&str; 2] = ["debian", "debian-security"];

/// One archive, in the terms of sources.list(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    uri: String,
    suites: Vec<String>,
    /// What checks its signatures; `None` leaves that to the keys apt trusts.
    signed_by: Option<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.uri, self.suites.join(" "))
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The archives to use.
    pub(super) sources: Vec<Source>,
    /// For each that looks like Debian's and is not used, one line with the reason.
    pub(super) refused: Vec<String>,
}

impl Found {
    /// As a file for `sources.list.d`. Written anew, so that no option of the original turns a check off.
    pub(super) fn text(&self) -> String {
        let stanza = |Source { uri, suites, signed_by }: &Source| {
            let signed = signed_by.as_ref().map(|key| format!("Signed-By: {key}\n")).unwrap_or_default();
            let suites = suites.join(" ");
            format!("Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: {COMPONENT}\n{signed}\n")
        };
        self.sources.iter().map(stanza).collect()
    }
}

/// An entry of the system's configuration, as it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// The system's sources, as far as they are Debian's: others can only fail, and cost time.
pub(super) fn of_system(etc: &Path, keyrings: &Path) -> Found {
    let key = Some(keyrings.join(KEYRING)).filter(|key| key.exists());
    let mut files = vec![etc.join("sources.list")];
    let parts = fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten();
    files.extend(parts.map(|entry| entry.path()));
    files.sort();
    let mut found = Found::default();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let entries = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => text.lines().filter_map(one_line).collect(),
            Some("sources") => deb822(&text),
            _ => continue,
        };
        for entry in &entries {
            choose(entry, key.as_ref(), &file, &mut found);
        }
    }
    found
}

fn choose(entry: &Entry, key: Option<&PathBuf>, file: &Path, found: &mut Found) {
    let suites: Vec<String> =
        entry.suites.iter().filter(|suite| is_word(suite) && !suite.ends_with('/')).cloned().collect();
    if suites.is_empty() || !entry.components.iter().any(|component| component == COMPONENT) {
        return;
    }
    for uri in entry.uris.iter().filter(|uri| is_word(uri)) {
        let signed_by = match (archive_of(uri), key) {
            (Archive::Other, _) => continue,
            // Besides the keys that the system trusts, these must come from Debian.
            (_, Some(key)) => Some(key.display().to_string()),
            (Archive::Debian, None) => entry.signed_by.clone(),
            (Archive::Mirror, None) => {
                found.refused.push(format!(
                    "{uri} of {} is not used: it is no host of debian.org, and without the package debian-archive-keyring its contents cannot be verified",
                    file.display()
                ));
                continue;
            }
        };
        found.sources.push(Source { uri: uri.clone(), suites: suites.clone(), signed_by });
    }
}

/// Who runs an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Archive {
    /// The host is of debian.org.
    Debian,
    /// The path is that of a copy of Debian's archives.
    Mirror,
    /// Another archive.
    Other,
}

fn archive_of(uri: &str) -> Archive {
    let Some((scheme, rest)) = uri.split_once(':') else { return Archive::Other };
    // Methods are chained by plus signs (`tor+http`). A medium has to be changed by hand.
    let known = ["http", "https", "ftp", "tor", "mirror", "file", "copy"];
    if !scheme.split('+').all(|method| known.contains(&method)) {
        return Archive::Other;
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        None => ("", rest),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host).trim_end_matches('.').to_lowercase();
    if host == "debian.org" || host.ends_with(".debian.org") {
        return Archive::Debian;
    }
    if path.contains(['?', '#']) {
        return Archive::Other;
    }
    let folder = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if FOLDERS.contains(&folder) { Archive::Mirror } else { Archive::Other }
}

/// Nothing that could end a field or begin another.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '[' && c != ']')
}

/// `deb [options] URI suite component…`.
fn one_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Entry {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.map(str::to_owned),
    })
}

/// Stanzas of fields, which go on in lines that begin with a blank.
fn deb822(text: &str) -> Vec<Entry> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).filter_map(stanza).collect()
}

fn stanza(lines: &[&str]) -> Option<Entry> {
    let field = |name: &str| -> Option<String> {
        let start = lines.iter().position(|line| {
            line.split_once(':').is_some_and(|(field, _)| field.trim_end().eq_ignore_ascii_case(name))
        })?;
        let mut value = lines[start].split_once(':')?.1.trim().to_owned();
        for line in lines[start + 1..].iter().take_while(|line| line.starts_with([' ', '\t'])) {
            value.push('\n');
            value.push_str(line.trim_end());
        }
        Some(value)
    };
    let words = |name: &str| -> Vec<String> {
        field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let enabled = field("Enabled").is_none_or(|value| !value.trim().eq_ignore_ascii_case("no"));
    let entry = Entry {
        uris: words("URIs"),
        suites: words("Suites"),
        components: words("Components"),
        signed_by: field("Signed-By"),
    };
    (enabled && words("Types").iter().any(|kind| kind == "deb")).then_some(entry)
}

/// Suites beyond the system's own, if Debian's keys are there to check them with.
pub(super) fn archive(keyrings: &Path) -> Found {
    let key = keyrings.join(KEYRING);
    if !key.exists() {
        return Found::default();
    }
    let source = |uri: &str, suites: &str| Source {
        uri: uri.to_owned(),
        suites: suites.split(' ').map(str::to_owned).collect(),
        signed_by: Some(key.display().to_string()),
    };
    let sources = vec![
        source("http://deb.debian.org/debian", "bookworm bookworm-backports trixie trixie-backports sid"),
        source("http://deb.debian.org/debian-security", "bookworm-security trixie-security"),
    ];
    Found { sources, refused: Vec::new() }
}

#[cfg(test)]
mod tests;
