// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a step is shown in reports: as a person would write the call.

use std::fmt;

use super::flags::{UserBuffer, ViewChoice};
use super::step::Action;

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, flags, .. } => write!(f, "open({path}, {flags})"),
            Self::Close { fd } => write!(f, "close({fd})"),
            Self::Lseek { fd, to, whence } => write!(f, "lseek({fd}, {to}, {whence})"),
            Self::Read { fd, len, buffer } => write!(f, "read({fd}, {len} bytes{})", Into(*buffer)),
            Self::Pread { fd, at, len, buffer } => {
                write!(f, "pread({fd}, {len} bytes at {at}{})", Into(*buffer))
            }
            Self::Write { fd, data, buffer } => {
                write!(f, "write({fd}, {} bytes{})", data.len(), Into(*buffer))
            }
            Self::Pwrite { fd, at, data, buffer } => {
                write!(f, "pwrite({fd}, {} bytes at {at}{})", data.len(), Into(*buffer))
            }
            Self::Buffer { from, len, .. } => write!(f, "look at {len} bytes of the buffer + {from:#x}"),
            Self::Mmap { fd, at, len, prot, share, over, .. } => {
                write!(f, "mmap({fd}, {len:#x} bytes at {at}, {prot}, {share}")?;
                over.iter().try_for_each(|over| write!(f, ", MAP_FIXED over {over}"))?;
                f.write_str(")")
            }
            Self::Mprotect { map, offset, len, prot } => {
                write!(f, "mprotect({map} + {offset:#x}, {len:#x} bytes, {prot})")
            }
            Self::Mremap { map, len, handle: None } => write!(f, "mremap({map}, {len:#x} bytes)"),
            Self::Mremap { map, len, handle: Some(handle) } => {
                write!(f, "mremap({map}, {len:#x} bytes, moved as {handle})")
            }
            Self::Mknod { path, major, minor } => {
                write!(f, "mknod({path}, character device {major}:{minor})")
            }
            Self::Fork => f.write_str("fork()"),
            Self::Exec => f.write_str("execve() of the agent"),
            Self::SendFile { fd } => write!(f, "sendmsg(SCM_RIGHTS, {fd})"),
            Self::ReceiveFile { handle } => write!(f, "recvmsg(SCM_RIGHTS) as {handle}"),
            Self::Munmap { map } => write!(f, "munmap({map})"),
            Self::Peek { map, offset, len } => write!(f, "load {len} bytes at {map} + {offset:#x}"),
            Self::Poke { map, offset, data } => {
                write!(f, "store {} bytes at {map} + {offset:#x}", data.len())
            }
            Self::SelfMemRead { map, offset, len } => {
                write!(f, "pread(/proc/self/mem, {len} bytes at {map} + {offset:#x})")
            }
            Self::SelfMemWrite { map, offset, data } => {
                write!(f, "pwrite(/proc/self/mem, {} bytes at {map} + {offset:#x})", data.len())
            }
            Self::VmReadv { map, offset, len } => {
                write!(f, "process_vm_readv({len} bytes at {map} + {offset:#x})")
            }
            Self::PtracePeek { map, offset, len } => {
                write!(f, "ptrace(PEEKDATA, {len} bytes at {map} + {offset:#x})")
            }
            Self::Stat { path } => write!(f, "stat({path})"),
            Self::ReadFile { path, .. } => write!(f, "read all of {path}"),
            Self::Run { program, args } => {
                write!(f, "{program}")?;
                args.iter().try_for_each(|arg| write!(f, " {arg}"))
            }
            Self::WriteFile { path, data } => write!(f, "write {} bytes to {path}", data.len()),
            Self::PortIn { port, width } => write!(f, "in {width} bytes from port {port:#x}"),
            Self::PortOut { port, width, value } => {
                write!(f, "out {value:#x}, {width} bytes, to port {port:#x}")
            }
            Self::Iopl { level } => write!(f, "iopl({level})"),
            Self::Ioperm { port, count, on } => write!(f, "ioperm({port:#x}, {count}, {on})"),
            Self::Setuid { uid, gid, keep } => {
                write!(f, "setuid({uid})")?;
                if gid != uid {
                    write!(f, " with group {gid}")?;
                }
                f.write_str(if *keep { ", capabilities kept" } else { "" })
            }
            Self::DropCaps { caps } => write!(f, "drop {}", caps.join(", ")),
            Self::KeepCaps { caps } if caps.is_empty() => f.write_str("drop every capability"),
            Self::KeepCaps { caps } => write!(f, "drop all but {}", caps.join(", ")),
            Self::UserNamespace => f.write_str("unshare(CLONE_NEWUSER)"),
            Self::NoNewPrivs => f.write_str("prctl(PR_SET_NO_NEW_PRIVS)"),
            Self::Exit => f.write_str("the process exits"),
            Self::KcoreRead { at, len } => write!(f, "pread(/proc/kcore, {len} bytes at {at})"),
            Self::KernelLog => f.write_str("read the kernel log"),
            Self::Reboot => f.write_str("reboot()"),
            Self::Memory { at, len, view: ViewChoice::Owner, .. } => write!(f, "look at {len} bytes at {at}"),
            Self::Memory { at, len, view, .. } => {
                write!(f, "look at {len} bytes at {at} through the {view} view")
            }
        }
    }
}

/// A buffer that is not wholly valid memory.
struct Into(UserBuffer);

impl fmt::Display for Into {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            UserBuffer::Good => Ok(()),
            other => write!(f, ", {other} buffer"),
        }
    }
}
