// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A case's step in the agent's words.

use protocol::{Buffer, Reset, Step, Via, Width};
use types::PlacedRegion;

use super::slots::Slots;
use crate::calls;
use crate::case::{Action, Direction, OUTPUT, Share};
use crate::place::Place;
use model::capability;

/// How long a program may take: less than what makes a silent guest count as hung.
const PROGRAM_MS: u32 = 30_000;

/// A step ready to be sent.
#[derive(Debug)]
pub struct Translated {
    build: Build,
    /// The guest physical address it names.
    pub place: Option<u64>,
}

/// The agent's step borrows its bytes, so they are kept here.
#[derive(Debug)]
enum Build {
    Open { file: u8, path: String, flags: u32 },
    Write { file: u8, data: Vec<u8>, buffer: Buffer },
    Pwrite { file: u8, offset: u64, data: Vec<u8>, buffer: Buffer },
    MakeNode { path: String, major: u32, minor: u32 },
    Poke { map: u8, offset: u64, data: Vec<u8> },
    ProcMemWrite { map: u8, offset: u64, data: Vec<u8> },
    Stat(String),
    ReadFile { path: String, len: u32 },
    WriteFile { path: String, data: Vec<u8> },
    Execute { path: String, arguments: Vec<u8> },
    Plain(Step<'static>),
}

impl Translated {
    /// The step to send.
    pub fn step(&self) -> Step<'_> {
        match &self.build {
            Build::Open { file, path, flags } => {
                Step::Open { file: *file, path: path.as_bytes(), flags: *flags, mode: 0 }
            }
            Build::Write { file, data, buffer } => Step::Write { file: *file, data, buffer: *buffer },
            Build::Pwrite { file, offset, data, buffer } => {
                Step::Pwrite { file: *file, offset: *offset, data, buffer: *buffer }
            }
            Build::MakeNode { path, major, minor } => {
                Step::MakeNode { path: path.as_bytes(), major: *major, minor: *minor }
            }
            Build::Poke { map, offset, data } => {
                Step::Poke { map: *map, offset: *offset, data, width: width(*offset, data.len() as u64) }
            }
            Build::ProcMemWrite { map, offset, data } => {
                Step::ProcMemWrite { via: Via::Itself, map: *map, offset: *offset, data }
            }
            Build::Stat(path) => Step::Stat { path: path.as_bytes() },
            Build::ReadFile { path, len } => Step::ReadFile { path: path.as_bytes(), offset: 0, len: *len },
            Build::Execute { path, arguments } => {
                Step::Execute { path: path.as_bytes(), arguments, len: OUTPUT, limit_ms: PROGRAM_MS }
            }
            Build::WriteFile { path, data } => Step::WriteFile { path: path.as_bytes(), create: false, data },
            Build::Plain(step) => *step,
        }
    }
}

/// The widest access that fits place and length, as memcpy would choose.
fn width(offset: u64, len: u64) -> Width {
    match (offset | len).trailing_zeros() {
        0 => Width::Byte,
        1 => Width::Word,
        2 => Width::Long,
        _ => Width::Quad,
    }
}

fn port_width(width: u8) -> Result<Width, String> {
    Width::ALL
        .iter()
        .copied()
        .find(|known| *known as u8 == width)
        .ok_or_else(|| format!("no port access has {width} bytes"))
}

/// The mask of capabilities given by name.
fn mask(caps: &[String]) -> Result<u64, String> {
    caps.iter().try_fold(0, |mask, cap| {
        let bit = capability::bit(cap).ok_or_else(|| format!("copra does not know the capability {cap}"))?;
        Ok(mask | bit)
    })
}

/// Translates an action; the error names what this guest does not have.
pub fn step(action: &Action, slots: &mut Slots, regions: &[PlacedRegion]) -> Result<Translated, String> {
    let resolve =
        |place: &Place| place.resolve(regions).ok_or_else(|| format!("this guest has no `{place}`"));
    let place = action.place().map(&resolve).transpose()?;
    let at = place.unwrap_or(0);
    let build = match action {
        Action::Open { path, flags, handle } => {
            Build::Open { file: slots.file(handle), path: path.clone(), flags: flags.0.cast_unsigned() }
        }
        Action::Write { fd, data, buffer } => {
            Build::Write { file: slots.file(fd), data: data.clone(), buffer: buffer.of_agent() }
        }
        Action::Pwrite { fd, data, buffer, .. } => {
            Build::Pwrite { file: slots.file(fd), offset: at, data: data.clone(), buffer: buffer.of_agent() }
        }
        Action::Mknod { path, major, minor } => {
            Build::MakeNode { path: path.clone(), major: *major, minor: *minor }
        }
        Action::Poke { map, offset, data } => {
            Build::Poke { map: slots.map(map), offset: *offset, data: data.clone() }
        }
        Action::SelfMemWrite { map, offset, data } => {
            Build::ProcMemWrite { map: slots.map(map), offset: *offset, data: data.clone() }
        }
        Action::Stat { path } => Build::Stat(path.clone()),
        Action::ReadFile { path, len } => Build::ReadFile { path: path.clone(), len: *len as u32 },
        Action::Run { program, args } => Build::Execute {
            path: program.clone(),
            arguments: args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect(),
        },
        Action::WriteFile { path, data } => Build::WriteFile { path: path.clone(), data: data.clone() },
        other => Build::Plain(plain(other, slots, at)?),
    };
    Ok(Translated { build, place })
}

fn plain(action: &Action, slots: &mut Slots, at: u64) -> Result<Step<'static>, String> {
    Ok(match action {
        Action::Close { fd } => Step::Close { file: slots.file(fd) },
        Action::Lseek { fd, whence, .. } => Step::Lseek {
            file: slots.file(fd),
            offset: at.cast_signed(),
            whence: match whence {
                Direction::Set => 0,
                Direction::Current => 1,
                Direction::End => 2,
            },
        },
        Action::Read { fd, len, buffer } => {
            Step::Read { file: slots.file(fd), len: *len, buffer: buffer.of_agent() }
        }
        Action::Pread { fd, len, buffer, .. } => {
            Step::Pread { file: slots.file(fd), offset: at, len: *len, buffer: buffer.of_agent() }
        }
        Action::Buffer { from, len, .. } => Step::Left { from: *from as u32, len: *len as u32 },
        Action::Mmap { fd, len, prot, share, over, handle, .. } => {
            let flags = match share {
                Share::Shared => libc::MAP_SHARED,
                Share::Private => libc::MAP_PRIVATE,
            }
            .cast_unsigned();
            let (file, len, prot) = (slots.file(fd), *len, prot.0);
            // Unchanged: the kernel's result for an unaligned offset is judged like any other.
            let offset = at;
            match over {
                Some(over) => {
                    let over = slots.map(over);
                    Step::MmapOver { map: slots.map(handle), over, file, offset, len, prot, flags }
                }
                None => Step::Mmap { map: slots.map(handle), file, offset, len, prot, flags },
            }
        }
        Action::Mprotect { map, offset, len, prot } => {
            Step::Mprotect { map: slots.map(map), offset: *offset, len: *len, prot: prot.0 }
        }
        Action::Mremap { map, len, handle } => {
            let map = slots.map(map);
            Step::Mremap { map, to: handle.as_ref().map_or(map, |handle| slots.map(handle)), len: *len }
        }
        Action::Fork => Step::Fork,
        Action::Exec => Step::Exec,
        Action::SendFile { fd } => Step::SendFile { file: slots.file(fd) },
        Action::ReceiveFile { handle } => Step::ReceiveFile { file: slots.file(handle) },
        Action::Munmap { map } => Step::Munmap { map: slots.map(map) },
        Action::Peek { map, offset, len } => {
            Step::Peek { map: slots.map(map), offset: *offset, len: *len as u32, width: width(*offset, *len) }
        }
        Action::SelfMemRead { map, offset, len } => {
            Step::ProcMemRead { via: Via::Itself, map: slots.map(map), offset: *offset, len: *len as u32 }
        }
        Action::VmReadv { map, offset, len } => {
            Step::VmRead { via: Via::Child, map: slots.map(map), offset: *offset, len: *len as u32 }
        }
        Action::PtracePeek { map, offset, len } => {
            Step::PtracePeek { map: slots.map(map), offset: *offset, len: *len as u32 }
        }
        Action::PortIn { port, width } => Step::PortIn { port: *port, width: port_width(*width)? },
        Action::PortOut { port, width, value } => {
            Step::PortOut { port: *port, width: port_width(*width)?, value: *value }
        }
        Action::Iopl { level } => Step::Iopl { level: *level },
        Action::Ioperm { port, count, on } => {
            Step::Ioperm { from: u64::from(*port), count: u64::from(*count), on: *on }
        }
        Action::Setuid { uid, gid, keep } => Step::SetUser { uid: *uid, gid: *gid, keep: *keep },
        Action::DropCaps { caps } => Step::DropCaps { mask: mask(caps)? },
        Action::KeepCaps { caps } => Step::DropCaps { mask: !mask(caps)? },
        Action::UserNamespace => calls::NEW_USER_NAMESPACE,
        Action::NoNewPrivs => calls::NO_NEW_PRIVS,
        Action::Exit if slots.in_child() => Step::ExitWorker,
        // The worker that takes it is a new one; the step itself does nothing.
        Action::Exit => Step::Uname,
        Action::Reboot => Step::Reset { kind: Reset::Restart },
        _ => return Err("no step of the agent".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mmap_gets_the_offset_of_the_case() {
        let text = |at: &str| {
            format!(
                "title = 't'\nwhy = 'w'\n[[step]]\nid = 'o'\ndo = 'open'\npath = '/dev/mem'\nflags = 'O_RDWR'\nas = 'mem'\n\
                 [[step]]\nid = 'm'\ndo = 'mmap'\nfd = 'mem'\nat = {at}\nprot = 'r'\nshare = 'shared'\nas = 'm'"
            )
        };
        for at in [0, 0x1000, 0xf_0100, 0xfff, u64::MAX >> 1] {
            let case = crate::case::parse(&text(&at.to_string()), "test").unwrap();
            let translated = step(&case.steps[1].action, &mut Slots::default(), &[]).unwrap();
            assert!(matches!(translated.step(), Step::Mmap { offset, .. } if offset == at), "{at:#x}");
        }
    }

    #[test]
    fn accesses_are_as_wide_as_alignment_and_length_allow() {
        assert_eq!(width(0, 64), Width::Quad);
        assert_eq!(width(4, 64), Width::Long);
        assert_eq!(width(0, 6), Width::Word);
        assert_eq!(width(0x97, 1), Width::Byte);
    }
}
