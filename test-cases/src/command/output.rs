// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Report files: opened and checked before any guest boots, and replaced atomically at the end.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, IsTerminal, Seek, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::Failed;

/// The approximate size of a report: it is reserved before the run.
const ROOM: usize = 64 << 10;
/// For a new file, before the umask.
const MODE: u32 = 0o666;

/// The destination of one report.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Stdout,
    /// A temporary file in the same folder, renamed when it is complete.
    Replaced {
        beside: NamedTempFile,
        place: PathBuf,
    },
    /// A file that cannot be replaced: a pipe, a device, a file in a folder without write permission.
    InPlace(File),
}

impl Output {
    /// Opens what `path` names, `-` for standard output, and checks that it can be written.
    pub fn open(path: &Path) -> Result<Self, Failed> {
        let kind = if path == Path::new("-") { Ok(Kind::Stdout) } else { open(path) };
        let failed = |error| {
            Failed::new(format!(
                "the report {} cannot be written: {error}; give another place",
                path.display()
            ))
        };
        Ok(Self { path: path.to_owned(), kind: kind.map_err(failed)? })
    }

    /// Whether a report can be written there.
    pub fn check(path: &Path) -> Result<(), Failed> {
        Self::open(path).map(drop)
    }

    /// Writes the report. EPIPE is not an error: the reader of standard output has ended.
    pub fn write(self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failed> {
        let path = self.path;
        let done = match self.kind {
            Kind::Stdout => read_to_the_end(fill(&mut io::stdout().lock())),
            Kind::Replaced { mut beside, place } => fill(&mut beside)
                .and_then(|()| beside.flush())
                .and_then(|()| beside.persist(place).map(drop).map_err(|error| error.error)),
            Kind::InPlace(mut opened) => fill(&mut opened),
        };
        done.map_err(|error| {
            Failed::new(format!("writing the report {}: {error}; give another place", path.display()))
        })
    }
}

/// The result of a write, where EPIPE is not an error: the reader has read as much as it needs.
pub fn read_to_the_end(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

fn open(path: &Path) -> io::Result<Kind> {
    // The target of a symbolic link is replaced, not the link.
    let place = fs::canonicalize(path).or_else(|error| {
        let is_new = error.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err();
        if is_new { Ok(path.to_owned()) } else { Err(error) }
    })?;
    let existing = match fs::metadata(&place) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let Some(existing) = existing else { return beside(place, Permissions::from_mode(MODE)) };
    if existing.is_dir() {
        return Err(io::Error::from(ErrorKind::IsADirectory));
    }
    let mut file = OpenOptions::new().write(true).open(&place)?;
    if !existing.is_file() {
        // A device such as /dev/full returns its error only at write(2).
        if existing.file_type().is_char_device() && !file.is_terminal() {
            file.write_all(b"\n")?;
        }
        return Ok(Kind::InPlace(file));
    }
    beside(place, existing.permissions()).or_else(|error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            file.set_len(0)?;
            Ok(Kind::InPlace(file))
        }
        _ => Err(error),
    })
}

/// A temporary file with room for a report, to be renamed to `place`.
fn beside(place: PathBuf, permissions: Permissions) -> io::Result<Kind> {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let text = format!("{} is not a folder", folder.display());
        return Err(io::Error::new(ErrorKind::NotFound, text));
    }
    let mut beside =
        tempfile::Builder::new().prefix(".copra-report-").permissions(permissions).tempfile_in(folder)?;
    beside.write_all(&vec![b' '; ROOM])?;
    beside.as_file().set_len(0)?;
    beside.rewind()?;
    Ok(Kind::Replaced { beside, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) -> Result<(), Failed> {
        Output::open(path)?.write(|out| out.write_all(text.as_bytes()))
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write(&path, "first, and longer").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o600, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let output = Output::open(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "first, and longer",
            "still whole while the run goes on"
        );
        output.write(|out| out.write_all(b"second")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, "third").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "third");
        Output::check(&path).unwrap();
        // A report that fails to be written leaves the old one.
        let failed = Output::open(&path).unwrap().write(|out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "third");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn places_that_take_no_report_are_refused_before_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let lost = folder.path().join("lost");
        std::os::unix::fs::symlink("no/such/file", &lost).unwrap();
        for path in [folder.path(), Path::new("/dev/full"), &folder.path().join("no/report"), &lost] {
            let error = Output::open(path).map(drop).unwrap_err().to_string();
            assert!(error.contains("cannot be written"), "{error}");
        }
        Output::check(Path::new("/dev/null")).unwrap();
        Output::check(Path::new("-")).unwrap();
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone = |kind| read_to_the_end(Err(io::Error::from(kind))).is_ok();
        assert!(gone(ErrorKind::BrokenPipe));
        assert!(!gone(ErrorKind::StorageFull));
    }
}
