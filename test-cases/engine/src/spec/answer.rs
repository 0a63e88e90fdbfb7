// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The answer to one operation, in a word, with the forbidden accesses it makes and the reasons.

use serde::Serialize;
use types::names::named;
use types::{AccessTarget, EventKind};

use model::class::{Class, MemoryState};
use model::events::Contents;
use model::{Effect, Outcome, Prediction, Reason, Task, World};

named! {
    /// What an operation gives or does.
    pub enum Word ("answer") {
        Ok = "ok", "it succeeds";
        Plain = "plain", "the bytes of the memory itself";
        Cipher = "cipher", "ciphertext: the encrypted bytes, read as if they were not encrypted";
        Shared = "shared", "the separate content of the shared view, not the guest's bytes";
        Device = "device", "a device answers, or nothing does";
        Zeros = "zeros", "zeros instead of the bytes in memory";
        Floating = "ones", "a port that no device decodes: all ones";
        Written = "written", "the bytes are in memory";
        Corrupt = "corrupt", "the store is not encrypted: the guest reads garbage there";
        Lost = "lost", "the store reaches the other view: memory keeps its bytes";
        Dropped = "dropped", "success is returned, and nothing is stored";
        Own = "own", "a page of the process's own changes: memory keeps its bytes";
        NotReached = "–", "not possible: an operation before it was refused";
        Failed = "errno", "the error or signal";
    }
}

/// An access that the page's state forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Forbidden {
    /// View and access.
    pub kind: EventKind,
    /// The state of the page, or device.
    pub state: AccessTarget,
}

/// The answer to an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In a word.
    pub word: Word,
    /// The error or signal, where it fails.
    pub error: Option<String>,
    /// The forbidden accesses.
    pub forbidden: Vec<Forbidden>,
    /// What the kernel decided, in order.
    pub reasons: Vec<Reason>,
}

impl Answer {
    /// It is not reached.
    pub const fn not_reached() -> Self {
        Self { word: Word::NotReached, error: None, forbidden: Vec::new(), reasons: Vec::new() }
    }

    /// The answer that the model predicts. `task` is the one after the operation.
    pub fn of(world: &World, task: &Task, prediction: &Prediction) -> Self {
        let error = match &prediction.outcome {
            Outcome::Failed { errno, .. } => Some(errno.to_string()),
            Outcome::Signal { signal, .. } | Outcome::Oops { signal } => Some(signal.to_string()),
            Outcome::Refused(_) => return Self::not_reached(),
            Outcome::Value(_) | Outcome::Bytes { .. } => None,
        };
        let gives = if error.is_some() { Word::Failed } else { word(world, task, prediction) };
        let mut contents = Contents::default();
        contents.start_operation();
        let mut forbidden = Vec::new();
        for event in prediction.effects.iter().flat_map(|effect| contents.apply(world, effect)) {
            let state = if world.is_memory(event.gpa) {
                AccessTarget::Page(world.page_state(event.gpa))
            } else {
                AccessTarget::Device
            };
            let access = Forbidden { kind: event.kind(), state };
            if !forbidden.contains(&access) {
                forbidden.push(access);
            }
        }
        Self { word: gives, error, forbidden, reasons: prediction.reasons.clone() }
    }

    /// The word that a table shows.
    pub fn text(&self) -> String {
        let word = self.error.as_deref().unwrap_or(self.word.name());
        if self.forbidden.is_empty() { word.to_owned() } else { format!("{word}!") }
    }

    /// What comes after it cannot be done.
    pub const fn fails(&self) -> bool {
        matches!(self.word, Word::Failed | Word::NotReached)
    }
}

/// The word of an operation that succeeds: the source of its bytes, or what its last store did.
fn word(world: &World, task: &Task, prediction: &Prediction) -> Word {
    if let Outcome::Bytes { pieces, .. } = &prediction.outcome {
        let class = pieces.first().and_then(|piece| task.class_of(world, piece.source));
        return match class {
            Some(Class::Plain) => Word::Plain,
            Some(Class::Ciphertext) => Word::Cipher,
            Some(Class::Shared) => Word::Shared,
            Some(Class::Device) if prediction.effects.is_empty() => Word::Floating,
            Some(Class::Device) => Word::Device,
            Some(Class::Zeros) => Word::Zeros,
            Some(Class::Other) | None => Word::Ok,
        };
    }
    match prediction.effects.iter().rev().find(|effect| !matches!(effect, Effect::Read { .. })) {
        Some(Effect::Write { gpa, .. }) if !world.is_memory(*gpa) => Word::Device,
        Some(Effect::Write { gpa, view, .. }) => match world.after_store(*gpa, *view) {
            MemoryState::Written => Word::Written,
            MemoryState::Corrupted => Word::Corrupt,
            MemoryState::Unchanged | MemoryState::Zeroed => Word::Lost,
        },
        Some(Effect::WriteCopy { .. } | Effect::Copied { .. }) => Word::Own,
        _ if prediction.reasons.last() == Some(&Reason::LowRam) => Word::Dropped,
        _ => Word::Ok,
    }
}
