// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A forbidden access, as reports have it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AccessTarget, DmaOrigin, EventKind, Region, UnwindMethod};

/// An access through a view that the state of the memory forbids, with the names that were found for its circumstances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessEvent {
    /// What happened.
    pub kind: EventKind,
    /// The guest physical address, without the bit that selects the view: the first byte accessed, or the page where the
    /// instruction does not tell more.
    #[serde(serialize_with = "crate::json::address", deserialize_with = "crate::json::read_address")]
    pub gpa: u64,
    /// Bytes accessed, where the instruction tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
    /// The region it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// What was accessed, in its state at that moment.
    pub state: AccessTarget,
    /// The device that made the access; `None` for the vCPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DmaOrigin>,
    /// The instruction; of a device's access, that by which the driver notified it.
    #[serde(serialize_with = "crate::json::address", deserialize_with = "crate::json::read_address")]
    pub rip: u64,
    /// The kernel function it is in, or of a program the file, with offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// The privilege level: 0 kernel, 3 user.
    pub cpl: u8,
    /// The task's name, where it can be found in the kernel's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The kernel functions that had not returned, innermost first; `? ` before what is only found on the stack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
    /// How they were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwound_by: Option<UnwindMethod>,
}

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
        write!(f, ", which is {}, by ", self.state)?;
        if let Some(device) = &self.device {
            write!(f, "{device}, notified by ")?;
        }
        write!(f, "{level} {:#x}", self.rip)?;
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
