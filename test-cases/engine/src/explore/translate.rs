// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model's operations in the agent's words.

use protocol::Step;

use crate::calls;
use model::{Op, Through};

/// The step that does it.
pub fn step(op: &Op) -> Step<'_> {
    match op {
        Op::Open { file, node, flags } => {
            Step::Open { file: *file, path: node.path().as_bytes(), flags: flags.cast_unsigned(), mode: 0 }
        }
        Op::Close { file } => Step::Close { file: *file },
        Op::Lseek { file, offset, whence } => Step::Lseek { file: *file, offset: *offset, whence: *whence },
        Op::Read { file, at: None, len, buffer } => Step::Read { file: *file, len: *len, buffer: *buffer },
        Op::Read { file, at: Some(offset), len, buffer } => {
            Step::Pread { file: *file, offset: *offset, len: *len, buffer: *buffer }
        }
        Op::Write { file, at: None, data, buffer } => Step::Write { file: *file, data, buffer: *buffer },
        Op::Write { file, at: Some(offset), data, buffer } => {
            Step::Pwrite { file: *file, offset: *offset, data, buffer: *buffer }
        }
        Op::Mmap { map, file, offset, len, prot, flags } => {
            Step::Mmap { map: *map, file: *file, offset: *offset, len: *len, prot: *prot, flags: *flags }
        }
        Op::MmapOver { map, over, file, offset, len, prot, flags } => Step::MmapOver {
            map: *map,
            over: *over,
            file: *file,
            offset: *offset,
            len: *len,
            prot: *prot,
            flags: *flags,
        },
        Op::Mprotect { map, offset, len, prot } => {
            Step::Mprotect { map: *map, offset: *offset, len: *len, prot: *prot }
        }
        Op::Mremap { map, to, len } => Step::Mremap { map: *map, to: *to, len: *len },
        Op::Fork => Step::Fork,
        Op::Exit => Step::ExitWorker,
        Op::Exec => Step::Exec,
        Op::SendFile { file } => Step::SendFile { file: *file },
        Op::ReceiveFile { file } => Step::ReceiveFile { file: *file },
        Op::Left { from, len } => Step::Left { from: *from, len: *len },
        Op::Munmap { map } => Step::Munmap { map: *map },
        Op::Load { map, offset, len, width } => {
            Step::Peek { map: *map, offset: *offset, len: *len, width: *width }
        }
        Op::Store { map, offset, data, width } => {
            Step::Poke { map: *map, offset: *offset, data, width: *width }
        }
        Op::Fetch { through, map, offset, len } => {
            let (map, offset, len) = (*map, *offset, *len);
            match *through {
                Through::ProcMem(via) => Step::ProcMemRead { via, map, offset, len },
                Through::ProcessVm(via) => Step::VmRead { via, map, offset, len },
                Through::Ptrace => Step::PtracePeek { map, offset, len },
            }
        }
        Op::Put { through, map, offset, data } => {
            let (map, offset) = (*map, *offset);
            match *through {
                Through::ProcMem(via) => Step::ProcMemWrite { via, map, offset, data },
                Through::ProcessVm(via) => Step::VmWrite { via, map, offset, data },
                Through::Ptrace => Step::PtracePoke { map, offset, data },
            }
        }
        Op::Ioperm { from, count, on } => Step::Ioperm { from: *from, count: *count, on: *on },
        Op::Iopl { level } => Step::Iopl { level: *level },
        Op::PortIn { port, width } => Step::PortIn { port: *port, width: *width },
        Op::DropCaps { mask } => Step::DropCaps { mask: *mask },
        Op::SetUser { uid, gid, keep } => Step::SetUser { uid: *uid, gid: *gid, keep: *keep },
        Op::UserNamespace => calls::NEW_USER_NAMESPACE,
        Op::NoNewPrivs => calls::NO_NEW_PRIVS,
    }
}
