// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernel files: recognise one, refuse what is none by its name, get the ELF vmlinux out of it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

pub mod bzimage;
pub mod decompress;
pub mod elf;
mod foreign;
mod kallsyms;
pub mod symbols;

#[cfg(test)]
pub(crate) mod synth;
#[cfg(test)]
mod tests;

pub use bzimage::{BzImageError, SetupHeader};
pub use decompress::{Compression, DecompressError};
pub use elf::{ElfError, ElfFacts, Section, Segment};
pub use symbols::{Symbol, SymbolTable};

/// The largest kernel file that is read; a distribution's vmlinux with all its debug information is below 1 GiB.
pub const MAX_FILE_SIZE: u64 = 2 << 30;

/// How the text begins that every kernel carries (init/version-timestamp.c: `linux_banner`).
const BANNER: &[u8] = b"Linux version ";

/// the longest version text that is accepted.
const MAX_VERSION: usize = 512;

/// Why a file is of no use as a kernel.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The file cannot be opened or read.
    #[error("cannot read kernel image {}: {source}; name a bzImage (as /boot/vmlinuz-*) or an ELF vmlinux",
        path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The path leads to a directory, a device or a pipe.
    #[error("cannot use {} as a kernel image: it is {what}, not a regular file; name a bzImage (as \
        /boot/vmlinuz-*) or an ELF vmlinux", path.display())]
    NotAFile {
        /// What was to be read.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// No kernel is that large.
    #[error("cannot use {} as a kernel image: it has {size} bytes, more than the {MAX_FILE_SIZE} that \
        are read; strip its debug information (strip -g)", path.display())]
    TooLarge {
        /// What was to be read.
        path: PathBuf,
        /// How large it is.
        size: u64,
    },
    /// The bytes are of a known kind, or of none, but no x86-64 kernel.
    #[error("cannot use this as a kernel image: it is {what}; {remedy}")]
    NotAKernel {
        /// What it is.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// It is a bzImage, but a broken or unusable one.
    #[error(transparent)]
    BzImage(#[from] BzImageError),
    /// The bzImage's payload does not unpack.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// It is an ELF file, but a broken or unusable one.
    #[error(transparent)]
    Elf(#[from] ElfError),
}

/// The kinds of kernel file that can be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A linked kernel as the linker left it, or stripped.
    Vmlinux,
    /// The x86 boot image around a compressed vmlinux, which distributions install as vmlinuz.
    BzImage,
}

/// A kernel's ELF file and what is known about it.
#[derive(Debug, Clone)]
pub struct Vmlinux<'a> {
    /// The ELF file; borrowed if the input was one. What a relocatable kernel's build appends may follow it.
    pub elf: Cow<'a, [u8]>,
    /// Facts from the ELF headers.
    pub facts: ElfFacts,
    /// What only a bzImage has.
    pub bzimage: Option<BzImageFacts>,
}

/// What was learnt from a bzImage while its vmlinux was extracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BzImageFacts {
    /// The setup header as known up to boot protocol 2.15; fields that the image's protocol lacks are zero.
    pub header: SetupHeader,
    /// The setup header as it is in the file from 0x1f1 on: this is what belongs at 0x1f1 of `boot_params`.
    pub header_bytes: Vec<u8>,
    /// The text that `file` shows: release, builder, build number and date.
    pub version: Option<String>,
    /// How the payload was compressed.
    pub compression: Compression,
}

/// Reads a kernel file; what is no regular file, or beyond all measure, is refused before it is read.
pub fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    let failed = |source| ImageError::Read { path: path.to_owned(), source };
    // Opening a pipe would wait for its writer, so what it is comes first.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "a device, a socket or a pipe" };
        return Err(ImageError::NotAFile { path: path.to_owned(), what });
    }
    let size = metadata.len();
    if size > MAX_FILE_SIZE {
        return Err(ImageError::TooLarge { path: path.to_owned(), size });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    File::open(path).and_then(|file| file.take(MAX_FILE_SIZE).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// The kind of kernel file this is, or why it is none, from the headers alone.
pub fn identify(bytes: &[u8]) -> Result<Format, ImageError> {
    if elf::is_elf(bytes) {
        elf::check_header(bytes)?;
        Ok(Format::Vmlinux)
    } else if bzimage::is_bzimage(bytes) {
        Ok(Format::BzImage)
    } else {
        let (what, remedy) = foreign::describe(bytes);
        Err(ImageError::NotAKernel { what, remedy })
    }
}

/// Gets the checked ELF vmlinux out of a kernel file, unpacking a bzImage's payload.
pub fn extract_vmlinux(bytes: &[u8]) -> Result<Vmlinux<'_>, ImageError> {
    match identify(bytes)? {
        Format::Vmlinux => {
            Ok(Vmlinux { facts: ElfFacts::parse(bytes)?, elf: Cow::Borrowed(bytes), bzimage: None })
        }
        Format::BzImage => {
            let image = bzimage::parse(bytes)?;
            let (compression, elf) = decompress::unpack(image.payload)?;
            Ok(Vmlinux {
                facts: ElfFacts::parse(&elf)?,
                elf: Cow::Owned(elf),
                bzimage: Some(BzImageFacts {
                    header: image.header,
                    header_bytes: image.header_bytes.to_vec(),
                    version: image.version,
                    compression,
                }),
            })
        }
    }
}

/// The same from a file that is not needed afterwards: an ELF file is kept, not copied.
pub fn into_vmlinux(bytes: Vec<u8>) -> Result<Vmlinux<'static>, ImageError> {
    match identify(&bytes)? {
        Format::Vmlinux => {
            Ok(Vmlinux { facts: ElfFacts::parse(&bytes)?, elf: Cow::Owned(bytes), bzimage: None })
        }
        Format::BzImage => Ok(extract_vmlinux(&bytes)?.into_owned()),
    }
}

impl Vmlinux<'_> {
    /// The same without the borrow.
    pub fn into_owned(self) -> Vmlinux<'static> {
        Vmlinux { elf: Cow::Owned(self.elf.into_owned()), facts: self.facts, bzimage: self.bzimage }
    }

    /// The bytes of a load segment that come from the file; up to `memsz`, zeros follow.
    pub fn segment_bytes(&self, segment: &Segment) -> &[u8] {
        // `facts` was read from these bytes; the fallback is for facts that a caller changed.
        let start = segment.offset as usize;
        self.elf.get(start..start.saturating_add(segment.filesz as usize)).unwrap_or_default()
    }

    /// Release, builder, build number and date, as in `/proc/version` after "Linux version ".
    /// Searches the whole image if it was no bzImage, which takes some 50 ms.
    pub fn version(&self) -> Option<String> {
        if let Some(bzimage) = &self.bzimage {
            return bzimage.version.clone();
        }
        let mut data = self.facts.segments.iter().map(|s| self.segment_bytes(s));
        data.find_map(banner)
    }

    /// The release alone, as `uname -r` shows it.
    pub fn release(&self) -> Option<String> {
        self.version()?.split_whitespace().next().map(str::to_owned)
    }

    /// The ELF symbol table; `None` if the kernel was stripped, as in every bzImage.
    pub fn symbols(&self) -> Result<Option<SymbolTable>, ElfError> {
        elf::symbols(&self.elf)
    }
}

/// Finds the banner; the format strings that begin alike (`"Linux version %s"`) are passed over.
fn banner(data: &[u8]) -> Option<String> {
    let mut rest = data;
    loop {
        let at = rest.iter().position(|&b| b == BANNER[0])?;
        rest = &rest[at..];
        if let Some(text) = rest.strip_prefix(BANNER)
            && text.first().is_some_and(u8::is_ascii_digit)
        {
            return bzimage::printable(text, MAX_VERSION);
        }
        rest = &rest[1..];
    }
}
