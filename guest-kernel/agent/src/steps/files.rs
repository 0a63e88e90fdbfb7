// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files in slots, and the buffers, good and bad, that they are read into and written from.

use protocol::window::PAGE;
use protocol::{Buffer, Call, FILE_SLOTS, MAX_PATH, Refusal, UNTOUCHED, Width};

use super::path::with_zero;
use super::{Failure, Outcome, State, Success, data};
use crate::guard;
use crate::syscall;

/// An address no user buffer can have.
const KERNEL_ADDRESS: u64 = 0xffff_8880_0000_0000;

impl State {
    pub(super) fn open(&mut self, slot: u8, path: &[u8], flags: u32, mode: u32) -> Outcome {
        if slot >= FILE_SLOTS {
            return Err(Refusal::File.into());
        }
        if let Some(file) = self.files[usize::from(slot)].take() {
            let _ = syscall::close(file);
        }
        let file = syscall::open(with_zero(path, &mut [0; MAX_PATH + 1])?, flags, mode)?;
        self.files[usize::from(slot)] = Some(file);
        Ok(Success::Value(0))
    }

    pub(super) fn close(&mut self, slot: u8) -> Result<u64, Failure> {
        let file = self.file(slot)?;
        self.files[usize::from(slot)] = None;
        Ok(syscall::close(file)?)
    }

    /// Queues an open file in the worker's sockets, which are made when they are first needed.
    pub(super) fn send_file(&mut self, slot: u8) -> Result<u64, Failure> {
        let file = self.file(slot)?;
        let sockets = match self.sockets {
            Some(sockets) => sockets,
            None => syscall::socket_pair()?,
        };
        self.sockets = Some(sockets);
        Ok(syscall::send_file(sockets[0], file)?)
    }

    pub(super) fn receive_file(&mut self, slot: u8) -> Result<u64, Failure> {
        let sockets = self.sockets.ok_or(Refusal::File)?;
        let place = self.files.get_mut(usize::from(slot)).ok_or(Refusal::File)?;
        if let Some(file) = place.take() {
            let _ = syscall::close(file);
        }
        *place = Some(syscall::receive_file(sockets[1])?);
        Ok(0)
    }

    pub(super) fn read(&mut self, slot: u8, offset: Option<u64>, len: u64, buffer: Buffer) -> Outcome {
        let file = self.file(slot)?;
        if buffer == Buffer::Good {
            let len = usize::try_from(len).map_err(|_| Refusal::Length)?;
            let buffer = self.buffer(len, 1)?;
            buffer.fill(UNTOUCHED);
            let count = match offset {
                None => syscall::read(file, buffer),
                Some(offset) => syscall::pread(file, buffer, offset),
            };
            self.left = Some(len);
            return Ok(data(count?));
        }
        let address = self.bad_address(buffer, len)?;
        let count = syscall::read_at_address(file, offset, address, len)?;
        // As much as the kernel reports as stored, within the buffer.
        let seen = if buffer == Buffer::Straddling { mapped_part(len).min(count) as usize } else { 0 };
        let (seen, _) = guard::load(address, self.buffer(seen, 1)?, Width::Byte);
        Ok(Success::Data(count.cast_signed(), seen))
    }

    pub(super) fn write(&mut self, slot: u8, offset: Option<u64>, bytes: &[u8], buffer: Buffer) -> Outcome {
        let file = self.file(slot)?;
        if buffer == Buffer::Good {
            let count = match offset {
                None => syscall::write(file, bytes),
                Some(offset) => syscall::pwrite(file, bytes, offset),
            }?;
            return Ok((count as u64).into());
        }
        let len = bytes.len() as u64;
        let address = self.bad_address(buffer, len)?;
        if buffer == Buffer::Straddling {
            let part = bytes.get(..mapped_part(len) as usize).unwrap_or_default();
            guard::store(address, part, Width::Byte);
        }
        Ok(syscall::write_at_address(file, offset, address, len)?.into())
    }

    fn bad_address(&mut self, buffer: Buffer, len: u64) -> Result<u64, Failure> {
        Ok(match buffer {
            Buffer::Good | Buffer::Null => 0,
            Buffer::Kernel => KERNEL_ADDRESS,
            Buffer::Straddling => self.straddle()? + PAGE as u64 - mapped_part(len),
        })
    }

    fn straddle(&mut self) -> Result<u64, Failure> {
        if let Some(page) = self.straddle {
            return Ok(page);
        }
        let prot = syscall::PROT_READ | syscall::PROT_WRITE;
        let flags = syscall::MAP_PRIVATE | syscall::MAP_ANONYMOUS;
        let failed = |errno| Failure::Errno(Call::Memory, errno);
        let page = syscall::mmap(0, 2 * PAGE as u64, prot, flags, -1, 0).map_err(failed)?;
        // SAFETY: half of what was mapped just now, and nothing refers to it.
        unsafe { syscall::munmap(page + PAGE as u64, PAGE as u64) }.map_err(failed)?;
        self.straddle = Some(page);
        Ok(page)
    }
}

/// Bytes of a straddling buffer that are mapped.
fn mapped_part(len: u64) -> u64 {
    (len / 2).min(PAGE as u64)
}
