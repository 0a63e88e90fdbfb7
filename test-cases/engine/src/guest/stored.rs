// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What follows from a kernel's image alone (its unpacked kernel, its instructions to rewrite, its names) is computed once
//! and kept in the cache: on an emulated processor it takes seconds.
//!
//! The key is the image's hash and the code that computes (`vmm::BUILD`), so nothing is found that another image or
//! another version of copra stored. A cache that cannot be written to, or has damaged files, costs time only.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use guest_kernel::cache::{Key, LruStore, hash_bytes};
use vmm::boot::image::{self, Vmlinux};
use vmm::boot::prepared::{self, PreparedImage};
use vmm::trace::kernel::{KernelNames, NameData};

use super::error::EngineError;

/// A kernel image, and what was stored about it.
#[derive(Debug, Clone)]
pub struct KernelImage {
    /// The file: a bzImage or an ELF vmlinux.
    pub path: PathBuf,
    /// The hash of its content, in hexadecimal.
    pub sha256: String,
    /// Where derived data are kept; `None` to compute them each time.
    pub store: Option<LruStore>,
}

impl KernelImage {
    /// An image of which nothing is kept.
    pub fn unstored(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), sha256: String::new(), store: None }
    }

    /// Whether [`KernelImage::prepare`] has nothing to do.
    pub fn is_prepared(&self) -> bool {
        let is_stored = |store: &LruStore| {
            store.seems_intact(&self.key(Kept::Boot)) && store.seems_intact(&self.key(Kept::Names))
        };
        self.store.as_ref().is_none_or(is_stored)
    }

    /// Computes and stores what is not stored yet. Of several processes at once one does it. `wait` is called before
    /// waiting for another.
    pub fn prepare(&self, wait: impl FnOnce()) -> Result<(), EngineError> {
        let Some(store) = self.store.as_ref().filter(|_| !self.is_prepared()) else { return Ok(()) };
        // Without a lock, two may do the same.
        let _lock = store.lock(&self.key(Kept::Boot), wait);
        if self.is_prepared() {
            return Ok(());
        }
        let file = self.read()?;
        let kernel = self.extract(&file)?;
        self.keep(Kept::Boot, &prepared::encode(&kernel));
        self.keep(Kept::Names, &NameData::find(&kernel).encode());
        Ok(())
    }

    /// The kernel to boot.
    fn load(&self) -> Result<PreparedImage, EngineError> {
        let stored = self.stored(Kept::Boot).and_then(|bytes| prepared::decode(&bytes).ok());
        if let Some(stored) = stored {
            return Ok(stored);
        }
        let file = self.read()?;
        let kernel = self.extract(&file)?;
        if self.store.is_some() {
            self.keep(Kept::Boot, &prepared::encode(&kernel));
        }
        Ok(PreparedImage { kernel: kernel.into_owned(), sites: None })
    }

    /// The names in it, which are read or computed when the first is needed.
    pub fn names(&self) -> KernelNames {
        Arc::new(LazyImage::new(self)).names()
    }

    /// Finds the names in the file, which has more than what is booted; in that if the file is gone.
    fn find_names(&self, loaded: &LazyImage) -> NameData {
        let from_file = || {
            let file = self.read().ok()?;
            Some(NameData::find(&self.extract(&file).ok()?))
        };
        let Some(found) = from_file() else {
            return loaded.get().map_or_else(|_| NameData::default(), |image| NameData::find(&image.kernel));
        };
        self.keep(Kept::Names, &found.encode());
        found
    }

    /// The file. Another one than that whose hash is known is refused: what is kept under the hash would be of both.
    fn read(&self) -> Result<Vec<u8>, EngineError> {
        let file = image::read(&self.path).map_err(EngineError::Unreadable)?;
        if self.store.is_some() && hash_bytes(&file) != self.sha256 {
            return Err(EngineError::Changed { path: self.path.clone() });
        }
        Ok(file)
    }

    fn extract<'a>(&self, file: &'a [u8]) -> Result<Vmlinux<'a>, EngineError> {
        image::extract_vmlinux(file).map_err(|source| EngineError::Image { path: self.path.clone(), source })
    }

    fn stored(&self, kept: Kept) -> Option<Vec<u8>> {
        self.store.as_ref()?.bytes(&self.key(kept))
    }

    /// What cannot be stored is computed again the next time.
    fn keep(&self, kept: Kept, bytes: &[u8]) {
        if let Some(store) = &self.store {
            let _ = store.store_bytes(&self.key(kept), bytes);
        }
    }

    fn key(&self, kept: Kept) -> Key {
        self.key_of(kept, vmm::BUILD)
    }

    fn key_of(&self, kept: Kept, build: &str) -> Key {
        let what = match kept {
            Kept::Boot => "boot image",
            Kept::Names => "kernel names",
        };
        Key::of(["kernel image", &self.sha256, build, what])
    }
}

/// An image that is loaded when it is needed first: a run that restores a guest needs none.
#[derive(Debug)]
pub(crate) struct LazyImage {
    source: KernelImage,
    loaded: OnceLock<PreparedImage>,
}

impl LazyImage {
    pub(super) fn new(source: &KernelImage) -> Self {
        Self { source: source.clone(), loaded: OnceLock::new() }
    }

    /// The kernel to boot.
    pub(crate) fn get(&self) -> Result<&PreparedImage, EngineError> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let loaded = self.source.load()?;
        Ok(self.loaded.get_or_init(|| loaded))
    }

    /// The kernel's names, read or computed when the first is needed.
    pub(super) fn names(self: &Arc<Self>) -> KernelNames {
        let image = Arc::clone(self);
        KernelNames::stored(move || {
            let stored = image.source.stored(Kept::Names).and_then(|bytes| NameData::decode(&bytes).ok());
            stored.unwrap_or_else(|| image.source.find_names(&image))
        })
    }
}

/// The two files: most runs need no names.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Boot,
    Names,
}

#[cfg(test)]
mod tests;
