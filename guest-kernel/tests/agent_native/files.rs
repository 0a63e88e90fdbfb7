// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Steps on files: in slots, and by path.

use protocol::{Buffer, Call, Errno, Outcome, Refusal, Step};

use crate::harness::{Agent, O_RDWR, data, failed, open};

#[test]
fn files_are_read_and_written_at_every_offset() {
    let mut agent = Agent::start();
    let path = agent.pages(3);
    let good = Buffer::Good;
    let outcomes = agent.steps(&[
        open(&path, O_RDWR),
        Step::Pread { file: 0, offset: 4094, len: 4, buffer: good },
        Step::Lseek { file: 0, offset: -2, whence: 2 },
        Step::Read { file: 0, len: 100, buffer: good },
        Step::Read { file: 0, len: 100, buffer: good },
        Step::Lseek { file: 0, offset: -1, whence: 0 },
        Step::Pwrite { file: 0, offset: 1, data: b"abc", buffer: good },
        Step::Lseek { file: 0, offset: 2, whence: 0 },
        Step::Write { file: 0, data: b"X", buffer: good },
        Step::Pread { file: 0, offset: 0, len: 6, buffer: good },
        Step::Close { file: 0 },
        Step::Close { file: 0 },
        Step::Read { file: 40, len: 1, buffer: good },
    ]);
    assert_eq!(
        outcomes,
        [
            Outcome::Value(0),
            data(&[0, 0, 1, 1]),
            Outcome::Value(3 * 4096 - 2),
            data(&[2, 2]),
            data(&[]),
            failed(Errno::EINVAL),
            Outcome::Value(3),
            Outcome::Value(2),
            Outcome::Value(1),
            data(&[0, b'a', b'X', b'c', 0, 0]),
            Outcome::Value(0),
            Outcome::Refused(Refusal::File),
            Outcome::Refused(Refusal::File),
        ]
    );
}

#[test]
fn a_failing_open_names_its_errno() {
    let mut agent = Agent::start();
    let missing = agent.path("missing");
    let outcomes = agent.steps(&[
        open(&missing, 0),
        Step::ReadFile { path: missing.as_bytes(), offset: 0, len: 10 },
        Step::Open { file: 0, path: b"a\0b", flags: 0, mode: 0 },
        Step::Open { file: 0, path: &[b'a'; 5000], flags: 0, mode: 0 },
    ]);
    assert_eq!(outcomes[0], failed(Errno::ENOENT));
    assert_eq!(outcomes[1], Outcome::Failed { errno: Errno::ENOENT, call: Call::Open });
    assert_eq!(outcomes[2..], [Outcome::Refused(Refusal::Path), Outcome::Refused(Refusal::Path)]);
}

#[test]
fn bad_buffers_are_the_kernels_to_refuse() {
    let mut agent = Agent::start();
    let path = agent.pages(1);
    let mut outcomes = Vec::new();
    for buffer in [Buffer::Null, Buffer::Kernel] {
        outcomes.extend(agent.steps(&[
            open(&path, O_RDWR),
            Step::Read { file: 0, len: 10, buffer },
            Step::Pwrite { file: 0, offset: 0, data: &[7; 10], buffer },
        ]));
    }
    assert_eq!(outcomes[1..3], [failed(Errno::EFAULT), failed(Errno::EFAULT)]);
    assert_eq!(outcomes[4..6], [failed(Errno::EFAULT), failed(Errno::EFAULT)]);
    // As much as fits may be copied, or nothing: either answer is the kernel's own.
    let outcomes = agent.steps(&[Step::Pread { file: 0, offset: 0, len: 10, buffer: Buffer::Straddling }]);
    match &outcomes[0] {
        Outcome::Data { value, data } => assert!(*value <= 5 && data.len() as i64 == *value),
        other => assert_eq!(*other, failed(Errno::EFAULT)),
    }
}

#[test]
fn small_and_whole_files() {
    let mut agent = Agent::start();
    let path = agent.path("new");
    let folder = agent.path("folder");
    std::fs::create_dir(&folder).unwrap();
    for name in ["a", "bb", "ccc"] {
        std::fs::write(format!("{folder}/{name}"), b"").unwrap();
    }
    let outcomes = agent.steps(&[
        Step::WriteFile { path: path.as_bytes(), create: false, data: b"x" },
        Step::WriteFile { path: path.as_bytes(), create: true, data: b"hello" },
        Step::Stat { path: path.as_bytes() },
        Step::ReadFile { path: path.as_bytes(), offset: 1, len: 60 },
        Step::ReadFile { path: b"/proc/self/status", offset: 0, len: 8 },
        Step::Stat { path: b"/dev/null" },
        Step::ListDir { path: folder.as_bytes(), skip: 0 },
        Step::ListDir { path: folder.as_bytes(), skip: 2 },
        Step::ReadFile { path: path.as_bytes(), offset: 0, len: 1 << 20 },
    ]);
    assert_eq!(outcomes[0], Outcome::Failed { errno: Errno::ENOENT, call: Call::Open });
    assert_eq!(outcomes[1], Outcome::Value(5));
    assert!(
        matches!(outcomes[2], Outcome::Status(status) if status.size == 5 && status.mode & 0o170_000 == 0o100_000)
    );
    assert_eq!(outcomes[3], data(b"ello"));
    assert_eq!(outcomes[4], data(b"Name:\tag"));
    assert!(matches!(outcomes[5], Outcome::Status(status) if status.rdev == 0x103));
    let Outcome::Data { value: 3, data: names } = &outcomes[6] else { panic!("{outcomes:?}") };
    let mut names: Vec<&[u8]> = names.bytes.split(|&byte| byte == b'\n').collect();
    names.sort_unstable();
    assert_eq!(names, [&b""[..], b"a", b"bb", b"ccc"]);
    assert!(
        matches!(&outcomes[7], Outcome::Data { value: 3, data } if data.bytes.ends_with(b"\n") && data.len() < 5)
    );
    assert_eq!(outcomes[8], Outcome::Refused(Refusal::Length));
}
