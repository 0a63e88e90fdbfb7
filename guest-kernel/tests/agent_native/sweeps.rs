// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Steps that are repeated.

use protocol::{Batch, Buffer, Outcome, Step, Width};

use crate::harness::{Agent, KILL, PRIVATE, SIGSEGV, data, open};

#[test]
fn sweeps_count_equal_iterations_together() {
    let mut agent = Agent::start();
    let path = agent.path("sweep");
    let mut content = vec![0; 4096 * 4096];
    content[7 * 4096 + 100] = 1;
    std::fs::write(&path, content).unwrap();
    let mut batch = Batch::new();
    batch.push(&open(&path, 0));
    let read = Step::Pread { file: 0, offset: 0, len: 4096, buffer: Buffer::Good };
    batch.repeat(4100, 4096, 1, 8, &[read, Step::Lseek { file: 0, offset: 5, whence: 0 }]).unwrap();
    batch.push(&Step::Close { file: 0 });
    assert!(batch.payload().len() < 100);
    let outcomes = agent.run(&batch).outcomes;
    let Outcome::Sweep(sweep) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[2], Outcome::Value(0));
    let ranges: Vec<_> = sweep.ranges().map(|(range, _)| range).collect();
    assert_eq!(ranges, [0..7, 7..8, 8..4096, 4096..4100]);
    for run in &sweep.runs {
        assert_eq!(run.outcomes[1], Outcome::Value(5));
    }
    let digests: Vec<u64> = sweep
        .runs
        .iter()
        .map(|run| match &run.outcomes[0] {
            Outcome::Data { data, .. } => data.digest(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(digests[0], digests[2]);
    assert_ne!(digests[0], digests[1]);
    assert_eq!(sweep.partial, None);
}

#[test]
fn a_sweep_that_kills_reports_where() {
    let mut agent = Agent::start();
    let mut batch = Batch::new();
    let path = agent.pages(2);
    batch.push(&open(&path, 0));
    batch.push(&map_pages_private());
    let access = Step::Peek { map: 0, offset: 0, len: 4, width: Width::Long };
    batch.repeat(4, 4096, 1, 16, &[access, Step::Marker { value: 0 }]).unwrap();
    batch
        .repeat(
            2,
            0,
            0,
            16,
            &[Step::Marker { value: 1 }, Step::Syscall { number: KILL, arguments: [0, 9, 0, 0, 0, 0] }],
        )
        .unwrap();
    batch.push(&Step::Uname);
    let outcomes = agent.run(&batch).outcomes;
    let Outcome::Sweep(sweep) = &outcomes[2] else { panic!("{outcomes:?}") };
    assert_eq!(sweep.finished(), 4);
    assert_eq!(sweep.runs[1].outcomes[0], data(&[1; 4]));
    assert!(matches!(sweep.runs[2].outcomes[0], Outcome::Signal { signal: SIGSEGV, .. }));
    let Outcome::Sweep(sweep) = &outcomes[3] else { panic!("{outcomes:?}") };
    assert_eq!(sweep.runs, []);
    assert_eq!(sweep.partial, Some(vec![Outcome::Value(0), Outcome::Killed { signal: 9 }]));
    assert_eq!(outcomes[4], Outcome::NotRun);
}

fn map_pages_private() -> Step<'static> {
    Step::Mmap { map: 0, file: 0, offset: 0, len: 8192, prot: 1, flags: PRIVATE }
}
