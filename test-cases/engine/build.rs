// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Embeds the files of cases and layouts, so that they are found wherever the program is called from, and names the code that reads the
//! facts of a guest, so that what other code read and kept is not used.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rustc-env=COPRA_ENGINE_BUILD={:016x}", code()?);
    embed("cases")?;
    embed("layouts")
}

/// Writes the list of name and text of each TOML file in a folder beside this crate.
fn embed(folder: &str) -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..").join(folder);
    let mut files = Vec::new();
    collect(&root, "toml", &mut files)?;
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file).with_extension("");
        let (name, file) = (name.display().to_string(), file.display().to_string());
        let _ = writeln!(list, "    ({name:?}, include_str!({file:?})),");
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join(folder).with_extension("rs"), list)
}

/// A hash of this crate's sources.
fn code() -> io::Result<u64> {
    let mut files = Vec::new();
    collect(Path::new("src"), "rs", &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn collect(folder: &Path, wanted: &str, files: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, wanted, files)?;
        } else if path.extension().is_some_and(|extension| extension == wanted) {
            files.push(path);
        }
    }
    Ok(())
}
