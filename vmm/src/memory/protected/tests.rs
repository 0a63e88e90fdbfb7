// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::collections::BTreeMap;

use proptest::prelude::*;
use types::{AccessKind, PageState};

use super::*;
use crate::layout::{BAR32, HIGH_RAM, MIN_RAM, ROM, VGA};
use crate::marker::{self, Tag};
use crate::memory::image::MemoryImage;
use crate::memory::page_set::PageSet;
use crate::memory::ram::Ram;
use crate::memory::{Content, Mismatch};

const CHUNK: u64 = 0x40_0000;

fn memory(architecture: Architecture, mode: Mode) -> GuestMemory {
    let content = Content::SeparateBacking { architecture, mode };
    GuestMemory::unenforced(Ram::new(MIN_RAM).unwrap(), content).unwrap()
}

fn tdx() -> GuestMemory {
    memory(Architecture::Tdx, Mode::Faithful)
}

fn seen(memory: &GuestMemory, view: View, gpa: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    memory.read(view, gpa, &mut bytes).unwrap();
    bytes
}

/// An access as the fault handler makes it pending, and its resolution.
fn access(memory: &GuestMemory, view: View, gpa: u64) -> Resolution {
    let protection = memory.protection().unwrap();
    let state = memory.state(gpa).unwrap();
    protection.lock().pending.arrive(Mismatch { gpa, view, state, kind: AccessKind::Read, refused: false });
    memory.release().unwrap()
}

/// Makes memory what was saved; how many pages differed.
fn restore(memory: &GuestMemory, saved: &MemoryImage) -> usize {
    memory.restore(saved, &mut PageSet::new(saved.pages()), false).unwrap().changed.len()
}

#[test]
fn what_the_guest_converts_loses_its_contents_and_its_neighbours_keep_theirs() {
    let memory = tdx();
    for page in 0..3 {
        memory.write(CHUNK + page * PAGE_SIZE, &[7; 16]).unwrap();
    }
    let page = CHUNK + PAGE_SIZE;
    let applied = memory.apply(page, 1, Cause::MakeShared).unwrap();
    assert_eq!(applied, Applied { pages: 1, unchanged: 0, implicit: 0 });
    assert_eq!((seen(&memory, View::Private, page), seen(&memory, View::Shared, page)), ([0; 16], [0; 16]));
    memory.store(View::Shared, page, &[8; 16]).unwrap();
    memory.store(View::Private, page, &[9; 16]).unwrap();
    assert_eq!((seen(&memory, View::Private, page), seen(&memory, View::Shared, page)), ([0; 16], [8; 16]));
    memory.apply(page, 1, Cause::MakePrivate).unwrap();
    assert_eq!(memory.unaccepted(), PAGE_SIZE);
    memory.apply(page, 1, Cause::Accept).unwrap();
    assert_eq!((memory.state(page), memory.unaccepted()), (Some(PageState::Private), 0));
    assert_eq!(seen(&memory, View::Private, page), [0; 16]);
    assert_eq!(seen(&memory, View::Shared, page), [0; 16]);
    for neighbour in [CHUNK, CHUNK + 2 * PAGE_SIZE] {
        assert_eq!(seen(&memory, View::Private, neighbour), [7; 16]);
    }
}

#[test]
fn a_range_is_cut_into_the_parts_that_are_memory_and_never_beyond_a_chunk() {
    let memory = tdx();
    let ram = *memory.ram();
    let cut = |gpa, pages| memory.chunks(gpa, pages);
    assert_eq!(cut(VGA - PAGE_SIZE, 0x22), [(0, 0x9f..0xa0), (0, 0xc0..0xc1)]);
    assert_eq!(cut(CHUNK - PAGE_SIZE, 2), [(1, 0x3ff..0x400), (2, 0x400..0x401)]);
    assert_eq!(cut(BAR32, 512), []);
    assert_eq!(cut(ram.low_end(), 1), []);
    assert_eq!(cut(CHUNK, 0), []);
    let high = (ram.low_end() / PAGE_SIZE) as usize;
    assert_eq!(cut(ram.low_end() - PAGE_SIZE, 2), [(63, high - 1..high)]);
    assert_eq!(cut(HIGH_RAM - PAGE_SIZE, 2), [(64, high..high + 1)]);
    let everything = cut(0, u64::MAX);
    assert_eq!(everything.len(), 97, "96 chunks, the first in two parts");
    let pages: usize = everything.iter().map(|(_, range)| range.len()).sum();
    assert_eq!(pages as u64, (MIN_RAM - (ROM - VGA)) / PAGE_SIZE);
    assert_eq!(cut(!0xfff, u64::MAX), []);
}

#[test]
fn a_large_entry_is_made_of_a_whole_chunk_in_one_state_and_of_nothing_less() {
    let memory = tdx();
    assert!(!memory.is_large_entry(CHUNK), "launched page by page");
    memory.apply(CHUNK, 512, Cause::MakeShared).unwrap();
    assert!(memory.is_large_entry(CHUNK + LARGE_PAGE_SIZE - 1));
    memory.apply(CHUNK + PAGE_SIZE, 1, Cause::MakePrivate).unwrap();
    assert!(!memory.is_large_entry(CHUNK));
    memory.apply(CHUNK + PAGE_SIZE, 1, Cause::Accept).unwrap();
    memory.apply(CHUNK, 512, Cause::MakePrivate).unwrap();
    assert!(!memory.is_large_entry(CHUNK), "one page is accepted already");
    memory.launch_as(CHUNK, LARGE_PAGE_SIZE, PageState::Unaccepted).unwrap();
    assert!(memory.is_large_entry(CHUNK));
    assert!(memory.smash(CHUNK + 5 * PAGE_SIZE) && !memory.smash(CHUNK) && !memory.smash(BAR32));
    assert_eq!(memory.counters().smashed, 1);
}

#[test]
fn an_access_converts_and_what_it_destroyed_is_restored() {
    let memory = tdx();
    memory.write(CHUNK, &[7; 16]).unwrap();
    memory.launch_as(VGA - PAGE_SIZE, PAGE_SIZE, PageState::Shared).unwrap();
    memory.store(View::Shared, VGA - PAGE_SIZE, &[8; 16]).unwrap();
    let saved = memory.save().unwrap();
    assert_eq!(access(&memory, View::Shared, CHUNK), Resolution::Resumed);
    assert_eq!(memory.state(CHUNK), Some(PageState::Shared));
    assert_eq!(seen(&memory, View::Shared, CHUNK), [0; 16]);
    memory.store(View::Shared, CHUNK, &[9; 16]).unwrap();
    assert!(matches!(access(&memory, View::Private, CHUNK), Resolution::Denied(m) if m.gpa == CHUNK));
    assert!(matches!(access(&memory, View::Private, VGA - PAGE_SIZE), Resolution::Denied(_)));
    assert_eq!(memory.unaccepted(), 2 * PAGE_SIZE);
    assert_eq!(restore(&memory, &saved), 2);
    assert_eq!(
        (memory.state(CHUNK), seen(&memory, View::Private, CHUNK)),
        (Some(PageState::Private), [7; 16])
    );
    assert_eq!(memory.state(VGA - PAGE_SIZE), Some(PageState::Shared));
    assert_eq!(seen(&memory, View::Shared, VGA - PAGE_SIZE), [8; 16]);
    assert_eq!((restore(&memory, &saved), memory.unaccepted()), (0, 0));
}

#[test]
fn a_page_converted_there_and_back_by_accesses_gets_its_first_contents_again() {
    let memory = tdx();
    memory.launch_as(CHUNK, PAGE_SIZE, PageState::Shared).unwrap();
    memory.store(View::Shared, CHUNK, &[8; 16]).unwrap();
    let saved = memory.save().unwrap();
    access(&memory, View::Private, CHUNK);
    access(&memory, View::Shared, CHUNK);
    assert_eq!((memory.state(CHUNK), seen(&memory, View::Shared, CHUNK)), (Some(PageState::Shared), [0; 16]));
    assert_eq!(restore(&memory, &saved), 1);
    assert_eq!(seen(&memory, View::Shared, CHUNK), [8; 16]);
}

#[test]
fn what_the_guest_itself_converts_afterwards_is_restored_too() {
    let memory = tdx();
    memory.write(CHUNK, &[7; 16]).unwrap();
    let saved = memory.save().unwrap();
    access(&memory, View::Shared, CHUNK);
    memory.apply(CHUNK, 1, Cause::MakePrivate).unwrap();
    memory.apply(CHUNK, 1, Cause::Accept).unwrap();
    assert_eq!(seen(&memory, View::Private, CHUNK), [0; 16]);
    assert_eq!(restore(&memory, &saved), 1);
    assert_eq!(seen(&memory, View::Private, CHUNK), [7; 16]);
}

#[test]
fn any_number_of_pages_is_restored() {
    let memory = tdx();
    memory.write(CHUNK, &[7; 16]).unwrap();
    let saved = memory.save().unwrap();
    let pages = 5000;
    for page in 0..pages {
        access(&memory, View::Shared, CHUNK + page * PAGE_SIZE);
    }
    assert_eq!(restore(&memory, &saved), pages as usize);
    assert!((0..pages).all(|page| memory.state(CHUNK + page * PAGE_SIZE) == Some(PageState::Private)));
    assert_eq!(seen(&memory, View::Private, CHUNK), [7; 16]);
}

#[test]
fn a_temporarily_mapped_page_changes_no_state_and_keeps_no_write() {
    for (architecture, mode) in [(Architecture::Tdx, Mode::Record), (Architecture::Vbs, Mode::Faithful)] {
        let memory = memory(architecture, mode);
        memory.write(CHUNK, &[7; 16]).unwrap();
        let saved = memory.save().unwrap();
        assert_eq!(access(&memory, View::Shared, CHUNK), Resolution::Resumed);
        memory.store(View::Shared, CHUNK, &[8; 16]).unwrap();
        assert_eq!(seen(&memory, View::Shared, CHUNK), [8; 16]);
        memory.revoke_temporary_mappings().unwrap();
        assert_eq!(marker::parse(&seen(&memory, View::Shared, CHUNK)), Some((Tag::Shared, CHUNK)));
        assert_eq!(
            (memory.state(CHUNK), seen(&memory, View::Private, CHUNK)),
            (Some(PageState::Private), [7; 16])
        );
        assert_eq!(restore(&memory, &saved), 0);
        // Mapped temporarily, then accepted by the guest: the mapping stays.
        access(&memory, View::Shared, CHUNK);
        memory.apply(CHUNK, 1, Cause::MakeShared).unwrap();
        memory.revoke_temporary_mappings().unwrap();
        memory.store(View::Shared, CHUNK, &[9; 16]).unwrap();
        assert_eq!(seen(&memory, View::Shared, CHUNK), [9; 16]);
    }
}

#[test]
fn a_watched_page_has_its_own_history_and_no_others() {
    let memory = tdx();
    memory.watch(CHUNK + 17);
    memory.apply(CHUNK - PAGE_SIZE, 3, Cause::MakeShared).unwrap();
    access(&memory, View::Private, CHUNK);
    let expected = [
        (Cause::MakeShared, PageState::Private, PageState::Shared, false),
        (Cause::AccessPrivate, PageState::Shared, PageState::Unaccepted, true),
    ]
    .map(|(cause, from, to, implicit)| (CHUNK, StateChange::State { cause, from, to, implicit }));
    assert_eq!(memory.take_changes(), (expected.to_vec(), 0));
    assert_eq!(memory.take_changes(), (vec![], 0));
}

#[test]
fn all_pages_are_watched_until_none_is() {
    let memory = tdx();
    memory.watch_all(true);
    memory.apply(CHUNK - PAGE_SIZE, 2, Cause::MakeShared).unwrap();
    assert_eq!(memory.shared_pages(), [CHUNK - PAGE_SIZE, CHUNK]);
    let pages: Vec<u64> = memory.take_changes().0.iter().map(|(gpa, _)| *gpa).collect();
    assert_eq!(pages, [CHUNK - PAGE_SIZE, CHUNK]);
    memory.watch_all(false);
    memory.apply(CHUNK, 1, Cause::MakePrivate).unwrap();
    assert_eq!(memory.take_changes(), (vec![], 0));
    assert_eq!(memory.shared_pages(), [CHUNK - PAGE_SIZE]);
}

#[test]
fn memory_without_states_has_no_such_calls() {
    let memory = GuestMemory::unenforced(Ram::new(MIN_RAM).unwrap(), Content::OneView).unwrap();
    assert_eq!(memory.apply(0, 1, Cause::MakeShared), Err(NoSuchCall));
    assert_eq!((memory.state(0), memory.unaccepted()), (None, 0));
    let vbs = self::memory(Architecture::Vbs, Mode::Faithful);
    assert_eq!(vbs.apply(0, 1, Cause::Accept), Err(NoSuchCall));
}

/// Pages where ranges begin: around the VGA window, a chunk's border, the ends of low and of high RAM.
const PLACES: [u64; 6] =
    [VGA - 4 * PAGE_SIZE, ROM, CHUNK - 3 * PAGE_SIZE, 0x7ff_d000, HIGH_RAM, HIGH_RAM + 0x1f_e000];
const SPAN: u64 = 6;

#[derive(Debug, Clone)]
enum Step {
    Apply(Cause),
    Launch(PageState),
    Access(View),
    Store(View, u8),
    Save,
    Restore,
}

fn steps() -> impl Strategy<Value = Vec<(usize, u64, u64, Step)>> {
    let view = || prop::sample::select(vec![View::Private, View::Shared]);
    let calls = vec![Cause::Accept, Cause::Rescind, Cause::MakeShared, Cause::MakePrivate];
    let step = prop_oneof![
        4 => prop::sample::select(calls).prop_map(Step::Apply),
        1 => prop::sample::select(PageState::ALL.to_vec()).prop_map(Step::Launch),
        2 => view().prop_map(Step::Access),
        4 => (view(), 1u8..).prop_map(|(view, byte)| Step::Store(view, byte)),
        1 => Just(Step::Save),
        1 => Just(Step::Restore),
    ];
    prop::collection::vec((0..PLACES.len(), 0..SPAN, 1..SPAN, step), 0..60)
}

/// State, and bytes of the view that may access it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Model {
    state: PageState,
    held: [u8; 16],
}

impl Model {
    fn become_(&mut self, to: PageState, held: [u8; 16]) {
        if to != self.state {
            (self.state, self.held) = (to, held);
        }
    }

    fn step(&mut self, architecture: Architecture, step: &Step) {
        match *step {
            Step::Apply(cause) => {
                if let Some(t) = state::transition(architecture, self.state, cause) {
                    self.become_(t.to, [0; 16]);
                }
            }
            Step::Launch(to) => self.become_(to, [0; 16]),
            Step::Access(view) => {
                let t = state::transition(architecture, self.state, Cause::access(view));
                if let Some(t) = t.filter(|t| t.answer != Answer::Tolerated) {
                    self.become_(t.to, [0; 16]);
                }
            }
            Step::Store(view, byte) if self.state.admits(view) => self.held = [byte; 16],
            Step::Store(..) | Step::Save | Step::Restore => {}
        }
    }
}

proptest! {
    #[test]
    fn any_life_is_that_of_the_model(
        architecture in prop::sample::select(Architecture::ALL.to_vec()),
        steps in steps(),
    ) {
        let memory = memory(architecture, Mode::Faithful);
        let ram = *memory.ram();
        let fresh = Model { state: PageState::Private, held: [0; 16] };
        let mut models: BTreeMap<u64, Model> = PLACES
            .iter()
            .flat_map(|place| (0..2 * SPAN).map(move |page| place + page * PAGE_SIZE))
            .filter(|gpa| ram.offset(*gpa).is_some())
            .map(|gpa| (gpa, fresh))
            .collect();
        let mut saved = (memory.save().unwrap(), models.clone());
        for (place, first, count, step) in steps {
            let start = PLACES[place] + first * PAGE_SIZE;
            let end = start + count * PAGE_SIZE;
            let pages: Vec<u64> = models.range(start..end).map(|(gpa, _)| *gpa).collect();
            // VBS has no unaccepted memory and no acceptance.
            let vbs = architecture == Architecture::Vbs;
            match &step {
                Step::Apply(Cause::Accept | Cause::Rescind) | Step::Launch(PageState::Unaccepted) if vbs => continue,
                Step::Apply(cause) => prop_assert_eq!(memory.apply(start, count, *cause).is_err(),
                    !pages.is_empty() && state::transition(architecture, PageState::Private, *cause).is_none()),
                Step::Launch(to) => memory.launch_as(start, count * PAGE_SIZE, *to).unwrap(),
                Step::Access(view) => {
                    // An access that the state admits raises no fault.
                    for gpa in &pages {
                        if !models[gpa].state.admits(*view) {
                            access(&memory, *view, *gpa);
                            memory.revoke_temporary_mappings().unwrap();
                        }
                    }
                }
                Step::Store(view, byte) => {
                    for gpa in &pages {
                        memory.store(*view, *gpa, &[*byte; 16]).unwrap();
                    }
                }
                Step::Save => saved = (memory.save().unwrap(), models.clone()),
                Step::Restore => {
                    restore(&memory, &saved.0);
                    models.clone_from(&saved.1);
                }
            }
            for gpa in pages {
                let model = models.get_mut(&gpa).unwrap();
                if !matches!(step, Step::Access(view) if model.state.admits(view)) {
                    model.step(architecture, &step);
                }
            }
            prop_assert!(memory.take_failure().is_none());
        }
        let mut unaccepted = 0;
        for (gpa, model) in &models {
            prop_assert_eq!(memory.state(*gpa), Some(model.state), "{:#x}", gpa);
            // What VBS lets through finds markers.
            let foreign = |view| if architecture == Architecture::Vbs && view == View::Shared { marker::cell(Tag::Shared, *gpa) } else { [0; 16] };
            let held = |view| if model.state.admits(view) { model.held } else { foreign(view) };
            for view in [View::Private, View::Shared] {
                prop_assert_eq!(seen(&memory, view, *gpa), held(view), "{:#x} {}", gpa, view);
            }
            unaccepted += u64::from(model.state == PageState::Unaccepted) * PAGE_SIZE;
        }
        prop_assert_eq!(memory.unaccepted(), unaccepted);
    }
}
