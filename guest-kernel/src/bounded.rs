// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files that a user names, read up to a limit: a device or a pipe may never end.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of a kernel configuration: a whole one has 300 KiB.
pub const CONFIG: u64 = 4 << 20;
/// Most bytes of a patch: a whole release of the kernel has 80 MiB of changes.
pub const PATCH: u64 = 128 << 20;
/// Most bytes of a case: the longest bundled one has 10 KiB.
pub const CASE: u64 = 1 << 20;
/// Most bytes of a report: that of the bundled cases has 450 KiB.
pub const REPORT: u64 = 256 << 20;

/// The text of a file of at most `most` bytes. A file whose size is known is refused before it is read.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > most {
        return Err(too_large(&format!("{} bytes, ", metadata.len()), most));
    }
    text(file, most)
}

/// The text that a stream of at most `most` bytes gives until it ends.
pub fn text(from: impl Read, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_large("", most));
    }
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text; name another file"))
}

fn too_large(size: &str, most: u64) -> io::Error {
    let text =
        format!("it has {size}more than {} KiB, which no such file has; name another file", most >> 10);
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_refused() {
        let error = read_text(Path::new("/dev/zero"), CONFIG).unwrap_err().to_string();
        assert!(error.contains("it has more than 4096 KiB"), "{error}");
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345678").unwrap();
        assert_eq!(read_text(file.path(), 8).unwrap(), "12345678");
        let error = read_text(file.path(), 7).unwrap_err().to_string();
        assert!(error.contains("it has 8 bytes, more than 0 KiB"), "{error}");
        assert!(text(&b"12345678"[..], 7).is_err());
        std::fs::write(file.path(), b"\xff\xfe").unwrap();
        assert!(read_text(file.path(), 8).unwrap_err().to_string().contains("no text"));
    }
}
