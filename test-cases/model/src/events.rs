// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The accesses that the page state forbids, and on SEV the view in which a page's contents currently are.
//!
//! The only part of the model that has no kernel source: SEV hardware has no page states, and on the other platforms a
//! mismatch is a fault (#VC, #VE, EPT violation). It models the events that the VMM records while it lets the guest run on.

use std::collections::BTreeSet;

use types::{AccessKind, EventKind, PageState, Platform, View};

use super::page::PAGE;
use super::prediction::Effect;
use super::world::World;

/// An access that the page state forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The page.
    pub gpa: u64,
    /// The view used.
    pub view: View,
    /// A store.
    pub write: bool,
    /// The VMM may or may not record it: the interrupt controllers, and pages still mapped since an earlier access.
    pub optional: bool,
}

impl Event {
    /// The view and the access as one event kind.
    pub const fn kind(&self) -> EventKind {
        EventKind::of(self.view, if self.write { AccessKind::Write } else { AccessKind::Read })
    }
}

/// Pages whose contents are in the view opposite to their state (on SEV every access moves the contents to its view).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    in_other_view: BTreeSet<u64>,
    last: Option<Event>,
}

/// The most pages that the VMM moves back together.
const MOVED_TOGETHER: u64 = 64;

impl Contents {
    /// Pages whose contents are in the view opposite to their state.
    pub fn in_other_view(&self) -> impl Iterator<Item = u64> {
        self.in_other_view.iter().copied()
    }

    /// A new operation starts: an event of a device page is recorded again even if the last operation recorded it.
    pub fn start_operation(&mut self) {
        self.last = None;
    }

    /// The contents of a page are in the view of its state again.
    pub fn restored(&mut self, page: u64) {
        self.in_other_view.remove(&page);
    }

    /// The events that the VMM records for an effect.
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
        pages.filter_map(|page| self.access(world, page, view, write)).collect()
    }

    fn access(&mut self, world: &World, page: u64, view: View, write: bool) -> Option<Event> {
        let mut event = Event { gpa: page, view, write, optional: false };
        let forbidden = if !world.is_memory(page) {
            event.optional = world.is_interrupt_controller(page, view);
            // A device page belongs to the host; consecutive accesses to one page are recorded once.
            view == View::Private && self.last != Some(event)
        } else if world.platform == Platform::Sev {
            self.move_contents(world, page, view)
        } else {
            match world.page_state(page) {
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

    /// SEV: the contents move to the view of the access; only a move away from the view of the page's state is an event.
    fn move_contents(&mut self, world: &World, page: u64, view: View) -> bool {
        let own = match world.page_state(page) {
            PageState::Shared => View::Shared,
            PageState::Private | PageState::Unaccepted => View::Private,
        };
        if view != own {
            return self.in_other_view.insert(page);
        }
        if self.in_other_view.remove(&page) {
            for next in 1..MOVED_TOGETHER {
                if !self.in_other_view.remove(&(page + next * PAGE)) {
                    break;
                }
            }
        }
        false
    }
}
