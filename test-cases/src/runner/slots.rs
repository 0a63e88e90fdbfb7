//! A case's names for open files and mappings, as the agent's numbered slots, and where each stands in memory.

use std::collections::{HashMap, HashSet, VecDeque};

use super::translate::Translated;
use crate::case::Action;
use crate::observation::Answer;

/// What the case holds at present.
#[derive(Debug, Default)]
pub struct Slots {
    numbers: HashMap<String, u8>,
    held: HashMap<String, Held>,
    next_file: u8,
    next_map: u8,
    /// What the processes hold that wait for the end of the child they forked.
    parents: Vec<HashMap<String, Held>>,
    /// Open files on their way through a socket.
    sent: VecDeque<Held>,
    /// Where the read just before was, if it was at a physical address.
    read: Option<u64>,
    /// Device nodes the case made that are /dev/mem by another name.
    nodes: HashSet<String>,
}

/// Numbers that no slot has; the agent refuses them.
const MOST_SLOTS: u8 = 254;

#[derive(Debug, Clone, Copy)]
struct Held {
    /// /dev/mem, so that offsets are guest physical addresses.
    physical: bool,
    /// File position, or the offset at which a mapping starts.
    position: u64,
}

impl Slots {
    /// The step that was to obtain it did.
    pub fn has(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    /// What the action uses and the process does not hold.
    pub fn lacks<'a>(&self, action: &'a Action) -> Option<&'a str> {
        let used = [action.uses(), action.takes_place_of()];
        let missing = used.into_iter().flatten().find(|name| !self.has(name));
        missing.or(match action {
            Action::ReceiveFile { handle } if self.sent.is_empty() => Some(handle.as_str()),
            _ => None,
        })
    }

    /// A forked child does the steps.
    pub fn in_child(&self) -> bool {
        !self.parents.is_empty()
    }

    /// The process that held them is gone.
    pub fn release_all(&mut self) {
        self.held.clear();
    }

    /// The parent goes on with what it held; an open file has one position for both.
    fn leave_child(&mut self) {
        let Some(parent) = self.parents.pop() else { return };
        let child = std::mem::replace(&mut self.held, parent);
        for (name, held) in &mut self.held {
            if let Some(child) = child.get(name) {
                *held = *child;
            }
        }
    }

    /// Slot number of a file name, given on first use.
    pub fn file(&mut self, name: &str) -> u8 {
        let next = &mut self.next_file;
        *self
            .numbers
            .entry(name.to_owned())
            .or_insert_with(|| std::mem::replace(next, next.saturating_add(1).min(MOST_SLOTS)))
    }

    /// Slot number of a mapping, given on first use.
    pub fn map(&mut self, name: &str) -> u8 {
        let next = &mut self.next_map;
        *self
            .numbers
            .entry(name.to_owned())
            .or_insert_with(|| std::mem::replace(next, next.saturating_add(1).min(MOST_SLOTS)))
    }

    /// Guest physical address a step is about, if it is about one.
    pub fn place(&self, action: &Action, translated: &Translated) -> Option<u64> {
        if let Action::Buffer { from, .. } = action {
            return self.read.map(|read| read.wrapping_add(*from));
        }
        let held = self.held.get(action.uses()?).filter(|held| held.physical)?;
        match action {
            Action::Pread { .. } | Action::Pwrite { .. } | Action::Mmap { .. } => translated.place,
            Action::Read { .. } | Action::Write { .. } => Some(held.position),
            Action::Peek { offset, .. }
            | Action::Poke { offset, .. }
            | Action::SelfMemRead { offset, .. }
            | Action::SelfMemWrite { offset, .. }
            | Action::VmReadv { offset, .. }
            | Action::PtracePeek { offset, .. } => Some(held.position.wrapping_add(*offset)),
            _ => None,
        }
    }

    /// Follows what the step changed.
    pub fn settle(&mut self, action: &Action, answer: &Answer, translated: &Translated) {
        self.read = match action {
            Action::Read { .. } | Action::Pread { .. } => self.place(action, translated),
            _ => None,
        };
        let Answer::Returned { value } = answer else { return };
        match action {
            Action::Open { path, handle, .. } => {
                let physical = path == "/dev/mem" || self.nodes.contains(path);
                self.held.insert(handle.clone(), Held { physical, position: 0 });
            }
            Action::Mknod { path, major: 1, minor: 1 } => {
                self.nodes.insert(path.clone());
            }
            Action::Mmap { fd, handle, over, .. } => {
                let physical = self.held.get(fd).is_some_and(|held| held.physical);
                let held = Held { physical, position: translated.place.unwrap_or(0) };
                // Under both names the new mapping is seen, as far as it goes.
                self.held.extend(over.iter().chain([handle]).map(|name| (name.clone(), held)));
            }
            Action::Mremap { map, handle: Some(handle), .. } => {
                if let Some(held) = self.held.remove(map) {
                    self.held.insert(handle.clone(), held);
                }
            }
            Action::Fork => self.parents.push(self.held.clone()),
            Action::Exit => self.leave_child(),
            Action::SendFile { fd } => self.sent.extend(self.held.get(fd).copied()),
            Action::ReceiveFile { handle } => {
                if let Some(held) = self.sent.pop_front() {
                    self.held.insert(handle.clone(), held);
                }
            }
            Action::Close { fd: name } | Action::Munmap { map: name } => {
                self.held.remove(name);
            }
            Action::Lseek { fd, .. } => {
                if let Some(held) = self.held.get_mut(fd) {
                    held.position = *value;
                }
            }
            Action::Read { fd, .. } | Action::Write { fd, .. } => {
                if let Some(held) = self.held.get_mut(fd) {
                    held.position = held.position.wrapping_add(*value);
                }
            }
            _ => {}
        }
    }
}
