// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ends a command whose guest's thread hangs, in `KVM_RUN`, in a userfault or at a lock: from a separate thread, which
//! needs nothing of the thread that hangs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::exit::Exit;
use engine::session::overdue;

/// How long the guest's thread has after Ctrl-C or SIGTERM; it polls for them every 100 ms.
const AFTER_SIGNAL: Duration = Duration::from_secs(5);
/// How long it has after a step's own deadline.
const AFTER_DEADLINE: Duration = Duration::from_secs(30);
/// How long the writing of reports may take before the process ends without them.
const FOR_REPORTS: Duration = Duration::from_secs(5);
/// Polling interval of the watchdog.
const PACE: Duration = Duration::from_millis(100);

/// Why the watchdog ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// It did not stop after a signal.
    Signal,
    /// It did not stop after a step's deadline.
    Deadline,
}

impl Stuck {
    /// The exit code.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Signal => Exit::Interrupted,
            Self::Deadline => Exit::CouldNotRun,
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, grace) = match self {
            Self::Signal => ("the signal that interrupted it", AFTER_SIGNAL),
            Self::Deadline => ("a step's deadline", AFTER_DEADLINE),
        };
        write!(f, "not run: the VMM did not stop in time ({} s after {what})", grace.as_secs())
    }
}

/// Watches until the process ends. `save` writes what was measured so far and gives the exit code.
pub fn start(interrupt: &Arc<AtomicBool>, save: impl FnOnce(Stuck) -> Exit + Send + 'static) {
    let interrupt = Arc::clone(interrupt);
    std::thread::spawn(move || {
        let stuck = watch(&interrupt, overdue, AFTER_SIGNAL);
        // Standard error may be a full pipe, so this thread bounds the time of the report.
        let writer = std::thread::spawn(move || {
            eprintln!("copra: {stuck}");
            save(stuck)
        });
        let until = Instant::now() + FOR_REPORTS;
        while !writer.is_finished() && Instant::now() < until {
            std::thread::sleep(PACE);
        }
        let exit = if writer.is_finished() { writer.join().ok() } else { None };
        let code = exit.unwrap_or_else(|| stuck.exit()).code();
        // SAFETY: `_exit` takes any code and runs none of the process's own code, which may wait for the guest's thread.
        unsafe { libc::_exit(i32::from(code)) }
    });
}

/// Returns when the guest's thread did not stop in time.
fn watch(interrupt: &AtomicBool, overdue: impl Fn() -> Duration, after_signal: Duration) -> Stuck {
    let mut signalled: Option<Instant> = None;
    loop {
        std::thread::sleep(PACE);
        if interrupt.load(Ordering::Relaxed)
            && signalled.get_or_insert_with(Instant::now).elapsed() >= after_signal
        {
            return Stuck::Signal;
        }
        if overdue() >= AFTER_DEADLINE {
            return Stuck::Deadline;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_noticed_by_signal_and_by_deadline() {
        let never = || Duration::ZERO;
        let begun = Instant::now();
        assert_eq!(watch(&AtomicBool::new(true), never, 3 * PACE), Stuck::Signal);
        assert!(begun.elapsed() >= 3 * PACE);
        assert_eq!(watch(&AtomicBool::new(false), || AFTER_DEADLINE, PACE), Stuck::Deadline);
    }

    #[test]
    fn each_reason_has_its_exit_code() {
        assert_eq!((Stuck::Signal.exit(), Stuck::Deadline.exit()), (Exit::Interrupted, Exit::CouldNotRun));
        assert!(Stuck::Deadline.to_string().starts_with("not run: the VMM did not stop in time"));
    }
}
