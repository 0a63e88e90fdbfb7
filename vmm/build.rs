// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gives the crate a name for the code it was built from, so that what other code derived and stored is not used.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let mut files = Vec::new();
    add_files(Path::new("src"), &mut files)?;
    add_files(Path::new("types/src"), &mut files)?;
    files.sort();
    // The versions of the crates used, where this is built in its workspace.
    files.extend(Some(PathBuf::from("../Cargo.lock")).filter(|lock| lock.is_file()));
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
        println!("cargo::rerun-if-changed={}", file.display());
    }
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=types/src");
    println!("cargo::rustc-env=COPRA_VMM_BUILD={:016x}", hasher.finish());
    Ok(())
}

fn add_files(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { add_files(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
