// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages as they were before forbidden accesses moved or converted them, to be restored later.

use std::collections::BTreeMap;

use super::MemoryError;

/// Most pages kept to be restored: 16 MiB.
const MAX_SAVED: usize = 4096;

/// Originals by mapping offset.
#[derive(Debug)]
pub(super) struct SavedPages<T> {
    pages: BTreeMap<u64, T>,
    /// Pages beyond the limit: the guest cannot be restored any more.
    not_kept: u64,
}

impl<T> Default for SavedPages<T> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), not_kept: 0 }
    }
}

impl<T> SavedPages<T> {
    /// Keeps the original of the page at `offset`, the first one only.
    pub(super) fn save(&mut self, offset: u64, original: impl FnOnce() -> T) {
        if self.pages.contains_key(&offset) {
            return;
        }
        if self.pages.len() < MAX_SAVED {
            self.pages.insert(offset, original());
        } else {
            self.not_kept += 1;
        }
    }

    /// The original of a page.
    pub(super) fn get(&self, offset: u64) -> Option<&T> {
        self.pages.get(&offset)
    }

    /// The page need not be restored.
    pub(super) fn remove(&mut self, offset: u64) {
        self.pages.remove(&offset);
    }

    /// Takes the originals.
    ///
    /// # Errors
    /// [`MemoryError::NotSaved`] where some were not kept, now and ever after.
    pub(super) fn take(&mut self) -> Result<BTreeMap<u64, T>, MemoryError> {
        if self.not_kept > 0 {
            return Err(MemoryError::NotSaved { kept: MAX_SAVED, more: self.not_kept });
        }
        Ok(std::mem::take(&mut self.pages))
    }
}
