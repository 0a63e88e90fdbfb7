// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The directory page as the host reads it.

use core::mem::offset_of;

use crate::window::{Directory, PAGE};

/// A copy of the directory page, checked.
pub struct Checked {
    pub page: Vec<u8>,
}

impl Checked {
    pub fn word(&self, offset: usize) -> u64 {
        let bytes = self.page.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    }

    pub fn page(&self, index: usize) -> u64 {
        self.word(offset_of!(Directory, frame_numbers) + 8 * index).wrapping_mul(PAGE as u64)
    }

    pub fn key(&self) -> u64 {
        self.word(offset_of!(Directory, key))
    }

    pub fn notifications(&self) -> u64 {
        self.word(offset_of!(Directory, notifications))
    }
}
