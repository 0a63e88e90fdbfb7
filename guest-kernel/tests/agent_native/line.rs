// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The serial port and the window: what travels where, and what damage does.

use std::io::Write;

use protocol::{Batch, Event, Outcome, Step};

use crate::harness::{Agent, data};

#[test]
fn without_a_window_everything_goes_over_the_line() {
    let mut agent = Agent::start_without_window();
    let path = agent.path("noise");
    let noise: Vec<u8> = (0u32..60_000).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let outcomes = agent.steps(&[
        Step::WriteFile { path: path.as_bytes(), create: true, data: &noise },
        Step::ReadFile { path: path.as_bytes(), offset: 0, len: 60_000 },
    ]);
    assert_eq!(outcomes, [Outcome::Value(60_000), data(&noise)]);
    assert!(agent.link.stats().received > 60_000 && agent.link.stats().window_missed == 1);
}

#[test]
fn with_a_window_next_to_nothing_goes_over_the_line() {
    let mut agent = Agent::start();
    let before = agent.link.stats();
    let path = agent.path("noise");
    let noise: Vec<u8> = (0u32..60_000).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let outcomes = agent.steps(&[
        Step::WriteFile { path: path.as_bytes(), create: true, data: &noise },
        Step::ReadFile { path: path.as_bytes(), offset: 0, len: 60_000 },
    ]);
    assert_eq!(outcomes, [Outcome::Value(60_000), data(&noise)]);
    let after = agent.link.stats();
    assert_eq!((after.received - before.received, after.sent - before.sent), (4, 4));
    assert_eq!(after.window_missed, 0);
}

#[test]
fn damage_on_the_line_is_refused_and_survived() {
    let mut agent = Agent::start();
    let mut batch = Batch::new();
    batch.push(&Step::Marker { value: 0 });
    agent.line.write_all(b"\xc5 [    1.234567] some kernel message \xc5\x48\n").unwrap();
    assert_eq!(agent.event(), Event::Refused(protocol::Error::Version));
    assert!(matches!(agent.event(), Event::Refused(_)));
    assert_eq!(agent.run(&batch).outcomes, [Outcome::Value(0)]);
    // Half a frame is dropped after a while.
    let bytes = agent.link.send(&batch, &mut agent.memory).unwrap();
    agent.line.write_all(&bytes[..2]).unwrap();
    assert_eq!(agent.event(), Event::Refused(protocol::Error::Truncated));
    assert_eq!(agent.run(&batch).outcomes, [Outcome::Value(0)]);
    // Results can be had once more, and so can the hello.
    let bytes = agent.link.attach();
    agent.line.write_all(&bytes).unwrap();
    assert!(matches!(agent.event(), Event::Hello(_)));
}
