// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several guests in one process.

use std::thread;
use std::time::Instant;

use engine::session::{SavedGuest, Session};

use crate::figures::{MIB, print_ratio};
use crate::{Outcome, guest, restore};

/// Guests at the same time.
const GUESTS: [usize; 3] = [1, 2, 4];
/// Cases of all guests together, each followed by a restore.
const CASES: usize = 600;
/// Cases of each guest before, in which its memory is mapped.
const BEFORE: usize = 2;

/// Boots a guest, starts others from it, and prints what a fixed number of cases takes in them, and their memory.
pub fn guests(platform: &str, vmlinux: &str) -> Outcome<()> {
    let mut first = guest::session(platform, vmlinux, "")?;
    let saved = first.save()?;
    let mut sessions = vec![first];
    let (mut seconds_of_one, mut resident_of_one) = (0.0, 0);
    for count in GUESTS {
        while sessions.len() < count {
            sessions.push(saved.start()?);
        }
        for session in &mut sessions {
            run(session, &saved, BEFORE)?;
        }
        let started = Instant::now();
        thread::scope(|scope| {
            let run =
                |session| scope.spawn(|| run(session, &saved, CASES / count).map_err(|e| e.to_string()));
            let threads: Vec<_> = sessions.iter_mut().map(run).collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err("a guest's thread panicked".to_owned()))
            })
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let resident = guest::own_resident()?;
        if count == 1 {
            (seconds_of_one, resident_of_one) = (seconds, resident);
            println!("guests {platform}, 1: {seconds:.3} s for {CASES} cases");
            continue;
        }
        let more = resident.saturating_sub(resident_of_one) as f64 / MIB / (count - 1) as f64;
        let of_guest = sessions.last().map_or(Ok(0), |last| last.machine().memory().resident())?;
        println!(
            "guests {platform}, {count}: {seconds:.3} s for {CASES} cases; {more:.1} MiB resident for each guest beyond the first, \
             {:.1} of them guest memory",
            of_guest as f64 / MIB
        );
        print_ratio(&format!("guests-{count}-{platform}/guests-1-{platform}"), seconds / seconds_of_one);
    }
    Ok(())
}

fn run(session: &mut Session, saved: &SavedGuest, cases: usize) -> Outcome<()> {
    for _ in 0..cases {
        restore::case(session)?;
        session.restore(saved)?;
    }
    Ok(())
}
