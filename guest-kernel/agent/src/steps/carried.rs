// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a worker as words, for the program it becomes.

use core::sync::atomic::AtomicU64;

use protocol::window::Directory;

use super::State;
use crate::carry::Words;
use crate::syscall::{self, File};

/// Where no file is.
const EMPTY: u64 = u64::MAX;
/// A descriptor that execve(2) closed: the kernel has none of this number, and returns EBADF.
const CLOSED: File = -1;

impl State {
    /// The pipes to and from the supervisor.
    pub fn control(&self) -> [File; 2] {
        self.control
    }

    /// The directory page.
    pub fn directory(&self) -> &'static Directory {
        self.directory
    }

    /// Writes pipes, depth, files and mappings.
    pub fn carry(&self, words: &[AtomicU64]) {
        let mut words = Words::new(words);
        for file in self.control {
            words.put(u64::from(file.cast_unsigned()));
        }
        words.put(u64::from(self.depth));
        for file in self.files {
            words.put(file.map_or(EMPTY, |file| u64::from(file.cast_unsigned())));
        }
        for map in self.maps {
            let (address, len) = map.unwrap_or((EMPTY, 0));
            words.put(address);
            words.put(len);
        }
    }

    /// Reads files and mappings. Nothing is mapped there any more, which accesses show.
    pub fn restore(&mut self, mut next: impl FnMut() -> u64) {
        for slot in &mut self.files {
            let file = next();
            *slot = (file != EMPTY).then(|| {
                let file = file as u32 as File;
                if syscall::is_open(file) { file } else { CLOSED }
            });
        }
        for slot in &mut self.maps {
            let (address, len) = (next(), next());
            *slot = (address != EMPTY).then_some((address, len));
        }
    }
}
