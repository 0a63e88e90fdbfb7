// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Unpacks the payload of a bzImage: the compressed vmlinux, followed by its unpacked size in 4 bytes
//! (scripts/Makefile.lib: `size_append`; gzip has that number at its end anyway).

use std::fmt;
use std::io::{self, Read};

use thiserror::Error;
use xz2::stream::Stream;

/// The largest kernel that is unpacked: ten times a distribution's.
pub const MAX_UNPACKED: usize = 512 << 20;

/// `scripts/xz_wrap.sh` uses a dictionary of 128 MiB at most; liblzma needs a little more than that.
const XZ_MEMORY: u64 = 160 << 20;
/// The lz4 format description, "Legacy frame": the most a block unpacks to.
const LZ4_BLOCK: usize = 8 << 20;
/// The lz4 format description, "Legacy frame": the magic number, which begins further frames too.
const LZ4_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// The size of a size: a block's in lz4, and the unpacked size at the payload's end.
const SIZE_FIELD: usize = 4;

/// How a payload is compressed: the methods of lib/decompress.c.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// `CONFIG_KERNEL_GZIP`.
    Gzip,
    /// `CONFIG_KERNEL_ZSTD`.
    Zstd,
    /// `CONFIG_KERNEL_XZ`.
    Xz,
    /// `CONFIG_KERNEL_LZ4`.
    Lz4,
    /// `CONFIG_KERNEL_LZMA`.
    Lzma,
    /// `CONFIG_KERNEL_BZIP2`.
    Bzip2,
    /// `CONFIG_KERNEL_LZO`.
    Lzo,
}

impl Compression {
    /// The method by the payload's first bytes.
    pub fn identify(payload: &[u8]) -> Option<Self> {
        const MAGIC: [(&[u8], Compression); 9] = [
            (b"\x7fELF", Compression::None),
            (&[0x1f, 0x8b], Compression::Gzip),
            (&[0x1f, 0x9e], Compression::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (b"\xfd7zXZ\0", Compression::Xz),
            (&LZ4_MAGIC, Compression::Lz4),
            (&[0x5d, 0x00, 0x00], Compression::Lzma),
            (b"BZh", Compression::Bzip2),
            (&[0x89, b'L', b'Z', b'O', 0x00, 0x0d, 0x0a, 0x1a, 0x0a], Compression::Lzo),
        ];
        MAGIC.iter().find(|(magic, _)| payload.starts_with(magic)).map(|(_, method)| *method)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Bzip2 => "bzip2",
            Self::Lzo => "lzo",
        })
    }
}

/// Why a payload does not unpack.
#[derive(Debug, Error)]
pub enum DecompressError {
    /// The method is unknown.
    #[error(
        "cannot unpack the bzImage's payload: its first bytes {first:02x?} belong to no compression method \
         that Linux has; fetch or build it again, or give the vmlinux"
    )]
    Unknown {
        /// The first bytes.
        first: Vec<u8>,
    },
    /// The method is known, but copra does not have it.
    #[error(
        "cannot unpack the bzImage's payload: it is compressed by {method}, which copra does not unpack; \
         give the vmlinux, or build with CONFIG_KERNEL_ZSTD, _XZ, _LZ4 or _GZIP"
    )]
    Unsupported {
        /// The method.
        method: Compression,
    },
    /// It would need too much memory.
    #[error(
        "refused to unpack the bzImage's payload: it would be {size} bytes, more than the limit of \
         {MAX_UNPACKED}; give the vmlinux if that is really its size"
    )]
    TooLarge {
        /// What it would be.
        size: usize,
    },
    /// Truncated or overwritten.
    #[error(
        "cannot unpack the bzImage's payload ({method}): {reason}; the file is damaged, fetch or build it \
         again"
    )]
    Damaged {
        /// The method.
        method: Compression,
        /// The decoder's error.
        reason: String,
    },
    /// It unpacks to something else than what was packed.
    #[error("cannot unpack the bzImage's payload ({method}): it gives {} bytes, but was packed from \
        {expected}; the file is damaged, fetch or build it again", at_least(*actual, *expected))]
    SizeMismatch {
        /// The method.
        method: Compression,
        /// What it gives; one more than expected if it is more.
        actual: usize,
        /// The size in its last four bytes.
        expected: usize,
    },
}

/// The decoder stops after one byte too many.
fn at_least(actual: usize, expected: usize) -> String {
    if actual > expected { format!("more than {expected}") } else { actual.to_string() }
}

/// Unpacks a payload.
pub fn unpack(payload: &[u8]) -> Result<(Compression, Vec<u8>), DecompressError> {
    let method = Compression::identify(payload)
        .ok_or_else(|| DecompressError::Unknown { first: payload[..payload.len().min(8)].to_vec() })?;
    match method {
        Compression::None => return Ok((method, payload.to_vec())),
        Compression::Lzma | Compression::Bzip2 | Compression::Lzo => {
            return Err(DecompressError::Unsupported { method });
        }
        Compression::Gzip | Compression::Zstd | Compression::Xz | Compression::Lz4 => {}
    }
    let damaged = |reason: &str| DecompressError::Damaged { method, reason: reason.to_owned() };
    let (stream, size) = payload.split_last_chunk::<SIZE_FIELD>().ok_or_else(|| damaged("it ends early"))?;
    let expected = u32::from_le_bytes(*size) as usize;
    if expected > MAX_UNPACKED {
        return Err(DecompressError::TooLarge { size: expected });
    }
    let unpacked = match method {
        Compression::Zstd => zstd(stream, expected),
        Compression::Lz4 => lz4(stream, expected),
        Compression::Xz => Stream::new_stream_decoder(XZ_MEMORY, 0)
            .map_err(|e| DecompressError::Damaged { method, reason: e.to_string() })
            .and_then(|decoder| {
                drain(method, xz2::bufread::XzDecoder::new_stream(stream, decoder), expected)
            }),
        _ => drain(method, flate2::bufread::GzDecoder::new(payload), expected),
    }?;
    if unpacked.len() != expected {
        return Err(DecompressError::SizeMismatch { method, actual: unpacked.len(), expected });
    }
    Ok((method, unpacked))
}

/// Reads one byte more than expected at most, so that a bomb shows as a wrong size.
fn drain(method: Compression, decoder: impl Read, expected: usize) -> Result<Vec<u8>, DecompressError> {
    let mut unpacked = Vec::with_capacity(expected);
    decoder
        .take(expected as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|e: io::Error| DecompressError::Damaged { method, reason: e.to_string() })?;
    Ok(unpacked)
}

/// One pass into a buffer of the right size: the window of 128 MiB, which kernels are packed with, is not needed.
fn zstd(stream: &[u8], expected: usize) -> Result<Vec<u8>, DecompressError> {
    zstd::bulk::decompress(stream, expected)
        .map_err(|e| DecompressError::Damaged { method: Compression::Zstd, reason: e.to_string() })
}

/// The lz4 format description, "Legacy frame": blocks, each preceded by its size. Kernels are packed by `lz4 -l`.
fn lz4(stream: &[u8], expected: usize) -> Result<Vec<u8>, DecompressError> {
    let method = Compression::Lz4;
    let mut unpacked = vec![0; expected];
    let (mut rest, mut filled, mut blocks) = (stream, 0, 0_u32);
    while !rest.is_empty() {
        let cut_off = || DecompressError::Damaged { method, reason: format!("block {blocks} is cut off") };
        let (size, after) = rest.split_first_chunk::<SIZE_FIELD>().ok_or_else(cut_off)?;
        rest = after;
        if *size == LZ4_MAGIC {
            continue;
        }
        let (block, after) = rest.split_at_checked(u32::from_le_bytes(*size) as usize).ok_or_else(cut_off)?;
        rest = after;
        let room = (expected - filled).min(LZ4_BLOCK);
        filled += lz4_flex::block::decompress_into(block, &mut unpacked[filled..filled + room])
            .map_err(|e| DecompressError::Damaged { method, reason: format!("block {blocks}: {e}") })?;
        blocks += 1;
    }
    unpacked.truncate(filled);
    Ok(unpacked)
}
