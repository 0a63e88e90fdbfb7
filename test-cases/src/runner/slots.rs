//! A case's names for open files and mappings, as the agent's numbered slots, and where each stands in memory.

use std::collections::HashMap;

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
}

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

    /// The process that held them is gone.
    pub fn release_all(&mut self) {
        self.held.clear();
    }

    /// Slot number of a file name, given on first use.
    pub fn file(&mut self, name: &str) -> u8 {
        let next = &mut self.next_file;
        *self.numbers.entry(name.to_owned()).or_insert_with(|| std::mem::replace(next, *next + 1))
    }

    /// Slot number of a mapping, given on first use.
    pub fn map(&mut self, name: &str) -> u8 {
        let next = &mut self.next_map;
        *self.numbers.entry(name.to_owned()).or_insert_with(|| std::mem::replace(next, *next + 1))
    }

    /// Guest physical address a step is about, if it is about one.
    pub fn place(&self, action: &Action, translated: &Translated) -> Option<u64> {
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
        let Answer::Returned { value } = answer else { return };
        match action {
            Action::Open { path, handle, .. } => {
                self.held.insert(handle.clone(), Held { physical: path == "/dev/mem", position: 0 });
            }
            Action::Mmap { fd, handle, .. } => {
                let physical = self.held.get(fd).is_some_and(|held| held.physical);
                let position = translated.place.unwrap_or(0);
                self.held.insert(handle.clone(), Held { physical, position });
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
