// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's own build, as both kinds of source trees run it.

use crate::cache::{self, Cache, Lock};
use crate::command::{self, Tool};
use crate::progress::{Amount, Progress};
use std::path::{Path, PathBuf};

/// `make` in a source tree that `lock` keeps others off; `purpose` completes the sentence "cannot …".
pub(crate) fn tool(lock: &Lock, dir: &Path, purpose: &str) -> Tool {
    Tool::new("make", purpose)
        .stdin(lock.as_stdin())
        .dir(dir)
        // The same input gives the same bits.
        .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970")
        .env("KBUILD_BUILD_USER", "copra")
        .env("KBUILD_BUILD_HOST", "copra")
        .env("KBUILD_BUILD_VERSION", "1")
}

/// Builds vmlinux. `name` is for messages and for the log; `expected` is about how many objects that takes.
pub(crate) fn vmlinux(
    cache: &Cache,
    progress: &dyn Progress,
    tool: Tool,
    name: &str,
    expected: Option<u64>,
) -> Result<(), Error> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let tool = tool.arg(format!("-j{jobs}")).arg("vmlinux");
    let mut log = format!("{}\n", tool.line());
    let mut objects = 0;
    let made = tool.lines(|line| {
        log.push_str(line);
        log.push('\n');
        if is_object(line) {
            objects += 1;
            progress.advance(Amount::objects(objects, expected.map(|e| e.max(objects))));
        }
    });
    let Err(error) = made else { return Ok(()) };
    let file = cache.root().join("logs").join(format!("build-{name}.log"));
    cache.write(&file, log.as_bytes())?;
    let reason =
        |line: &&str| ["error:", "undefined reference", "No space left"].iter().any(|e| line.contains(e));
    let reasons: Vec<&str> = log.lines().filter(reason).take(10).collect();
    // Without a line marked as an error, the error is at the end.
    let end = || log.lines().skip(log.lines().count().saturating_sub(10)).collect();
    let shown: Vec<&str> = if reasons.is_empty() { end() } else { reasons };
    let errors = shown.into_iter().flat_map(|line| ["\n  ", line]).collect();
    Err(Error::Failed { name: name.to_owned(), log: file, errors, source: Box::new(error) })
}

/// `  CC      drivers/char/mem.o`
fn is_object(line: &str) -> bool {
    let mut words = line.split_whitespace();
    line.starts_with("  ")
        && matches!(words.next(), Some("CC" | "AS" | "HOSTCC"))
        && words.next().is_some_and(|file| !file.starts_with('['))
}

/// Why there is no vmlinux.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compiler or linker failed.
    #[error("building the kernel {name} failed; the complete log is {}{errors}", log.display())]
    Failed {
        /// The kernel.
        name: String,
        /// Everything make printed.
        log: PathBuf,
        /// The lines that look like the reason.
        errors: String,
        /// How make ended.
        source: Box<command::Error>,
    },
    /// The log could not be kept.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_objects_only() {
        assert!(is_object("  CC      drivers/char/mem.o"));
        assert!(is_object("  AS      arch/x86/entry/entry_64.o"));
        for line in
            ["  AR      built-in.a", "  LD      vmlinux", "CC x.o", "mem.c:3: error: no", "  CC [M]  x.o", ""]
        {
            assert!(!is_object(line), "{line}");
        }
    }
}
