// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `drivers/char/mem.c:read_port()` and `write_port()`: one byte at a time, up to port 65535.

use super::done::Done;
use super::prediction::{Piece, Source};
use super::reason::Reason;
use types::Errno;

/// One past the last port.
const PORTS: u64 = 1 << 16;

/// A byte the buffer has no room for fails the whole call, after the port was read. Bytes are predicted for ports no
/// device decodes.
pub fn read_port(position: u64, count: u64, room: u64) -> Done {
    let there = PORTS.saturating_sub(position).min(count);
    let failed = there > room;
    Done {
        result: if failed { Err(Errno::EFAULT) } else { Ok(there) },
        pieces: if there > 0 { vec![Piece { source: Source::Floating, len: there }] } else { Vec::new() },
        effects: Vec::new(),
        reasons: vec![if failed { Reason::UserBuffer } else { Reason::ReadPort }],
    }
}

/// What was written before a byte that is not there counts.
pub fn write_port(position: u64, count: u64, room: u64) -> Done {
    let there = PORTS.saturating_sub(position).min(count);
    let written = there.min(room);
    let result = if there > 0 && written == 0 { Err(Errno::EFAULT) } else { Ok(written) };
    let reason = if result.is_err() { Reason::UserBuffer } else { Reason::WritePort };
    Done { result, pieces: Vec::new(), effects: Vec::new(), reasons: vec![reason] }
}
