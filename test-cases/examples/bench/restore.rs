// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What it costs to save a guest, to restore it in place by the number of pages it wrote to, and after its end.

use std::time::{Duration, Instant};

use engine::session::{SavedGuest, Session};
use protocol::{Batch, Buffer, Reset, Step, Width};
use vmm::layout::PAGE_SIZE;
use vmm::snapshot::RestoreStats;

use crate::figures::{median, ms, print_ratio};
use crate::{Outcome, guest, kept};

/// Room for one step.
const LIMIT: Duration = Duration::from_secs(60);
/// Pages that the guest writes to, and how often, of which the median is printed: the less, the more an interrupt counts.
const PAGES: [(u32, usize); 4] = [(10, 41), (100, 41), (1000, 21), (10_000, 5)];
/// Restores after [`case`].
const CASES: usize = 61;
/// Ends of the guest.
const ENDS: usize = 3;

/// Boots a guest and prints what restoring it costs, and what it costs to keep it.
pub fn restore(platform: &str, vmlinux: &str) -> Outcome<()> {
    let started = Instant::now();
    let mut session = guest::session(platform, vmlinux, "")?;
    let boot = started.elapsed();
    let started = Instant::now();
    let saved = session.save()?;
    println!(
        "restore {platform}: booted in {:.1} ms, saved in {:.1} ms ({} MiB)",
        ms(boot),
        ms(started.elapsed()),
        saved.filled() >> 20
    );

    let after_case = after(&mut session, &saved, CASES, case)?;
    println!(
        "restore {platform} after a case of 4 steps: {:.3} ms, the case {:.3} ms ({})",
        after_case.restore,
        after_case.work,
        after_case.pages()
    );
    print_ratio(&format!("case-{platform}/boot-{platform}"), after_case.both() / ms(boot));
    for (pages, rounds) in PAGES {
        let after = after(&mut session, &saved, rounds, |session| write_to(session, pages))?;
        println!(
            "restore {platform} after writes to {pages} pages: {:.3} ms ({})",
            after.restore,
            after.pages()
        );
        print_ratio(&format!("restore-{pages}-{platform}/boot-{platform}"), after.restore / ms(boot));
    }
    let session = after_end(platform, session, &saved)?;
    drop(session);
    kept::keep_and_start(platform, &saved, boot)
}

/// Medians of what one kind of work costs.
struct After {
    /// Milliseconds of the work.
    work: f64,
    /// Milliseconds of the restore.
    restore: f64,
    /// Of the last restore.
    stats: RestoreStats,
}

impl After {
    fn both(&self) -> f64 {
        self.work + self.restore
    }

    fn pages(&self) -> String {
        format!("{} pages compared, {} restored", self.stats.compared, self.stats.changed)
    }
}

/// Has the guest do this work, and restores it, so many times after one that does not count.
fn after(
    session: &mut Session,
    saved: &SavedGuest,
    rounds: usize,
    work: impl Fn(&mut Session) -> Outcome<()>,
) -> Outcome<After> {
    let (mut works, mut restores, mut stats) = (Vec::new(), Vec::new(), RestoreStats::default());
    for round in 0..=rounds {
        let started = Instant::now();
        work(session)?;
        let worked = started.elapsed();
        let started = Instant::now();
        stats = session.restore(saved)?;
        if round > 0 {
            restores.push(ms(started.elapsed()));
            works.push(ms(worked));
        }
    }
    Ok(After { work: median(&works), restore: median(&restores), stats })
}

/// Restores a guest that has ended, which needs another VM.
fn after_end(platform: &str, mut session: Session, saved: &SavedGuest) -> Outcome<Session> {
    let mut times = Vec::new();
    for _ in 0..ENDS {
        let mut batch = Batch::new().new_worker();
        batch.push(&Step::Reset { kind: Reset::Restart });
        session.execute(&batch, LIMIT)?;
        session.await_end(LIMIT);
        let started = Instant::now();
        session = session.revive(saved)?;
        times.push(ms(started.elapsed()));
    }
    case(&mut session)?;
    println!("restore {platform} after its end, into another VM: {:.3} ms", median(&times));
    Ok(session)
}

/// A small case: four steps, each in a batch of its own.
pub fn case(session: &mut Session) -> Outcome<()> {
    let steps = [
        Step::Open { file: 0, path: b"/dev/mem", flags: 0, mode: 0 },
        Step::Pread { file: 0, offset: 0x20000, len: 64, buffer: Buffer::Good },
        Step::Pread { file: 0, offset: 0xf0000, len: 64, buffer: Buffer::Good },
        Step::Uname,
    ];
    for (index, step) in steps.iter().enumerate() {
        let mut batch = Batch::new();
        if index == 0 {
            batch = batch.new_worker();
        }
        batch.push(step);
        session.execute(&batch, LIMIT)?;
    }
    Ok(())
}

/// Has the guest write to so many pages that it did not use before.
fn write_to(session: &mut Session, pages: u32) -> Outcome<()> {
    /// What `mmap(2)` takes for no file.
    const NO_FILE: u8 = 255;
    let mut batch = Batch::new().new_worker();
    batch.push(&Step::Mmap {
        map: 0,
        file: NO_FILE,
        offset: 0,
        len: u64::from(pages) * PAGE_SIZE,
        prot: (libc::PROT_READ | libc::PROT_WRITE).cast_unsigned(),
        flags: (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).cast_unsigned(),
    });
    let poke = Step::Poke { map: 0, offset: 0, data: b"written!", width: Width::Quad };
    batch
        .repeat(pages, PAGE_SIZE.cast_signed(), 1, 0, &[poke])
        .map_err(|error| format!("a write to each of {pages} pages: {error:?}"))?;
    session.execute(&batch, LIMIT)?;
    Ok(())
}
