// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels in the cache, and which of them a name leads to.

use crate::cache::{self, Cache, Key};
use crate::kernel::Kernel;
use crate::progress::Progress;
use crate::spec::KernelSpec;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where kernels are.
pub(crate) const FOLDER: &str = "kernels";
const ABOUT: &str = "kernel.json";

/// Puts a kernel's files into an entry that is being made. `image` and `config` of `kernel` are names in there.
pub(crate) fn put(
    dir: &Path,
    kernel: &mut Kernel,
    image: &Path,
    config: Option<&Path>,
) -> Result<(), cache::Error> {
    let copy = |from: &Path, to: PathBuf| {
        // Usually both are in the cache.
        fs::rename(from, &to)
            .or_else(|_| fs::copy(from, &to).map(drop))
            .map_err(|e| cache::Error::io("write", &to, e))
    };
    copy(image, dir.join(&kernel.image))?;
    if let (Some(from), Some(to)) = (config, &kernel.config) {
        copy(from, dir.join(to))?;
    }
    let about = dir.join(ABOUT);
    let text = serde_json::to_vec_pretty(kernel).unwrap_or_default();
    fs::write(&about, text).map_err(|e| cache::Error::io("write", &about, e))
}

/// The kernel of a key. A damaged one is reported, forgotten, and made again by the caller.
pub(crate) fn find(
    cache: &Cache,
    progress: &dyn Progress,
    key: &Key,
) -> Result<Option<Kernel>, cache::Error> {
    match load(cache, key) {
        Err(damage @ cache::Error::Damaged { .. }) => {
            progress.note(&damage.to_string());
            cache.evict(FOLDER, key)?;
            Ok(None)
        }
        found => found,
    }
}

/// The kernel of a key, if it is there and intact. Changes nothing.
pub(crate) fn load(cache: &Cache, key: &Key) -> Result<Option<Kernel>, cache::Error> {
    let Some(entry) = cache.get(FOLDER, key)? else { return Ok(None) };
    let about = entry.path(ABOUT);
    let text = fs::read(&about).map_err(|e| cache::Error::io("read", &about, e))?;
    let Ok(mut kernel) = serde_json::from_slice::<Kernel>(&text) else {
        return Err(cache::Error::Damaged { file: about, how: "not readable".to_owned() });
    };
    kernel.image = entry.path(&kernel.image);
    kernel.config = kernel.config.map(|config| entry.path(config));
    Ok(Some(kernel))
}

/// What a name led to when it was last looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resolved {
    /// The name.
    pub(crate) spec: String,
    /// The entry.
    pub(crate) key: Key,
    /// What else decided: recipe and tools of a built kernel.
    pub(crate) inputs: Vec<String>,
}

/// What a name led to, and when that was looked up.
pub(crate) fn recall(
    cache: &Cache,
    spec: &KernelSpec,
) -> Result<Option<(Resolved, SystemTime)>, cache::Error> {
    let found = Cache::read(&place(cache, spec))?;
    Ok(found.and_then(|(text, at)| Some((serde_json::from_slice(&text).ok()?, at))))
}

/// Every name looked up so far.
pub(crate) fn recall_all(cache: &Cache) -> Vec<Resolved> {
    let files = fs::read_dir(cache.root().join(NAMES)).into_iter().flatten().flatten();
    files.filter_map(|file| serde_json::from_slice(&fs::read(file.path()).ok()?).ok()).collect()
}

/// Stores what a name leads to from now on.
pub(crate) fn remember(
    cache: &Cache,
    spec: &KernelSpec,
    key: &Key,
    inputs: Vec<String>,
) -> Result<(), cache::Error> {
    let resolved = Resolved { spec: spec.to_string(), key: key.clone(), inputs };
    cache.write(&place(cache, spec), &serde_json::to_vec_pretty(&resolved).unwrap_or_default())
}

const NAMES: &str = "names";

fn place(cache: &Cache, spec: &KernelSpec) -> PathBuf {
    cache.root().join(NAMES).join(format!("{}.json", spec.to_string().replace([':', '/'], "_")))
}
