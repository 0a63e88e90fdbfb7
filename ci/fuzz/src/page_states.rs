// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any sequence of causes on any pages leaves each page in the state its table says, with its own contents or none.

use std::collections::BTreeMap;

use types::PageState;
use types::View::{self, Private, Shared};
use vmm::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};
use vmm::marker::{self, Tag};
use vmm::memory::protected::state::transition;
use vmm::memory::protected::{Architecture, Cause};

use crate::bench::{Bench, Program, encode};

/// Steps of one life.
const STEPS: usize = 24;
/// Pages looked at.
const PAGES: u64 = 1024;
/// The first of them: two chunks, and RAM that is unaccepted where there is such a thing in front of the third.
const FIRST: u64 = 0x70_0000;

struct Page {
    state: PageState,
    held: [u8; 16],
}

fn seen(bench: &Bench, view: View, gpa: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bench.memory.read(view, gpa, &mut bytes).expect("it is RAM");
    bytes
}

/// One cause or store on a range, as the model has it and as the memory has it.
fn step(bench: &Bench, model: &mut BTreeMap<u64, Page>, architecture: Architecture, op: u8, range: [u64; 2]) {
    let (start, end) = (range[0], range[0] + range[1] * PAGE_SIZE);
    if let Some(cause) = Cause::ALL.get(usize::from(op & 7)) {
        let chunks = (start / LARGE_PAGE_SIZE..).map(|n| n * LARGE_PAGE_SIZE).take_while(|at| *at < end);
        for chunk in chunks.filter(|chunk| *chunk < start || chunk + LARGE_PAGE_SIZE > end) {
            bench.memory.smash(chunk);
        }
        let known = transition(architecture, PageState::Private, *cause).is_some();
        let applied = bench.memory.apply(start, range[1], *cause);
        assert_eq!(applied.is_ok(), known || range[1] == 0, "{architecture:?} {cause:?}");
        for (_, page) in model.range_mut(start..end) {
            if let Some(to) = transition(architecture, page.state, *cause).map(|t| t.to)
                && to != page.state
            {
                *page = Page { state: to, held: [0; 16] };
            }
        }
        assert!(applied.is_err() || applied.is_ok_and(|a| a.pages >= a.unchanged.max(a.implicit)));
    } else {
        let view = if op & 7 == 6 { Private } else { Shared };
        for (gpa, page) in model.range_mut(start..end) {
            bench.memory.store(view, *gpa, &[op; 16]).expect("it is RAM");
            if page.state.admits(view) {
                page.held = [op; 16];
            }
        }
    }
}

/// Lives, then compares.
pub fn run(bytes: &[u8]) {
    let mut program = Program(bytes);
    let first = program.byte().unwrap_or_default();
    let architecture = Architecture::ALL[usize::from(first) % Architecture::ALL.len()];
    let Some(bench) = Bench::new(architecture) else { return };
    let pages = (0..PAGES).map(|page| FIRST + page * PAGE_SIZE);
    let mut model: BTreeMap<u64, Page> = pages
        .filter_map(|gpa| Some((gpa, Page { state: bench.memory.state(gpa)?, held: [0; 16] })))
        .collect();
    for _ in 0..STEPS {
        let (Some(op), Some(page), Some(count)) = (program.byte(), program.word(), program.word()) else {
            break;
        };
        step(&bench, &mut model, architecture, op, [FIRST + page % PAGES * PAGE_SIZE, count % 700]);
    }
    for (gpa, page) in &model {
        assert_eq!(bench.memory.state(*gpa), Some(page.state), "{gpa:#x}");
        let private = if page.state.admits(Private) { page.held } else { [0; 16] };
        // An access that goes through finds the marker; otherwise it converts the page, which then holds zeros.
        let inaccessible =
            if architecture == Architecture::Vbs { marker::cell(Tag::Shared, *gpa) } else { [0; 16] };
        let shared = if page.state.admits(Shared) { page.held } else { inaccessible };
        assert_eq!((seen(&bench, Private, *gpa), seen(&bench, Shared, *gpa)), (private, shared), "{gpa:#x}");
        if bench.memory.is_large_entry(*gpa) {
            let first = gpa & !(LARGE_PAGE_SIZE - 1);
            assert_eq!(bench.memory.state(*gpa), bench.memory.state(first), "a large entry with two states");
        }
    }
    bench.check();
}

/// One life per architecture and cause.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let life = |architecture: u8, cause: usize| {
        let steps = [(6u8, 0x80, 4), (cause as u8, 0x81, 2), (7, 0x80, 4), (2, 0x100, 512), (3, 0x110, 3)];
        let steps = steps.into_iter().flat_map(|(op, page, count)| {
            [op].into_iter().chain(encode(page)).chain(encode(count)).collect::<Vec<u8>>()
        });
        [architecture].into_iter().chain(steps).collect::<Vec<u8>>()
    };
    (0..3u8)
        .flat_map(|architecture| {
            (0..6).map(move |cause| (format!("{architecture}-{cause}"), life(architecture, cause)))
        })
        .collect()
}
