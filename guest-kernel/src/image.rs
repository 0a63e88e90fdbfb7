// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Facts read from a kernel file.

use crate::cache::hex;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What was found in a kernel file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Compressed with a loader, or plain.
    pub format: Format,
    /// The release string, `uname -r` of the kernel, if it is there.
    pub release: Option<String>,
    /// The GNU build id; a bzImage does not show it.
    pub build_id: Option<String>,
}

/// The two kinds of kernel files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What distributions install as vmlinuz.
    BzImage,
    /// ELF, as the kernel's own build leaves it.
    Vmlinux,
}

impl Image {
    /// Looks into a file.
    pub fn inspect(path: &Path) -> Result<Self, Error> {
        let read = |e| Error::Read { path: path.to_owned(), source: e };
        let mut file = File::open(path).map_err(read)?;
        let mut head = Vec::new();
        file.by_ref().take(HEAD).read_to_end(&mut head).map_err(read)?;
        if head.starts_with(b"\x7fELF") {
            let wrong = |what| Error::Elf { path: path.to_owned(), what };
            if field::<1>(&head, 4) != Some([2]) || field::<2>(&head, 18) != Some([62, 0]) {
                return Err(wrong("it is not for 64-bit x86"));
            }
            let build_id = build_id(&mut file, &head).map_err(read)?;
            let release = banner(&mut file).map_err(read)?;
            if release.is_none() {
                return Err(wrong("it holds no Linux version"));
            }
            return Ok(Self { format: Format::Vmlinux, release, build_id });
        }
        if field::<4>(&head, 0x202) == Some(*b"HdrS") {
            return Ok(Self { format: Format::BzImage, release: header_release(&head), build_id: None });
        }
        Err(Error::NotAKernel { path: path.to_owned(), what: kind_of(&head) })
    }
}

/// Setup code, in which a bzImage keeps its version string, is at most 64 sectors long.
const HEAD: u64 = 65 * 512;

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    field(bytes, at).map(u16::from_le_bytes).map(usize::from)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    field(bytes, at).map(u32::from_le_bytes).map(|n| n as usize)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

/// `kernel_version` of the boot protocol points to the text, less 0x200.
fn header_release(head: &[u8]) -> Option<String> {
    let text = head.get(u16_at(head, 0x20e)?.checked_add(0x200)?..)?;
    word(text)
}

fn word(text: &[u8]) -> Option<String> {
    let end = text.iter().position(|b| !b.is_ascii_graphic())?;
    let word = std::str::from_utf8(&text[..end]).ok()?;
    word.starts_with(|c: char| c.is_ascii_digit()).then(|| word.to_owned())
}

/// The release in `Linux version 6.12.117-… (…)`, wherever it is.
fn banner(file: &mut File) -> io::Result<Option<String>> {
    const MARK: &[u8] = b"Linux version ";
    const KEEP: usize = 128;
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file);
    let mut window = Vec::new();
    loop {
        if reader.by_ref().take(1 << 20).read_to_end(&mut window)? == 0 {
            return Ok(None);
        }
        let found = window.windows(MARK.len()).enumerate().filter(|(_, w)| *w == MARK);
        let release = found.map(|(at, _)| &window[at + MARK.len()..]).find_map(word);
        if release.is_some() {
            return Ok(release);
        }
        window.drain(..window.len().saturating_sub(KEEP));
    }
}

fn build_id(file: &mut File, head: &[u8]) -> io::Result<Option<String>> {
    const PT_NOTE: usize = 4;
    let Some((table, size, count)) =
        u64_at(head, 32).and_then(|at| Some((at, u16_at(head, 54)?, u16_at(head, 56)?)))
    else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(table))?;
    let mut headers = Vec::new();
    file.by_ref().take((size * count) as u64).read_to_end(&mut headers)?;
    for header in headers.chunks_exact(size.max(56)).filter(|h| u32_at(h, 0) == Some(PT_NOTE)) {
        let (Some(at), Some(length)) = (u64_at(header, 8), u64_at(header, 32)) else { continue };
        let mut notes = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        file.by_ref().take(length.min(1 << 16)).read_to_end(&mut notes)?;
        if let Some(id) = gnu_build_id(&notes) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn gnu_build_id(mut notes: &[u8]) -> Option<String> {
    const NT_GNU_BUILD_ID: usize = 3;
    loop {
        let (name, value, kind) = (u32_at(notes, 0)?, u32_at(notes, 4)?, u32_at(notes, 8)?);
        let value_at = 12 + name.checked_next_multiple_of(4)?;
        let end = value_at.checked_add(value)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return notes.get(value_at..end).map(hex);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

fn kind_of(head: &[u8]) -> &'static str {
    match head {
        [] => "it is empty",
        [0x1f, 0x8b, ..] => "it is compressed with gzip; unpack it first",
        [0xfd, b'7', b'z', ..] => "it is compressed with xz; unpack it first",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed with zstd; unpack it first",
        [b'!', b'<', b'a', b'r', ..] => "it is a Debian package or an archive; give the vmlinuz inside",
        [b'M', b'Z', ..] => "it is an EFI program without a Linux boot header",
        _ => "it begins like neither",
    }
}

/// A file that is no kernel copra can boot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not readable.
    #[error("cannot read the kernel {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An ELF file, but not the right one.
    #[error("{} is an ELF file but no kernel for this guest: {what}; give the vmlinux of an x86-64 build", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Something else.
    #[error("{} is neither a bzImage nor a vmlinux: {what}", path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn inspect(bytes: &[u8]) -> Result<Image, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        Image::inspect(file.path())
    }

    fn bzimage(release: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x3000];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x1000u16.to_le_bytes());
        image[0x1200..0x1200 + release.len()].copy_from_slice(release);
        image
    }

    fn vmlinux(machine: u8, text: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        image[..5].copy_from_slice(b"\x7fELF\x02");
        image[18] = machine;
        image[32] = 64;
        image[54] = 56;
        image[56] = 1;
        image[64] = 4;
        image[64 + 9] = 2;
        image[64 + 32] = 64;
        image[0x200..0x220]
            .copy_from_slice(b"\x04\0\0\0\x04\0\0\0\x06\0\0\0Xen\0abcd\x04\0\0\0\x02\0\0\0\x03\0\0\0");
        image[0x220..0x226].copy_from_slice(b"GNU\0\xca\xfe");
        image.extend(text);
        image
    }

    #[test]
    fn reads_a_bzimage() {
        let image = inspect(&bzimage(b"6.12.117+deb12-cloud-amd64 (debian-kernel@lists) #1\0")).unwrap();
        assert_eq!(image.format, Format::BzImage);
        assert_eq!(image.release.unwrap(), "6.12.117+deb12-cloud-amd64");
    }

    #[test]
    fn reads_a_vmlinux() {
        let far = [
            vec![b'x'; (1 << 20) - 0x1000 - 5],
            b"Linux version %s\0Linux version 6.12.1-x (a@b)\0".to_vec(),
        ];
        let image = inspect(&vmlinux(62, &far.concat())).unwrap();
        assert_eq!(image.format, Format::Vmlinux);
        assert_eq!(image.release.unwrap(), "6.12.1-x");
        assert_eq!(image.build_id.unwrap(), "cafe");
    }

    #[test]
    fn names_what_else_it_is() {
        let message = |bytes: &[u8]| inspect(bytes).unwrap_err().to_string();
        assert!(message(b"").ends_with("it is empty"));
        assert!(message(b"\x1f\x8b\x08").contains("gzip"));
        assert!(message(b"!<arch>\n").contains("Debian package"));
        assert!(message(&vmlinux(183, b"")).contains("not for 64-bit x86"));
        assert!(message(&vmlinux(62, b"")).contains("no Linux version"));
        assert!(Image::inspect(Path::new("/no/such")).unwrap_err().to_string().contains("/no/such"));
    }

    proptest! {
        #[test]
        fn survives_damage(at in 0usize..0x300, byte: u8, keep in 0usize..0x3000) {
            for mut image in [bzimage(b"6.1"), vmlinux(62, b"Linux version 6.1 ")] {
                image[at] = byte;
                image.truncate(keep);
                let _ = inspect(&image);
            }
        }
    }
}
