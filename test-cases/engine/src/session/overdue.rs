// SPDX-License-Identifier: Apache-2.0 OR MIT
//! By when the thread of a guest must be back from running it: for a watchdog on another thread, which must not wait for
//! any lock that thread may hold.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds since [`start`]; 0 while no guest runs. One guest runs at a time.
static BACK_BY: AtomicU64 = AtomicU64::new(0);

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// A guest runs, until this is dropped.
pub(super) struct Running(());

impl Running {
    /// The guest's thread must be back by then.
    pub(super) fn until(deadline: Instant) -> Self {
        let millis = deadline.saturating_duration_since(start()).as_millis();
        BACK_BY.store(u64::try_from(millis).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        BACK_BY.store(0, Ordering::Relaxed);
    }
}

/// For how long a guest's thread has been overdue.
pub fn overdue() -> Duration {
    match BACK_BY.load(Ordering::Relaxed) {
        0 => Duration::ZERO,
        millis => start().elapsed().saturating_sub(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_overdue_only_while_it_runs_and_past_its_deadline() {
        let running = Running::until(Instant::now() + Duration::from_secs(60));
        assert_eq!(overdue(), Duration::ZERO);
        drop(running);
        let running = Running::until(Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        assert!(overdue() >= Duration::from_millis(10));
        drop(running);
        assert_eq!(overdue(), Duration::ZERO);
    }
}
