// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Paths as system calls take them, with a terminating zero.

use core::ffi::CStr;

use protocol::{Call, MAX_PATH, Refusal};

use super::Failure;
use crate::syscall::{self, File};

/// A path with its terminating zero.
type Path = [u8; MAX_PATH + 1];

pub(super) fn with_zero<'a>(path: &[u8], place: &'a mut Path) -> Result<&'a CStr, Refusal> {
    let text = place.get_mut(..=path.len()).ok_or(Refusal::Path)?;
    text[..path.len()].copy_from_slice(path);
    CStr::from_bytes_with_nul(text).map_err(|_| Refusal::Path)
}

/// Opens a file for a step that is about something else.
pub(super) fn open(path: &[u8], flags: u32, mode: u32) -> Result<File, Failure> {
    let mut place = [0; MAX_PATH + 1];
    syscall::open(with_zero(path, &mut place)?, flags, mode)
        .map_err(|errno| Failure::Errno(Call::Open, errno))
}
