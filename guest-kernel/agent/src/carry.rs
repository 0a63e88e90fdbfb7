// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a worker hands to the program it becomes when it executes itself: in the directory page, which is a file's.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use protocol::Errno;
use protocol::window::Directory;

use crate::steps::State;
use crate::syscall::{self, File};
use crate::worker;

/// `ENOSYS`: a kernel without files in memory.
const ENOSYS: Errno = Errno(38);

/// Becomes the same program anew; comes back only when that fails.
pub fn execute(state: &State, window: Option<File>) -> Errno {
    let Some(window) = window else { return ENOSYS };
    state.carry(&state.directory().carried);
    let [orders, answers] = state.control();
    let kept = [orders, answers, window];
    for file in kept {
        let _ = syscall::close_on_exec(file, false);
    }
    let number = digits(window.cast_unsigned());
    let arguments =
        [c"agent".as_ptr().cast(), worker::RESUME.as_ptr().cast(), number.as_ptr(), core::ptr::null()];
    // SAFETY: the texts end with zero, and the lists with null.
    let errno = unsafe { syscall::execute(c"/proc/self/exe", &arguments, &[core::ptr::null()]) };
    for file in kept {
        let _ = syscall::close_on_exec(file, true);
    }
    errno
}

/// A number below 1000, and a zero.
fn digits(number: u32) -> [u8; 4] {
    let digit = |by: u32| b'0' + (number / by % 10) as u8;
    [digit(100), digit(10), digit(1), 0]
}

/// What was handed over.
pub fn take(directory: &'static Directory) -> syscall::Result<State> {
    let mut words = directory.carried.iter().map(|word| word.load(Relaxed));
    let mut next = || words.next().unwrap_or_default();
    let control = [next() as u32 as File, next() as u32 as File];
    let mut state = State::new(control, directory)?;
    state.depth = next() as u32;
    state.restore(next);
    Ok(state)
}

/// Writes words one after another.
pub struct Words<'a>(core::slice::Iter<'a, AtomicU64>);

impl<'a> Words<'a> {
    /// From the first on.
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self(words.iter())
    }

    /// Writes the next.
    pub fn put(&mut self, value: u64) {
        if let Some(word) = self.0.next() {
            word.store(value, Relaxed);
        }
    }
}
