// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A command of the user's: under another root folder, with standard files of its own, for as long as it takes.

use core::ffi::CStr;

use protocol::{Errno, MAX_PATH};

use crate::syscall::{self, File, Result};

const NO_HANG: u32 = 1;
const E2BIG: Errno = Errno(7);
const ENOENT: Errno = Errno(2);
const EINVAL: Errno = Errno(22);
/// A terminal becomes the one that controls the session (`TIOCSCTTY`).
const TAKE_TERMINAL: u32 = 0x540e;
/// Waits until a terminal's output is written (`TCSBRK`).
const DRAIN_TERMINAL: u32 = 0x5409;
/// Longest pause between two looks at whether it has ended.
const LONGEST_PAUSE_MS: u32 = 10;
/// Texts in arguments or environment, with the null pointer behind them.
const TEXTS: usize = 4096;

/// What is run; lists are texts that each end with a zero byte.
pub struct Command<'a> {
    pub root: &'a [u8],
    pub folder: &'a [u8],
    /// Paths of standard input, output and error.
    pub files: &'a [u8],
    pub terminal: bool,
    pub arguments: &'a [u8],
    pub environment: &'a [u8],
}

impl Command<'_> {
    /// Runs it; gives its wait status. `tick` is called now and then, so that the wait is not taken for a hang.
    pub fn run(&self, tick: impl Fn()) -> Result<i32> {
        let arguments = texts(self.arguments)?;
        let environment = texts(self.environment)?;
        let mut places = [[0; MAX_PATH + 1]; 2];
        let [root, folder] = &mut places;
        let (root, folder) = (with_zero(self.root, root)?, with_zero(self.folder, folder)?);
        let failure = syscall::pipe()?;
        let process = match syscall::fork() {
            Ok(0) => {
                let Err(Errno(number)) = self.become_program(root, folder, arguments, environment);
                let _ = syscall::write(failure.writes, &number.to_le_bytes());
                syscall::exit(127)
            }
            Ok(process) => process,
            Err(errno) => {
                let _ = syscall::close(failure.reads);
                let _ = syscall::close(failure.writes);
                return Err(errno);
            }
        };
        let _ = syscall::close(failure.writes);
        let mut number = [0; 2];
        // The kernel closes the other end when the program takes over.
        let failed = syscall::read(failure.reads, &mut number) == Ok(2);
        let _ = syscall::close(failure.reads);
        if failed {
            let _ = syscall::wait(process, 0);
            return Err(Errno(u16::from_le_bytes(number)));
        }
        let status = wait(process, tick)?;
        if self.terminal {
            self.drain();
        }
        Ok(status)
    }

    /// The child's part. Comes back only with what keeps it from becoming the program.
    fn become_program(
        &self,
        root: &CStr,
        folder: &CStr,
        arguments: &[*const u8],
        environment: &[*const u8],
    ) -> Result<core::convert::Infallible> {
        syscall::end_with_parent();
        // A session of its own: a signal to its group does not reach the agent.
        let _ = syscall::setsid();
        syscall::restore_sigpipe();
        let mut open = [0; 3];
        for (index, (path, file)) in self.files.split_inclusive(|&byte| byte == 0).zip(&mut open).enumerate() {
            let path = CStr::from_bytes_with_nul(path).map_err(|_| EINVAL)?;
            let access = match (self.terminal, index) {
                (true, _) => syscall::O_RDWR,
                (false, 0) => 0,
                (false, _) => syscall::O_WRONLY,
            };
            // Above the standard files, which are still those of the agent.
            *file = syscall::open(path, access | syscall::O_CLOEXEC, 0)?;
        }
        for (from, to) in open.into_iter().zip(0..) {
            syscall::duplicate(from, to)?;
        }
        if self.terminal {
            syscall::ioctl(0, TAKE_TERMINAL, 0)?;
        }
        syscall::chroot(root)?;
        syscall::chdir(folder)?;
        Err(self.execute(arguments, environment))
    }

    /// Executes what the first argument names: a path, or a program in one of the folders of `PATH`.
    fn execute(&self, arguments: &[*const u8], environment: &[*const u8]) -> Errno {
        let mut texts = self.arguments.split_inclusive(|&byte| byte == 0);
        let Some(name) = texts.next().and_then(|name| CStr::from_bytes_with_nul(name).ok()) else {
            return EINVAL;
        };
        // SAFETY: both lists hold texts that end with zero, and end with null.
        let attempt = |path: &CStr| unsafe { syscall::execute(path, arguments, environment) };
        if name.to_bytes().contains(&b'/') {
            return attempt(name);
        }
        let variables = self.environment.split(|&byte| byte == 0);
        let folders = variables.filter_map(|variable| variable.strip_prefix(b"PATH=")).next();
        let mut errno = ENOENT;
        for folder in folders.unwrap_or(b"/usr/bin:/bin").split(|&byte| byte == b':') {
            let mut place = [0; MAX_PATH + 1];
            let Ok(path) = joined(folder, name.to_bytes(), &mut place) else { continue };
            // As execvp(3): what was found and cannot be executed is reported before what was not found.
            match attempt(path) {
                ENOENT => {}
                other => errno = other,
            }
        }
        errno
    }

    /// Waits until what it wrote to its terminal is written.
    fn drain(&self) {
        let path = self.files.split_inclusive(|&byte| byte == 0).next();
        let Some(Ok(path)) = path.map(CStr::from_bytes_with_nul) else { return };
        if let Ok(terminal) = syscall::open(path, syscall::O_RDWR | syscall::O_NOCTTY | syscall::O_CLOEXEC, 0) {
            let _ = syscall::ioctl(terminal, DRAIN_TERMINAL, 1);
            let _ = syscall::close(terminal);
        }
    }
}

/// Waits for the end of a process; gives its wait status.
fn wait(process: File, tick: impl Fn()) -> Result<i32> {
    let mut pause = 0;
    loop {
        tick();
        match syscall::wait(process, NO_HANG)? {
            (gone, status) if gone == process => return Ok(status),
            _ => {}
        }
        syscall::sleep(pause);
        pause = (pause + 1).min(LONGEST_PAUSE_MS);
    }
}

/// Pointers to the texts, and a null pointer behind them.
fn texts(list: &[u8]) -> Result<&'static [*const u8]> {
    let bytes = syscall::memory((TEXTS + 1) * size_of::<*const u8>(), syscall::MAP_PRIVATE)?;
    // SAFETY: the memory is new, aligned to pages, zeroed, and as long as that.
    let pointers = unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<*const u8>(), TEXTS + 1) };
    for (index, text) in list.split_inclusive(|&byte| byte == 0).enumerate() {
        // The last place stays null.
        let place = pointers.get_mut(..TEXTS).and_then(|places| places.get_mut(index));
        *place.filter(|_| text.ends_with(&[0])).ok_or(E2BIG)? = text.as_ptr();
    }
    Ok(pointers)
}

fn with_zero<'a>(text: &[u8], place: &'a mut [u8; MAX_PATH + 1]) -> Result<&'a CStr> {
    let to = place.get_mut(..=text.len()).ok_or(E2BIG)?;
    to[..text.len()].copy_from_slice(text);
    CStr::from_bytes_with_nul(to).map_err(|_| EINVAL)
}

/// `folder/name`.
fn joined<'a>(folder: &[u8], name: &[u8], place: &'a mut [u8; MAX_PATH + 1]) -> Result<&'a CStr> {
    let len = folder.len() + 1 + name.len();
    let to = place.get_mut(..=len).ok_or(E2BIG)?;
    to[..folder.len()].copy_from_slice(folder);
    to[folder.len()] = b'/';
    to[folder.len() + 1..len].copy_from_slice(name);
    CStr::from_bytes_with_nul(to).map_err(|_| EINVAL)
}
