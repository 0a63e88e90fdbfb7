// SPDX-License-Identifier: Apache-2.0 OR MIT
//! lseek(2).

use super::prediction::Prediction;
use super::reason::Reason;
use super::task::Task;
use types::Errno;

/// Offsets from here on are error numbers (`MAX_ERRNO`).
const ERRORS: u64 = u64::MAX - 4094;

/// `fs/read_write.c:ksys_lseek()`, then `drivers/char/mem.c:memory_lseek()`: any 64-bit position but those that equal
/// an errno. There is no end to count from.
pub fn lseek(task: &mut Task, slot: u8, offset: i64, whence: u8) -> Prediction {
    let file = match task.open_file(slot) {
        Ok(file) => file,
        Err(outcome) => return Prediction::plain(outcome),
    };
    let position = match whence {
        0 => offset.cast_unsigned(),
        1 => file.position.wrapping_add_signed(offset),
        // Counted from an end, a hole or data there is none of; or (`SEEK_MAX`) no way to count at all.
        _ => return Prediction::failed(Errno::EINVAL).because(Reason::SeekEnd),
    };
    if position >= ERRORS {
        return Prediction::failed(Errno::EOVERFLOW).because(Reason::Seek);
    }
    if let Some(file) = task.file_mut(slot) {
        file.position = position;
    }
    Prediction::value(position).because(Reason::Seek)
}
