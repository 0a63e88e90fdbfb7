// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Workers: how they end, how they are replaced, and what they may.

use std::io::Write;
use std::time::Duration;

use protocol::{Batch, Buffer, Errno, Event, Outcome, Refusal, Step};

use crate::harness::{Agent, KILL, data, failed, open};

const GETPID: u32 = 39;
const PAUSE: u32 = 34;

#[test]
fn a_killed_worker_is_an_outcome_and_is_replaced() {
    let mut agent = Agent::start();
    let path = agent.pages(1);
    let outcomes = agent.steps(&[
        open(&path, 0),
        Step::Syscall { number: KILL, arguments: [0, 9, 0, 0, 0, 0] },
        Step::Uname,
        Step::Uname,
    ]);
    assert_eq!(
        outcomes,
        [Outcome::Value(0), Outcome::Killed { signal: 9 }, Outcome::NotRun, Outcome::NotRun]
    );
    let mut batch = Batch::new();
    batch.push(&Step::Read { file: 0, len: 1, buffer: Buffer::Good });
    batch.push(&open(&path, 0));
    let results = agent.run(&batch);
    assert!(results.fresh);
    assert_eq!(results.outcomes, [Outcome::Refused(Refusal::File), Outcome::Value(0)]);
    let mut batch = Batch::new();
    batch.push(&Step::Read { file: 0, len: 1, buffer: Buffer::Good });
    let results = agent.run(&batch);
    assert!(!results.fresh, "files stay open across batches");
    assert_eq!(results.outcomes, [data(&[0])]);
    let results = agent.run(&{
        let mut batch = Batch::new().new_worker();
        batch.push(&Step::Close { file: 0 });
        batch
    });
    assert!(results.fresh);
    assert_eq!(results.outcomes, [Outcome::Refused(Refusal::File)]);
}

#[test]
fn a_worker_that_died_between_batches_is_replaced() {
    let mut agent = Agent::start();
    let Outcome::Value(process) =
        agent.steps(&[Step::Syscall { number: GETPID, arguments: [0; 6] }])[0].clone()
    else {
        panic!()
    };
    // SAFETY: a child of the agent's.
    unsafe { libc::kill(process as i32, libc::SIGKILL) };
    std::thread::sleep(Duration::from_millis(50));
    let results = agent.run(&{
        let mut batch = Batch::new();
        batch.push(&Step::Marker { value: 0 });
        batch
    });
    assert!(results.fresh);
    assert_eq!(results.outcomes, [Outcome::Value(0)]);
}

#[test]
fn workers_that_exit_are_distinguished_from_workers_that_are_killed() {
    let mut agent = Agent::start();
    assert_eq!(agent.steps(&[Step::ExitWorker, Step::Uname]), [Outcome::Value(0), Outcome::NotRun]);
    let exit = Step::Syscall { number: 60, arguments: [3, 0, 0, 0, 0, 0] };
    assert_eq!(agent.steps(&[exit]), [Outcome::Exited { status: 3 }]);
    let fork = Step::Syscall { number: 57, arguments: [0; 6] };
    assert_eq!(agent.steps(&[fork]), [Outcome::Refused(Refusal::Syscall)]);
}

#[test]
fn a_step_that_hangs_is_stopped() {
    let mut agent = Agent::start();
    let mut batch = Batch::new().step_limit(1_000);
    batch.push(&Step::Marker { value: 77 });
    batch.push(&Step::Syscall { number: PAUSE, arguments: [0; 6] });
    batch.push(&Step::Uname);
    let bytes = agent.link.send(&batch, &mut agent.memory).unwrap();
    agent.line.write_all(&bytes).unwrap();
    // It hangs for a second at least, and is seen there as soon as it is there.
    let seen = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        let position = agent.link.position(&mut agent.memory).unwrap();
        (position.step, position.marker) == (1, 77)
    });
    assert!(seen);
    let Event::Results(results) = agent.event() else { panic!() };
    assert_eq!(results.outcomes, [Outcome::Value(0), Outcome::Timeout { undead: false }, Outcome::NotRun]);
    assert_eq!(agent.steps(&[Step::Marker { value: 0 }]), [Outcome::Value(0)]);
}

#[test]
fn many_short_steps_are_not_a_hang() {
    let mut agent = Agent::start();
    let mut batch = Batch::new().step_limit(20);
    // Ten milliseconds each.
    let nap = Step::Syscall { number: 7, arguments: [0, 0, 10, 0, 0, 0] };
    batch.repeat(20, 0, 0, 0, &[nap]).unwrap();
    let Outcome::Sweep(sweep) = &agent.run(&batch).outcomes[0] else { panic!() };
    assert_eq!(sweep.finished(), 20);
}

#[test]
fn a_worker_gives_up_privileges_and_the_next_has_them_again() {
    // SAFETY: a query without side effects.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("not root: nothing to give up");
        return;
    }
    let mut agent = Agent::start();
    let path = agent.path("private");
    std::fs::write(&path, b"secret").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let outcomes = agent.steps(&[
        open(&path, 0),
        Step::DropCaps { mask: 1 << 1 | 1 << 2 },
        open(&path, 0),
        Step::SetUser { uid: 1000, gid: 1000, keep: false },
        Step::Syscall { number: 102, arguments: [0; 6] },
    ]);
    assert_eq!(outcomes[..2], [Outcome::Value(0), Outcome::Value(0)]);
    assert_eq!(outcomes[2], failed(Errno::EACCES));
    assert_eq!(outcomes[3..], [Outcome::Value(0), Outcome::Value(1000)]);
    let mut batch = Batch::new().new_worker();
    batch.push(&open(&path, 0));
    assert_eq!(agent.run(&batch).outcomes, [Outcome::Value(0)]);
}
