// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a task can do to /dev/mem, /dev/port, and the related files that lockdown restricts as well.

use std::fmt;

use protocol::{Buffer, Via, Width};

use crate::capability;

/// A device node, or a file that gives what one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// /dev/mem
    Mem,
    /// /dev/port
    Port,
    /// /proc/kcore
    Kcore,
    /// /dev/cpu/0/msr
    Msr,
    /// The memory of the first PCI device's BAR
    Bar,
    /// The configuration space of that device
    Config,
}

impl Node {
    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Mem => "/dev/mem",
            Self::Port => "/dev/port",
            Self::Kcore => "/proc/kcore",
            Self::Msr => "/dev/cpu/0/msr",
            Self::Bar => "/sys/bus/pci/devices/0000:00:01.0/resource0",
            Self::Config => "/sys/bus/pci/devices/0000:00:01.0/config",
        }
    }

    /// Neither /dev/mem nor /dev/port.
    pub const fn is_neighbour(self) -> bool {
        !matches!(self, Self::Mem | Self::Port)
    }
}

/// An access to a mapping that does not use the caller's page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// pread(2) or pwrite(2) of /proc/PID/mem.
    ProcMem(Via),
    /// `process_vm_readv(2)`, `process_vm_writev(2)`.
    ProcessVm(Via),
    /// `PTRACE_PEEKDATA`, `PTRACE_POKEDATA` on a stopped child, word by word.
    Ptrace,
}

impl Through {
    /// A child is forked for it, with copies of the mappings.
    pub const fn forks(self) -> bool {
        matches!(self, Self::Ptrace | Self::ProcMem(Via::Child) | Self::ProcessVm(Via::Child))
    }
}

/// One thing a task does. `file` and `map` are slots: what was in one is closed or unmapped before it is filled anew.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the system calls' parameters, by their names")]
pub enum Op {
    /// open(2)
    Open { file: u8, node: Node, flags: i32 },
    /// close(2)
    Close { file: u8 },
    /// lseek(2)
    Lseek { file: u8, offset: i64, whence: u8 },
    /// read(2), or pread(2) where there is an offset
    Read { file: u8, at: Option<u64>, len: u64, buffer: Buffer },
    /// write(2), or pwrite(2) where there is an offset
    Write { file: u8, at: Option<u64>, data: Vec<u8>, buffer: Buffer },
    /// mmap(2)
    Mmap { map: u8, file: u8, offset: u64, len: u64, prot: u32, flags: u32 },
    /// The same with `MAP_FIXED`, where the mapping of slot `over` was put
    MmapOver { map: u8, over: u8, file: u8, offset: u64, len: u64, prot: u32, flags: u32 },
    /// mprotect(2) of a part of a mapping
    Mprotect { map: u8, offset: u64, len: u64, prot: u32 },
    /// mremap(2): to another length in place, or where `to` has its place
    Mremap { map: u8, to: u8, len: u64 },
    /// fork(2); the child does what follows
    Fork,
    /// exit(2) of a child; its parent goes on
    Exit,
    /// execve(2) of the agent by itself
    Exec,
    /// sendmsg(2) of an open file to the process's own socket
    SendFile { file: u8 },
    /// recvmsg(2) of one
    ReceiveFile { file: u8 },
    /// The buffer that the read just before was given
    Left { from: u32, len: u32 },
    /// munmap(2) of the whole mapping
    Munmap { map: u8 },
    /// Loads by the processor
    Load { map: u8, offset: u64, len: u32, width: Width },
    /// Stores by the processor
    Store { map: u8, offset: u64, data: Vec<u8>, width: Width },
    /// A read of a mapping through the kernel
    Fetch { through: Through, map: u8, offset: u64, len: u32 },
    /// A write of a mapping through the kernel
    Put { through: Through, map: u8, offset: u64, data: Vec<u8> },
    /// Gives up the capabilities of the mask
    DropCaps { mask: u64 },
    /// setgroups(2), setresgid(2), setresuid(2); `keep`: the capabilities are kept
    SetUser { uid: u32, gid: u32, keep: bool },
    /// unshare(2) with `CLONE_NEWUSER`
    UserNamespace,
    /// prctl(2) with `PR_SET_NO_NEW_PRIVS`
    NoNewPrivs,
    /// ioperm(2)
    Ioperm { from: u64, count: u64, on: bool },
    /// iopl(2)
    Iopl { level: u8 },
    /// `IN` by the task itself
    PortIn { port: u16, width: Width },
}

impl Op {
    /// Its name in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
            Self::Lseek { .. } => "lseek",
            Self::Read { at: None, .. } => "read",
            Self::Read { .. } => "pread",
            Self::Write { at: None, .. } => "write",
            Self::Write { .. } => "pwrite",
            Self::Mmap { .. } => "mmap",
            Self::MmapOver { .. } => "mmap-over",
            Self::Mprotect { .. } => "mprotect",
            Self::Mremap { .. } => "mremap",
            Self::Fork => "fork",
            Self::Exit => "exit",
            Self::Exec => "exec",
            Self::SendFile { .. } => "send-file",
            Self::ReceiveFile { .. } => "receive-file",
            Self::Left { .. } => "buffer",
            Self::Munmap { .. } => "munmap",
            Self::Load { .. } => "load",
            Self::Store { .. } => "store",
            Self::Fetch { through: Through::ProcMem(_), .. } => "proc-mem-read",
            Self::Fetch { through: Through::ProcessVm(_), .. } => "vm-readv",
            Self::Fetch { through: Through::Ptrace, .. } => "ptrace-peek",
            Self::Put { through: Through::ProcMem(_), .. } => "proc-mem-write",
            Self::Put { through: Through::ProcessVm(_), .. } => "vm-writev",
            Self::Put { through: Through::Ptrace, .. } => "ptrace-poke",
            Self::DropCaps { .. } => "drop-caps",
            Self::SetUser { .. } => "setuid",
            Self::UserNamespace => "user-namespace",
            Self::NoNewPrivs => "no-new-privs",
            Self::Ioperm { .. } => "ioperm",
            Self::Iopl { .. } => "iopl",
            Self::PortIn { .. } => "port-in",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let via = |through: Through| if through.forks() { " of a child" } else { "" };
        match self {
            Self::Open { file, node, flags } => write!(f, " {} flags {flags:#x} as f{file}", node.path()),
            Self::Lseek { file, offset, whence } => write!(f, " f{file} to {offset:#x} whence {whence}"),
            Self::Read { file, at, len, buffer } => {
                write!(f, " f{file}{} {len} bytes{}", At(*at), Into(*buffer))
            }
            Self::Write { file, at, data, buffer } => {
                write!(f, " f{file}{} {} bytes{}", At(*at), data.len(), Into(*buffer))
            }
            Self::Mmap { map, file, offset, len, prot, flags } => {
                write!(f, " f{file} at {offset:#x} len {len:#x} prot {prot} flags {flags:#x} as m{map}")
            }
            Self::MmapOver { map, over, file, offset, len, prot, flags } => write!(
                f,
                " m{over} by f{file} at {offset:#x} len {len:#x} prot {prot} flags {flags:#x} as m{map}"
            ),
            Self::Mprotect { map, offset, len, prot } => {
                write!(f, " m{map} + {offset:#x} len {len:#x} prot {prot}")
            }
            Self::Mremap { map, to, len } => write!(f, " m{map} to len {len:#x} as m{to}"),
            Self::Close { file } | Self::SendFile { file } | Self::ReceiveFile { file } => {
                write!(f, " f{file}")
            }
            Self::Left { from, len } => write!(f, " {len} bytes from {from}"),
            Self::Munmap { map } => write!(f, " m{map}"),
            Self::Load { map, offset, len, width } => {
                write!(f, " m{map} + {offset:#x} {len} bytes by {}", *width as u8)
            }
            Self::Store { map, offset, data, width } => {
                write!(f, " m{map} + {offset:#x} {} bytes by {}", data.len(), *width as u8)
            }
            Self::Fetch { through, map, offset, len } => {
                write!(f, "{} m{map} + {offset:#x} {len} bytes", via(*through))
            }
            Self::Put { through, map, offset, data } => {
                write!(f, "{} m{map} + {offset:#x} {} bytes", via(*through), data.len())
            }
            Self::DropCaps { mask } => {
                write!(f, " {}", capability::names(*mask).collect::<Vec<_>>().join(", "))
            }
            Self::SetUser { uid, gid, keep } => {
                write!(f, " {uid} group {gid}{}", if *keep { ", capabilities kept" } else { "" })
            }
            Self::UserNamespace | Self::NoNewPrivs | Self::Fork | Self::Exit | Self::Exec => Ok(()),
            Self::Ioperm { from, count, on } => {
                write!(f, " {count:#x} from {from:#x} {}", if *on { "on" } else { "off" })
            }
            Self::Iopl { level } => write!(f, " {level}"),
            Self::PortIn { port, width } => write!(f, " {port:#x} by {}", *width as u8),
        }
    }
}

struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |at| write!(f, " at {at:#x}"))
    }
}

struct Into(Buffer);

impl fmt::Display for Into {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Buffer::Good => "",
            Buffer::Null => ", buffer null",
            Buffer::Kernel => ", buffer in the kernel's half",
            Buffer::Straddling => ", buffer half unmapped",
        })
    }
}
