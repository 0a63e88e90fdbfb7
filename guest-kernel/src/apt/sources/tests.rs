// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use proptest::prelude::*;

/// A system with these files below /etc/apt, with or without Debian's keys.
fn system(files: &[(&str, &str)], keys: bool) -> (tempfile::TempDir, Found) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("sources.list.d")).unwrap();
    for (name, text) in files {
        fs::write(root.path().join(name), text).unwrap();
    }
    if keys {
        fs::write(root.path().join(KEYRING), "").unwrap();
    }
    let found = of_system(root.path(), root.path());
    (root, found)
}

fn used(found: &Found) -> Vec<String> {
    found.sources.iter().map(ToString::to_string).collect()
}

#[test]
fn keeps_debian_and_only_binaries() {
    let (root, found) = system(
        &[
            (
                "sources.list",
                "# deb http://x/debian a b\ndeb http://m/debian bookworm main\ndeb-src http://m/debian bookworm main\ndeb http://m/ubuntu jammy main\n",
            ),
            (
                "sources.list.d/debian.sources",
                "Types: deb deb-src\n# why\nURIs: http://deb.debian.org/debian\nSuites: bookworm\n bookworm-updates\nComponents: main non-free\nSigned-By:\n -----BEGIN\n .\n -----END\n\nTypes: deb-src\nURIs: http://deb.debian.org/debian\nSuites: a\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: http://deb.debian.org/debian\nSuites: a\nComponents: main\n",
            ),
            ("sources.list.d/node.sources", "Types: deb\nURIs: https://deb.nodesource.com/\n"),
            ("sources.list.d/gone.list.disabled", "deb http://m/debian bookworm main\n"),
        ],
        true,
    );
    assert_eq!(
        used(&found),
        ["http://m/debian bookworm", "http://deb.debian.org/debian bookworm bookworm-updates"]
    );
    let key = root.path().join(KEYRING);
    assert!(found.sources.iter().all(|source| source.signed_by == Some(key.display().to_string())));
}

#[test]
fn a_name_with_debian_in_it_is_not_debians() {
    let others = "\
deb https://download.docker.com/linux/debian bookworm stable
deb https://debian.example.org/packages bookworm main
deb https://example.org/debian-kernels bookworm main
deb https://notdebian.org/x bookworm main
deb https://deb.debian.org.example.net/x bookworm main
deb https://example.org/x?path=/debian bookworm main
deb cdrom:[Debian]/debian bookworm main
deb https://example.org/debian ./
";
    let (_root, found) = system(&[("sources.list", others)], true);
    assert_eq!(used(&found), Vec::<String>::new());
}

#[test]
fn a_check_of_signatures_that_is_off_is_on_again() {
    let list = "deb [trusted=yes allow-insecure=yes signed-by=/tmp/mine] http://m/debian bookworm main\n";
    let stanza = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: sid\nComponents: main\nTrusted: yes\nSigned-By: /tmp/mine\n";
    let files = [("sources.list", list), ("sources.list.d/a.sources", stanza)];
    let (_root, found) = system(&files, true);
    let text = found.text().to_lowercase();
    assert_eq!(found.sources.len(), 2);
    assert!(!text.contains("trusted") && !text.contains("insecure") && !text.contains("mine"), "{text}");
}

#[test]
fn without_debians_keys_a_mirror_is_refused_with_the_reason() {
    let list = "deb http://m/debian bookworm main\ndeb http://deb.debian.org/debian bookworm main\n";
    let (_root, found) = system(&[("sources.list", list)], false);
    assert_eq!(used(&found), ["http://deb.debian.org/debian bookworm"]);
    assert!(found.refused[0].starts_with("http://m/debian of "), "{:?}", found.refused);
    assert!(found.refused[0].contains("debian-archive-keyring"), "{:?}", found.refused);
}

#[test]
fn hosts_and_folders_decide() {
    for uri in
        ["http://deb.debian.org/debian", "https://u:p@security.debian.org:443", "tor+http://DEBIAN.org./x"]
    {
        assert_eq!(archive_of(uri), Archive::Debian, "{uri}");
    }
    for uri in ["http://ftp.example.org/pub/debian/", "file:/srv/debian", "http://[::1]:8/debian-security"] {
        assert_eq!(archive_of(uri), Archive::Mirror, "{uri}");
    }
    for uri in ["", "debian", "ssh://deb.debian.org/debian", "http://debian.org.evil/x", "http://x/debian2"] {
        assert_eq!(archive_of(uri), Archive::Other, "{uri}");
    }
}

#[test]
fn reaches_nothing_without_keys() {
    assert!(archive(Path::new("/no/such")).sources.is_empty());
}

proptest! {
/// For any contents of the files: what is written has one archive a stanza, all of them signed by Debian.
    #[test]
    fn what_is_written_is_checked_by_debians_keys(
        list in "(deb( \\[[a-z=/ ]{0,12}\\])? (http://m/debian|https://deb.debian.org/x|[ -~]{0,20}) [a-z/]{1,8} main\n){0,3}",
        stanza in "(Types: deb|URIs: http://m/debian|Suites: a b|Components: main|Trusted: yes|[ -~]{0,30}|\n){0,12}",
    ) {
        let stanza = stanza.replace("Types", "\nTypes").replace("Comp", "\nComp").replace("URIs", "\nURIs");
        let files = [("sources.list", list.as_str()), ("sources.list.d/a.sources", stanza.as_str())];
        let (root, found) = system(&files, true);
        let text = found.text();
        prop_assert_eq!(text.matches("Types: deb\n").count(), found.sources.len());
        let signed = format!("Signed-By: {}\n", root.path().join(KEYRING).display());
        prop_assert_eq!(text.matches(&signed).count(), found.sources.len());
        for line in text.lines().filter(|line| !line.is_empty()) {
            let field = line.split_once(':').map(|(field, _)| field);
            prop_assert!(matches!(field, Some("Types" | "URIs" | "Suites" | "Components" | "Signed-By")), "{}", line);
        }
    }
}
