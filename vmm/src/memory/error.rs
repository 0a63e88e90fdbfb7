// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why guest memory could not be made or used.

use std::io;

use types::View;

use super::image::Unfit;
use super::ram::RamError;

/// Why guest memory could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// RAM size out of range.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The host gave no address space.
    #[error("reserving {mib} MiB of address space for guest RAM: {source}; free memory or raise `ulimit -v`")]
    Reserve {
        /// MiB requested.
        mib: u64,
        /// The host's answer.
        source: io::Error,
    },
    /// No userfaultfd, so page states cannot be enforced.
    #[error(
        "opening userfaultfd, which enforces the states of guest pages: {0}; run as root, or `sysctl vm.unprivileged_userfaultfd=1`, or allow access to /dev/userfaultfd (kernel config USERFAULTFD)"
    )]
    Userfaultfd(io::Error),
    /// A request named memory that is not there.
    #[error("guest address {gpa:#x} (+{len:#x}) is not RAM of this guest")]
    NotRam {
        /// First GPA.
        gpa: u64,
        /// Bytes.
        len: usize,
    },
    /// The host refused to move a page between views.
    #[error("moving the page at GPA {gpa:#x} to the {view} view: {source}")]
    Move {
        /// Page.
        gpa: u64,
        /// Target view.
        view: View,
        /// The host's answer.
        source: io::Error,
    },
    /// The host did not say which pages are present.
    #[error("finding which of {mib} MiB of guest RAM are in use, to save them: {source}")]
    Inspect {
        /// MiB of one view.
        mib: u64,
        /// The host's answer.
        source: io::Error,
    },
    /// The image is of other memory.
    #[error("restoring guest memory: {0}")]
    Unfit(Unfit),
}
