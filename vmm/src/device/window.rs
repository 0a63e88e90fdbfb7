// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Device windows that are no PCI BAR: their contents, which differ from any memory.

use std::collections::BTreeMap;

use crate::layout;
use crate::marker::{self, Tag};

/// Bytes a guest may store into windows before further stores are dropped.
const MAX_STORED: usize = 1 << 16;

/// The VGA window and the claimed range: every 16 bytes name their address, stores are kept.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
pub struct Windows {
    stored: BTreeMap<u64, u8>,
}

impl Windows {
    /// Something answers at `gpa`.
    pub fn decodes(gpa: u64) -> bool {
        (layout::VGA..layout::ROM).contains(&gpa)
            || (layout::CLAIMED_MMIO..layout::CLAIMED_MMIO + layout::CLAIMED_MMIO_SIZE).contains(&gpa)
    }

    /// Byte at `gpa`; floats high where nothing answers.
    pub fn read(&self, gpa: u64) -> u8 {
        if !Self::decodes(gpa) {
            return 0xff;
        }
        self.stored.get(&gpa).copied().unwrap_or_else(|| marker::byte(Tag::Device, gpa))
    }

    /// Stores a byte, if something answers and there is room.
    pub fn write(&mut self, gpa: u64, byte: u8) {
        if Self::decodes(gpa) && (self.stored.len() < MAX_STORED || self.stored.contains_key(&gpa)) {
            self.stored.insert(gpa, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_names_its_address_and_stores_are_kept() {
        let mut windows = Windows::default();
        let cell: Vec<u8> = (layout::VGA + 0x20..).take(16).map(|gpa| windows.read(gpa)).collect();
        assert_eq!(marker::parse(&cell), Some((Tag::Device, layout::VGA + 0x20)));
        windows.write(layout::VGA + 1, 7);
        assert_eq!(windows.read(layout::VGA + 1), 7);
        assert_eq!(Windows::default().read(layout::VGA + 1), b'd');
        assert_eq!(windows.read(layout::UNCLAIMED_MMIO), 0xff);
    }

    #[test]
    fn a_flood_of_stores_is_bounded() {
        let mut windows = Windows::default();
        for gpa in layout::VGA..layout::ROM {
            windows.write(gpa, 1);
        }
        assert_eq!(windows.stored.len(), MAX_STORED);
    }
}
