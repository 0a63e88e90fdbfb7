// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Unpacks modules and initramfs archives, whose unpacked size is not recorded.

use std::io::{self, Read};

use xz2::stream::Stream;

use super::super::image::Compression;

/// The most that is unpacked from one stream; an initramfs with all modules of a distribution has less.
const MAX_UNPACKED: u64 = 1 << 30;
/// Memory for liblzma: enough for its largest preset.
const XZ_MEMORY: u64 = 160 << 20;

/// Unpacks the stream `packed` begins with; gives what follows it, too.
pub(super) fn unpack(packed: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    let Some(method) = Compression::identify(packed) else {
        return Err("it is compressed by no method that Linux has".to_owned());
    };
    let mut rest = packed;
    let unpacked = match method {
        Compression::Gzip => drain(flate2::bufread::GzDecoder::new(&mut rest)),
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(&mut rest)
            .map(zstd::Decoder::single_frame)
            .and_then(drain),
        Compression::Xz => Stream::new_stream_decoder(XZ_MEMORY, 0)
            .map_err(io::Error::from)
            .and_then(|stream| drain(xz2::bufread::XzDecoder::new_stream(&mut rest, stream))),
        other => return Err(format!("it is compressed by {other}, which is not unpacked here")),
    };
    Ok((unpacked.map_err(|e| format!("it does not unpack ({method}): {e}"))?, rest))
}

/// Reads to the end, which has to come before [`MAX_UNPACKED`].
fn drain(decoder: impl Read) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    decoder.take(MAX_UNPACKED + 1).read_to_end(&mut unpacked)?;
    if unpacked.len() as u64 > MAX_UNPACKED {
        return Err(io::Error::other(format!("it would be larger than {} MiB", MAX_UNPACKED >> 20)));
    }
    Ok(unpacked)
}
