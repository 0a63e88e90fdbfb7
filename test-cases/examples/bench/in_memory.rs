// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that is measured, in a file system in memory.
//!
//! In the KVM host inside QEMU every open(2), and every look-up of a name that does not exist, is a request to the outer
//! machine. Where the clock counts instructions it runs on to the next timer while such a request is waited for, by up to
//! minutes on a busy machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// The new root directory.
const ROOT: &str = "/dev/shm/bench";
/// QEMU's firmware for microvm and its loaders are smaller; the other files of its folders are not used.
const LARGEST_ROM: u64 = 1 << 20;

/// Moves this process to a root directory in memory that holds these programs, QEMU among them, with their libraries, and all
/// files of these folders. Does nothing on a machine that is not the KVM host inside QEMU, where it may not be allowed and is
/// not needed.
pub fn enter(programs: &[&Path], qemu: &Path, folders: &[PathBuf]) -> Outcome<()> {
    if std::env::var_os("COPRA_IN_KVM_HOST").is_none() {
        return Ok(());
    }
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                copy(&path)?;
            }
        }
    }
    for program in programs {
        copy(program)?;
        for library in words(Command::new("ldd").arg(program))?.iter().filter(|word| word.starts_with('/')) {
            copy(Path::new(library))?;
        }
    }
    for folder in words(Command::new(qemu).args(["-L", "help"]))? {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= LARGEST_ROM) {
                copy(&path)?;
            }
        }
    }
    for folder in ["dev", "proc", "sys"] {
        let at = Path::new(ROOT).join(folder);
        fs::create_dir_all(&at)?;
        let status =
            Command::new("mount").arg("--rbind").arg(Path::new("/").join(folder)).arg(&at).status()?;
        if !status.success() {
            return Err(format!("mounting /{folder} on {} failed", at.display()).into());
        }
    }
    fs::create_dir_all(Path::new(ROOT).join("tmp"))?;
    std::os::unix::fs::chroot(ROOT)?;
    Ok(std::env::set_current_dir("/")?)
}

/// A program's path, as execvp(3) finds it.
pub fn find(program: &str) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| format!("{program} is not in PATH").into())
}

/// Copies a file to the same path below the new root, with its time: copra's cache hashes a file anew that has another.
fn copy(file: &Path) -> Outcome<()> {
    let to = Path::new(ROOT).join(file.strip_prefix("/")?);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let copied = fs::copy(file, &to).and_then(|_| {
        let modified = fs::metadata(file)?.modified()?;
        fs::File::options().write(true).open(&to)?.set_modified(modified)
    });
    Ok(copied.map_err(|error| format!("copying {} to {}: {error}", file.display(), to.display()))?)
}

fn words(command: &mut Command) -> Outcome<Vec<String>> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect())
}
