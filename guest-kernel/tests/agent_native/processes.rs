// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Steps that change mappings later, and who executes the steps.

use protocol::{Batch, Buffer, Data, Errno, Outcome, Refusal, Step, Width, map_address};

use crate::harness::{Agent, KILL, O_RDWR, READ_WRITE, SIGSEGV, data, failed, map_pages, open};

const CLOSE_ON_EXEC: u32 = 0o2_000_000;
const GETPID: Step<'static> = Step::Syscall { number: 39, arguments: [0; 6] };

fn peek(map: u8, offset: u64) -> Step<'static> {
    Step::Peek { map, offset, len: 1, width: Width::Byte }
}

fn fault(map: u8, offset: u64, code: i32) -> Outcome {
    let data = Data { bytes: Vec::new(), cut: None };
    Outcome::Signal { signal: SIGSEGV, code, address: map_address(map) + offset, data }
}

#[test]
fn mappings_change_their_protection_their_length_and_their_place() {
    let mut agent = Agent::start();
    let path = agent.pages(4);
    let outcomes = agent.steps(&[
        open(&path, O_RDWR),
        map_pages(3 * 4096),
        Step::Mprotect { map: 0, offset: 4096, len: 4096, prot: 0 },
        peek(0, 4096),
        peek(0, 8192),
        Step::Mremap { map: 0, to: 0, len: 8192 },
        peek(0, 8192),
        Step::Mremap { map: 0, to: 2, len: 4096 },
        peek(2, 0),
        peek(0, 0),
        Step::MmapOver { map: 3, over: 2, file: 0, offset: 8192, len: 4096, prot: READ_WRITE, flags: 1 },
        peek(2, 0),
        Step::Mprotect { map: 3, offset: 1, len: 4096, prot: 1 },
        Step::Mprotect { map: 3, offset: 1 << 40, len: 4096, prot: 1 },
        Step::Mremap { map: 3, to: 16, len: 4096 },
    ]);
    let address = |map| Outcome::Value(map_address(map).cast_signed());
    assert_eq!(outcomes[2..5], [Outcome::Value(0), fault(0, 4096, 2), data(&[2])]);
    assert_eq!(outcomes[5..7], [address(0), fault(0, 8192, 1)]);
    assert_eq!(outcomes[7..10], [address(2), data(&[0]), Outcome::Refused(Refusal::Map)]);
    assert_eq!(outcomes[10..12], [address(2), data(&[2])]);
    assert_eq!(
        outcomes[12..],
        [failed(Errno::EINVAL), Outcome::Refused(Refusal::Length), Outcome::Refused(Refusal::Map)]
    );
}

#[test]
fn a_child_executes_what_follows_until_it_exits_in_one_batch_or_in_several() {
    let mut agent = Agent::start();
    let path = agent.pages(2);
    let outcomes = agent.steps(&[
        open(&path, O_RDWR),
        Step::Mmap { map: 0, file: 0, offset: 0, len: 8192, prot: READ_WRITE, flags: 2 },
        GETPID,
        Step::Fork,
        GETPID,
        Step::Poke { map: 0, offset: 0, data: &[9], width: Width::Byte },
        Step::Fork,
        Step::Munmap { map: 0 },
        Step::ExitWorker,
        peek(0, 0),
        Step::ExitWorker,
        GETPID,
        peek(0, 0),
        Step::Fork,
    ]);
    assert_eq!(outcomes[3], Outcome::Value(0));
    assert_ne!(outcomes[4], outcomes[2]);
    assert_eq!(
        outcomes[6..11],
        [Outcome::Value(0), Outcome::Value(0), Outcome::Value(0), data(&[9]), Outcome::Value(0)]
    );
    assert_eq!(outcomes[11], outcomes[2]);
    assert_eq!(outcomes[12], data(&[0]));
    // The child of the last step is still there.
    let again = agent.steps(&[GETPID, Step::ExitWorker, GETPID]);
    assert_ne!(again[0], outcomes[2]);
    assert_eq!(again[1..], [Outcome::Value(0), outcomes[2].clone()]);
}

#[test]
fn a_child_that_dies_takes_its_parent_with_it_and_is_replaced() {
    let mut agent = Agent::start();
    let kill = Step::Syscall { number: KILL, arguments: [0, 9, 0, 0, 0, 0] };
    let Outcome::Value(process) = agent.steps(&[Step::Fork, GETPID])[1] else { panic!() };
    // SAFETY: a child of the agent's.
    unsafe { libc::kill(process as i32, libc::SIGKILL) };
    std::thread::sleep(std::time::Duration::from_millis(100));
    let mut batch = Batch::new();
    batch.push(&GETPID);
    assert!(agent.run(&batch).fresh);
    assert_eq!(
        agent.steps(&[Step::Fork, kill, GETPID])[1..],
        [Outcome::Killed { signal: 9 }, Outcome::NotRun]
    );
}

#[test]
fn execution_keeps_files_and_loses_mappings() {
    let mut agent = Agent::start();
    let path = agent.pages(2);
    let closed = Step::Open { file: 1, path: path.as_bytes(), flags: CLOSE_ON_EXEC, mode: 0 };
    let read = |file| Step::Pread { file, offset: 4096, len: 2, buffer: Buffer::Good };
    let outcomes = agent.steps(&[
        open(&path, O_RDWR),
        closed,
        map_pages(4096),
        GETPID,
        Step::Exec,
        GETPID,
        read(0),
        read(1),
        peek(0, 0),
        Step::Fork,
        Step::Exec,
        read(0),
        Step::ExitWorker,
        GETPID,
    ]);
    assert_eq!(outcomes[4..7], [Outcome::Value(0), outcomes[3].clone(), data(&[1, 1])]);
    assert_eq!(outcomes[7..9], [failed(Errno(9)), fault(0, 0, 1)]);
    assert_eq!(outcomes[9..13], [Outcome::Value(0), Outcome::Value(0), data(&[1, 1]), Outcome::Value(0)]);
    assert_eq!(outcomes[13], outcomes[3]);
    // The next batch goes to the same worker.
    assert_eq!(agent.steps(&[GETPID]), outcomes[3..4]);
}

#[test]
fn open_files_are_passed_and_what_a_read_left_is_seen() {
    let mut agent = Agent::start();
    let path = agent.pages(1);
    let outcomes = agent.steps(&[
        Step::ReceiveFile { file: 5 },
        open(&path, 0),
        Step::SendFile { file: 0 },
        Step::Close { file: 0 },
        Step::ReceiveFile { file: 5 },
        Step::ReceiveFile { file: 6 },
        Step::Pread { file: 5, offset: 4094, len: 4, buffer: Buffer::Good },
        Step::Left { from: 1, len: 3 },
        Step::Left { from: 1, len: 3 },
        Step::Pread { file: 5, offset: u64::MAX, len: 4, buffer: Buffer::Good },
        Step::Left { from: 0, len: 4 },
    ]);
    assert_eq!(outcomes[0], Outcome::Refused(Refusal::File));
    assert_eq!(outcomes[4..6], [Outcome::Value(0), failed(Errno(11))]);
    let untouched = protocol::UNTOUCHED;
    assert_eq!(
        outcomes[6..9],
        [data(&[0, 0]), data(&[0, untouched, untouched]), Outcome::Refused(Refusal::Length)]
    );
    assert_eq!(outcomes[9..], [failed(Errno::EINVAL), data(&[untouched; 4])]);
}
