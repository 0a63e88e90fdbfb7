// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's channel.

use std::time::{Duration, Instant};

use protocol::{Batch, Buffer, Step};

use crate::Outcome;
use crate::guest::session;

/// Steps and bytes per second over the agent's channel.
pub fn channel(vmlinux: &str) -> Outcome<()> {
    const STEPS: u64 = 1000;
    const LIMIT: Duration = Duration::from_secs(60);
    let mut session = session("sev", vmlinux, "")?;
    let mut batch = Batch::new().new_worker();
    batch.push(&Step::Open { file: 0, path: b"/dev/mem", flags: 0, mode: 0 });
    batch.push(&Step::Open { file: 1, path: b"/dev/urandom", flags: 0, mode: 0 });
    session.execute(&batch, LIMIT)?;
    let mut rate =
        |what: &str, per_batch: u64, unit: &str, batches: u32, fill: &dyn Fn(&mut Batch)| -> Outcome<()> {
            let started = Instant::now();
            let exits = session.machine().stats().exits;
            for _ in 0..batches {
                let mut batch = Batch::new();
                fill(&mut batch);
                session.execute(&batch, LIMIT)?;
            }
            let seconds = started.elapsed().as_secs_f64();
            let total = per_batch * u64::from(batches);
            let exits = session.machine().stats().exits - exits;
            println!(
                "channel {what}: {:.0} {unit}/s ({total} {unit} in {seconds:.2} s, {exits} exits)",
                total as f64 / seconds
            );
            Ok(())
        };
    let small = |i: u64| Step::Pread { file: 0, offset: 0x20000 + i % 4096, len: 16, buffer: Buffer::Good };
    rate("single steps, one to a frame", 1, "steps", 200, &|batch| batch.push(&small(0)))?;
    rate("small steps, 1000 to a frame", STEPS, "steps", 10, &|batch| {
        (0..STEPS).for_each(|i| batch.push(&small(i)));
    })?;
    rate("swept steps, 4096 by one", 4096, "steps", 5, &|batch| {
        let _ = batch.repeat(4096, 16, 1, 16, &[small(0)]);
    })?;
    rate("bytes from the guest", 48 << 10, "bytes", 20, &|batch| {
        batch.push(&Step::Read { file: 1, len: 48 << 10, buffer: Buffer::Good });
    })?;
    Ok(())
}
