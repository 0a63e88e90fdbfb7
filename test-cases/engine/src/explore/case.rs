// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A sequence as a case, with the model's predictions as expectations.

use std::collections::BTreeMap;

use protocol::{Buffer, Via};

use super::expectation::Predictor;
use super::guest::Guest;
use super::sequence::Difference;
use crate::case::{
    self, Action, Case, Direction, Handle, OpenFlags, Protection, Share, Step, Term, UserBuffer,
};
use crate::guest::Target;
use crate::place::Place;
use model::capability;
use model::{Op, Through};

/// The sequence as the text of a case file. Every operation is also there as a comment; one that case files have no words
/// for, as a comment alone.
pub fn write(guest: &Guest, ops: &[Op], difference: &Difference, target: &Target) -> String {
    let title =
        format!("{} as {} guest disagrees with the model of /dev/mem", target.kernel.spec, target.platform);
    let mut case = Case::new("explored", &title, difference.text.trim());
    case.platforms = vec![target.platform];
    // By the step they precede.
    let mut comments: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut maker = Maker::default();
    let mut predictor = Predictor::default();
    for (index, op) in ops.iter().enumerate() {
        let expected = predictor.expectation(guest, op, difference.in_events);
        let here = comments.entry(case.steps.len()).or_default();
        here.push(op.to_string());
        let Some(action) = maker.action(op) else {
            here.push("(case files have no words for this)".to_owned());
            continue;
        };
        let mut step = Step::new(&format!("step-{index}"), action);
        if let Some(expected) = expected {
            if expected.alternatives == [Term::Ok] {
                maker.give_up(op);
            }
            step = step.expecting(expected);
        }
        case.steps.push(step);
    }
    case::write_commented(&case, |step| comments.get(&step).cloned().unwrap_or_default())
}

/// Makes the steps of a case, and keeps the names of files and mappings in it.
#[derive(Default)]
struct Maker {
    names: BTreeMap<(char, u8), Handle>,
    /// The names that processes have which wait for a forked one.
    parents: Vec<BTreeMap<(char, u8), Handle>>,
    /// The file slot of the last read.
    read: Option<u8>,
    made: usize,
}

const fn buffer(buffer: Buffer) -> UserBuffer {
    match buffer {
        Buffer::Good => UserBuffer::Good,
        Buffer::Null => UserBuffer::Bad,
        Buffer::Kernel => UserBuffer::Kernel,
        Buffer::Straddling => UserBuffer::PartlyBad,
    }
}

impl Maker {
    /// A new name for what an operation puts into a slot.
    fn make(&mut self, kind: char, slot: u8) -> Handle {
        self.made += 1;
        let name = format!("{kind}{}", self.made);
        self.names.insert((kind, slot), name.clone());
        name
    }

    fn name(&self, kind: char, slot: u8) -> Option<Handle> {
        self.names.get(&(kind, slot)).cloned()
    }

    /// Forgets the name of what an operation gave up: a case cannot use it any more.
    fn give_up(&mut self, op: &Op) {
        let slot = match op {
            Op::Close { file } => ('f', *file),
            Op::Munmap { map } => ('m', *map),
            Op::Mremap { map, to, .. } if to != map => ('m', *map),
            _ => return,
        };
        self.names.remove(&slot);
    }

    fn mmap(
        &mut self,
        map: u8,
        file: u8,
        (offset, len): (u64, u64),
        (prot, flags): (u32, u32),
        over: Option<Handle>,
    ) -> Option<Action> {
        let fd = self.name('f', file)?;
        let share =
            [None, Some(Share::Shared), Some(Share::Private)].get(flags as usize).copied().flatten()?;
        let (at, prot, handle) = (Place::address(offset), Protection(prot), self.make('m', map));
        Some(Action::Mmap { fd, at, len, prot, share, over, handle })
    }

    fn action(&mut self, op: &Op) -> Option<Action> {
        Some(match op {
            Op::Open { file, node, flags } => Action::Open {
                path: node.path().to_owned(),
                flags: OpenFlags(*flags),
                handle: self.make('f', *file),
            },
            Op::Close { file } => Action::Close { fd: self.name('f', *file)? },
            Op::Lseek { file, offset, whence } => {
                let whence = *Direction::ALL.get(usize::from(*whence))?;
                let to = Place::address(offset.cast_unsigned());
                Action::Lseek { fd: self.name('f', *file)?, to, whence }
            }
            Op::Read { file, at, len, buffer: given } => {
                self.read = Some(*file);
                let (fd, len, buffer) = (self.name('f', *file)?, *len, buffer(*given));
                match at {
                    None => Action::Read { fd, len, buffer },
                    Some(at) => Action::Pread { fd, at: Place::address(*at), len, buffer },
                }
            }
            Op::Write { file, at, data, buffer: given } => {
                let (fd, data, buffer) = (self.name('f', *file)?, data.clone(), buffer(*given));
                match at {
                    None => Action::Write { fd, data, buffer },
                    Some(at) => Action::Pwrite { fd, at: Place::address(*at), data, buffer },
                }
            }
            Op::Mmap { map, file, offset, len, prot, flags } => {
                self.mmap(*map, *file, (*offset, *len), (*prot, *flags), None)?
            }
            Op::MmapOver { map, over, file, offset, len, prot, flags } => {
                let over = self.name('m', *over)?;
                self.mmap(*map, *file, (*offset, *len), (*prot, *flags), Some(over))?
            }
            Op::Mprotect { map, offset, len, prot } => {
                let (map, prot) = (self.name('m', *map)?, Protection(*prot));
                Action::Mprotect { map, offset: *offset, len: *len, prot }
            }
            Op::Mremap { map: slot, to, len } => {
                let map = self.name('m', *slot)?;
                let handle = (to != slot).then(|| self.make('m', *to));
                Action::Mremap { map, len: *len, handle }
            }
            Op::Fork => {
                self.parents.push(self.names.clone());
                Action::Fork
            }
            Op::Exit => {
                self.names = self.parents.pop()?;
                Action::Exit
            }
            Op::Exec => Action::Exec,
            Op::SendFile { file } => Action::SendFile { fd: self.name('f', *file)? },
            Op::ReceiveFile { file } => Action::ReceiveFile { handle: self.make('f', *file) },
            Op::Left { from, len } if *len > 0 => {
                let fd = self.name('f', self.read?)?;
                Action::Buffer { fd, from: (*from).into(), len: (*len).into() }
            }
            Op::Munmap { map } => Action::Munmap { map: self.name('m', *map)? },
            Op::Load { map, offset, len, .. } => {
                Action::Peek { map: self.name('m', *map)?, offset: *offset, len: (*len).into() }
            }
            Op::Store { map, offset, data, .. } => {
                Action::Poke { map: self.name('m', *map)?, offset: *offset, data: data.clone() }
            }
            Op::Fetch { through, map, offset, len } => {
                let (map, offset, len) = (self.name('m', *map)?, *offset, (*len).into());
                match through {
                    Through::ProcMem(Via::Itself) => Action::SelfMemRead { map, offset, len },
                    Through::ProcessVm(Via::Child) => Action::VmReadv { map, offset, len },
                    Through::Ptrace => Action::PtracePeek { map, offset, len },
                    _ => return None,
                }
            }
            Op::Put { through: Through::ProcMem(Via::Itself), map, offset, data } => {
                Action::SelfMemWrite { map: self.name('m', *map)?, offset: *offset, data: data.clone() }
            }
            Op::Ioperm { from, count, on } => {
                let (port, count) = (u16::try_from(*from).ok()?, u16::try_from(*count).ok()?);
                Action::Ioperm { port, count, on: *on }
            }
            Op::Iopl { level } => Action::Iopl { level: *level },
            Op::PortIn { port, width } => Action::PortIn { port: *port, width: *width as u8 },
            Op::DropCaps { mask } => {
                Action::DropCaps { caps: capability::names(*mask).map(str::to_owned).collect() }
            }
            Op::SetUser { uid, gid, keep } => Action::Setuid { uid: *uid, gid: *gid, keep: *keep },
            Op::UserNamespace => Action::UserNamespace,
            Op::NoNewPrivs => Action::NoNewPrivs,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_has_no_name() {
        let mut maker = Maker::default();
        for (kind, slot) in [('f', 0), ('m', 0), ('m', 1)] {
            maker.make(kind, slot);
        }
        let read = Op::Lseek { file: 0, offset: 0, whence: 0 };
        let unmap = |map| Op::Munmap { map };
        assert!(maker.action(&read).is_some());
        maker.give_up(&read);
        assert!(maker.action(&read).is_some());
        maker.give_up(&Op::Close { file: 0 });
        assert!(maker.action(&read).is_none());
        maker.give_up(&unmap(0));
        assert!(maker.action(&unmap(0)).is_none() && maker.action(&unmap(1)).is_some());
        let remap = Op::Mremap { map: 1, to: 2, len: 4096 };
        assert!(maker.action(&remap).is_some());
        maker.give_up(&remap);
        assert!(maker.action(&unmap(1)).is_none() && maker.action(&unmap(2)).is_some());
        assert!(maker.action(&Op::Mremap { map: 2, to: 2, len: 4096 }).is_some());
        maker.give_up(&Op::Mremap { map: 2, to: 2, len: 4096 });
        assert!(maker.action(&unmap(2)).is_some());
    }
}
