// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The progress of fetching and building on standard error: one line rewritten in place on a terminal, else a line at
//! intervals.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use guest_kernel::{Amount, Progress, Unit};

/// Interval of lines where they cannot be overwritten.
const PACE: Duration = Duration::from_secs(15);
/// Interval of lines on a terminal.
const LIVE_PACE: Duration = Duration::from_millis(200);

/// Progress as lines.
pub struct Lines {
    quiet: bool,
    live: bool,
    state: Mutex<State>,
}

struct State {
    step: String,
    printed: Instant,
    pending: bool,
}

impl Lines {
    /// To standard error; with `quiet`, only notes.
    pub fn new(quiet: bool) -> Self {
        let state = State { step: String::new(), printed: Instant::now(), pending: false };
        Self { quiet, live: io::stderr().is_terminal(), state: Mutex::new(state) }
    }

    fn with(&self, act: impl FnOnce(&mut State)) {
        act(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for Lines {
    fn step(&self, what: &str) {
        self.with(|state| {
            finish(state);
            what.clone_into(&mut state.step);
            state.printed = Instant::now();
            if !self.quiet {
                eprintln!("copra: {what}");
            }
        });
    }

    fn advance(&self, amount: Amount) {
        self.with(|state| {
            let pace = if self.live { LIVE_PACE } else { PACE };
            if self.quiet || state.printed.elapsed() < pace {
                return;
            }
            state.printed = Instant::now();
            if self.live {
                state.pending = true;
                eprint!("\r\x1b[K  {}", shown(amount));
                let _ = io::stderr().flush();
            } else {
                eprintln!("copra: {}: {}", state.step, shown(amount));
            }
        });
    }

    fn note(&self, what: &str) {
        self.with(|state| {
            finish(state);
            eprintln!("copra: {what}");
        });
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.with(finish);
    }
}

/// Does something, and reports it on standard error if it takes longer than a second.
pub fn after_a_second<T>(quiet: bool, what: &str, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if is_done.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) && !quiet {
                eprintln!("copra: {what}");
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn finish(state: &mut State) {
    if std::mem::take(&mut state.pending) {
        eprint!("\r\x1b[K");
    }
}

fn shown(amount: Amount) -> String {
    let (divisor, unit) = match amount.unit {
        Unit::Bytes => (1 << 20, " MiB"),
        Unit::Objects => (1, " objects"),
        Unit::Percent => (1, " %"),
    };
    match amount.total {
        Some(total) if amount.unit != Unit::Percent => {
            format!("{} of {}{unit}", amount.done / divisor, total / divisor)
        }
        _ => format!("{}{unit}", amount.done / divisor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        assert_eq!(shown(Amount::bytes(5 << 20, 34 << 20)), "5 of 34 MiB");
        assert_eq!(shown(Amount::objects(12, None)), "12 objects");
        assert_eq!(shown(Amount::percent(7)), "7 %");
    }
}
