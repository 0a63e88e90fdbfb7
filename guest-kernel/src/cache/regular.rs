// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of the cache are regular files: opening a pipe would wait for its writer, and a device may never end.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file for reading. Anything else is `InvalidData`.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"))
    }
}

/// The bytes of a regular file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What may be in place of a file that is to be read: its name, and how it is made.
#[cfg(test)]
pub(super) type Other = (&'static str, fn(&Path));

/// Each kind.
#[cfg(test)]
pub(super) const OTHERS: [Other; 4] = [
    ("a pipe", |path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }),
    ("a directory", |path| {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("file"), "in it").unwrap();
    }),
    ("a device", |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
    ("a link to nothing", |path| std::os::unix::fs::symlink("/nowhere", path).unwrap()),
];
