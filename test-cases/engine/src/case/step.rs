// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One step of a case: a system call or an access inside the guest, or a read of memory by the VMM.

use super::expectation::{Expectations, Expected, Key};
use super::flags::{Direction, OpenFlags, Protection, Share, UserBuffer, ViewChoice};
use crate::place::Place;

/// The name a case gives to an open file or a mapping.
pub type Handle = String;

/// Bytes of a program's output that are kept.
pub const OUTPUT: u32 = 60 << 10;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The step's name within its case.
    pub id: String,
    /// What is done.
    pub action: Action,
    /// The expected result.
    pub expect: Expectations,
    /// A remark printed with the evidence.
    pub note: Option<String>,
}

impl Step {
    /// A step that must do what it is there for (see [`Expectations::of_action`]).
    pub fn new(id: &str, action: Action) -> Self {
        let expect = Expectations::of_action(&action);
        Self { id: id.to_owned(), action, expect, note: None }
    }

    /// Opens a file under a name; `flags` are open(2)'s.
    pub fn open(id: &str, path: &str, flags: i32, handle: &str) -> Self {
        let (path, handle) = (path.to_owned(), handle.to_owned());
        Self::new(id, Action::Open { path, flags: OpenFlags(flags), handle })
    }

    /// Maps a part of a file under a name, only to read it.
    pub fn map_to_read(id: &str, fd: &str, at: Place, len: u64, share: Share, handle: &str) -> Self {
        let (fd, handle) = (fd.to_owned(), handle.to_owned());
        let prot = Protection(libc::PROT_READ.cast_unsigned());
        Self::new(id, Action::Mmap { fd, at, len, prot, share, over: None, handle })
    }

    /// Loads bytes from a mapping.
    pub fn peek(id: &str, map: &str, offset: u64, len: u64) -> Self {
        Self::new(id, Action::Peek { map: map.to_owned(), offset, len })
    }

    /// The same step, of which this is expected under every policy and on every platform.
    #[must_use]
    pub fn expecting(self, expected: Expected) -> Self {
        Self { expect: Expectations { entries: vec![(Key::ANY, expected)] }, ..self }
    }
}

/// What a step gives back when it succeeds, and so what can be expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Yield {
    /// Success and nothing else.
    Nothing,
    /// A number.
    Number,
    /// A count of bytes taken.
    Count,
    /// Bytes from guest physical memory, which have a class.
    Memory,
    /// Bytes from elsewhere.
    Text,
    /// The change of memory.
    State,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the system calls' parameters, by their names")]
pub enum Action {
    /// open(2)
    Open { path: String, flags: OpenFlags, handle: Handle },
    /// close(2)
    Close { fd: Handle },
    /// lseek(2); the offset's 64 bits are passed as they are
    Lseek { fd: Handle, to: Place, whence: Direction },
    /// read(2) at the file's position
    Read { fd: Handle, len: u64, buffer: UserBuffer },
    /// pread(2)
    Pread { fd: Handle, at: Place, len: u64, buffer: UserBuffer },
    /// write(2) at the file's position
    Write { fd: Handle, data: Vec<u8>, buffer: UserBuffer },
    /// pwrite(2)
    Pwrite { fd: Handle, at: Place, data: Vec<u8>, buffer: UserBuffer },
    /// The buffer of the read just before, whatever came of it
    Buffer { fd: Handle, from: u64, len: u64 },
    /// mmap(2); `over` names the mapping whose place it takes with `MAP_FIXED`
    Mmap {
        fd: Handle,
        at: Place,
        len: u64,
        prot: Protection,
        share: Share,
        over: Option<Handle>,
        handle: Handle,
    },
    /// mprotect(2)
    Mprotect { map: Handle, offset: u64, len: u64, prot: Protection },
    /// mremap(2): to another length in place, or under another name elsewhere
    Mremap { map: Handle, len: u64, handle: Option<Handle> },
    /// munmap(2)
    Munmap { map: Handle },
    /// A load by the processor from a mapping
    Peek { map: Handle, offset: u64, len: u64 },
    /// A store by the processor to a mapping
    Poke { map: Handle, offset: u64, data: Vec<u8> },
    /// pread(2) of /proc/self/mem where a mapping is
    SelfMemRead { map: Handle, offset: u64, len: u64 },
    /// pwrite(2) of /proc/self/mem where a mapping is
    SelfMemWrite { map: Handle, offset: u64, data: Vec<u8> },
    /// `process_vm_readv(2)` from a mapping
    VmReadv { map: Handle, offset: u64, len: u64 },
    /// ptrace(2) `PTRACE_PEEKDATA` from a mapping of a stopped child
    PtracePeek { map: Handle, offset: u64, len: u64 },
    /// stat(2)
    Stat { path: String },
    /// Opens and reads a whole file, up to a length
    ReadFile { path: String, len: u64 },
    /// Runs a program to its end; its output is standard output and standard error together
    Run { program: String, args: Vec<String> },
    /// Opens a file and writes to it once
    WriteFile { path: String, data: Vec<u8> },
    /// The processor's `in`
    PortIn { port: u16, width: u8 },
    /// The processor's `out`
    PortOut { port: u16, width: u8, value: u32 },
    /// iopl(2), for the steps that follow
    Iopl { level: u8 },
    /// ioperm(2), for the steps that follow
    Ioperm { port: u16, count: u16, on: bool },
    /// setuid(2), for the steps that follow
    Setuid { uid: u32, gid: u32, keep: bool },
    /// Drops capabilities from every set, for the steps that follow
    DropCaps { caps: Vec<String> },
    /// Drops all capabilities but these from every set, for the steps that follow
    KeepCaps { caps: Vec<String> },
    /// unshare(2) with `CLONE_NEWUSER`, for the steps that follow
    UserNamespace,
    /// prctl(2) with `PR_SET_NO_NEW_PRIVS`, for the steps that follow
    NoNewPrivs,
    /// mknod(2) of a character device
    Mknod { path: String, major: u32, minor: u32 },
    /// fork(2); the child does the steps that follow, until `exit`
    Fork,
    /// execve(2) of the agent by the process that does the steps
    Exec,
    /// An open file is sent to the process's own socket
    SendFile { fd: Handle },
    /// The first file sent is received under a new name
    ReceiveFile { handle: Handle },
    /// Nothing but the end of the process that did the steps so far; the one that forked it goes on, or a new one
    Exit,
    /// pread(2) of /proc/kcore where its program headers say that a physical address is
    KcoreRead { at: Place, len: u64 },
    /// What the kernel has logged since the case began
    KernelLog,
    /// reboot(2) with `LINUX_REBOOT_CMD_RESTART`; comes back only when it fails
    Reboot,
    /// No step in the guest: the VMM looks at memory and compares it with what was there before the case
    Memory { at: Place, len: u64, wrote: Option<String>, view: ViewChoice },
}

impl Action {
    /// The programs that it starts, if any: the one it names, and those it passes to that as arguments (`timeout 2 /usr/…`).
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        let (program, args) = match self {
            Self::Run { program, args } => (Some(program.as_str()), args.as_slice()),
            _ => (None, [].as_slice()),
        };
        let is_known = |arg: &&str| guest_kernel::programs::known().any(|known| known == *arg);
        program.into_iter().chain(args.iter().map(String::as_str).filter(is_known))
    }

    /// The name in case files.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
            Self::Lseek { .. } => "lseek",
            Self::Read { .. } => "read",
            Self::Pread { .. } => "pread",
            Self::Write { .. } => "write",
            Self::Pwrite { .. } => "pwrite",
            Self::Mmap { .. } => "mmap",
            Self::Buffer { .. } => "buffer",
            Self::Mprotect { .. } => "mprotect",
            Self::Mremap { .. } => "mremap",
            Self::Mknod { .. } => "mknod",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::SendFile { .. } => "send-file",
            Self::ReceiveFile { .. } => "receive-file",
            Self::Munmap { .. } => "munmap",
            Self::Peek { .. } => "peek",
            Self::Poke { .. } => "poke",
            Self::SelfMemRead { .. } => "self-mem-read",
            Self::SelfMemWrite { .. } => "self-mem-write",
            Self::VmReadv { .. } => "vm-readv",
            Self::PtracePeek { .. } => "ptrace-peek",
            Self::Stat { .. } => "stat",
            Self::ReadFile { .. } => "read-file",
            Self::WriteFile { .. } => "write-file",
            Self::Run { .. } => "run",
            Self::PortIn { .. } => "port-in",
            Self::PortOut { .. } => "port-out",
            Self::Iopl { .. } => "iopl",
            Self::Ioperm { .. } => "ioperm",
            Self::Setuid { .. } => "setuid",
            Self::DropCaps { .. } => "drop-caps",
            Self::KeepCaps { .. } => "keep-caps",
            Self::UserNamespace => "user-namespace",
            Self::NoNewPrivs => "no-new-privs",
            Self::Exit => "exit",
            Self::KcoreRead { .. } => "kcore-read",
            Self::KernelLog => "kernel-log",
            Self::Reboot => "reboot",
            Self::Memory { .. } => "memory",
        }
    }

    /// The physical place the step names, if it names one.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Lseek { to: at, .. }
            | Self::Pread { at, .. }
            | Self::Pwrite { at, .. }
            | Self::Mmap { at, .. }
            | Self::KcoreRead { at, .. }
            | Self::Memory { at, .. } => Some(at),
            _ => None,
        }
    }

    /// The open file or mapping the step works on, which an earlier step must have obtained.
    pub fn uses(&self) -> Option<&str> {
        match self {
            Self::Close { fd }
            | Self::Lseek { fd, .. }
            | Self::Read { fd, .. }
            | Self::Pread { fd, .. }
            | Self::Write { fd, .. }
            | Self::Pwrite { fd, .. }
            | Self::SendFile { fd }
            | Self::Buffer { fd, .. }
            | Self::Mmap { fd, .. } => Some(fd),
            Self::Munmap { map }
            | Self::Mprotect { map, .. }
            | Self::Mremap { map, .. }
            | Self::Peek { map, .. }
            | Self::Poke { map, .. }
            | Self::SelfMemRead { map, .. }
            | Self::SelfMemWrite { map, .. }
            | Self::VmReadv { map, .. }
            | Self::PtracePeek { map, .. } => Some(map),
            _ => None,
        }
    }

    /// Whether what the step uses is a mapping.
    pub const fn works_on_map(&self) -> bool {
        matches!(
            self,
            Self::Munmap { .. }
                | Self::Mprotect { .. }
                | Self::Mremap { .. }
                | Self::Peek { .. }
                | Self::Poke { .. }
                | Self::SelfMemRead { .. }
                | Self::SelfMemWrite { .. }
                | Self::VmReadv { .. }
                | Self::PtracePeek { .. }
        )
    }

    /// The open file or mapping the step obtains when it succeeds.
    pub fn obtains(&self) -> Option<&str> {
        match self {
            Self::Open { handle, .. } | Self::Mmap { handle, .. } | Self::ReceiveFile { handle } => {
                Some(handle)
            }
            Self::Mremap { handle, .. } => handle.as_deref(),
            _ => None,
        }
    }

    /// The mapping whose place the step takes, which an earlier step must have obtained.
    pub fn takes_place_of(&self) -> Option<&str> {
        match self {
            Self::Mmap { over, .. } => over.as_deref(),
            _ => None,
        }
    }

    /// Whether what the step obtains is a mapping.
    pub const fn obtains_map(&self) -> bool {
        matches!(self, Self::Mmap { .. } | Self::Mremap { .. })
    }

    /// The step whose write a `memory` step checks.
    pub fn checks_write_of(&self) -> Option<&str> {
        match self {
            Self::Memory { wrote, .. } => wrote.as_deref(),
            _ => None,
        }
    }

    /// How many bytes the step reads or writes.
    pub const fn requested_len(&self) -> Option<u64> {
        match self {
            Self::Read { len, .. }
            | Self::Pread { len, .. }
            | Self::Buffer { len, .. }
            | Self::Peek { len, .. }
            | Self::SelfMemRead { len, .. }
            | Self::VmReadv { len, .. }
            | Self::KcoreRead { len, .. }
            | Self::PtracePeek { len, .. } => Some(*len),
            Self::Write { data, .. }
            | Self::Pwrite { data, .. }
            | Self::Poke { data, .. }
            | Self::SelfMemWrite { data, .. }
            | Self::WriteFile { data, .. } => Some(data.len() as u64),
            _ => None,
        }
    }

    /// The bytes the step offers to memory.
    pub fn data(&self) -> Option<&[u8]> {
        match self {
            Self::Write { data, .. }
            | Self::Pwrite { data, .. }
            | Self::Poke { data, .. }
            | Self::SelfMemWrite { data, .. } => Some(data),
            _ => None,
        }
    }

    /// What success gives.
    pub const fn yields(&self) -> Yield {
        match self {
            Self::Read { .. }
            | Self::Pread { .. }
            | Self::Buffer { .. }
            | Self::Peek { .. }
            | Self::SelfMemRead { .. }
            | Self::VmReadv { .. }
            | Self::KcoreRead { .. }
            | Self::PtracePeek { .. } => Yield::Memory,
            Self::Stat { .. } | Self::ReadFile { .. } | Self::Run { .. } | Self::KernelLog => Yield::Text,
            Self::Write { .. }
            | Self::Pwrite { .. }
            | Self::Poke { .. }
            | Self::SelfMemWrite { .. }
            | Self::WriteFile { .. } => Yield::Count,
            Self::Lseek { .. } | Self::PortIn { .. } => Yield::Number,
            Self::Memory { .. } => Yield::State,
            _ => Yield::Nothing,
        }
    }
}
