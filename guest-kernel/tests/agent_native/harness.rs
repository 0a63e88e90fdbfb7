// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An agent on a socket, how to talk to it, and steps and outcomes that many tests have.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use guest_kernel::agent;
use protocol::{Batch, Call, Data, Errno, Event, GuestMemory, Link, Outcome, Results, Step};

pub const O_RDWR: u32 = 2;
pub const READ_WRITE: u32 = 3;
pub const PRIVATE: u32 = 2;
pub const SIGSEGV: u8 = 11;
pub const KILL: u32 = 62;
const SHARED: u32 = 1;

/// The agent's memory, in place of a guest's.
pub enum Memory {
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

pub struct Agent {
    pub process: Child,
    pub line: UnixStream,
    pub memory: Memory,
    pub link: Link,
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
    pub fn start() -> Self {
        let mut agent = Self::start_without_window();
        agent.memory =
            Memory::Process(File::options().read(true).write(true).open(agent.proc("mem")).unwrap());
        agent
    }

    pub fn start_without_window() -> Self {
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

    /// The next event from the agent.
    pub fn event(&mut self) -> Event {
        loop {
            let mut byte = [0];
            self.line.read_exact(&mut byte).unwrap();
            if let Some(event) = self.link.receive(byte[0], &mut self.memory) {
                return event;
            }
        }
    }

    pub fn run(&mut self, batch: &Batch) -> Results {
        let bytes = self.link.send(batch, &mut self.memory).unwrap();
        self.line.write_all(&bytes).unwrap();
        match self.event() {
            Event::Results(results) => results,
            other => panic!("{other:?}"),
        }
    }

    pub fn steps(&mut self, steps: &[Step<'_>]) -> Vec<Outcome> {
        let mut batch = Batch::new().step_limit(5_000);
        for step in steps {
            batch.push(step);
        }
        self.run(&batch).outcomes
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A file with pages of 0, 1, 2, …
    pub fn pages(&self, count: u8) -> String {
        let path = self.path("pages");
        let content: Vec<u8> = (0..count).flat_map(|page| [page; 4096]).collect();
        std::fs::write(&path, content).unwrap();
        path
    }
}

pub fn data(bytes: &[u8]) -> Outcome {
    Outcome::Data { value: bytes.len() as i64, data: Data { bytes: bytes.to_vec(), cut: None } }
}

pub fn failed(errno: Errno) -> Outcome {
    Outcome::Failed { errno, call: Call::Own }
}

pub fn open(path: &str, flags: u32) -> Step<'_> {
    Step::Open { file: 0, path: path.as_bytes(), flags, mode: 0o600 }
}

pub fn map_pages(len: u64) -> Step<'static> {
    Step::Mmap { map: 0, file: 0, offset: 0, len, prot: READ_WRITE, flags: SHARED }
}
