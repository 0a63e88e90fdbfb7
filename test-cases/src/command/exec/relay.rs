// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The outer command, where this machine's KVM does not work: it sends input, terminal size and Ctrl-C to the same command on the KVM
//! host in QEMU.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::frames::{Frame, MOST};
use super::terminal::{RawTerminal, size};
use crate::command::{Failed, host, interrupt};

/// Set for a command whose standard input is [`Frame`]s.
pub const FRAMES: &str = "COPRA_FRAMES";

/// Whether this is the inner command.
pub fn is_framed() -> bool {
    std::env::var_os(FRAMES).is_some()
}

/// Runs this command on the KVM host in QEMU; its exit code. `terminal`: the guest's terminal is the user's.
pub fn run(terminal: bool) -> Result<u8, Failed> {
    let failed = |error: io::Error| Failed::new(format!("running a KVM host: {error}"));
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut command = host::elsewhere(&arguments).map_err(Failed::new)?;
    // A group of its own, so that a terminal's Ctrl-C does not end it before it has reported.
    command.stdin(Stdio::piped()).env(FRAMES, "1").process_group(0);
    let flag = interrupt::own_signals()?;
    let resized = Arc::new(AtomicBool::new(terminal));
    signal_hook::flag::register(signal_hook::consts::SIGWINCH, Arc::clone(&resized)).map_err(failed)?;
    let _raw = if terminal { RawTerminal::set().map_err(failed)? } else { None };
    let mut child = command.spawn().map_err(failed)?;
    let to = Arc::new(Mutex::new(child.stdin.take()));
    let input = Arc::clone(&to);
    // It ends with the process: a read of a terminal or pipe cannot be called off.
    std::thread::spawn(move || send_input(&input));
    let mut sent = false;
    let status = interrupt::await_end(&mut child, &flag, |interrupted| {
        if resized.swap(false, Ordering::Relaxed)
            && let Some((columns, rows)) = size()
        {
            send(&to, &Frame::Size(columns, rows));
        }
        if interrupted && !std::mem::replace(&mut sent, true) {
            send(&to, &Frame::Interrupt);
        }
    });
    Ok(host::code(status.map_err(failed)?))
}

fn send_input(to: &Mutex<Option<ChildStdin>>) {
    let mut buffer = vec![0; MOST];
    loop {
        let frame = match io::stdin().lock().read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => Frame::End,
            Ok(count) => Frame::Data(buffer[..count].to_vec()),
        };
        send(to, &frame);
        if frame == Frame::End {
            return;
        }
    }
}

/// A command that has ended takes nothing.
fn send(to: &Mutex<Option<ChildStdin>>, frame: &Frame) {
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = to.as_mut().map(|to| frame.write(to));
}
