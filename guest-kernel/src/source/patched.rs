// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Patches on a shared tree: what they change is saved first, and restored after, times and all, so that make sees
//! exactly the files that differ. A journal lets the next build put back what a killed one could not.

use super::{Error, LINUX};
use crate::cache::{self, Cache, remove};
use crate::command::Tool;
use crate::piece::Piece;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

/// A tree with patches on it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Patched {
    dir: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Journal {
    /// Files set aside as `saved/0`, `saved/1`, …
    changed: Vec<PathBuf>,
    /// Files that were not there before.
    added: Vec<PathBuf>,
}

const JOURNAL: &str = "journal.json";
const SAVED: &str = "saved";

impl Patched {
    pub(super) fn apply(cache: &Cache, dir: &Path, patches: &[Piece]) -> Result<Self, Error> {
        restore(dir)?;
        let linux = dir.join(LINUX);
        let mut paths = BTreeSet::new();
        for patch in patches {
            paths.extend(files_changed_by(patch)?);
        }
        paths.retain(|path| !linux.join(path).is_dir());
        let (changed, added) = paths.into_iter().partition(|path| linux.join(path).exists());
        let journal = Journal { changed, added };
        save_originals(dir, &journal.changed)?;
        cache.write(&dir.join(JOURNAL), &serde_json::to_vec_pretty(&journal).unwrap_or_default())?;
        let undo = Self { dir: dir.to_owned() };
        for path in &journal.changed {
            unlink_from_saved(&linux.join(path))
                .map_err(|e| cache::Error::io("copy", &linux.join(path), e))?;
        }
        for patch in patches {
            apply_one(cache, &linux, patch)?;
        }
        Ok(undo)
    }

    /// Restores every file, and reports a failure.
    pub(crate) fn restore(self) -> Result<(), Error> {
        Ok(restore(&self.dir)?)
    }
}

impl Drop for Patched {
    fn drop(&mut self) {
        // The journal stays if this fails, and the next build tries again.
        let _ = restore(&self.dir);
    }
}

fn save_originals(dir: &Path, changed: &[PathBuf]) -> Result<(), cache::Error> {
    let saved = dir.join(SAVED);
    remove(&saved);
    fs::create_dir(&saved).map_err(|e| cache::Error::io("create", &saved, e))?;
    for (index, path) in changed.iter().enumerate() {
        let link = saved.join(index.to_string());
        fs::hard_link(dir.join(LINUX).join(path), &link).map_err(|e| cache::Error::io("link", &link, e))?;
    }
    Ok(())
}

/// Gives the tree a copy of its own of a file that is set aside.
fn unlink_from_saved(path: &Path) -> io::Result<()> {
    let mut copy = path.as_os_str().to_owned();
    copy.push(".copra");
    fs::copy(path, &copy)?;
    fs::rename(&copy, path)
}

fn restore(dir: &Path) -> Result<(), cache::Error> {
    let file = dir.join(JOURNAL);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(cache::Error::io("read", &file, e)),
    };
    let Ok(journal) = serde_json::from_slice::<Journal>(&text) else {
        return Err(cache::Error::Damaged {
            file,
            how: "not readable; remove the directory it is in".to_owned(),
        });
    };
    for (index, path) in journal.changed.iter().enumerate() {
        let path = dir.join(LINUX).join(path);
        match fs::rename(dir.join(SAVED).join(index.to_string()), &path) {
            // An earlier attempt got this far.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(|e| cache::Error::io("put back", &path, e))?,
        }
    }
    for path in &journal.added {
        let path = dir.join(LINUX).join(path);
        remove(&path);
        // Directories that came with it; the ones that were there before are not empty.
        let _ = path.ancestors().skip(1).take_while(|dir| fs::remove_dir(dir).is_ok()).count();
    }
    remove(&dir.join(SAVED));
    fs::remove_file(&file).map_err(|e| cache::Error::io("remove", &file, e))
}

fn apply_one(cache: &Cache, linux: &Path, patch: &Piece) -> Result<(), Error> {
    let scratch = cache.scratch()?;
    let file = scratch.path().join("patch");
    let written = File::create(&file).and_then(|mut file| file.write_all(patch.text.as_bytes()));
    written.map_err(|e| cache::Error::io("write", &file, e))?;
    let purpose = format!("apply {}", patch.name);
    let tool = Tool::new("patch", purpose)
        .args(["-p1", "--fuzz=0", "--batch", "--forward", "--no-backup-if-mismatch", "--reject-file=-", "-d"])
        .arg(linux)
        .arg("-i")
        .arg(&file);
    match tool.output() {
        Err(_) if cache.is_full() => Err(cache::Error::full("a patched source file", linux, None).into()),
        Err(source @ crate::command::Error::Failed { .. }) => {
            Err(Error::Mismatch { patch: patch.name.clone(), source: Box::new(source) })
        }
        done => Ok(done.map(drop)?),
    }
}

/// The files a unified diff names, without the leading `a/` or `b/`.
pub(crate) fn files_changed_by(patch: &Piece) -> Result<BTreeSet<PathBuf>, Error> {
    let mut paths = BTreeSet::new();
    let lines: Vec<&str> = patch.text.lines().collect();
    let headers = lines
        .windows(2)
        .filter_map(|pair| Some((pair[0].strip_prefix("--- ")?, pair[1].strip_prefix("+++ ")?)));
    // `a/drivers/char/mem.c`, perhaps with a tab and a time; or /dev/null for a file that comes or goes.
    let changed = headers
        .flat_map(|(old, new)| [old, new])
        .map(|name| name.split('\t').next().unwrap_or(name).trim_end());
    let changed = changed
        .filter(|name| *name != "/dev/null")
        .map(|name| name.split_once('/').map_or(name, |(_, path)| path));
    let moved = lines.iter().filter_map(|line| {
        ["rename from ", "rename to ", "copy to "].iter().find_map(|mark| line.strip_prefix(mark))
    });
    for path in changed.chain(moved) {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if path.is_empty() || !plain {
            return Err(Error::Outside { patch: patch.name.clone(), path: path.to_owned() });
        }
        paths.insert(PathBuf::from(path));
    }
    if paths.is_empty() {
        return Err(Error::Empty { patch: patch.name.clone() });
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
