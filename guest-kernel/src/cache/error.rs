// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::io;
use std::path::{Path, PathBuf};

/// Why the cache could not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nowhere to put it.
    #[error(
        "found no place for the cache: neither XDG_CACHE_HOME nor HOME is an absolute path; set one of them"
    )]
    NoHome,
    /// The disk is full, or about to be.
    #[error(
        "no space for {what}: {}{} free in {}; make room there, or point XDG_CACHE_HOME to a larger disk",
        needed.map_or(String::new(), |needed| format!("it takes {}, and there are ", size(needed))),
        size(*free),
        place.display()
    )]
    Full {
        /// What was to be stored.
        what: String,
        /// The directory.
        place: PathBuf,
        /// Bytes free there.
        free: u64,
        /// Bytes it takes, where known.
        needed: Option<u64>,
    },
    /// Any other failure of the file system.
    #[error("cannot {what} {}: {source}", place.display())]
    Io {
        /// What was attempted: a verb.
        what: &'static str,
        /// On what.
        place: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// An entry is not what was stored.
    #[error("the cached file {} is damaged ({how}); it will be made again when the cache may be filled", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// In which way.
        how: String,
    },
}

impl Error {
    /// Names the place that was full, where that was the cause, and else what failed.
    pub(crate) fn io(what: &'static str, place: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            let name = place.file_name().unwrap_or(place.as_os_str()).to_string_lossy().into_owned();
            Self::full(name, place, None)
        } else {
            Self::Io { what, place: place.to_owned(), source }
        }
    }

    pub(crate) fn full(what: impl Into<String>, place: &Path, needed: Option<u64>) -> Self {
        let place = existing(place);
        Self::Full { what: what.into(), free: free(&place), place, needed }
    }
}

/// Bytes that may be written in the file system `place` is, or will be, in.
pub(super) fn free(place: &Path) -> u64 {
    fs4::available_space(existing(place)).unwrap_or(0)
}

fn existing(place: &Path) -> PathBuf {
    let dir = place.ancestors().find(|dir| dir.is_dir());
    dir.unwrap_or(Path::new("/")).to_owned()
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        0..MIB => format!("{} KiB", bytes >> 10),
        MIB..0x4000_0000 => format!("{} MiB", bytes / MIB),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(5000), "4 KiB");
        assert_eq!(size(153_476_148), "146 MiB");
        assert_eq!(size(1_900_000_000), "1.7 GiB");
    }

    #[test]
    fn full_disk_names_the_place_and_the_space() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let text = Error::io("write", Path::new("/nowhere/vmlinux"), full).to_string();
        assert!(text.starts_with("no space for vmlinux: "), "{text}");
        assert!(text.contains(" free in /; make room there, or point XDG_CACHE_HOME"), "{text}");
    }
}
