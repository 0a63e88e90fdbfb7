// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a guest cannot be booted, reported before anything is fetched or started for it.

use std::path::{Path, PathBuf};

use types::Platform;
use vmm::boot::image::{self, ImageError};
use vmm::memory::ram::{Ram, RamError};

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel image is of no use.
    #[error("{}: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
    /// The kernel image cannot be read; the error names it.
    #[error(transparent)]
    Unreadable(ImageError),
    /// The image is not the one that was looked at when the run began.
    #[error("{}: the file was replaced or changed while copra read it; run it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The initramfs cannot be put together.
    #[error("putting the agent into an initramfs: {0}")]
    Initramfs(std::io::Error),
    /// The kernel was built without what the platform needs.
    #[error(
        "{kernel} cannot run as {platform} guest: it was built without {option}; choose another kernel or platform"
    )]
    Option {
        /// The kernel as the user named it.
        kernel: String,
        /// The platform.
        platform: Platform,
        /// The option and the value it must have.
        option: &'static str,
    },
    /// No guest can have that much memory, or that little.
    #[error("{0} (--memory)")]
    Memory(#[from] RamError),
}

impl EngineError {
    /// It is the kernel as it was built that cannot be run: another version of it may.
    pub const fn is_of_this_version(&self) -> bool {
        matches!(self, Self::Image { .. } | Self::Option { .. })
    }
}

/// Refuses what no host could run, before anything is fetched or started for it.
pub fn check(memory_mib: u64) -> Result<(), EngineError> {
    Ram::new(memory_mib << 20)?;
    Ok(())
}

/// Tells what is wrong with a user's kernel file, if anything; a bzImage is not unpacked for that.
pub fn check_file(path: &Path) -> Result<(), EngineError> {
    let in_image = |source| EngineError::Image { path: path.to_owned(), source };
    let file = image::read(path).map_err(EngineError::Unreadable)?;
    match image::identify(&file).map_err(in_image)? {
        image::Format::Vmlinux => image::extract_vmlinux(&file).map(drop).map_err(in_image),
        image::Format::BzImage => Ok(()),
    }
}
