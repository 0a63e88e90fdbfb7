// SPDX-License-Identifier: Apache-2.0 OR MIT
//! System calls about processes: creation and end, tracing, credentials.

use core::ffi::CStr;

use protocol::Errno;

use super::{Argument, Result, raw};

pub const SIGKILL: u32 = 9;
pub const SIGSTOP: u32 = 19;

pub fn getpid() -> i32 {
    call!(39).unwrap_or_default() as i32
}

pub fn exit(status: i32) -> ! {
    loop {
        let _ = call!(231, status);
    }
}

/// Zero in the child.
pub fn fork() -> Result<i32> {
    call!(57).map(|process| process as i32)
}

pub fn kill(process: i32, signal: u32) -> Result<u64> {
    call!(62, process, signal)
}

pub fn setpgid(process: i32, group: i32) -> Result<u64> {
    call!(109, process, group)
}

/// A session of its own.
pub fn setsid() -> Result<u64> {
    call!(112)
}

/// The process and its wait status; process 0 if there is none yet.
pub fn wait(process: i32, options: u32) -> Result<(i32, i32)> {
    let mut status = 0i32;
    call!(61, process, &raw mut status, options, 0).map(|process| (process as i32, status))
}

/// Replaces the process; comes back only when that fails. Both lists end with a null pointer.
///
/// # Safety
/// Every pointer in the lists must be to a text that ends with a zero byte.
pub unsafe fn execute(path: &CStr, arguments: &[*const u8], environment: &[*const u8]) -> Errno {
    call!(59, path.as_ptr(), arguments.as_ptr(), environment.as_ptr()).err().unwrap_or(Errno(0))
}

/// Dies with the parent.
pub fn end_with_parent() {
    let _ = call!(157, 1, SIGKILL);
}

/// `PTRACE_TRACEME`.
pub fn trace_me() -> Result<u64> {
    call!(101, 0, 0, 0, 0)
}

/// `PTRACE_PEEKDATA`.
pub fn trace_peek(process: i32, address: u64) -> Result<u64> {
    let mut word = 0u64;
    call!(101, 2, process, address, &raw mut word)?;
    Ok(word)
}

/// `PTRACE_POKEDATA`.
pub fn trace_poke(process: i32, address: u64, word: u64) -> Result<u64> {
    call!(101, 5, process, address, word)
}

/// `process_vm_readv`, one range.
pub fn vm_read(process: i32, buffer: &mut [u8], address: u64) -> Result<usize> {
    let local = [buffer.as_mut_ptr() as u64, buffer.len() as u64];
    let remote = [address, buffer.len() as u64];
    call!(310, process, local.as_ptr(), 1, remote.as_ptr(), 1, 0).map(|count| count as usize)
}

/// `process_vm_writev`, one range.
pub fn vm_write(process: i32, bytes: &[u8], address: u64) -> Result<usize> {
    let local = [bytes.as_ptr() as u64, bytes.len() as u64];
    let remote = [address, bytes.len() as u64];
    call!(311, process, local.as_ptr(), 1, remote.as_ptr(), 1, 0).map(|count| count as usize)
}

pub fn iopl(level: u8) -> Result<u64> {
    call!(172, level)
}

pub fn ioperm(from: u64, count: u64, on: bool) -> Result<u64> {
    call!(173, from, count, on)
}

/// `capget`: effective, permitted, inheritable of the low 32 capabilities, then of the high ones.
pub fn capabilities() -> Result<[u32; 6]> {
    let mut sets = [0; 6];
    let header = [0x2008_0522u32, 0];
    call!(125, header.as_ptr(), sets.as_mut_ptr())?;
    Ok(sets)
}

/// `capset`.
pub fn set_capabilities(sets: [u32; 6]) -> Result<u64> {
    let header = [0x2008_0522u32, 0];
    call!(126, header.as_ptr(), sets.as_ptr())
}

/// `PR_SET_KEEPCAPS`.
pub fn keep_capabilities(keep: bool) -> Result<u64> {
    call!(157, 8, keep)
}

pub fn set_groups_none() -> Result<u64> {
    call!(116, 0, 0)
}

pub fn set_gid(gid: u32) -> Result<u64> {
    call!(119, gid, gid, gid)
}

pub fn set_uid(uid: u32) -> Result<u64> {
    call!(117, uid, uid, uid)
}
