// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's memory as a core file: `fs/proc/kcore.c`. Only its ELF header: what follows depends on the kernel's layout.

use super::done::Done;
use super::prediction::{Piece, Source};
use super::reason::Reason;
use types::Errno;

/// `sizeof(struct elfhdr)`.
pub const HEADER: u64 = 64;

/// `read_kcore_iter()` inside the ELF header; a buffer that does not take all of it fails.
pub fn read_kcore(count: u64, room: u64) -> Done {
    let pieces = if count > 0 { vec![Piece { source: Source::Unknown, len: count }] } else { Vec::new() };
    let result = if count > room { Err(Errno::EFAULT) } else { Ok(count) };
    let reason = if count > room { Reason::UserBuffer } else { Reason::ReadKcore };
    Done { result, pieces, effects: Vec::new(), reasons: vec![reason] }
}

/// `fs/proc/inode.c:proc_reg_write()`: there is nothing that would take it.
pub fn write_kcore() -> Done {
    Done::failed(Errno::EIO)
}
