// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Running the tools copra leaves the work to: apt, dpkg, tar, patch, make.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;

/// A program to run, with what it is for.
#[derive(Debug)]
pub(crate) struct Tool {
    command: Command,
    program: String,
    purpose: String,
}

/// Variables that would change what make, tar or apt do.
const MEDDLING: [&str; 14] = [
    "ARCH",
    "CC",
    "CROSS_COMPILE",
    "GNUMAKEFLAGS",
    "KBUILD_OUTPUT",
    "KCFLAGS",
    "KCONFIG_CONFIG",
    "LLVM",
    "LOCALVERSION",
    "MAKEFLAGS",
    "MFLAGS",
    "POSIXLY_CORRECT",
    "TAR_OPTIONS",
    "W",
];

impl Tool {
    /// `purpose` completes the sentence "cannot …".
    pub(crate) fn new(program: &str, purpose: impl Into<String>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env("LC_ALL", "C").env("LANGUAGE", "C");
        for name in MEDDLING {
            command.env_remove(name);
        }
        Self { command, program: program.to_owned(), purpose: purpose.into() }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// The shell-like text of the command, for logs.
    pub(crate) fn line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }

    /// Runs to the end; standard output as text.
    pub(crate) fn output(mut self) -> Result<String, Error> {
        let Output { status, stdout, stderr } =
            self.ends_with_copra().output().map_err(|e| self.cannot_start(e))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        let output = [&stdout[..], &stderr[..]].concat();
        Err(self.failed(status, &tail(String::from_utf8_lossy(&output).lines().map(str::to_owned))))
    }

    /// Runs to the end and hands over each line of both outputs as it comes.
    pub(crate) fn lines(mut self, mut line: impl FnMut(&str)) -> Result<(), Error> {
        let (reader, writer) = io::pipe().map_err(|e| self.cannot_start(e))?;
        let both = writer
            .try_clone()
            .and_then(|second| self.ends_with_copra().stdout(writer).stderr(second).spawn());
        let mut child = both.map_err(|e| self.cannot_start(e))?;
        // The command still holds the writing ends; without them the end of the output shows.
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut last = VecDeque::new();
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&bytes);
            line(text.trim_end());
            keep_last(&mut last, text.trim_end().to_owned());
            bytes.clear();
        }
        let status = child.wait().map_err(|e| self.cannot_start(e))?;
        if status.success() { Ok(()) } else { Err(self.failed(status, last.make_contiguous())) }
    }

    /// Starts the program with its standard output readable.
    pub(crate) fn spawn_reading(mut self) -> Result<(Running, ChildStdout), Error> {
        let mut child = self.spawn_piped(Stdio::piped())?;
        let stdout =
            child.stdout.take().ok_or_else(|| self.cannot_start(io::ErrorKind::BrokenPipe.into()))?;
        Ok((Running::new(self, child), stdout))
    }

    /// Starts the program with its standard input writable.
    pub(crate) fn spawn_writing(mut self) -> Result<(Running, ChildStdin), Error> {
        self.command.stdin(Stdio::piped());
        let mut child = self.spawn_piped(Stdio::null())?;
        let stdin = child.stdin.take().ok_or_else(|| self.cannot_start(io::ErrorKind::BrokenPipe.into()))?;
        Ok((Running::new(self, child), stdin))
    }

    fn spawn_piped(&mut self, stdout: Stdio) -> Result<Child, Error> {
        let spawned = self.ends_with_copra().stdout(stdout).stderr(Stdio::piped()).spawn();
        spawned.map_err(|e| self.cannot_start(e))
    }

    /// A build must end with its copra, not go on for minutes.
    fn ends_with_copra(&mut self) -> &mut Command {
        let parent = std::process::id();
        // SAFETY: prctl and getppid are async-signal-safe, and nothing else happens between fork and exec.
        unsafe {
            self.command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                if libc::getppid().cast_unsigned() == parent {
                    Ok(())
                } else {
                    Err(io::ErrorKind::Other.into())
                }
            })
        }
    }

    fn cannot_start(&self, source: io::Error) -> Error {
        let (program, purpose) = (self.program.clone(), self.purpose.clone());
        if source.kind() == io::ErrorKind::NotFound {
            let package = package_of(&program).to_owned();
            return Error::Missing { program, package, purpose };
        }
        Error::Start { program, purpose, source }
    }

    fn failed(&self, status: ExitStatus, output: &[String]) -> Error {
        Error::Failed {
            program: self.program.clone(),
            purpose: self.purpose.clone(),
            status: status.to_string(),
            output: output.iter().flat_map(|line| ["\n  ", line]).collect(),
        }
    }
}

/// A started program. Its error output is read along the way: tar on a full disk prints a line for every file.
pub(crate) struct Running {
    tool: Tool,
    child: Child,
    output: JoinHandle<Vec<String>>,
}

impl Running {
    fn new(tool: Tool, mut child: Child) -> Self {
        let stderr = child.stderr.take();
        let output = std::thread::spawn(move || {
            let lines = stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines());
            tail(lines.map_while(Result::ok))
        });
        Self { tool, child, output }
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let status = self.child.wait().map_err(|e| self.tool.cannot_start(e))?;
        let output = self.output.join().unwrap_or_default();
        if status.success() { Ok(()) } else { Err(self.tool.failed(status, &output)) }
    }
}

/// Programs and the Debian packages they are in, where the names differ.
const PACKAGES: [(&str, &str); 8] = [
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("xz", "xz-utils"),
    ("ld", "binutils"),
    ("cp", "coreutils"),
    ("nproc", "coreutils"),
    ("cc1", "gcc"),
];

/// The Debian package that has a program.
pub(crate) fn package_of(program: &str) -> &str {
    PACKAGES.iter().find(|(known, _)| *known == program).map_or(program, |found| found.1)
}

fn tail(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut last = VecDeque::new();
    lines.for_each(|line| keep_last(&mut last, line));
    last.into_iter().collect()
}

fn keep_last(last: &mut VecDeque<String>, line: String) {
    const ENOUGH: usize = 25;
    if last.len() == ENOUGH {
        last.pop_front();
    }
    last.push_back(line);
}

/// A tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed.
    #[error(
        "cannot {purpose}: the program `{program}` is missing; install it with: apt-get install {package}"
    )]
    Missing {
        /// The program.
        program: String,
        /// The Debian package it is in.
        package: String,
        /// What it was for.
        purpose: String,
    },
    /// The program could not be started or waited for.
    #[error("cannot {purpose}: running `{program}` failed: {source}")]
    Start {
        /// The program.
        program: String,
        /// What it was for.
        purpose: String,
        /// Why.
        source: io::Error,
    },
    /// The program failed.
    #[error("cannot {purpose}: `{program}` ended with {status} and printed:{output}")]
    Failed {
        /// The program.
        program: String,
        /// What it was for.
        purpose: String,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_over_lines_of_both_outputs() {
        let mut lines = vec![];
        let tool = Tool::new("sh", "talk").args(["-c", "echo one; echo two >&2; printf three"]);
        tool.lines(|line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn errors_name_what_failed_and_why() {
        let tool = Tool::new("sh", "count sheep").args(["-c", "echo lost one >&2; exit 3"]);
        let error = tool.output().unwrap_err().to_string();
        assert_eq!(error, "cannot count sheep: `sh` ended with exit status: 3 and printed:\n  lost one");
    }

    #[test]
    fn errors_name_what_to_install() {
        let error = Tool::new("no-such-program", "do it").output().unwrap_err().to_string();
        assert!(error.ends_with("install it with: apt-get install no-such-program"), "{error}");
    }
}
