// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's own kernel images, out of their packages.

use crate::apt::{self, Apt, Package, Reach};
use crate::cache::{self, Cache, Key, hash_file};
use crate::command::{self, Tool};
use crate::image::{self, Image};
use crate::kernel::{DebianPackage, Kernel};
use crate::progress::Progress;
use crate::recipe::UPSTREAM;
use crate::spec::{Flavour, KernelSpec, Series};
use crate::store;
use std::fs;
use std::path::{Path, PathBuf};

/// Fetches the newest kernel of a series, or finds that it is in the cache already.
pub(crate) fn fetch(
    cache: &Cache,
    progress: &dyn Progress,
    series: &Series,
    flavour: Flavour,
) -> Result<Key, Error> {
    apt::require_tools()?;
    let mut reasons = Vec::new();
    for reach in Reach::ALL {
        let Some(apt) = Apt::open(cache, progress, reach)? else { continue };
        apt.update(&mut reasons)?;
        let images = apt.packages("linux-image-", |name| flavour.names(name))?;
        let newest = images
            .into_iter()
            .filter(|p| p.version.is_of_series(series.as_str()))
            .max_by(|a, b| a.version.cmp(&b.version));
        if let Some(newest) = newest {
            if !reasons.is_empty() {
                let reasons = reasons.join("\n");
                progress.note(&format!(
                    "{} is the newest known, but perhaps not the newest: {reasons}",
                    newest.version
                ));
            }
            let parts = parts(&apt, newest)?;
            return obtain(cache, &apt, progress, &parts, (series, flavour));
        }
    }
    if reasons.is_empty() {
        return Err(Error::NoSuchSeries { series: series.clone(), flavour });
    }
    Err(Error::NoLists { series: series.clone(), reasons: reasons.join("\n") })
}

/// The packages that have image and configuration. Up to 6.18 that is one; later the image package only depends on them.
fn parts(apt: &Apt<'_>, image: Package) -> Result<Vec<Package>, Error> {
    let wanted = exact_dependencies(&image);
    if wanted.is_empty() {
        return Ok(vec![image]);
    }
    let mut parts = Vec::new();
    for (name, version) in wanted {
        let found = apt.packages(&name, |other| other == name)?;
        let part = found.into_iter().find(|part| part.version.as_str() == version);
        let part = part.ok_or_else(|| Error::NoPart { image: image.name.clone(), part: name })?;
        parts.extend(if part.name.starts_with("linux-image-") {
            self::parts(apt, part)?
        } else {
            vec![part]
        });
    }
    Ok(parts)
}

/// Dependencies of a package without content on exactly one version of packages that may have the image.
fn exact_dependencies(package: &Package) -> Vec<(String, String)> {
    let parse = |dependency: &str| {
        let (name, version) = dependency.trim().strip_suffix(')')?.split_once(" (= ")?;
        let holds = ["linux-image-", "linux-binary-", "linux-base-"].iter().any(|p| name.starts_with(p));
        holds.then(|| (name.to_owned(), version.to_owned()))
    };
    package.depends.split(',').filter_map(parse).collect()
}

fn obtain(
    cache: &Cache,
    apt: &Apt<'_>,
    progress: &dyn Progress,
    parts: &[Package],
    (series, flavour): (&Series, Flavour),
) -> Result<Key, Error> {
    let key = Key::of(["debian-kernel"].into_iter().chain(parts.iter().map(|part| part.sha256.as_str())));
    if store::find(cache, progress, &key)?.is_some() {
        return Ok(key);
    }
    cache.sweep()?;
    let downloads = cache.scratch()?;
    let has_image = |part: &&Package| !part.name.starts_with("linux-base-");
    let package = parts.iter().find(has_image).map_or(DebianPackage::default(), |part| DebianPackage {
        name: part.name.clone(),
        version: part.version.to_string(),
    });
    cache.store(store::FOLDER, &key, |dir| {
        for part in parts {
            let deb = apt.download(part, downloads.path())?;
            progress.step(&format!("Unpacking {}", part.name));
            unpack(cache, &deb, downloads.path())?;
        }
        let (vmlinuz, config) =
            find(downloads.path()).ok_or_else(|| Error::NoImage { package: package.name.clone() })?;
        let read = |path: &Path| hash_file(path).map_err(|e| cache::Error::io("read", path, e));
        let about = Image::inspect(&vmlinuz)?;
        let mut kernel = Kernel {
            spec: KernelSpec::Debian { series: series.clone(), flavour },
            release: about.release.unwrap_or_else(|| "unknown".to_owned()),
            package: Some(package),
            image_sha256: read(&vmlinuz)?,
            image: PathBuf::from("vmlinuz"),
            config_sha256: config.as_deref().map(read).transpose()?,
            config: config.is_some().then(|| PathBuf::from("config")),
            policy: Some(UPSTREAM.to_owned()),
            patches: vec![],
            build_id: None,
            toolchain: None,
            command_line: vec![],
        };
        store::put(dir, &mut kernel, &vmlinuz, config.as_deref())?;
        Ok::<(), Error>(())
    })?;
    Ok(key)
}

/// Everything but kernel modules and documentation, which are most of it.
pub(crate) fn unpack(cache: &Cache, deb: &Path, dir: &Path) -> Result<(), Error> {
    let purpose = format!("unpack {}", deb.file_name().unwrap_or_default().display());
    let done = (|| {
        let dpkg = Tool::new("dpkg-deb", purpose.clone()).arg("--fsys-tarfile").arg(deb);
        let (dpkg, tar) = dpkg.spawn_reading()?;
        let excluded = ["--exclude=*.ko", "--exclude=*.ko.*", "--exclude=./usr/share"];
        Tool::new("tar", purpose)
            .stdin(tar)
            .args(["-x", "-f", "-"])
            .args(excluded)
            .arg("-C")
            .arg(dir)
            .output()?;
        dpkg.finish()
    })();
    match done {
        Err(_) if cache.is_full() => Err(cache::Error::full("a package", dir, None).into()),
        done => Ok(done?),
    }
}

/// The image and the configuration: `/boot/vmlinuz-*` and `/boot/config-*`, or both under `/usr/lib/modules/*`.
fn find(root: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    let mut dirs = vec![root.join("boot")];
    for modules in ["lib/modules", "usr/lib/modules"] {
        dirs.extend(fs::read_dir(root.join(modules)).into_iter().flatten().flatten().map(|e| e.path()));
    }
    let files: Vec<PathBuf> = dirs
        .iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        .map(|e| e.path())
        .collect();
    let named = |name: &str| {
        let fits = |path: &&PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file == name || file.starts_with(&format!("{name}-"))
        };
        files.iter().find(fits).cloned()
    };
    Some((named("vmlinuz")?, named("config")))
}

/// Why a packaged kernel could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archives answered, and have nothing.
    #[error(
        "Debian's archives have no kernel image of series {series}, flavour {flavour}; old versions are dropped there, so name a series (debian:6.12) or a file (path:FILE)"
    )]
    NoSuchSeries {
        /// What was requested.
        series: Series,
        /// In which flavour.
        flavour: Flavour,
    },
    /// The archives did not answer.
    #[error(
        "cannot look for a kernel of series {series}; is there a network? Without one, name a kernel as path:FILE\n{reasons}"
    )]
    NoLists {
        /// What was requested.
        series: Series,
        /// apt's output.
        reasons: String,
    },
    /// A split package without one of its parts.
    #[error(
        "the package {image} needs {part}, which apt cannot find; try again later, the archive may be changing"
    )]
    NoPart {
        /// The image package.
        image: String,
        /// What it depends on.
        part: String,
    },
    /// A package without a kernel.
    #[error("found no vmlinuz in the package {package}; name the kernel as path:FILE")]
    NoImage {
        /// The package.
        package: String,
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
    /// The file is no kernel.
    #[error(transparent)]
    Image(#[from] image::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    fn package(depends: &str) -> Package {
        Package {
            name: "linux-image-x".into(),
            version: Version::new("1"),
            size: 0,
            sha256: String::new(),
            depends: depends.into(),
        }
    }

    #[test]
    fn follows_packages_without_content() {
        assert_eq!(
            exact_dependencies(&package("kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120) | x")),
            []
        );
        let split = "dracut | y, linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)";
        let names: Vec<_> = exact_dependencies(&package(split)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["linux-base-7.3.4+deb13-cloud-amd64", "linux-binary-7.3.4+deb13-cloud-amd64"]);
        let meta = "linux-image-6.12.117+deb12-cloud-amd64 (= 6.12.117-1~deb12u1)";
        assert_eq!(exact_dependencies(&package(meta)).len(), 1);
    }

    #[test]
    fn finds_the_image_in_both_layouts() {
        for (image, config) in [
            ("boot/vmlinuz-6.12", "boot/config-6.12"),
            ("usr/lib/modules/7.3/vmlinuz", "usr/lib/modules/7.3/config"),
        ] {
            let root = tempfile::tempdir().unwrap();
            assert_eq!(find(root.path()), None);
            for file in [image, config] {
                let file = root.path().join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "").unwrap();
            }
            assert_eq!(find(root.path()), Some((root.path().join(image), Some(root.path().join(config)))));
        }
    }
}
