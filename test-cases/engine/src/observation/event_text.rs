// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A forbidden access in one line.

use std::fmt;

use super::AccessEvent;

impl fmt::Display for AccessEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:#x}", self.kind, self.gpa)?;
        self.circumstances(f)
    }
}

impl AccessEvent {
    /// All but the kind and the address.
    fn circumstances(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(len) = self.len {
            write!(f, " ({len} bytes)")?;
        }
        if let Some(region) = self.region {
            write!(f, " in {region}")?;
        }
        let level = if self.cpl == 0 { "kernel" } else { "user" };
        write!(f, ", which is {}, by {level} {:#x}", self.state, self.rip)?;
        if let Some(symbol) = &self.symbol {
            write!(f, " {symbol}")?;
        }
        if let Some(task) = &self.task {
            write!(f, ", task {task}")?;
        }
        Ok(())
    }

    /// Another access that differs in its address alone.
    pub fn is_like(&self, other: &Self) -> bool {
        Self { gpa: other.gpa, ..self.clone() } == *other
    }
}

/// Accesses that differ in their addresses alone.
#[derive(Debug, Clone, Copy)]
pub struct SimilarAccesses<'a> {
    first: &'a AccessEvent,
    /// How many they are.
    pub count: usize,
    lowest: u64,
    highest: u64,
}

impl<'a> SimilarAccesses<'a> {
    /// Puts neighbours that differ in their addresses alone together.
    pub fn fold(events: &'a [AccessEvent]) -> impl Iterator<Item = Self> {
        events.chunk_by(AccessEvent::is_like).filter_map(|group| {
            let addresses = || group.iter().map(|event| event.gpa);
            Some(Self {
                first: group.first()?,
                count: group.len(),
                lowest: addresses().min()?,
                highest: addresses().max()?,
            })
        })
    }

    /// The first of them.
    pub const fn first(&self) -> &'a AccessEvent {
        self.first
    }
}

impl fmt::Display for SimilarAccesses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 1 {
            return self.first.fmt(f);
        }
        write!(f, "{} × {} of {:#x}", self.count, self.first.kind, self.lowest)?;
        if self.highest != self.lowest {
            write!(f, " to {:#x}", self.highest)?;
        }
        self.first.circumstances(f)
    }
}
