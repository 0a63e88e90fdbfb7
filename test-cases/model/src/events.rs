// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which touches are forbidden, given what pages are and in which view their contents stand.
//!
//! The only part of the model that is no kernel's: hardware has no such states on SEV, and reports mismatches elsewhere in
//! ways of its own. It follows what the VMM records while nothing dies of it.

use std::collections::BTreeSet;

use types::{AccessKind, EventKind, PageState, Platform, View};

use super::page::PAGE;
use super::prediction::Effect;
use super::world::World;

/// A touch that the page's state forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The page.
    pub gpa: u64,
    /// The view used.
    pub view: View,
    /// A store.
    pub write: bool,
    /// It may come or not: what the processor's own devices answer, and pages that are still there from a touch before.
    pub optional: bool,
}

impl Event {
    /// Its view and access as one kind.
    pub const fn kind(&self) -> EventKind {
        EventKind::of(self.view, if self.write { AccessKind::Write } else { AccessKind::Read })
    }
}

/// Pages whose contents stand in the view that is not theirs (SEV: they follow every touch).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    foreign: BTreeSet<u64>,
    last: Option<Event>,
}

/// How far contents follow a touch that brings a page back.
const FOLLOW: u64 = 64;

impl Contents {
    /// Pages that stand in the view that is not theirs.
    pub fn foreign(&self) -> impl Iterator<Item = u64> {
        self.foreign.iter().copied()
    }

    /// Something new is asked for: what was told of a device before is told again.
    pub fn asked(&mut self) {
        self.last = None;
    }

    /// A page stands in its own view again.
    pub fn restored(&mut self, page: u64) {
        self.foreign.remove(&page);
    }

    /// The events an effect makes.
    pub fn apply(&mut self, world: &World, effect: &Effect) -> Vec<Event> {
        let (gpa, len, view, write) = match effect {
            Effect::Read { gpa, len, view } => (*gpa, *len, *view, false),
            Effect::Write { gpa, data, view } => (*gpa, data.len() as u64, *view, true),
            Effect::Copied { .. }
            | Effect::Fresh { .. }
            | Effect::Duplicated { .. }
            | Effect::WriteCopy { .. } => return Vec::new(),
        };
        if world.platform == Platform::None || len == 0 {
            return Vec::new();
        }
        let pages = (gpa / PAGE..=(gpa + len - 1) / PAGE).map(|page| page * PAGE);
        pages.filter_map(|page| self.touch(world, page, view, write)).collect()
    }

    fn touch(&mut self, world: &World, page: u64, view: View, write: bool) -> Option<Event> {
        let mut event = Event { gpa: page, view, write, optional: false };
        let forbidden = if !world.is_memory(page) {
            event.optional = world.is_processors(page, view);
            // A device is the host's; consecutive accesses to one page are told once.
            view == View::Private && self.last != Some(event)
        } else if world.platform == Platform::Sev {
            self.follow(world, page, view)
        } else {
            match world.standing(page) {
                PageState::Private => view == View::Shared,
                PageState::Shared => view == View::Private,
                PageState::Unaccepted => true,
            }
        };
        if forbidden && !event.optional {
            self.last = Some(event);
        }
        forbidden.then_some(event)
    }

    /// SEV: the contents move to the view that is used; only a move away from the page's own view is forbidden.
    fn follow(&mut self, world: &World, page: u64, view: View) -> bool {
        let own = match world.standing(page) {
            PageState::Shared => View::Shared,
            PageState::Private | PageState::Unaccepted => View::Private,
        };
        if view != own {
            return self.foreign.insert(page);
        }
        if self.foreign.remove(&page) {
            for next in 1..FOLLOW {
                if !self.foreign.remove(&(page + next * PAGE)) {
                    break;
                }
            }
        }
        false
    }
}
