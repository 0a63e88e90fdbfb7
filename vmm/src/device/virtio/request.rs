// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One request: the buffers of a descriptor chain (Virtio 1.2 §2.7.4).

use std::ops::Deref;

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use super::Malformed;
use crate::memory::dma::{DmaMemory, DmaSlices};

/// Descriptors of one chain at most (QEMU, `hw/virtio/virtio.c`, `VIRTQUEUE_MAX_SIZE`): a table of descriptors may have more
/// than the queue.
const MOST_DESCRIPTORS: usize = 1024;
/// Bytes of one request at most: it bounds the time that a request takes. No driver comes near: a disk's requests have
/// [`super::block::SEGMENTS`] buffers of [`super::block::SEGMENT_LEN`] bytes, a file system's have 1 MiB.
const MOST_BYTES: u64 = 32 << 20;

/// A buffer in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Buffer {
    address: u64,
    len: u32,
}

/// What the device reads, and what it may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Index of the chain's first descriptor in the descriptor table.
    head: u16,
    readable: Vec<Buffer>,
    writable: Vec<Buffer>,
}

impl Request {
    /// The chain's buffers.
    ///
    /// # Errors
    /// If the chain has no end, leaves its table, has an invalid indirect table, or is longer than a device carries out.
    pub(super) fn of<M>(chain: DescriptorChain<M>) -> Result<Self, Malformed>
    where
        M: Deref<Target: GuestMemory>,
    {
        let mut request = Self { head: chain.head_index(), readable: Vec::new(), writable: Vec::new() };
        // The iterator ends at what is invalid as at the end of a chain, whose last descriptor has no next one.
        let mut complete = false;
        for descriptor in chain.take(MOST_DESCRIPTORS) {
            complete = !descriptor.has_next();
            let buffer = Buffer { address: descriptor.addr().0, len: descriptor.len() };
            if descriptor.is_write_only() { &mut request.writable } else { &mut request.readable }
                .push(buffer);
        }
        let bytes = request.readable_len() + request.writable_len();
        if complete && bytes <= MOST_BYTES { Ok(request) } else { Err(Malformed) }
    }

    /// Bytes that the device may read.
    pub fn readable_len(&self) -> u64 {
        total(&self.readable)
    }

    /// Bytes that the device may write.
    pub fn writable_len(&self) -> u64 {
        total(&self.writable)
    }

    /// Reads the bytes from `offset` on.
    ///
    /// # Errors
    /// If the request has fewer.
    pub fn read(&self, memory: &DmaMemory<'_>, offset: u64, bytes: &mut [u8]) -> Result<(), Malformed> {
        memory.set_chain(Some(self.head));
        for part in parts(&self.readable, offset, bytes.len()) {
            let Part { address, range } = part?;
            memory.read_slice(&mut bytes[range], GuestAddress(address)).map_err(|_| Malformed)?;
        }
        Ok(())
    }

    /// Writes bytes from `offset` of the writable part on.
    ///
    /// # Errors
    /// If the request has no room for them.
    pub fn write(&self, memory: &DmaMemory<'_>, offset: u64, bytes: &[u8]) -> Result<(), Malformed> {
        memory.set_chain(Some(self.head));
        for part in parts(&self.writable, offset, bytes.len()) {
            let Part { address, range } = part?;
            memory.write_slice(&bytes[range], GuestAddress(address)).map_err(|_| Malformed)?;
        }
        Ok(())
    }

    /// Where the `len` bytes from `offset` on are, for the host's kernel to read them.
    ///
    /// # Errors
    /// If the request has fewer.
    pub fn readable<'m>(
        &self,
        memory: &'m DmaMemory<'_>,
        offset: u64,
        len: usize,
    ) -> Result<DmaSlices<'m>, Malformed> {
        self.slices(memory, &self.readable, (offset, len), Permissions::Read)
    }

    /// Where the `len` bytes from `offset` of the writable part on are, for the host's kernel to write them.
    ///
    /// # Errors
    /// If the request has no room for them.
    pub fn writable<'m>(
        &self,
        memory: &'m DmaMemory<'_>,
        offset: u64,
        len: usize,
    ) -> Result<DmaSlices<'m>, Malformed> {
        self.slices(memory, &self.writable, (offset, len), Permissions::Write)
    }

    fn slices<'m>(
        &self,
        memory: &'m DmaMemory<'_>,
        buffers: &[Buffer],
        (offset, len): (u64, usize),
        access: Permissions,
    ) -> Result<DmaSlices<'m>, Malformed> {
        memory.set_chain(Some(self.head));
        let mut slices = DmaSlices::default();
        for part in parts(buffers, offset, len) {
            let Part { address, range } = part?;
            let found = memory.get_slices(GuestAddress(address), range.len(), access);
            for slice in found.map_err(|_| Malformed)? {
                slices.push(&slice.map_err(|_| Malformed)?);
            }
        }
        Ok(slices)
    }
}

fn total(buffers: &[Buffer]) -> u64 {
    buffers.iter().map(|buffer| u64::from(buffer.len)).sum()
}

/// Bytes of one buffer.
struct Part {
    address: u64,
    /// Which of the bytes asked for they are.
    range: std::ops::Range<usize>,
}

/// Where the `len` bytes from `offset` on are.
fn parts(buffers: &[Buffer], offset: u64, len: usize) -> impl Iterator<Item = Result<Part, Malformed>> {
    let (mut skip, mut done) = (offset, 0);
    let mut buffers = buffers.iter();
    std::iter::from_fn(move || {
        while done < len {
            let Some(buffer) = buffers.next() else {
                done = len;
                return Some(Err(Malformed));
            };
            let room = u64::from(buffer.len);
            if room <= skip {
                skip -= room;
                continue;
            }
            let count = usize::try_from(room - skip).unwrap_or(usize::MAX).min(len - done);
            let Some(address) = buffer.address.checked_add(skip) else {
                done = len;
                return Some(Err(Malformed));
            };
            let range = done..done + count;
            (skip, done) = (0, done + count);
            return Some(Ok(Part { address, range }));
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_cover_the_range_in_order(lens in prop::collection::vec(0..20u32, 0..6), offset in 0..60u64, len in 0..60usize) {
            let mut address = 0x1000;
            let buffers: Vec<Buffer> = lens.iter().map(|len| {
                let buffer = Buffer { address, len: *len };
                address += 0x100;
                buffer
            }).collect();
            // The address of each byte of all buffers, one after the other.
            let flat: Vec<u64> = buffers.iter().flat_map(|b| (0..u64::from(b.len)).map(|at| b.address + at)).collect();
            let found: Result<Vec<u64>, Malformed> = parts(&buffers, offset, len)
                .map(|part| part.map(|part| (0..part.range.len() as u64).map(|at| part.address + at).collect::<Vec<_>>()))
                .collect::<Result<Vec<_>, _>>()
                .map(|parts| parts.concat());
            let expected = flat.get(offset as usize..).and_then(|rest| rest.get(..len)).map(<[u64]>::to_vec);
            match expected {
                _ if len == 0 => prop_assert_eq!(found, Ok(Vec::new())),
                Some(expected) => prop_assert_eq!(found, Ok(expected)),
                None => prop_assert_eq!(found, Err(Malformed)),
            }
        }
    }
}
