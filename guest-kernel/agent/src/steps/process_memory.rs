// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses to mappings through the kernel: the memory of the worker itself or of a stopped child.

use protocol::{Call, Refusal, Via};

use super::path::open;
use super::{Failure, Outcome, State, data};
use crate::child;
use crate::syscall::{self, File};

impl State {
    /// Reads from a mapping in the memory of a process.
    pub(super) fn fetch(
        &mut self,
        via: Via,
        map: u8,
        offset: u64,
        len: usize,
        read: impl FnOnce(i32, &mut [u8], u64) -> Result<usize, Failure>,
    ) -> Outcome {
        let address = self.address(map, offset)?;
        let control = self.control;
        let buffer = self.buffer(len, 1)?;
        through(control, via, |process| read(process, buffer, address)).map(data)
    }

    /// Writes to a mapping in the memory of a process.
    pub(super) fn put(
        &mut self,
        via: Via,
        map: u8,
        offset: u64,
        bytes: &[u8],
        write: impl FnOnce(i32, &[u8], u64) -> Result<usize, Failure>,
    ) -> Outcome {
        let address = self.address(map, offset)?;
        let count = through(self.control, via, |process| write(process, bytes, address))?;
        Ok((count as u64).into())
    }
}

/// Does something to the worker itself or to a stopped child.
fn through<T>(
    control: [File; 2],
    via: Via,
    act: impl FnOnce(i32) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match via {
        Via::Itself => act(syscall::getpid()),
        Via::Child => {
            child::with_stopped(control, act).map_err(|errno| Failure::Errno(Call::Child, errno))?
        }
    }
}

pub(super) fn read_memory(process: i32, buffer: &mut [u8], address: u64) -> Result<usize, Failure> {
    let memory = open_memory(process, 0)?;
    let count = syscall::pread(memory, buffer, address);
    let _ = syscall::close(memory);
    Ok(count?)
}

pub(super) fn write_memory(process: i32, bytes: &[u8], address: u64) -> Result<usize, Failure> {
    let memory = open_memory(process, syscall::O_RDWR)?;
    let count = syscall::pwrite(memory, bytes, address);
    let _ = syscall::close(memory);
    Ok(count?)
}

pub(super) fn trace_peek(process: i32, buffer: &mut [u8], address: u64) -> Result<usize, Failure> {
    let len = buffer.len();
    let (words, rest) = buffer.as_chunks_mut::<8>();
    if !rest.is_empty() {
        return Err(Refusal::Length.into());
    }
    for (word, address) in words.iter_mut().zip((address..).step_by(8)) {
        *word = syscall::trace_peek(process, address)?.to_le_bytes();
    }
    Ok(len)
}

pub(super) fn trace_poke(process: i32, bytes: &[u8], address: u64) -> Result<usize, Failure> {
    let (words, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Refusal::Length.into());
    }
    for (word, address) in words.iter().zip((address..).step_by(8)) {
        syscall::trace_poke(process, address, u64::from_le_bytes(*word))?;
    }
    Ok(words.len())
}

fn open_memory(process: i32, flags: u32) -> Result<File, Failure> {
    let mut path = *b"/proc/0000000000/mem";
    let mut rest = process.unsigned_abs();
    for digit in path[6..16].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // Without the leading zeros, which the kernel does not take.
    let zeros = path[6..16].iter().take_while(|&&digit| digit == b'0').count();
    path.copy_within(6 + zeros.., 6);
    open(&path[..path.len() - zeros], flags | syscall::O_CLOEXEC, 0)
}
