// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operations that change what is mapped, or who executes the next ones.

use super::{Chooser, MAPS};
use model::capability;
use model::{Op, PAGE, Task};

/// Most processes that wait for a forked one.
const MOST_PARENTS: usize = 2;
/// Most bytes of a buffer read at once.
const MOST_LEFT: u64 = 600;

impl Chooser<'_> {
    /// Operations that change the credentials of the task.
    pub(super) fn privileges(&mut self) -> Op {
        let random = &mut *self.random;
        match random.below(8) {
            0 => Op::UserNamespace,
            1 => Op::NoNewPrivs,
            2 | 3 => {
                let uid = random.pick(&[0, 1000, 65_534]).unwrap_or(0);
                Op::SetUser { uid, gid: random.pick(&[0, uid]).unwrap_or(0), keep: random.once_in(2) }
            }
            4 => {
                Op::DropCaps { mask: capability::ALL & !(1 << random.below(capability::NAMES.len() as u64)) }
            }
            5 => Op::DropCaps { mask: random.next() & random.next() & random.next() & capability::ALL },
            _ => {
                let one = random.pick(&[
                    capability::SYS_RAWIO,
                    capability::SYS_ADMIN,
                    capability::DAC_OVERRIDE,
                    capability::SETUID,
                ]);
                Op::DropCaps { mask: 1 << one.unwrap_or(capability::SYS_RAWIO) }
            }
        }
    }

    /// A mapping where another one is, of the same length or not.
    pub(super) fn over(&mut self, task: &Task) -> Op {
        let Op::Mmap { map, file, offset, .. } = self.mmap(task) else { return Op::Fork };
        let over = self.map(task);
        let pages = 1 + self.random.below(3);
        let (prot, flags) = (self.protection(), self.share());
        let map = if self.random.once_in(3) { over } else { map };
        Op::MmapOver { map, over, file, offset, len: pages * PAGE, prot, flags }
    }

    /// Another protection for all of a mapping, or for some of its pages and beyond.
    pub(super) fn protect(&mut self, task: &Task) -> Op {
        let map = self.map(task);
        let whole = task.process.maps.get(&map).map_or(PAGE, |slot| slot.len);
        let (offset, len) = match self.random.below(12) {
            0 => (self.random.below(4) * PAGE, (1 + self.random.below(3)) * PAGE),
            1 => (self.random.below(whole), self.random.below(2 * PAGE)),
            2 => (0, self.random.below(3) * whole),
            _ => (0, whole),
        };
        let prot = self.protection();
        Op::Mprotect { map, offset, len, prot }
    }

    /// Another length, or another place.
    pub(super) fn remap(&mut self, task: &Task) -> Op {
        let map = self.map(task);
        let len = task.process.maps.get(&map).map_or(PAGE, |slot| slot.len);
        let to = if self.random.once_in(2) { map } else { self.random.below(MAPS) as u8 };
        let len = match self.random.below(8) {
            0 => 0,
            1 => len + PAGE,
            2 => self.random.below(2 * len),
            3 | 4 => (len / 2).max(1),
            _ => len,
        };
        Op::Mremap { map, to, len }
    }

    /// Another process.
    pub(super) fn process(&mut self, task: &Task) -> Op {
        match self.random.below(24) {
            0 => Op::Exec,
            1..=8 if task.parents.len() < MOST_PARENTS => Op::Fork,
            _ if !task.parents.is_empty() => Op::Exit,
            _ => self.lseek(task),
        }
    }

    /// An open file through a socket.
    pub(super) fn pass(&mut self, task: &Task) -> Op {
        let file = self.file(task);
        let may_receive = task.process.socket.is_some() && !self.random.once_in(2);
        if may_receive { Op::ReceiveFile { file } } else { Op::SendFile { file } }
    }

    /// A part of the buffer that was read into.
    pub(super) fn left(&mut self, held: u64) -> Op {
        let from = self.random.below(held + 1);
        let len = (held - from).min(MOST_LEFT);
        Op::Left { from: from as u32, len: len as u32 }
    }
}
