// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What it costs to save a guest, to restore it in place and after its end, and to start another one from the snapshot.

use std::time::{Duration, Instant};

use engine::session::Session;
use protocol::{Batch, Buffer, Outcome as Answer, Step};

use crate::{Outcome, guest};

/// Room for one step.
const LIMIT: Duration = Duration::from_secs(30);

/// Boots a guest, and restores it `rounds` times after a small case.
pub fn restore(platform: &str, vmlinux: &str, rounds: u32) -> Outcome<()> {
    let started = Instant::now();
    let mut session = guest::session(platform, vmlinux, "")?;
    println!("boot {:?}", started.elapsed());
    let started = Instant::now();
    let saved = session.save()?;
    println!("save {:?} ({} MiB)", started.elapsed(), saved.filled() >> 20);
    for round in 0..rounds {
        let started = Instant::now();
        let outcomes = case(&mut session)?;
        let ran = started.elapsed();
        let started = Instant::now();
        let stats = session.restore(&saved)?;
        println!(
            "round {round}: case {ran:?} restore {:?} {stats:?} {:?}",
            started.elapsed(),
            outcomes.last()
        );
    }
    for round in 0..3 {
        let started = Instant::now();
        let mut other = saved.start()?;
        let start = started.elapsed();
        let started = Instant::now();
        case(&mut other)?;
        let ran = started.elapsed();
        let started = Instant::now();
        let stats = other.restore(&saved)?;
        println!("start {round}: {start:?} case {ran:?} restore {:?} {stats:?}", started.elapsed());
    }
    for round in 0..3 {
        let mut batch = Batch::new().new_worker();
        batch.push(&Step::Reset { kind: protocol::Reset::Restart });
        let end = session.execute(&batch, LIMIT).map(|_| session.await_end(LIMIT));
        let started = Instant::now();
        session = session.revive(&saved)?;
        let revived = started.elapsed();
        let started = Instant::now();
        case(&mut session)?;
        println!(
            "revive {round}: {revived:?}, then case {:?} ({:?})",
            started.elapsed(),
            end.map(|e| e.text)
        );
    }
    Ok(())
}

fn case(session: &mut Session) -> Outcome<Vec<Answer>> {
    let mut outcomes = Vec::new();
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
        outcomes.extend(session.execute(&batch, LIMIT)?.outcomes);
    }
    Ok(outcomes)
}
