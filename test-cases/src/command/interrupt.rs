// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ctrl-C: the first SIGINT stops the run and writes its reports; the second ends the process at once.
//!
//! A command that runs inside QEMU for this one gets end-of-file on its standard input instead of the signal.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Failed, watchdog};
use crate::exit::Exit;

/// Set for a command that treats end-of-file on its standard input as SIGINT.
const STDIN_STOPS: &str = "COPRA_STDIN_STOPS";
/// How often the outer command polls whether the inner one has ended.
const PACE: Duration = Duration::from_millis(20);

/// How long the inner command may take to end after a signal: its own watchdog acts long before.
const AFTER_SIGNAL: Duration = Duration::from_secs(20);
/// How long it may take after it was terminated.
const AFTER_TERMINATION: Duration = Duration::from_secs(5);

/// A flag that SIGINT and SIGTERM set, or end-of-file from the outer command. A watchdog ends the process if its guest does not stop.
pub fn flag() -> Result<Arc<AtomicBool>, Failed> {
    let flag = signals()?;
    watchdog::start(&flag, watchdog::Stuck::exit);
    Ok(flag)
}

/// The flag without the watchdog.
pub fn signals() -> Result<Arc<AtomicBool>, Failed> {
    let flag = own_signals()?;
    if std::env::var_os(STDIN_STOPS).is_some() {
        let flag = Arc::clone(&flag);
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(io::stdin().read(&mut byte), Ok(1)) {}
            flag.store(true, Ordering::Relaxed);
        });
    }
    Ok(flag)
}

pub(super) fn own_signals() -> Result<Arc<AtomicBool>, Failed> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let flag = Arc::clone(&flag);
        // One action, not one that sets the flag and one that ends the process: between their registrations a signal would
        // be lost.
        let action = move || {
            if flag.swap(true, Ordering::Relaxed) {
                signal_hook::low_level::exit(i32::from(Exit::Interrupted.code()));
            }
        };
        // SAFETY: the action swaps an atomic and calls _exit(2), which signal handlers may do (signal-safety(7)).
        unsafe { signal_hook::low_level::register(signal, action) }
            .map_err(|error| Failed::new(format!("preparing for Ctrl-C: {error}")))?;
    }
    Ok(flag)
}

/// Runs a command to its end; Ctrl-C closes its standard input, and kills it if it does not end.
/// Output that the caller made a pipe of is copied to standard output.
pub fn pass_on(command: &mut Command) -> Result<ExitStatus, Failed> {
    let failed = |error: io::Error| Failed::new(format!("running a KVM host: {error}"));
    let flag = own_signals()?;
    // A group of its own, so that a terminal's Ctrl-C does not end it before its reports are written.
    command.stdin(Stdio::piped()).env(STDIN_STOPS, "1").process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let mut line = child.stdin.take();
    let forwarding = child.stdout.take().map(|output| std::thread::spawn(move || forward(output)));
    let end = await_end(&mut child, &flag, |interrupted| {
        if interrupted {
            drop(line.take());
        }
    });
    if let Some(forwarding) = forwarding.filter(|_| end.is_ok()) {
        let _ = forwarding.join();
    }
    end.map_err(failed)
}

/// Waits for the end of a command that runs in a process group of its own. `turn` is called at each look, with whether a signal
/// has come: it passes that on. If the command does not end then, it is terminated and at last killed.
pub(super) fn await_end(
    child: &mut Child,
    flag: &AtomicBool,
    mut turn: impl FnMut(bool),
) -> io::Result<ExitStatus> {
    let mut signalled: Option<Instant> = None;
    let mut sent = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let interrupted = flag.load(Ordering::Relaxed);
        turn(interrupted);
        if interrupted {
            let waited = signalled.get_or_insert_with(Instant::now).elapsed();
            let signal = due(waited);
            if signal.is_some() && signal != sent {
                eprintln!(
                    "copra: the KVM host did not stop in time ({} s after the signal)",
                    waited.as_secs()
                );
                end_group(child, signal.unwrap_or(libc::SIGKILL));
                sent = signal;
            }
        }
        std::thread::sleep(PACE);
    }
}

/// Copies all of a command's output to standard output, and discards the rest once standard output is closed.
fn forward(mut output: impl Read) {
    let mut buffer = vec![0; 64 << 10];
    let mut is_read = true;
    while let Ok(len @ 1..) = output.read(&mut buffer) {
        is_read =
            is_read && io::stdout().write_all(&buffer[..len]).and_then(|()| io::stdout().flush()).is_ok();
    }
}

/// The signal that is due for the inner command this long after SIGINT.
fn due(waited: Duration) -> Option<libc::c_int> {
    if waited >= AFTER_SIGNAL + AFTER_TERMINATION {
        Some(libc::SIGKILL)
    } else if waited >= AFTER_SIGNAL {
        Some(libc::SIGTERM)
    } else {
        None
    }
}

/// Signals the process group that `child` leads.
fn end_group(child: &Child, signal: libc::c_int) {
    let Ok(group) = libc::pid_t::try_from(child.id()) else { return };
    // SAFETY: kill(2) reads nothing of this process. The group is the child's own, made when it was started, and the child
    // was not waited for yet, so its process group id is not reused.
    unsafe { libc::kill(-group, signal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_ignores_signals_is_killed() {
        assert_eq!(due(Duration::ZERO), None);
        assert_eq!(due(AFTER_SIGNAL), Some(libc::SIGTERM));
        assert_eq!(due(AFTER_SIGNAL + AFTER_TERMINATION), Some(libc::SIGKILL));
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM INT; sleep 60 & wait; sleep 60"]).process_group(0);
        let mut child = command.spawn().unwrap();
        end_group(&child, libc::SIGKILL);
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
}
