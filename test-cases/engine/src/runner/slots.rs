// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A case's names for open files and mappings, as the agent's numbered slots, and the guest physical address of each.

use std::collections::{HashMap, HashSet, VecDeque};

use super::translate::Translated;
use crate::case::{Action, Step};
use crate::observation::Answer;

/// The open files and mappings of the case at present.
#[derive(Debug, Default)]
pub struct Slots {
    numbers: HashMap<String, u8>,
    objects: HashMap<String, Object>,
    next_file: u8,
    next_map: u8,
    /// The objects of the processes that wait for a forked child.
    parents: Vec<HashMap<String, Object>>,
    /// Open files on their way through a socket.
    sent: VecDeque<Object>,
    /// Where the read just before was, if it was at a physical address.
    read: Option<u64>,
    /// Objects that the case itself closed or unmapped, by the step.
    given_up: HashMap<String, String>,
    /// Files whose sendmsg(2) failed or was not reached.
    unsent: usize,
    /// Device nodes the case made that are /dev/mem by another name.
    nodes: HashSet<String>,
}

/// Numbers that no slot has; the agent refuses them.
const MAX_SLOT: u8 = 254;

#[derive(Debug, Clone, Copy)]
struct Object {
    /// /dev/mem, so that offsets are guest physical addresses.
    physical: bool,
    /// File position, or the offset at which a mapping starts.
    position: u64,
}

impl Slots {
    /// The step that obtains it succeeded.
    pub fn has(&self, name: &str) -> bool {
        self.objects.contains_key(name)
    }

    /// The answer of a step that uses an object the process does not have: not reached if the step that obtains it failed,
    /// not run if the case itself closed or unmapped it before.
    pub fn unavailable(&mut self, step: &Step) -> Option<Answer> {
        let action = &step.action;
        let used = [action.uses(), action.takes_place_of()];
        if let Some(name) = used.into_iter().flatten().find(|name| !self.has(name)) {
            if matches!(action, Action::SendFile { .. }) {
                self.unsent += 1;
            }
            return Some(match self.given_up.get(name) {
                Some(by) => Answer::NotRun { reason: format!("`{name}` was given up by step `{by}`") },
                None => Answer::NotReached { needs: name.to_owned() },
            });
        }
        match action {
            Action::ReceiveFile { handle } if self.sent.is_empty() => Some(if self.unsent > 0 {
                self.unsent -= 1;
                Answer::NotReached { needs: handle.clone() }
            } else {
                let reason = "no step before it sent a file that is not yet received".to_owned();
                Answer::NotRun { reason }
            }),
            _ => None,
        }
    }

    /// A forked child does the steps.
    pub fn in_child(&self) -> bool {
        !self.parents.is_empty()
    }

    /// The process that owned them ended in this step.
    pub fn release_all(&mut self, by: &str) {
        self.given_up.extend(self.objects.drain().map(|(name, _)| (name, by.to_owned())));
    }

    fn give_up(&mut self, name: &str, by: &str) -> Option<Object> {
        let object = self.objects.remove(name)?;
        self.given_up.insert(name.to_owned(), by.to_owned());
        Some(object)
    }

    /// The parent continues with its own objects; parent and child share the position of an open file.
    fn leave_child(&mut self, by: &str) {
        let Some(parent) = self.parents.pop() else { return };
        let child = std::mem::replace(&mut self.objects, parent);
        self.given_up.extend(child.keys().map(|name| (name.clone(), by.to_owned())));
        for (name, object) in &mut self.objects {
            if let Some(child) = child.get(name) {
                *object = *child;
            }
        }
    }

    /// Slot number of a file name, given on first use.
    pub fn file(&mut self, name: &str) -> u8 {
        let next = &mut self.next_file;
        *self
            .numbers
            .entry(name.to_owned())
            .or_insert_with(|| std::mem::replace(next, next.saturating_add(1).min(MAX_SLOT)))
    }

    /// Slot number of a mapping, given on first use.
    pub fn map(&mut self, name: &str) -> u8 {
        let next = &mut self.next_map;
        *self
            .numbers
            .entry(name.to_owned())
            .or_insert_with(|| std::mem::replace(next, next.saturating_add(1).min(MAX_SLOT)))
    }

    /// Guest physical address a step is about, if it is about one.
    pub fn place(&self, action: &Action, translated: &Translated) -> Option<u64> {
        if let Action::Buffer { from, .. } = action {
            return self.read.map(|read| read.wrapping_add(*from));
        }
        let object = self.objects.get(action.uses()?).filter(|object| object.physical)?;
        match action {
            Action::Pread { .. } | Action::Pwrite { .. } | Action::Mmap { .. } => translated.place,
            Action::Read { .. } | Action::Write { .. } => Some(object.position),
            Action::Peek { offset, .. }
            | Action::Poke { offset, .. }
            | Action::SelfMemRead { offset, .. }
            | Action::SelfMemWrite { offset, .. }
            | Action::VmReadv { offset, .. }
            | Action::PtracePeek { offset, .. } => Some(object.position.wrapping_add(*offset)),
            _ => None,
        }
    }

    /// Applies the effect of a step.
    pub fn apply(&mut self, step: &Step, answer: &Answer, translated: &Translated) {
        let (action, by) = (&step.action, step.id.as_str());
        self.read = match action {
            Action::Read { .. } | Action::Pread { .. } => self.place(action, translated),
            _ => None,
        };
        let Answer::Returned { value } = answer else {
            self.unsent += usize::from(matches!(action, Action::SendFile { .. }));
            return;
        };
        match action {
            Action::Open { path, handle, .. } => {
                let physical = path == "/dev/mem" || self.nodes.contains(path);
                self.objects.insert(handle.clone(), Object { physical, position: 0 });
            }
            Action::Mknod { path, major: 1, minor: 1 } => {
                self.nodes.insert(path.clone());
            }
            Action::Mmap { fd, handle, over, .. } => {
                let physical = self.objects.get(fd).is_some_and(|object| object.physical);
                let object = Object { physical, position: translated.place.unwrap_or(0) };
                // Both names refer to the new mapping.
                self.objects.extend(over.iter().chain([handle]).map(|name| (name.clone(), object)));
            }
            Action::Mremap { map, handle: Some(handle), .. } => {
                if let Some(object) = self.give_up(map, by) {
                    self.objects.insert(handle.clone(), object);
                }
            }
            Action::Fork => self.parents.push(self.objects.clone()),
            Action::Exit => self.leave_child(by),
            Action::SendFile { fd } => self.sent.extend(self.objects.get(fd).copied()),
            Action::ReceiveFile { handle } => {
                if let Some(object) = self.sent.pop_front() {
                    self.objects.insert(handle.clone(), object);
                }
            }
            Action::Close { fd: name } | Action::Munmap { map: name } => {
                self.give_up(name, by);
            }
            Action::Lseek { fd, .. } => {
                if let Some(object) = self.objects.get_mut(fd) {
                    object.position = *value;
                }
            }
            Action::Read { fd, .. } | Action::Write { fd, .. } => {
                if let Some(object) = self.objects.get_mut(fd) {
                    object.position = object.position.wrapping_add(*value);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::translate;
    use types::Errno;

    // Steps that give something up may fail here, or the parser would not take a later use.
    const OPEN: &str = "id = 'open'\ndo = 'open'\npath = '/dev/mem'\nflags = 'O_RDWR'\nas = 'mem'";
    const MAP: &str =
        "id = 'map'\ndo = 'mmap'\nfd = 'mem'\nat = 0xf0000\nprot = 'r'\nshare = 'shared'\nas = 'm'";
    const PEEK: &str = "id = 'peek'\ndo = 'peek'\nmap = 'm'\nlen = 1";

    /// The last step's answer without its object, if the steps in `failing` fail and all others succeed.
    fn unavailable_after(steps: &[&str], failing: &[&str]) -> Option<Answer> {
        let steps = steps.iter().map(|step| format!("[[step]]\n{step}\n")).collect::<Vec<_>>().concat();
        let case = crate::case::parse(&format!("title = 't'\nwhy = 'w'\n{steps}"), "test").unwrap();
        let mut slots = Slots::default();
        let mut last = None;
        for step in &case.steps {
            if step.action == Action::Exit && !slots.in_child() {
                slots.release_all(&step.id);
            }
            last = slots.unavailable(step);
            if last.is_none() {
                let translated = translate::step(&step.action, &mut slots, &[]).unwrap();
                let answer = if failing.contains(&step.id.as_str()) {
                    Answer::Failed { errno: Errno::EPERM }
                } else {
                    Answer::Returned { value: 0 }
                };
                slots.apply(step, &answer, &translated);
            }
        }
        last
    }

    fn given_up(name: &str, by: &str) -> Answer {
        Answer::NotRun { reason: format!("`{name}` was given up by step `{by}`") }
    }

    #[test]
    fn what_a_refusal_shut_off_is_not_reached() {
        let needs = |name: &str| Some(Answer::NotReached { needs: name.to_owned() });
        let exit = "id = 'exit'\ndo = 'exit'";
        let unmap = "id = 'unmap'\ndo = 'munmap'\nmap = 'm'\nexpect = 'ok | EINVAL'";
        assert_eq!(unavailable_after(&[OPEN, MAP, PEEK], &[]), None);
        assert_eq!(unavailable_after(&[OPEN, MAP, PEEK], &["map"]), needs("m"));
        assert_eq!(unavailable_after(&[OPEN, MAP, PEEK], &["open"]), needs("m"));
        assert_eq!(unavailable_after(&[OPEN, MAP, exit, PEEK], &["map"]), needs("m"));
        assert_eq!(unavailable_after(&[OPEN, MAP, unmap, PEEK], &["map"]), needs("m"));
    }

    #[test]
    fn an_object_that_the_case_closed_is_not_run() {
        let exit = "id = 'exit'\ndo = 'exit'";
        let unmap = "id = 'unmap'\ndo = 'munmap'\nmap = 'm'\nexpect = 'ok | EINVAL'";
        let remap = "id = 'move'\ndo = 'mremap'\nmap = 'm'\nlen = 0x1000\nas = 'n'\nexpect = 'ok | EFAULT'";
        assert_eq!(unavailable_after(&[OPEN, MAP, unmap, PEEK], &[]), Some(given_up("m", "unmap")));
        assert_eq!(unavailable_after(&[OPEN, MAP, unmap, PEEK], &["unmap"]), None);
        assert_eq!(unavailable_after(&[OPEN, MAP, remap, PEEK], &[]), Some(given_up("m", "move")));
        assert_eq!(unavailable_after(&[OPEN, MAP, exit, PEEK], &[]), Some(given_up("m", "exit")));
        let close = "id = 'close'\ndo = 'close'\nfd = 'mem'\nexpect = 'ok | EBADF'";
        assert_eq!(unavailable_after(&[OPEN, close, MAP], &[]), Some(given_up("mem", "close")));
    }

    #[test]
    fn a_parent_holds_what_its_child_gave_up_and_not_what_it_obtained() {
        let (fork, exit) = ("id = 'fork'\ndo = 'fork'", "id = 'exit'\ndo = 'exit'");
        let unmap = "id = 'unmap'\ndo = 'munmap'\nmap = 'm'\nexpect = 'ok | EINVAL'";
        assert_eq!(unavailable_after(&[OPEN, MAP, fork, unmap, exit, PEEK], &[]), None);
        assert_eq!(unavailable_after(&[OPEN, fork, MAP, exit, PEEK], &[]), Some(given_up("m", "exit")));
    }

    #[test]
    fn a_file_is_received_if_it_was_sent() {
        let send = "id = 'send'\ndo = 'send-file'\nfd = 'mem'";
        let receive = "id = 'receive'\ndo = 'receive-file'\nas = 'passed'";
        assert_eq!(unavailable_after(&[OPEN, send, receive], &[]), None);
        for failing in ["open", "send"] {
            let answer = unavailable_after(&[OPEN, send, receive], &[failing]);
            assert_eq!(answer, Some(Answer::NotReached { needs: "passed".to_owned() }));
        }
        assert!(matches!(unavailable_after(&[OPEN, receive], &[]), Some(Answer::NotRun { .. })));
    }
}
