// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text for standard output. Much of it comes from a guest: kernel logs, symbols, output of programs.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::report::plain::plain;

/// Standard output could not be written, which was reported.
static FAILED: AtomicBool = AtomicBool::new(false);

/// `print!`, without control characters.
macro_rules! out {
    ($($text:tt)*) => { $crate::command::print::print(format_args!($($text)*)) };
}

/// `println!`, without control characters.
macro_rules! outln {
    () => { $crate::command::print::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::command::print::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints the text. EPIPE is not an error: the reader has ended.
pub fn print(text: Arguments<'_>) {
    let done = io::stdout().lock().write_all(plain(&text.to_string()).as_bytes());
    if let Err(error) = done
        && error.kind() != ErrorKind::BrokenPipe
        && !FAILED.swap(true, Ordering::Relaxed)
    {
        eprintln!("copra: writing to standard output: {error}; give it another place");
    }
}

/// Whether some text was lost.
pub fn has_failed() -> bool {
    io::stdout().lock().flush().is_err_and(|error| error.kind() != ErrorKind::BrokenPipe)
        || FAILED.load(Ordering::Relaxed)
}
