// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of other people's making, run to their end with their output caught.

use core::ffi::CStr;

use protocol::{Errno, MAX_ARGUMENTS};

use crate::syscall::{self, File, Result};

/// How often a silent program is looked at.
const PACE_MS: u32 = 50;
const NO_HANG: u32 = 1;
const ETIMEDOUT: Errno = Errno(110);
const E2BIG: Errno = Errno(7);

/// Lists for `execve`: each ends with a null pointer.
struct Lists {
    arguments: [*const u8; MAX_ARGUMENTS + 2],
    environment: [*const u8; 3],
}

/// Runs a program until it ends; gives its wait status and how many bytes of its output are in `output`. `tick` is called
/// now and then, so that the wait is not taken for a hang.
pub fn run(
    path: &CStr,
    arguments: &[u8],
    output: &mut [u8],
    limit_ms: u32,
    tick: impl Fn(),
) -> Result<(i32, usize)> {
    let lists = lists(path, arguments)?;
    let out = syscall::pipe()?;
    let failure = match syscall::pipe() {
        Ok(pipe) => pipe,
        Err(errno) => {
            close([out.reads, out.writes]);
            return Err(errno);
        }
    };
    let process = match syscall::fork() {
        Ok(0) => become_program(path, &lists, out.writes, failure.writes),
        Ok(process) => process,
        Err(errno) => {
            close([out.reads, out.writes]);
            close([failure.reads, failure.writes]);
            return Err(errno);
        }
    };
    close([out.writes, failure.writes]);
    let result = watch(process, out.reads, failure.reads, output, limit_ms, tick);
    close([out.reads, failure.reads]);
    result
}

fn close(files: [File; 2]) {
    for file in files {
        let _ = syscall::close(file);
    }
}

fn lists(path: &CStr, arguments: &[u8]) -> Result<Lists> {
    let mut lists = Lists {
        arguments: [core::ptr::null(); MAX_ARGUMENTS + 2],
        environment: [
            c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".as_ptr().cast(),
            c"LC_ALL=C".as_ptr().cast(),
            core::ptr::null(),
        ],
    };
    lists.arguments[0] = path.as_ptr().cast();
    let texts = arguments.split_inclusive(|&byte| byte == 0);
    for (index, text) in texts.enumerate() {
        // The last place stays null.
        let place = lists.arguments.get_mut(1..=MAX_ARGUMENTS).and_then(|places| places.get_mut(index));
        *place.filter(|_| text.ends_with(&[0])).ok_or(E2BIG)? = text.as_ptr();
    }
    Ok(lists)
}

/// The child's part: never comes back. What keeps it from becoming the program goes into `failure`.
fn become_program(path: &CStr, lists: &Lists, out: File, failure: File) -> ! {
    syscall::end_with_parent();
    // What it starts can be ended with it.
    let _ = syscall::setpgid(0, 0);
    syscall::restore_sigpipe();
    if let Ok(nothing) = syscall::open(c"/dev/null", syscall::O_RDWR, 0) {
        let _ = syscall::duplicate(nothing, 0);
    }
    let _ = syscall::duplicate(out, 1);
    let _ = syscall::duplicate(out, 2);
    // SAFETY: the lists hold texts of ours that end with zero, and end with null.
    let Errno(number) = unsafe { syscall::execute(path, &lists.arguments, &lists.environment) };
    let _ = syscall::write(failure, &number.to_le_bytes());
    syscall::exit(127)
}

fn watch(
    process: i32,
    out: File,
    failure: File,
    output: &mut [u8],
    limit_ms: u32,
    tick: impl Fn(),
) -> Result<(i32, usize)> {
    let mut number = [0; 2];
    // The kernel closes the other end when the program takes over.
    if syscall::read(failure, &mut number) == Ok(2) {
        let _ = syscall::wait(process, 0);
        return Err(Errno(u16::from_le_bytes(number)));
    }
    let end = syscall::milliseconds() + u64::from(limit_ms);
    let (mut len, mut open, mut exit) = (0, true, None);
    loop {
        tick();
        if open && syscall::wait_readable(out, PACE_MS) {
            let mut surplus = [0; 256];
            let place = output.get_mut(len..).filter(|place| !place.is_empty());
            let kept = place.is_some();
            match syscall::read(out, place.unwrap_or(&mut surplus)) {
                Ok(count) if count > 0 => len += if kept { count } else { 0 },
                _ => open = false,
            }
        } else if exit.is_some() {
            // It has exited and its output has paused: a process it started may hold the pipe open for ever.
            break;
        } else if !open {
            syscall::sleep(1);
        }
        if exit.is_none()
            && let Ok((gone, status)) = syscall::wait(process, NO_HANG)
            && gone == process
        {
            exit = Some(status);
        }
        if syscall::milliseconds() > end {
            break;
        }
    }
    // All that is left of its group, itself included.
    let _ = syscall::kill(-process, syscall::SIGKILL);
    if exit.is_none() {
        let _ = syscall::wait(process, 0);
    }
    exit.map(|status| (status, len)).ok_or(ETIMEDOUT)
}
