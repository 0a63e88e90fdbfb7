// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads and writes of files: the host's kernel moves their bytes between the file and guest memory. The library's way for all
//! other requests copies what it reads three times.

use std::io;

use fuse_backend_rs::abi::fuse_abi::{
    InHeader, Opcode, READ_LOCKOWNER, ReadIn, WRITE_CACHE, WRITE_LOCKOWNER, WriteIn,
};
use fuse_backend_rs::api::filesystem::{Context, FileSystem, ZeroCopyReader, ZeroCopyWriter};
use fuse_backend_rs::common::file_buf::FileVolatileSlice;
use fuse_backend_rs::common::file_traits::FileReadWriteVolatile;

use super::layered::Layered;
use super::{MOST, OUT_HEADER, field};
use crate::device::virtio::{Malformed, Request};
use crate::memory::dma::DmaMemory;

/// Bytes of a request's header, and of the arguments of a read and of a write.
const HEADER: usize = size_of::<InHeader>();
const ARGUMENTS: usize = size_of::<ReadIn>();
const _: () = assert!(ARGUMENTS == size_of::<WriteIn>());
/// Bytes of a write's reply: the count, padding.
const WRITE_OUT: usize = 8;

/// A request to read or to write a file, with its data.
pub(super) struct Transfer<'r, 'm> {
    request: &'r Request,
    memory: &'r DmaMemory<'m>,
    /// Where the data begin.
    start: u64,
    /// Bytes of data that there are, or room for them.
    room: usize,
    /// Bytes moved.
    done: usize,
    /// Bytes that a regular file has from the offset on: a device does not access buffers that it does not fill.
    left: Option<u64>,
}

/// Carries out a read or a write. `None` if the request, which begins with this header, is neither or is incomplete.
pub(super) fn carry_out(
    files: &Layered,
    header: &[u8],
    request: &Request,
    memory: &DmaMemory<'_>,
) -> Result<Option<u32>, Malformed> {
    let opcode = field(header, 4) as u32;
    let (reads, writes) = (opcode == Opcode::Read as u32, opcode == Opcode::Write as u32);
    let needed = (OUT_HEADER + if writes { WRITE_OUT } else { 0 }) as u64;
    let complete = header.len() == HEADER
        && request.readable_len() >= (HEADER + ARGUMENTS) as u64
        && request.writable_len() >= needed;
    if !(reads || writes) || !complete {
        return Ok(None);
    }
    let mut arguments = [0; ARGUMENTS];
    request.read(memory, HEADER as u64, &mut arguments)?;
    let (handle, offset) = (field(&arguments, 0), field(&arguments, 8));
    let (size, how) = (field(&arguments, 16) as u32, (field(&arguments, 16) >> 32) as u32);
    let (owner, flags) = (field(&arguments, 24), field(&arguments, 32) as u32);
    let (unique, node) = (field(header, 8), field(header, 16));
    let (users, pid) = (field(header, 24), field(header, 32) as u32);
    let mut context = Context { uid: users as u32, gid: (users >> 32) as u32, pid: pid.cast_signed() };
    if files.id_remap(&mut context).is_err() {
        return Ok(Some(0));
    }
    let start = if reads { OUT_HEADER } else { HEADER + ARGUMENTS } as u64;
    let room = if reads { request.writable_len() } else { request.readable_len() } - start;
    let mut data = Transfer { request, memory, start, room: room.min(MOST) as usize, done: 0, left: None };
    let result = if reads {
        data.left = bytes_left(files, &context, (node, handle), offset);
        let owner = (how & READ_LOCKOWNER != 0).then_some(owner);
        files.read(&context, node, handle, &mut data, size, offset, owner, flags)
    } else {
        let (delayed, owner) = (how & WRITE_CACHE != 0, (how & WRITE_LOCKOWNER != 0).then_some(owner));
        files.write(&context, node, handle, &mut data, size, offset, owner, delayed, flags, how)
    };
    let (error, len) = match &result {
        Ok(count) if reads => (0, OUT_HEADER + count),
        Ok(_) => (0, OUT_HEADER + WRITE_OUT),
        Err(error) => (-error.raw_os_error().unwrap_or(libc::EIO), OUT_HEADER),
    };
    let mut reply = [&(len as u32).to_le_bytes()[..], &error.to_le_bytes(), &unique.to_le_bytes()].concat();
    if let (Ok(count), true) = (result, writes) {
        reply.extend_from_slice(&(count as u64).to_le_bytes());
    }
    request.write(memory, 0, &reply)?;
    Ok(Some(len as u32))
}

/// `None` where a size says nothing of what can be read.
fn bytes_left(files: &Layered, context: &Context, (node, handle): (u64, u64), offset: u64) -> Option<u64> {
    let (attributes, _) = files.getattr(context, node, Some(handle)).ok()?;
    let is_file = attributes.st_mode & libc::S_IFMT == libc::S_IFREG;
    is_file.then(|| attributes.st_size.cast_unsigned().saturating_sub(offset))
}

fn malformed(_: Malformed) -> io::Error {
    io::Error::from_raw_os_error(libc::EFAULT)
}

/// What the library's files read to and write from.
fn volatile(slices: &[libc::iovec]) -> Vec<FileVolatileSlice<'_>> {
    let of = |slice: &libc::iovec| {
        // SAFETY: the slices are valid as long as they are borrowed, and the guest does not run meanwhile.
        unsafe { FileVolatileSlice::from_raw_ptr(slice.iov_base.cast(), slice.iov_len) }
    };
    slices.iter().map(of).collect()
}

impl Transfer<'_, '_> {
    /// Offset of the next byte in its part of the request.
    fn at(&self) -> u64 {
        self.start + self.done as u64
    }
}

impl io::Write for Transfer<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.available_bytes());
        self.request.write(self.memory, self.at(), &bytes[..count]).map_err(malformed)?;
        self.done += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ZeroCopyWriter for Transfer<'_, '_> {
    fn write_from(
        &mut self,
        file: &mut dyn FileReadWriteVolatile,
        count: usize,
        offset: u64,
    ) -> io::Result<usize> {
        let left = self.left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        let count = count.min(self.available_bytes()).min(left);
        if count == 0 {
            // What the host says of the offset, without an access to the guest's memory.
            let mut byte = [0];
            // SAFETY: nothing else has the byte.
            file.read_at_volatile(unsafe { FileVolatileSlice::from_mut_slice(&mut byte) }, offset)?;
            return Ok(0);
        }
        let slices = self.request.writable(self.memory, self.at(), count).map_err(malformed)?;
        let moved =
            slices.each(offset, |slices, at| file.read_vectored_at_volatile(&volatile(slices), at))?;
        self.done += moved;
        Ok(moved)
    }

    fn available_bytes(&self) -> usize {
        self.room - self.done
    }
}

impl io::Read for Transfer<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room - self.done);
        self.request.read(self.memory, self.at(), &mut bytes[..count]).map_err(malformed)?;
        self.done += count;
        Ok(count)
    }
}

impl ZeroCopyReader for Transfer<'_, '_> {
    fn read_to(
        &mut self,
        file: &mut dyn FileReadWriteVolatile,
        count: usize,
        offset: u64,
    ) -> io::Result<usize> {
        let count = count.min(self.room - self.done);
        let slices = self.request.readable(self.memory, self.at(), count).map_err(malformed)?;
        let moved =
            slices.each(offset, |slices, at| file.write_vectored_at_volatile(&volatile(slices), at))?;
        self.done += moved;
        Ok(moved)
    }
}
