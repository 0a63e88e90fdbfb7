//! Ctrl-C: the first one lets the run end in order, reports written; the second ends at once.
//!
//! A command that runs inside QEMU for this one hears of it by the end of its standard input, which nothing else uses.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Failed;

/// Set for a command that is to take the end of its standard input for Ctrl-C.
const STDIN_STOPS: &str = "COPRA_STDIN_STOPS";
/// How often the outer command looks whether the inner one has ended.
const PACE: Duration = Duration::from_millis(20);

/// A flag that SIGINT and SIGTERM set, or the outer command.
pub fn flag() -> Result<Arc<AtomicBool>, Failed> {
    let flag = signals()?;
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

fn signals() -> Result<Arc<AtomicBool>, Failed> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Failed::new(format!("preparing for Ctrl-C: {error}")))?;
    }
    Ok(flag)
}

/// Runs a command to its end; Ctrl-C here becomes the end of its standard input. Output that the caller made a pipe of is
/// copied to standard output.
pub fn pass_on(command: &mut Command) -> Result<ExitStatus, Failed> {
    let failed = |error: io::Error| Failed::new(format!("running a KVM host: {error}"));
    let flag = signals()?;
    // A group of its own, so that a terminal's Ctrl-C does not end it before its reports are written.
    command.stdin(Stdio::piped()).env(STDIN_STOPS, "1").process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let mut line = child.stdin.take();
    let forwarding = child.stdout.take().map(|output| std::thread::spawn(move || forward(output)));
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            if let Some(forwarding) = forwarding {
                let _ = forwarding.join();
            }
            return Ok(status);
        }
        if flag.load(Ordering::Relaxed) {
            drop(line.take());
        }
        std::thread::sleep(PACE);
    }
}

/// Copies all of a command's output to standard output, and reads the rest if nobody takes it any more.
fn forward(mut output: impl Read) {
    let mut buffer = vec![0; 64 << 10];
    let mut is_read = true;
    while let Ok(len @ 1..) = output.read(&mut buffer) {
        is_read =
            is_read && io::stdout().write_all(&buffer[..len]).and_then(|()| io::stdout().flush()).is_ok();
    }
}
