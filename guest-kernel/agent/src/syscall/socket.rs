// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sockets, as far as open files are passed through them.

use super::{Argument, File, Result, raw};

/// `AF_UNIX`.
const UNIX: u32 = 1;
/// `SOCK_DGRAM | SOCK_CLOEXEC`.
const DATAGRAM: u32 = 2 | super::O_CLOEXEC;
/// `MSG_DONTWAIT`.
const AT_ONCE: u32 = 0x40;
/// `MSG_CMSG_CLOEXEC`.
const CLOSE_ON_EXEC: u32 = 0x4000_0000;
/// `SOL_SOCKET` and `SCM_RIGHTS`, as the words of a `struct cmsghdr`.
const RIGHTS: u64 = 1 | 1 << 32;
/// `CMSG_LEN` of one descriptor.
const ONE: u64 = 20;
/// `EBADMSG`: a message without a file.
const NO_FILE: protocol::Errno = protocol::Errno(74);

/// Two ends of a socket.
pub fn socket_pair() -> Result<[File; 2]> {
    let mut files = [0; 2];
    call!(53, UNIX, DATAGRAM, 0, files.as_mut_ptr())?;
    Ok(files)
}

/// Sends an open file.
pub fn send_file(socket: File, file: File) -> Result<u64> {
    let mut byte = 0u8;
    let mut part = [&raw mut byte as u64, 1];
    let mut control = [ONE, RIGHTS, u64::from(file.cast_unsigned())];
    let message = [0, 0, part.as_mut_ptr() as u64, 1, control.as_mut_ptr() as u64, 24, 0];
    call!(46, socket, message.as_ptr(), AT_ONCE).map(|_| 0)
}

/// Receives one.
pub fn receive_file(socket: File) -> Result<File> {
    let mut byte = 0u8;
    let mut part = [&raw mut byte as u64, 1];
    let mut control = [0u64; 3];
    let mut message = [0, 0, part.as_mut_ptr() as u64, 1, control.as_mut_ptr() as u64, 24, 0];
    call!(47, socket, message.as_mut_ptr(), AT_ONCE | CLOSE_ON_EXEC)?;
    if control[0] == ONE && control[1] == RIGHTS { Ok(control[2] as u32 as File) } else { Err(NO_FILE) }
}
