// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A shared file system (Virtio 1.2 §5.11): FUSE requests, answered from a folder of the host by `fuse-backend-rs`.

mod folder;
mod layered;
mod transfer;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::{InHeader, Opcode, OutHeader};
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::transport::{FuseBuf, FuseDevWriter, Reader, Writer};
use types::DeviceKind;

use self::folder::Folder;
use self::layered::Layered;
use super::{Backend, Malformed, Request};
use crate::memory::dma::DmaMemory;

/// §5.11.4: bytes of the tag in the configuration.
pub const TAG_LEN: usize = 36;
/// §5.11.2: the queue of requests that must not wait, and the queue of all others, whose size limits the pages of a request
/// (`fs/fuse/virtio_fs.c:virtio_fs_get_tree`).
const HIGH_PRIORITY_SIZE: u16 = 128;
const REQUESTS_SIZE: u16 = 1024;
/// Bytes of one request or reply at most: 1 MiB of data (`FUSE_MAX_MAX_PAGES` of fs/fuse) with its headers.
const MOST: u64 = (1 << 20) + (64 << 10);

/// Bytes of a reply's header.
const OUT_HEADER: usize = size_of::<OutHeader>();

/// The number at an offset; zeros follow the bytes.
fn field(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).unwrap_or_default();
    u64::from_le_bytes(std::array::from_fn(|index| bytes.get(index).copied().unwrap_or(0)))
}

/// A shared file system.
pub struct Files {
    tag: String,
    folders: Arc<Layered>,
    server: Server<Arc<Layered>>,
    /// The library writes a reply to a file.
    reply: File,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// Why there is no shared file system.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The name.
    #[error("sharing files as `{tag}`: a tag has 1 to {TAG_LEN} bytes")]
    Tag {
        /// The name.
        tag: String,
    },
    /// The folder.
    #[error("sharing {root} with the guest: {source}", root = .root.display())]
    Root {
        /// The folder.
        root: PathBuf,
        /// What the host reported.
        source: io::Error,
    },
}

impl Files {
    /// Shares the folder `root`, with the files of the folders `above` in place of its own.
    pub fn new(tag: &str, root: &Path, above: &[PathBuf], writable: bool) -> Result<Self, FilesError> {
        if tag.is_empty() || tag.len() > TAG_LEN {
            return Err(FilesError::Tag { tag: tag.to_owned() });
        }
        let failed = |root: &Path| {
            let root = root.to_owned();
            |source| FilesError::Root { root, source }
        };
        allow_open_files();
        let mut layers = vec![Folder::new(root, writable).map_err(failed(root))?];
        for folder in above {
            layers.push(Folder::new(folder, false).map_err(failed(folder))?);
        }
        let folders = Arc::new(Layered::new(layers));
        let server = Server::new(Arc::clone(&folders));
        Ok(Self { tag: tag.to_owned(), folders, server, reply: memory_file().map_err(failed(root))? })
    }

    /// The reply to a request; empty if there is none.
    fn reply(&mut self, request: &mut [u8], room: usize) -> io::Result<Vec<u8>> {
        self.reply.set_len(0)?;
        io::Seek::rewind(&mut self.reply)?;
        let mut buffer = vec![0; room];
        let invalid = |error: fuse_backend_rs::transport::Error| io::Error::other(error.to_string());
        let reader = Reader::<()>::from_fuse_buffer(FuseBuf::new(request)).map_err(invalid)?;
        let writer = FuseDevWriter::new(self.reply.as_raw_fd(), &mut buffer).map_err(invalid)?;
        // An error is of this request only, and has been replied where it could be.
        let _ = self.server.handle_message(reader, Writer::FuseDev(writer), None, None);
        let len = self.reply.metadata()?.len();
        let mut reply = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(room)];
        self.reply.read_exact_at(&mut reply, 0)?;
        Ok(reply)
    }
}

/// The library holds a descriptor for each file that the guest knows, which are many more than the 1024 that are usual: this
/// process may have as many as the host allows it. Where that fails, the guest's opening fails later.
fn allow_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls access `limit` only.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// A file without a name, in memory.
fn memory_file() -> io::Result<File> {
    // SAFETY: the name ends with zero; the descriptor is new and owned by nothing else.
    unsafe {
        let file = libc::memfd_create(c"copra-reply".as_ptr(), libc::MFD_CLOEXEC);
        if file < 0 { Err(io::Error::last_os_error()) } else { Ok(File::from_raw_fd(file)) }
    }
}

impl Backend for Files {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Files
    }

    fn queues(&self) -> Vec<u16> {
        vec![HIGH_PRIORITY_SIZE, REQUESTS_SIZE]
    }

    /// §5.11.4: tag, number of request queues.
    fn config(&self) -> Vec<u8> {
        let mut config = self.tag.clone().into_bytes();
        config.resize(TAG_LEN, 0);
        config.extend_from_slice(&1u32.to_le_bytes());
        config
    }

    /// Files that the guest had open are closed, as by its own `FUSE_DESTROY`.
    fn reset(&mut self) {
        let begin = [size_of::<InHeader>() as u32, Opcode::Destroy as u32].map(u32::to_le_bytes);
        let mut request = begin.concat();
        request.resize(size_of::<InHeader>(), 0);
        let _ = self.reply(&mut request, OUT_HEADER);
    }

    fn carry_out(&mut self, _: u16, request: &Request, memory: &DmaMemory<'_>) -> Result<u32, Malformed> {
        let (len, room) = (request.readable_len(), request.writable_len());
        if len > MOST {
            return Err(Malformed);
        }
        let len = len as usize;
        let mut header = [0; size_of::<InHeader>()];
        let header = &mut header[..size_of::<InHeader>().min(len)];
        request.read(memory, 0, header)?;
        if let Some(written) = transfer::carry_out(&self.folders, header, request, memory)? {
            return Ok(written);
        }
        let mut bytes = header.to_vec();
        bytes.resize(len, 0);
        request.read(memory, header.len() as u64, &mut bytes[header.len()..])?;
        // A reply that cannot be had (no memory for it on the host) leaves the request without one.
        let reply = self.reply(&mut bytes, room.min(MOST) as usize).unwrap_or_default();
        request.write(memory, 0, &reply)?;
        Ok(reply.len() as u32)
    }
}
