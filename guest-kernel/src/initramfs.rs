// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file system a guest starts with: the agent and next to nothing else.

use std::io::{self, Write};

use crate::agent;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;
/// `S_IFMT` and `S_IFREG`.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// Lists the extra files of the guest.
///
/// ```
/// let archive = guest_kernel::initramfs::Initramfs::new().file("etc/motd", b"hello\n").build()?;
/// assert!(archive.starts_with(b"070701"));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Initramfs {
    files: Vec<(String, u32, Vec<u8>)>,
}

impl Initramfs {
    /// The agent as `/init`, the folders it mounts on, and `/dev/console`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, and the folders above it. The path is relative to the root.
    #[must_use]
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.push((path.trim_start_matches('/').to_owned(), FILE, content.to_owned()));
        self
    }

    /// Adds a program or a library, and the folders above it.
    #[must_use]
    pub fn program(mut self, path: &str, content: &[u8]) -> Self {
        self.files.push((path.trim_start_matches('/').to_owned(), PROGRAM, content.to_owned()));
        self
    }

    /// The archive, uncompressed (cpio, "newc"). Equal contents give equal bytes. Fails only for a file of 4 GiB or more.
    pub fn build(&self) -> io::Result<Vec<u8>> {
        let mut archive = Archive { bytes: Vec::new(), entries: 0 };
        let mut folders = vec!["dev", "proc", "sys", "tmp"];
        for (path, ..) in &self.files {
            for (at, _) in path.match_indices('/') {
                let folder = path.get(..at).unwrap_or_default();
                if !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
        for folder in folders {
            archive.add(folder, FOLDER, &[], (0, 0))?;
        }
        archive.add("dev/console", CHARACTER_DEVICE, &[], (5, 1))?;
        archive.add("init", PROGRAM, agent::ELF, (0, 0))?;
        for (path, mode, content) in &self.files {
            archive.add(path, *mode, content, (0, 0))?;
        }
        cpio::newc::trailer(archive.bytes)
    }
}

/// The paths and contents of the regular files of an uncompressed archive, up to where it ends or is damaged.
pub fn files(archive: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    let mut rest = archive;
    std::iter::from_fn(move || {
        loop {
            let reader = cpio::newc::Reader::new(rest).ok()?;
            let entry = reader.entry();
            if entry.is_trailer() {
                return None;
            }
            let (path, mode) = (entry.name().to_owned(), entry.mode());
            let len = usize::try_from(entry.file_size()).ok()?;
            let after = reader.finish().ok()?;
            // The content is padded to a multiple of four bytes.
            let start = (rest.len() - after.len()).checked_sub(len.next_multiple_of(4))?;
            let content = rest.get(start..start + len)?;
            rest = after;
            if mode & KIND == REGULAR {
                return Some((path, content));
            }
        }
    })
}

struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) -> io::Result<()> {
        self.entries += 1;
        let len = u32::try_from(content.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut writer = cpio::newc::Builder::new(name)
            .ino(self.entries)
            .mode(mode)
            .nlink(1)
            .rdev_major(device.0)
            .rdev_minor(device.1)
            .write(&mut self.bytes, len);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_what_a_guest_needs() {
        let archive = Initramfs::new().file("/lib/modules/x.ko", b"module").build().unwrap();
        assert_eq!(archive, Initramfs::new().file("lib/modules/x.ko", b"module").build().unwrap());
        let mut found = Vec::new();
        let mut rest = archive.as_slice();
        loop {
            let reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let entry = reader.entry();
            found.push((entry.name().to_owned(), entry.mode(), entry.file_size()));
            rest = reader.finish().unwrap();
        }
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(
            names,
            ["dev", "proc", "sys", "tmp", "lib", "lib/modules", "dev/console", "init", "lib/modules/x.ko"]
        );
        assert_eq!(found[6].1, CHARACTER_DEVICE);
        assert_eq!(found[7], ("init".to_owned(), PROGRAM, agent::ELF.len() as u32));
        let files: Vec<_> = files(&archive).collect();
        let expected =
            [("init".to_owned(), agent::ELF), ("lib/modules/x.ko".to_owned(), b"module".as_slice())];
        assert_eq!(files, expected);
    }
}
