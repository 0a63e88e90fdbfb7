// SPDX-License-Identifier: Apache-2.0 OR MIT
//! By when the thread of a guest must be back from running it: for a watchdog on another thread, which must not wait for
//! any lock that thread may hold.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Guests that run at the same time at most and are watched.
const SLOTS: usize = 256;
/// A guest's thread has taken the slot, and has no deadline yet.
const TAKEN: u64 = u64::MAX;

/// Of each guest that runs, milliseconds since [`start`]; 0 of a slot that no guest has.
static BACK_BY: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// A guest runs, until this is dropped.
pub(super) struct Running(Option<&'static AtomicU64>);

impl Running {
    /// The guest's thread must be back by then.
    pub(super) fn until(deadline: Instant) -> Self {
        let free =
            |slot: &&AtomicU64| slot.compare_exchange(0, TAKEN, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let slot = BACK_BY.iter().find(free);
        if let Some(slot) = slot {
            let millis = deadline.saturating_duration_since(start()).as_millis();
            slot.store(u64::try_from(millis).unwrap_or(TAKEN).max(1), Ordering::Relaxed);
        }
        Self(slot)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

/// For how long the thread of the guest that is latest has been overdue.
pub fn overdue() -> Duration {
    let latest = BACK_BY.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|millis| *millis != 0).min();
    latest.map_or(Duration::ZERO, |millis| start().elapsed().saturating_sub(Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_overdue_only_while_it_runs_and_past_its_deadline() {
        let running = Running::until(Instant::now() + Duration::from_secs(60));
        assert_eq!(overdue(), Duration::ZERO);
        drop(running);
        let others: Vec<Running> =
            (0..3).map(|_| Running::until(Instant::now() + Duration::from_secs(60))).collect();
        let running = Running::until(Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        assert!(overdue() >= Duration::from_millis(10));
        drop(running);
        assert_eq!(overdue(), Duration::ZERO);
        drop(others);
    }
}
