// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A disk in a file (Virtio 1.2 §5.2).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use types::DeviceKind;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_S_IOERR,
    VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT,
};

use super::{Backend, Malformed, Request};
use crate::memory::dma::DmaMemory;

/// §5.2.2: the unit of capacity and of a request's position.
const SECTOR: u64 = 512;
/// Requests in the queue.
const QUEUE: u16 = 256;
/// Buffers of one request at most, beside header and status.
pub(super) const SEGMENTS: u32 = QUEUE as u32 - 2;
/// Bytes of a buffer at most.
pub(super) const SEGMENT_LEN: u32 = 64 << 10;
/// Bytes of a request's header: type, reserved, sector.
const HEADER: usize = 16;
/// Bytes of the device's name.
const ID_LEN: usize = 20;

/// A disk.
#[derive(Debug)]
pub struct Block {
    file: File,
    sectors: u64,
    writable: bool,
}

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Its file.
    #[error("opening {path} as a disk: {source}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the host reported.
        source: io::Error,
    },
    /// It is no file with sectors.
    #[error("{path} is no disk image: it has {bytes} bytes, which is no multiple of {SECTOR}, or is no file", path = .path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

impl Block {
    /// Opens the file at `path`.
    pub fn open(path: &Path, writable: bool) -> Result<Self, BlockError> {
        let failed = |source| BlockError::Open { path: path.to_owned(), source };
        // Without it the opening of a pipe waits for who writes it.
        let flags = libc::O_NONBLOCK;
        let file =
            OpenOptions::new().read(true).write(writable).custom_flags(flags).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let bytes = metadata.len();
        if !metadata.is_file() || bytes == 0 || !bytes.is_multiple_of(SECTOR) {
            return Err(BlockError::Size { path: path.to_owned(), bytes });
        }
        Ok(Self { file, sectors: bytes / SECTOR, writable })
    }

    /// Where a request's data are in the file, if all of them are.
    fn place(&self, sector: u64, len: u64) -> Option<u64> {
        let end = sector.checked_add(len.div_ceil(SECTOR))?;
        (len.is_multiple_of(SECTOR) && end <= self.sectors).then(|| sector * SECTOR)
    }

    fn read(&self, sector: u64, request: &Request, memory: &DmaMemory<'_>) -> Result<(u32, u32), Malformed> {
        let len = request.writable_len() - 1;
        let Some(place) = self.place(sector, len) else { return Ok((VIRTIO_BLK_S_IOERR, 0)) };
        let complete = request.writable(memory, 0, len as usize)?.read_from(&self.file, place);
        Ok(if complete.is_ok_and(|count| count as u64 == len) {
            (VIRTIO_BLK_S_OK, len as u32)
        } else {
            (VIRTIO_BLK_S_IOERR, 0)
        })
    }

    fn write(&self, sector: u64, request: &Request, memory: &DmaMemory<'_>) -> Result<u32, Malformed> {
        let len = request.readable_len() - HEADER as u64;
        let place = self.place(sector, len).filter(|_| self.writable);
        let Some(place) = place else { return Ok(VIRTIO_BLK_S_IOERR) };
        let complete = request.readable(memory, HEADER as u64, len as usize)?.write_to(&self.file, place);
        let complete = complete.is_ok_and(|count| count as u64 == len);
        Ok(if complete { VIRTIO_BLK_S_OK } else { VIRTIO_BLK_S_IOERR })
    }
}

impl Backend for Block {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Block
    }

    fn features(&self) -> u64 {
        let read_only = if self.writable { 0 } else { 1 << VIRTIO_BLK_F_RO };
        1 << VIRTIO_BLK_F_SIZE_MAX | 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_FLUSH | read_only
    }

    fn queues(&self) -> Vec<u16> {
        vec![QUEUE]
    }

    /// §5.2.4: capacity, bytes of a buffer, buffers of a request.
    fn config(&self) -> Vec<u8> {
        [&self.sectors.to_le_bytes()[..], &SEGMENT_LEN.to_le_bytes(), &SEGMENTS.to_le_bytes()].concat()
    }

    fn carry_out(&mut self, _: u16, request: &Request, memory: &DmaMemory<'_>) -> Result<u32, Malformed> {
        let mut header = [0; HEADER];
        request.read(memory, 0, &mut header)?;
        let status_at = request.writable_len().checked_sub(1).ok_or(Malformed)?;
        let [kind, _, low, high] = words(header);
        let sector = u64::from(low) | u64::from(high) << 32;
        let (status, written) = match kind {
            VIRTIO_BLK_T_IN => self.read(sector, request, memory)?,
            VIRTIO_BLK_T_OUT => (self.write(sector, request, memory)?, 0),
            VIRTIO_BLK_T_FLUSH if self.file.sync_data().is_ok() => (VIRTIO_BLK_S_OK, 0),
            VIRTIO_BLK_T_FLUSH => (VIRTIO_BLK_S_IOERR, 0),
            VIRTIO_BLK_T_GET_ID => {
                let mut id = [0; ID_LEN];
                id[..5].copy_from_slice(b"copra");
                let len = status_at.min(ID_LEN as u64) as usize;
                request.write(memory, 0, &id[..len])?;
                (VIRTIO_BLK_S_OK, len as u32)
            }
            _ => (VIRTIO_BLK_S_UNSUPP, 0),
        };
        request.write(memory, status_at, &[status as u8])?;
        Ok(written + 1)
    }
}

fn words(bytes: [u8; HEADER]) -> [u32; 4] {
    std::array::from_fn(|index| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[4 * index..4 * index + 4]);
        u32::from_le_bytes(word)
    })
}
