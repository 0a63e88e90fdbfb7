// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which virtio devices a machine has.

use std::path::PathBuf;
use std::sync::Arc;

use super::Backend;
use super::block::{Block, BlockError};
use super::console::{Console, ConsolePort, PortPeer};
use super::files::{Files, FilesError};
use super::random::Random;
use super::terminal::Terminal;

/// A device to be made.
#[derive(Debug, Clone)]
pub struct VirtioConfig {
    /// What it is.
    pub kind: VirtioKind,
    /// It offers `VIRTIO_F_ACCESS_PLATFORM`: without it a driver gives it addresses as if there were nothing to respect.
    pub access_platform: bool,
}

/// What a device is, and what of the host it gives to the guest.
#[derive(Debug, Clone)]
pub enum VirtioKind {
    /// A console with these ports.
    Console(Vec<ConsolePort>),
    /// A terminal.
    Terminal(Arc<dyn PortPeer>),
    /// An entropy source.
    Random,
    /// A disk.
    Block {
        /// The file that holds its sectors.
        file: PathBuf,
        /// The guest may write it.
        writable: bool,
    },
    /// A shared file system.
    Files {
        /// The name by which the guest mounts it; at most [`super::files::TAG_LEN`] bytes.
        tag: String,
        /// The folder that is its root.
        root: PathBuf,
        /// Folders whose files are seen in place of those in the root, from the lowest. With one, nothing can be changed.
        above: Vec<PathBuf>,
        /// The guest may change what is in it.
        writable: bool,
    },
}

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VirtioError {
    /// A disk.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A shared file system.
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl VirtioKind {
    /// Makes the device. `seed`: of its random bytes.
    ///
    /// # Errors
    /// Where what it needs of the host cannot be had.
    pub fn make(&self, seed: u64) -> Result<Box<dyn Backend>, VirtioError> {
        Ok(match self {
            Self::Console(ports) => Box::new(Console::new(ports.clone())),
            Self::Terminal(peer) => Box::new(Terminal::new(Arc::clone(peer))),
            Self::Random => Box::new(Random::new(seed)),
            Self::Block { file, writable } => Box::new(Block::open(file, *writable)?),
            Self::Files { tag, root, above, writable } => Box::new(Files::new(tag, root, above, *writable)?),
        })
    }
}
