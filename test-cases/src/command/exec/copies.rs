// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies of files and folders that a command may change, removed when it has ended.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use engine::exec::Writable;
use guest_kernel::{Cache, Scratch};

use crate::command::Failed;

/// The copies.
#[derive(Debug)]
pub struct Copies {
    /// Where each is, and for which path.
    pub made: Vec<Writable>,
    /// They are removed with it.
    _folder: Option<Scratch>,
}

impl Copies {
    /// Copies files and folders, each into a folder of its own.
    pub fn make(paths: &[PathBuf]) -> Result<Self, Failed> {
        if paths.is_empty() {
            return Ok(Self { made: Vec::new(), _folder: None });
        }
        // In the cache, as a confined process may remove them there.
        let folder = Cache::open().and_then(|cache| cache.scratch()).map_err(Failed::new)?;
        let mut made = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            let shared = folder.path().join(index.to_string());
            made.push(
                copy(path, shared).map_err(|why| Failed::new(format!("--copy {}: {why}", path.display())))?,
            );
        }
        Ok(Self { made, _folder: Some(folder) })
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // A folder that its owner may not write cannot be emptied.
        self.made.iter().for_each(|copy| make_writable(&copy.shared));
    }
}

/// Lets the owner change all folders below `folder`; what cannot be changed cannot be removed either.
fn make_writable(folder: &Path) {
    let Ok(about) = folder.symlink_metadata() else { return };
    if !about.is_dir() {
        return;
    }
    let _ = std::fs::set_permissions(folder, Permissions::from_mode(about.mode() & 0o7777 | 0o700));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        make_writable(&entry.path());
    }
}

/// Copies what is at `path`: of a folder what is in it, into a new folder `shared`.
fn copy(path: &Path, shared: PathBuf) -> Result<Writable, String> {
    let path = path.canonicalize().map_err(|error| error.to_string())?;
    let file = if path.is_dir() {
        None
    } else {
        std::fs::create_dir(&shared).map_err(|error| format!("creating {}: {error}", shared.display()))?;
        path.file_name().map(ToOwned::to_owned)
    };
    let to = file.as_ref().map_or_else(|| shared.clone(), |name| shared.join(name));
    let mut cp = Command::new("cp");
    cp.args(["-a", "--reflink=auto", "--no-target-directory", "--"]).arg(&path).arg(&to);
    let output = cp.output().map_err(|error| format!("starting cp: {error}"))?;
    if output.status.success() {
        Ok(Writable { shared, file, path })
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_copied_and_the_copies_removed() {
        let from = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(from.path().join("folder/inner")).unwrap();
        std::fs::write(from.path().join("folder/inner/one"), "1").unwrap();
        std::fs::write(from.path().join("two"), "2").unwrap();
        let copies = Copies::make(&[from.path().join("folder"), from.path().join("two")]).unwrap();
        let [folder, file] = copies.made.as_slice() else { panic!("{copies:?}") };
        assert_eq!(std::fs::read_to_string(folder.shared.join("inner/one")).unwrap(), "1");
        assert_eq!(file.file.as_deref(), Some("two".as_ref()));
        assert_eq!(std::fs::read_to_string(file.shared.join("two")).unwrap(), "2");
        let place = file.shared.clone();
        std::fs::set_permissions(folder.shared.join("inner"), Permissions::from_mode(0o555)).unwrap();
        drop(copies);
        assert!(!place.exists());
        let error = Copies::make(&[from.path().join("none")]).unwrap_err().to_string();
        assert!(error.contains("--copy") && error.contains("No such file"), "{error}");
    }
}
