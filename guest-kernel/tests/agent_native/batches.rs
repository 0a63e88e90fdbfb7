// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Batches as a whole: large ones, wrong ones, and the one that ends the guest.

use std::io::Write;

use protocol::{Batch, Buffer, Event, Outcome, Refusal, Reset, Step};

use crate::harness::{Agent, data, open};

#[test]
fn full_results_stop_the_batch_without_losing_any() {
    let mut agent = Agent::start();
    let path = agent.path("noise");
    let noise: Vec<u8> = (0u32..1 << 17).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&path, &noise).unwrap();
    let mut batch = Batch::new();
    batch.push(&open(&path, 0));
    for _ in 0..3 {
        batch.push(&Step::Read { file: 0, len: 30_000, buffer: Buffer::Good });
    }
    batch.push(&Step::Uname);
    let outcomes = agent.run(&batch).outcomes;
    assert_eq!(outcomes[1..3], [data(&noise[..30_000]), data(&noise[30_000..60_000])]);
    assert_eq!(outcomes[3..], [Outcome::NoRoom, Outcome::NotRun]);
    assert_eq!(
        agent.steps(&[Step::Read { file: 0, len: 30_000, buffer: Buffer::Good }]),
        [data(&noise[60_000..90_000])]
    );
    let mut batch = Batch::new();
    let read = Step::Pread { file: 0, offset: 0, len: 10_000, buffer: Buffer::Good };
    batch.repeat(8, 10_000, 1, 60_000, &[read]).unwrap();
    batch.push(&Step::Uname);
    let outcomes = agent.run(&batch).outcomes;
    let Outcome::Sweep(sweep) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(sweep.finished(), 6);
    assert_eq!(sweep.partial, Some(vec![Outcome::NoRoom]));
    assert_eq!(outcomes[1], Outcome::NotRun);
}

#[test]
fn nonsense_in_a_batch_is_refused_where_it_is() {
    use protocol::{Frame, Kind, Payload};
    let mut agent = Agent::start();
    let send = |agent: &mut Agent, payload: &[u8]| {
        // Something to expect results for.
        let mut batch = Batch::new();
        batch.push(&Step::Uname);
        batch.push(&Step::Uname);
        agent.link.send(&batch, &mut ()).unwrap();
        let mut bytes = Vec::new();
        Frame { kind: Kind::Batch, sequence: 0, reply_by_window: false, payload: Payload::Inline(payload) }
            .encode(&mut bytes);
        agent.line.write_all(&bytes).unwrap();
        agent.event()
    };
    let malformed = Outcome::Refused(Refusal::Malformed);
    let Event::Results(results) = send(&mut agent, &[0, 0, 0x1f, 0, 0xee]) else { panic!() };
    assert_eq!(results.outcomes, [Outcome::Value(0), malformed.clone()]);
    // A repeat of itself, one of nothing, one that is cut off.
    for payload in
        [&[0, 0, 0x22, 1, 1, 0, 1, 0, 0x22][..], &[0, 0, 0x22, 1, 0, 0, 1, 0], &[0, 0, 0x22, 1, 1, 0, 1, 0]]
    {
        let Event::Results(results) = send(&mut agent, payload) else { panic!() };
        assert_eq!(results.outcomes, [malformed.clone(), Outcome::NotRun]);
    }
    assert_eq!(send(&mut agent, &[]), Event::Refused(protocol::Error::Truncated));
    assert_eq!(send(&mut agent, &[0x80, 0]), Event::Refused(protocol::Error::Value));
}

#[test]
fn a_reset_is_answered_before_it_happens() {
    // Without a window: this agent's memory goes away with it, a guest's does not.
    let mut agent = Agent::start_without_window();
    assert_eq!(
        agent.steps(&[Step::Reset { kind: Reset::PowerOff }, Step::Uname]),
        [Outcome::Value(0), Outcome::NotRun]
    );
    assert!(agent.process.wait().unwrap().success());
}

#[test]
fn ten_thousand_small_steps_in_ten_frames() {
    let mut agent = Agent::start();
    let path = agent.pages(2);
    agent.steps(&[open(&path, 0)]);
    let mut batch = Batch::new();
    for offset in 0..1000 {
        batch.push(&Step::Pread { file: 0, offset, len: 4, buffer: Buffer::Good });
    }
    for _ in 0..10 {
        let outcomes = agent.run(&batch).outcomes;
        assert!(outcomes.iter().all(|outcome| *outcome == data(&[0; 4])));
    }
}
