//! The agent itself, driven over a socket on this machine's kernel: no guest, no serial port.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_wrap)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use guest_kernel::agent;
use protocol::{
    Batch, Buffer, Call, Data, Errno, Event, GuestMemory, Link, MAX_ARGUMENTS, Outcome, Refusal, Reset,
    Results, Step, Via, Width, map_address,
};

const O_RDWR: u32 = 2;
const READ_WRITE: u32 = 3;
const SHARED: u32 = 1;
const PRIVATE: u32 = 2;
const ANONYMOUS: u32 = 0x20;
const SIGSEGV: u8 = 11;
const SIGBUS: u8 = 7;
const GETPID: u32 = 39;
const PAUSE: u32 = 34;
const KILL: u32 = 62;

/// The agent's memory, in place of a guest's.
enum Memory {
    Process(File),
    None,
}

impl GuestMemory for Memory {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> bool {
        matches!(self, Self::Process(memory) if memory.read_exact_at(buffer, address).is_ok())
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        matches!(self, Self::Process(memory) if memory.write_all_at(bytes, address).is_ok())
    }
}

struct Agent {
    process: Child,
    line: UnixStream,
    memory: Memory,
    link: Link,
    folder: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a program that was just written. A child that another test forked meanwhile may hold the file open for
/// writing until it executes something itself.
fn spawn(command: &mut Command) -> Child {
    loop {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(5));
            }
            spawned => return spawned.unwrap(),
        }
    }
}

impl Agent {
    fn start() -> Self {
        let mut agent = Self::start_without_window();
        agent.memory =
            Memory::Process(File::options().read(true).write(true).open(agent.proc("mem")).unwrap());
        agent
    }

    fn start_without_window() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("agent");
        std::fs::write(&program, agent::ELF).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let (line, theirs) = UnixStream::pair().unwrap();
        line.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let theirs = OwnedFd::from(theirs);
        // SAFETY: the descriptor is ours; the agent is to inherit it.
        unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_SETFD, 0) };
        let process = spawn(Command::new(&program).args(["--fd", &theirs.as_raw_fd().to_string()]));
        let mut agent = Self { process, line, memory: Memory::None, link: Link::new(), folder };
        let event = agent.event();
        assert!(matches!(event, Event::Hello(hello) if !hello.is_init), "{event:?}");
        agent
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.process.id()).into()
    }

    /// The next thing the agent says.
    fn event(&mut self) -> Event {
        loop {
            let mut byte = [0];
            self.line.read_exact(&mut byte).unwrap();
            if let Some(event) = self.link.receive(byte[0], &mut self.memory) {
                return event;
            }
        }
    }

    fn run(&mut self, batch: &Batch) -> Results {
        let bytes = self.link.send(batch, &mut self.memory).unwrap();
        self.line.write_all(&bytes).unwrap();
        match self.event() {
            Event::Results(results) => results,
            other => panic!("{other:?}"),
        }
    }

    fn steps(&mut self, steps: &[Step<'_>]) -> Vec<Outcome> {
        let mut batch = Batch::new().step_limit(5_000);
        for step in steps {
            batch.push(step);
        }
        self.run(&batch).outcomes
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A file with pages of 0, 1, 2, …
    fn pages(&self, count: u8) -> String {
        let path = self.path("pages");
        let content: Vec<u8> = (0..count).flat_map(|page| [page; 4096]).collect();
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn data(bytes: &[u8]) -> Outcome {
    Outcome::Data { value: bytes.len() as i64, data: Data { bytes: bytes.to_vec(), cut: None } }
}

fn failed(errno: Errno) -> Outcome {
    Outcome::Failed { errno, call: Call::Own }
}

fn open(path: &str, flags: u32) -> Step<'_> {
    Step::Open { file: 0, path: path.as_bytes(), flags, mode: 0o600 }
}

fn map_pages(len: u64) -> Step<'static> {
    Step::Mmap { map: 0, file: 0, offset: 0, len, prot: READ_WRITE, flags: SHARED }
}

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
fn mappings_are_seen_by_every_path() {
    let mut agent = Agent::start();
    let path = agent.pages(3);
    let mut steps = vec![
        open(&path, O_RDWR),
        map_pages(3 * 4096),
        Step::Peek { map: 0, offset: 4092, len: 8, width: Width::Long },
        Step::Poke { map: 0, offset: 4096, data: b"hi", width: Width::Word },
        Step::Peek { map: 0, offset: 4096, len: 3, width: Width::Byte },
    ];
    for via in [Via::Itself, Via::Child] {
        steps.extend([
            Step::ProcMemRead { via, map: 0, offset: 4095, len: 4 },
            Step::ProcMemWrite { via, map: 0, offset: 4097, data: b"o" },
            Step::VmRead { via, map: 0, offset: 4095, len: 4 },
            Step::VmWrite { via, map: 0, offset: 4098, data: b"!" },
        ]);
    }
    steps.extend([
        Step::PtracePeek { map: 0, offset: 4096, len: 8 },
        Step::PtracePoke { map: 0, offset: 8192, data: b"12345678" },
        Step::Pread { file: 0, offset: 8191, len: 9, buffer: Buffer::Good },
        Step::Munmap { map: 0 },
        Step::Peek { map: 0, offset: 0, len: 1, width: Width::Byte },
        Step::Munmap { map: 0 },
    ]);
    let outcomes = agent.steps(&steps);
    assert_eq!(outcomes[1], Outcome::Value(map_address(0).cast_signed()));
    assert_eq!(outcomes[2], data(&[0, 0, 0, 0, 1, 1, 1, 1]));
    assert_eq!(outcomes[3], Outcome::Value(2));
    assert_eq!(outcomes[4], data(b"hi\x01"));
    assert_eq!(outcomes[5], data(b"\0hi\x01"));
    assert_eq!(outcomes[6], Outcome::Value(1));
    assert_eq!(outcomes[7], data(b"\0ho\x01"));
    assert_eq!(outcomes[8], Outcome::Value(1));
    assert_eq!(outcomes[9], data(b"\0ho!"));
    assert_eq!(outcomes[11], data(b"\0ho!"));
    assert_eq!(outcomes[13], data(b"ho!\x01\x01\x01\x01\x01"));
    assert_eq!(outcomes[14], Outcome::Value(1));
    assert_eq!(outcomes[15], data(b"\x0112345678"));
    assert_eq!(outcomes[16], Outcome::Value(0));
    assert_eq!(outcomes[17], Outcome::Refused(Refusal::Map));
    assert_eq!(outcomes[18], Outcome::Refused(Refusal::Map));
}

#[test]
fn faults_are_caught_and_the_worker_goes_on() {
    let mut agent = Agent::start();
    let path = agent.pages(1);
    let outcomes = agent.steps(&[
        open(&path, O_RDWR),
        map_pages(2 * 4096),
        Step::Peek { map: 0, offset: 4090, len: 12, width: Width::Word },
        Step::Poke { map: 0, offset: 4096, data: b"x", width: Width::Byte },
        Step::Peek { map: 0, offset: 8192, len: 1, width: Width::Byte },
        Step::Mmap { map: 1, file: 0, offset: 0, len: 4096, prot: 1, flags: PRIVATE },
        Step::Poke { map: 1, offset: 0, data: &[0; 8], width: Width::Quad },
        Step::Peek { map: 1, offset: 0, len: 8, width: Width::Quad },
        Step::Uname,
    ]);
    let fault = |signal, code, address, len| Outcome::Signal {
        signal,
        code,
        address,
        data: Data { bytes: vec![0; len], cut: None },
    };
    let map = map_address(0);
    assert_eq!(outcomes[2], fault(SIGBUS, 2, map + 4096, 6), "beyond the end of the file");
    assert_eq!(outcomes[3], fault(SIGBUS, 2, map + 4096, 0));
    assert_eq!(outcomes[4], fault(SIGSEGV, 1, map + 8192, 0), "not mapped");
    assert_eq!(outcomes[6], fault(SIGSEGV, 2, map_address(1), 0), "read only");
    assert_eq!(outcomes[7], data(&[0; 8]));
    assert!(matches!(&outcomes[8], Outcome::Data { data, .. } if data.bytes.starts_with(b"Linux\n")));
}

#[test]
fn forbidden_port_instructions_are_signals() {
    let mut agent = Agent::start();
    let outcomes = agent.steps(&[
        Step::PortIn { port: 0x80, width: Width::Byte },
        Step::PortIn { port: 0x80, width: Width::Word },
        Step::PortOut { port: 0x80, width: Width::Long, value: 1 },
        Step::PortIn { port: 0x80, width: Width::Quad },
    ]);
    for outcome in &outcomes[..3] {
        assert!(matches!(outcome, Outcome::Signal { signal: SIGSEGV, .. }), "{outcome:?}");
    }
    assert_eq!(outcomes[3], Outcome::Refused(Refusal::Width));
}

#[test]
fn programs_run_to_their_end_with_their_output_caught() {
    let mut agent = Agent::start();
    let shell =
        |arguments: &'static [u8], limit_ms| Step::Execute { path: b"/bin/sh", arguments, len: 64, limit_ms };
    let outcomes = agent.steps(&[
        shell(b"-c\0echo out; echo err >&2; exit 3\0", 10_000),
        shell(b"-c\0kill -9 $$\0", 10_000),
        shell(b"-c\0sleep 60; true\0", 100),
        Step::Execute { path: b"/nowhere", arguments: b"", len: 64, limit_ms: 100 },
        shell(b"-c\0head -c 100000 /dev/zero; echo $0 $1\0name\0one\0", 10_000),
        shell(b"unterminated", 100),
        shell(b"-c\0yes | head -n 1\0", 10_000),
        shell(b"-c\0sleep 60 & echo left\0", 10_000),
        Step::Uname,
    ]);
    let text = |value, bytes: &[u8]| Outcome::Data { value, data: Data { bytes: bytes.to_vec(), cut: None } };
    assert_eq!(outcomes[0], text(3 << 8, b"out\nerr\n"));
    assert_eq!(outcomes[1], text(9, b""));
    let failed = |number| Outcome::Failed { errno: Errno(number), call: Call::Own };
    assert_eq!(outcomes[2], failed(110), "it takes too long");
    assert_eq!(outcomes[3], failed(2));
    assert_eq!(outcomes[4], text(0, &[0; 64]), "as far as it fits");
    assert_eq!(outcomes[5], failed(7));
    assert_eq!(outcomes[6], text(0, b"y\n"), "a broken pipe ends its writer, silently");
    assert_eq!(outcomes[7], text(0, b"left\n"), "nobody waits for what a program leaves running");
    assert!(matches!(outcomes[8], Outcome::Data { .. }), "the worker lives");
}

#[test]
fn programs_get_as_many_arguments_as_there_is_room_for() {
    let arguments = |count: usize| {
        ["-c", "echo $#", "name"].map(str::to_owned).into_iter().chain((3..count).map(|n| n.to_string()))
    };
    let bytes =
        |count| arguments(count).flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>();
    let (most, more) = (bytes(MAX_ARGUMENTS), bytes(MAX_ARGUMENTS + 1));
    let shell = |arguments| Step::Execute { path: b"/bin/sh", arguments, len: 64, limit_ms: 10_000 };
    let outcomes = Agent::start().steps(&[shell(&most), shell(&more)]);
    let said = format!("{}\n", MAX_ARGUMENTS - 3).into_bytes();
    assert_eq!(outcomes[0], Outcome::Data { value: 0, data: Data { bytes: said, cut: None } });
    assert_eq!(outcomes[1], Outcome::Failed { errno: Errno(7), call: Call::Own });
}

#[test]
fn a_dead_worker_is_an_outcome_and_is_replaced() {
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
fn workers_that_leave_are_told_from_workers_that_die() {
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
fn a_sweep_that_kills_tells_where() {
    let mut agent = Agent::start();
    let mut batch = Batch::new();
    let path = agent.pages(2);
    batch.push(&open(&path, 0));
    batch.push(&map_pages_private());
    let touch = Step::Peek { map: 0, offset: 0, len: 4, width: Width::Long };
    batch.repeat(4, 4096, 1, 16, &[touch, Step::Marker { value: 0 }]).unwrap();
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

#[test]
fn anonymous_memory_needs_no_file() {
    let mut agent = Agent::start();
    let outcomes = agent.steps(&[
        Step::Mmap { map: 15, file: 255, offset: 0, len: 4096, prot: READ_WRITE, flags: PRIVATE | ANONYMOUS },
        Step::Poke { map: 15, offset: 8, data: &[9; 16], width: Width::Quad },
        Step::Peek { map: 15, offset: 0, len: 32, width: Width::Quad },
        Step::Mmap { map: 16, file: 255, offset: 0, len: 4096, prot: READ_WRITE, flags: PRIVATE | ANONYMOUS },
    ]);
    let expected: Vec<u8> = [[0; 8], [9; 8], [9; 8], [0; 8]].concat();
    assert_eq!(outcomes[2], data(&expected));
    assert_eq!(outcomes[3], Outcome::Refused(Refusal::Map));
}

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

#[test]
fn nonsense_in_a_batch_is_refused_where_it_stands() {
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
fn a_worker_gives_up_privileges_and_the_next_has_them_again() {
    // SAFETY: asks only.
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
        Step::SetUser { uid: 1000, gid: 1000 },
        Step::Syscall { number: 102, arguments: [0; 6] },
    ]);
    assert_eq!(outcomes[..2], [Outcome::Value(0), Outcome::Value(0)]);
    assert_eq!(outcomes[2], failed(Errno::EACCES));
    assert_eq!(outcomes[3..], [Outcome::Value(0), Outcome::Value(1000)]);
    let mut batch = Batch::new().new_worker();
    batch.push(&open(&path, 0));
    assert_eq!(agent.run(&batch).outcomes, [Outcome::Value(0)]);
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
