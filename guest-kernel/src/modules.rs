// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Modules of Debian's kernels, for a guest that sees this machine's files: `/lib/modules/RELEASE` in a folder of its own, indexed
//! for modprobe, without the modules that must not be loaded.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::apt::{self, Apt, Reach};
use crate::cache::{self, Cache, Key};
use crate::command::{self, Tool};
use crate::kernel::DebianPackage;
use crate::packages;
use crate::progress::Progress;
use crate::source;
use crate::tools;

/// Where they are kept.
const FOLDER: &str = "modules";
const ROOT: &str = "root";
const ABOUT: &str = "modules.json";
/// Where a kernel's modules are, below the root or /usr.
const LIB_MODULES: &str = "lib/modules";
/// Bumped when the same package would give other files.
const VERSION: &str = "modules-1";
/// The package with the tool that indexes modules.
const INDEXER: (&str, &str) = ("kmod", "depmod");

/// The modules of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// The folder, to be seen in place of this machine's root.
    pub root: PathBuf,
    /// How many there are.
    pub count: usize,
    /// Modules that were left out, and why.
    pub left_out: Vec<(String, String)>,
}

/// What keeps a module, given as its file, from being loaded; `None` if nothing does.
pub type Check<'a> = &'a dyn Fn(&[u8]) -> Option<String>;

/// The modules that come with a package of Debian's that has a kernel; fetched if they are not in the cache.
pub(crate) fn obtain(
    cache: &Cache,
    progress: &dyn Progress,
    (package, release): (&DebianPackage, &str),
    check: Check<'_>,
) -> Result<Modules, Error> {
    if let Some(known) = cached(cache, package)? {
        return Ok(known);
    }
    apt::require_tools()?;
    let mut reasons = Vec::new();
    for reach in Reach::ALL {
        let Some(apt) = Apt::open(cache, progress, reach)? else { continue };
        apt.update(&mut reasons)?;
        let mut parts = apt.named(&names(&package.name))?;
        parts.retain(|part| part.version.as_str() == package.version);
        // Where there are two packages, the one without image.
        let part = parts.iter().find(|part| part.name != package.name).or(parts.first());
        if let Some(part) = part {
            let (downloads, scratch) = (cache.scratch()?, cache.scratch()?);
            let deb = apt.download(part, downloads.path())?;
            // Its lock is needed for the package with depmod.
            drop(apt);
            progress.step(&format!("Unpacking the modules of {release}"));
            let (indexer, libraries) = indexer(cache, progress, downloads.path())?;
            let folder = unpack(&deb, downloads.path(), (package, release), &scratch.path().join(ROOT))?;
            let mut modules = Modules::default();
            choose(&folder.join(LIB_MODULES).join(release), check, &mut modules)?;
            modules.left_out.sort();
            // depmod looks in lib/modules below the folder it is given.
            Tool::new(&indexer.to_string_lossy(), "index the kernel's modules")
                .env("LD_LIBRARY_PATH", &libraries.to_string_lossy())
                .arg("-b")
                .arg(folder)
                .arg(release)
                .output()?;
            let about = scratch.path().join(ABOUT);
            fs::write(&about, serde_json::to_vec_pretty(&modules).unwrap_or_default())
                .map_err(|source| cache::Error::io("write", &about, source))?;
            source::sync(scratch.path())?;
            cache.dir(FOLDER)?;
            scratch.rename(&place(cache, package))?;
            break;
        }
    }
    cached(cache, package)?.ok_or_else(|| Error::NotFound {
        package: format!("{} {}", package.name, package.version),
        reasons: reasons.join("\n"),
    })
}

/// The same without network or a change to the cache; `None` if they are not there.
pub(crate) fn cached(cache: &Cache, package: &DebianPackage) -> Result<Option<Modules>, cache::Error> {
    let place = place(cache, package);
    let Some((text, _)) = Cache::read(&place.join(ABOUT))? else { return Ok(None) };
    let known = serde_json::from_slice::<Modules>(&text).ok();
    Ok(known
        .map(|modules| Modules { root: place.join(ROOT), ..modules })
        .filter(|modules| modules.root.is_dir()))
}

fn place(cache: &Cache, package: &DebianPackage) -> PathBuf {
    let key = Key::of([VERSION, &package.name, &package.version]);
    cache.root().join(FOLDER).join(key.as_str())
}

/// Up to 6.18 the package with the image has the modules as well; later they are in one beside it.
fn names(image: &str) -> Vec<String> {
    let beside = image.strip_prefix("linux-binary-").map(|rest| format!("linux-modules-{rest}"));
    std::iter::once(image.to_owned()).chain(beside).collect()
}

/// depmod: this machine's, else out of its package, in which it is a link to a program of many names.
fn indexer(cache: &Cache, progress: &dyn Progress, work: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let (package, tool) = INDEXER;
    if tools::is_installed(tool) {
        return Ok((PathBuf::from(tool), PathBuf::new()));
    }
    let root = packages::obtain(cache, progress, &[package.to_owned()])?;
    let found = ["usr/bin", "bin"].map(|folder| root.join(folder).join(package));
    let Some(found) = found.into_iter().find(|file| file.is_file()) else {
        return Ok((PathBuf::from(tool), PathBuf::new()));
    };
    let copy = work.join(tool);
    fs::copy(&found, &copy).map_err(|source| cache::Error::io("write", &copy, source))?;
    Ok((copy, root.join("usr/lib/x86_64-linux-gnu")))
}

/// Puts the modules of a package below `root`; gives the folder that has them in [`LIB_MODULES`].
fn unpack(
    deb: &Path,
    work: &Path,
    (package, release): (&DebianPackage, &str),
    root: &Path,
) -> Result<PathBuf, Error> {
    let whole = work.join(ROOT);
    packages::unpack(&[deb.to_owned()], &whole)?;
    let has = |above: &&str| whole.join(above).join(LIB_MODULES).join(release).is_dir();
    let Some(above) = ["usr", ""].into_iter().find(has) else {
        return Err(Error::NoModules { package: package.name.clone(), release: release.to_owned() });
    };
    let (from, to) = (whole.join(above).join(LIB_MODULES), root.join(above).join(LIB_MODULES));
    let parent = to.parent().unwrap_or(root);
    fs::create_dir_all(parent).map_err(|source| cache::Error::io("create", parent, source))?;
    fs::rename(&from, &to).map_err(|source| cache::Error::io("write", &to, source))?;
    Ok(root.join(above))
}

/// Removes the modules that must not be loaded.
fn choose(folder: &Path, check: Check<'_>, modules: &mut Modules) -> Result<(), cache::Error> {
    for entry in fs::read_dir(folder).map_err(|source| cache::Error::io("list", folder, source))?.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            choose(&path, check, modules)?;
        } else if is_module(&name) {
            let content = fs::read(&path).map_err(|source| cache::Error::io("read", &path, source))?;
            match check(&content) {
                None => modules.count += 1,
                Some(why) => {
                    fs::remove_file(&path).map_err(|source| cache::Error::io("remove", &path, source))?;
                    modules.left_out.push((name, why));
                }
            }
        }
    }
    Ok(())
}

/// As `scripts/Makefile.modinst` of Linux names them.
fn is_module(name: &str) -> bool {
    [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().any(|end| name.ends_with(end))
}

/// Why there are no modules.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archives have other versions by now.
    #[error(
        "Debian's archives do not have the modules of {package}; is there a network, or is there a newer kernel? `copra kernel fetch` \
         looks for one. {reasons}"
    )]
    NotFound {
        /// Name and version.
        package: String,
        /// apt's output.
        reasons: String,
    },
    /// A package without.
    #[error("the package {package} has no modules of {release}")]
    NoModules {
        /// The package.
        package: String,
        /// `uname -r`.
        release: String,
    },
    /// The package with depmod.
    #[error(transparent)]
    Packages(#[from] packages::Error),
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

    #[test]
    fn a_module_that_must_not_be_loaded_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("kernel/drivers");
        fs::create_dir_all(&folder).unwrap();
        for (name, content) in [("loop.ko", "good"), ("guest.ko.xz", "bad"), ("modules.order", "bad")] {
            fs::write(folder.join(name), content).unwrap();
        }
        let mut modules = Modules::default();
        let check = |content: &[u8]| (content == b"bad").then(|| "it has TDCALL".to_owned());
        choose(root.path(), &check, &mut modules).unwrap();
        assert_eq!(modules.count, 1);
        assert_eq!(modules.left_out, [("guest.ko.xz".to_owned(), "it has TDCALL".to_owned())]);
        assert!(folder.join("loop.ko").is_file() && folder.join("modules.order").is_file());
        assert!(!folder.join("guest.ko.xz").exists());
    }

    #[test]
    fn modules_are_in_the_images_package_or_beside_it() {
        assert_eq!(names("linux-image-6.12-cloud-amd64"), ["linux-image-6.12-cloud-amd64"]);
        let split = ["linux-binary-7.3-cloud-amd64", "linux-modules-7.3-cloud-amd64"];
        assert_eq!(names(split[0]), split);
    }
}
