// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian packages for a guest that sees this machine's files: unpacked into a folder, to be seen in place of those, with the
//! packages that they depend on and this machine does not have. No script of theirs is run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{self, Apt, Reach};
use crate::cache::{self, Cache, Key, hash_file};
use crate::command::{self, Tool};
use crate::progress::Progress;
use crate::source;

/// Where they are kept.
const FOLDER: &str = "packages";
/// The unpacked files.
const ROOT: &str = "root";
/// Bumped when the same packages would give other files.
const VERSION: &str = "packages-1";
/// Folders that are links into /usr on most machines; packages may still name them.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// The folder with the files of packages, fetched or built if it is not in the cache.
pub(crate) fn obtain(cache: &Cache, progress: &dyn Progress, wanted: &[String]) -> Result<PathBuf, Error> {
    apt::require_tools()?;
    let debs = local(wanted)?;
    let known = cached(cache, wanted)?;
    match fetch(cache, progress, wanted, &debs) {
        Err(error) if known.is_some() && debs.is_empty() => {
            progress.note(&format!(
                "using the packages fetched before, because looking for newer ones failed: {error}"
            ));
            known.ok_or(error)
        }
        found => found,
    }
}

/// The same without network or a change to the cache; `None` if they are not there.
pub(crate) fn cached(cache: &Cache, wanted: &[String]) -> Result<Option<PathBuf>, cache::Error> {
    let Some((text, _)) = Cache::read(&name(cache, wanted))? else { return Ok(None) };
    let root = serde_json::from_slice::<Key>(&text).ok().map(|key| root(cache, &key));
    Ok(root.filter(|root| root.is_dir()))
}

fn name(cache: &Cache, wanted: &[String]) -> PathBuf {
    cache.root().join("names").join(format!("packages-{}.json", Key::of(wanted).as_str()))
}

fn root(cache: &Cache, key: &Key) -> PathBuf {
    cache.root().join(FOLDER).join(key.as_str()).join(ROOT)
}

/// Whether it is a path and not the name of a package, which has no slash and no upper-case letter or underscore.
fn is_path(wanted: &str) -> bool {
    wanted.contains('/') || Path::new(wanted).extension().is_some_and(|extension| extension == "deb")
}

/// The files among what is wanted, by their absolute paths.
fn local(wanted: &[String]) -> Result<Vec<PathBuf>, Error> {
    let paths = wanted.iter().filter(|wanted| is_path(wanted));
    let absolute = |path: &String| {
        let found = fs::canonicalize(path).ok().filter(|path| path.is_file());
        found.ok_or_else(|| Error::NoFile { path: PathBuf::from(path) })
    };
    paths.map(absolute).collect()
}

/// What apt is given: names, and absolute paths, which it takes for files.
fn as_for_apt(wanted: &[String], debs: &[PathBuf]) -> Vec<String> {
    let names = wanted.iter().filter(|wanted| !is_path(wanted)).cloned();
    names.chain(debs.iter().map(|deb| deb.to_string_lossy().into_owned())).collect()
}

/// From the first archives that have all of them.
fn fetch(
    cache: &Cache,
    progress: &dyn Progress,
    wanted: &[String],
    debs: &[PathBuf],
) -> Result<PathBuf, Error> {
    let for_apt = as_for_apt(wanted, debs);
    let mut reasons = Vec::new();
    for reach in Reach::ALL {
        let Some(apt) = Apt::open(cache, progress, reach)? else { continue };
        apt.update(&mut reasons)?;
        let plan = match apt.plan(&for_apt) {
            Ok(plan) => plan,
            Err(reason) => {
                reasons.push(reason.to_string());
                continue;
            }
        };
        let hashes: Result<Vec<String>, _> = debs
            .iter()
            .map(|deb| hash_file(deb).map_err(|source| cache::Error::io("read", deb, source)))
            .collect();
        let hashes = hashes?;
        let merged = MERGED.into_iter().filter(|name| is_merged(name)).map(str::to_owned);
        let parts = [VERSION.to_owned()].into_iter().chain(plan.files.iter().cloned()).chain(hashes);
        let key = Key::of(parts.chain(merged));
        let root = root(cache, &key);
        if !root.is_dir() {
            cache.sweep()?;
            let (downloads, scratch) = (cache.scratch()?, cache.scratch()?);
            let mut files = apt.fetch(&for_apt, &plan, downloads.path())?;
            files.extend_from_slice(debs);
            let tree = scratch.path().join(ROOT);
            unpack(&files, &tree).map_err(|error| match error {
                Error::Tool(_) if cache.is_full() => {
                    cache::Error::full("the packages", &tree, Some(plan.size)).into()
                }
                error => error,
            })?;
            source::sync(scratch.path())?;
            cache.dir(FOLDER)?;
            scratch.rename(&cache.root().join(FOLDER).join(key.as_str()))?;
        }
        cache.write(&name(cache, wanted), &serde_json::to_vec(&key).unwrap_or_default())?;
        return Ok(root);
    }
    Err(Error::NotFound { wanted: wanted.join(", "), reasons: reasons.join("\n") })
}

fn is_merged(name: &str) -> bool {
    let target = fs::read_link(Path::new("/").join(name));
    target.is_ok_and(|target| target == Path::new("usr").join(name) || target == Path::new("/usr").join(name))
}

/// Unpacks packages, with links to folders where this machine has them: a folder of theirs would hide the link.
pub(crate) fn unpack(debs: &[PathBuf], root: &Path) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| cache::Error::io("write", &path, source)
    };
    let merged: Vec<&str> = MERGED.into_iter().filter(|name| is_merged(name)).collect();
    for name in &merged {
        let folder = root.join("usr").join(name);
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let link = root.join(name);
        std::os::unix::fs::symlink(Path::new("usr").join(name), &link).map_err(failed(&link))?;
    }
    fs::create_dir_all(root).map_err(failed(root))?;
    for deb in debs {
        let purpose = format!("unpack {}", deb.file_name().unwrap_or_default().display());
        let dpkg = Tool::new("dpkg-deb", purpose.clone()).arg("--fsys-tarfile").arg(deb);
        let (dpkg, tar) = dpkg.spawn_reading()?;
        let options = ["-x", "-p", "--keep-directory-symlink", "-f", "-", "-C"];
        Tool::new("tar", purpose).stdin(tar).args(options).arg(root).output()?;
        dpkg.finish()?;
    }
    for name in &merged {
        let link = root.join(name);
        fs::remove_file(&link).map_err(failed(&link))?;
        // A folder without files must not hide the mode of this machine's.
        let _ = fs::remove_dir(root.join("usr").join(name));
    }
    Ok(())
}

/// Why packages could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path without a file.
    #[error(
        "there is no file {path}; name a package as Debian does (flashrom), or the path of a .deb",
        path = .path.display()
    )]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// No archive has all of them.
    #[error(
        "cannot get {wanted} with what it depends on from Debian's archives; is there a network? What was tried:\n{reasons}"
    )]
    NotFound {
        /// Names and paths.
        wanted: String,
        /// apt's output.
        reasons: String,
    },
    /// apt failed.
    #[error(transparent)]
    Apt(#[from] apt::Error),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] command::Error),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package with these files.
    fn deb(at: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let tree = at.join(name);
        let control =
            format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n");
        for (path, content) in files.iter().copied().chain([("DEBIAN/control", control.as_str())]) {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let file = at.join(format!("{name}.deb"));
        Tool::new("dpkg-deb", "make a package")
            .args(["--root-owner-group", "-b"])
            .arg(&tree)
            .arg(&file)
            .output()
            .unwrap();
        file
    }

    #[test]
    fn packages_are_unpacked_to_where_this_machine_has_its_files() {
        let at = tempfile::tempdir().unwrap();
        let debs = [
            deb(at.path(), "one", &[("bin/tool", "old"), ("etc/tool.conf", "")]),
            deb(at.path(), "two", &[("usr/bin/tool", "new"), ("usr/share/tool/data", "")]),
        ];
        let root = at.path().join("root");
        unpack(&debs, &root).unwrap();
        let bin = if is_merged("bin") { "usr/bin/tool" } else { "bin/tool" };
        let found = fs::read_to_string(root.join(bin)).unwrap();
        assert_eq!(found, if is_merged("bin") { "new" } else { "old" });
        assert!(root.join("usr/share/tool/data").is_file() && root.join("etc/tool.conf").is_file());
        for name in MERGED.into_iter().filter(|name| is_merged(name)) {
            assert!(fs::symlink_metadata(root.join(name)).is_err(), "{name} would hide this machine's link");
        }
    }

    #[test]
    fn a_path_without_a_file_is_reported_before_anything_is_fetched() {
        assert!(is_path("./flashrom.deb") && is_path("x_1_amd64.deb") && !is_path("flashrom"));
        let wanted = ["kmod".to_owned(), "./no-such.deb".to_owned()];
        assert!(matches!(local(&wanted), Err(Error::NoFile { .. })));
    }
}
