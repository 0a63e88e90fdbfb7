// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a file's read or write function did.

use types::Errno;

use super::prediction::{Effect, Piece};
use super::reason::Reason;

/// What a read or write function of a file did with a request.
pub struct Done {
    /// Bytes it reports as transferred, or the errno.
    pub result: Result<u64, Errno>,
    /// Where they come from (reads).
    pub pieces: Vec<Piece>,
    /// What it did to memory.
    pub effects: Vec<Effect>,
    /// What decided that.
    pub reasons: Vec<Reason>,
}

impl Done {
    /// It fails, so far without a reason.
    pub const fn failed(errno: Errno) -> Self {
        Self { result: Err(errno), pieces: Vec::new(), effects: Vec::new(), reasons: Vec::new() }
    }
}
