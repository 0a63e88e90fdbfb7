// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Long random lives of pages on real KVM, checked byte for byte against a model of a few lines.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::PageState;
use types::Platform::{self, Tdx, Vbs};
use types::View::{self, Private, Shared};
use vmm::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};
use vmm::machine::{Machine, MachineConfig};
use vmm::marker::{self, Tag};
use vmm::trace::RecordedAccess;

use self::common::script::{self, Script, fault, registers, value};
use self::common::*;

/// Pages that live, half of them on each side of a 2 MiB border.
const PAGES: usize = 32;
const FIRST: u64 = PLAYGROUND + LARGE_PAGE_SIZE - PAGE_SIZE * (PAGES as u64) / 2;
const STEPS: usize = 600;

/// Marsaglia's xorshift64: the same life each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// What a page is and holds, in the view that may access it.
#[derive(Clone)]
struct Model {
    state: PageState,
    held: Box<Page>,
}

fn gpa(page: usize) -> u64 {
    FIRST + PAGE_SIZE * page as u64
}

fn shared_address(page: usize) -> u64 {
    ALIAS + PAGE_SIZE * page as u64
}

fn marked(page: usize) -> Box<Page> {
    let mut bytes = Box::new([0; 4096]);
    marker::fill(Tag::Shared, gpa(page), bytes.as_mut_slice());
    bytes
}

/// What a step must have given.
enum Expected {
    Value(usize, u64),
    /// The load or store got a #VE, and the next step fetched what it was about.
    Fault(usize, u64),
    /// TDCALL's RAX and R10.
    Status(usize, u64, u64),
}

struct Life {
    random: Random,
    script: Script,
    pages: Vec<Model>,
    expected: Vec<Expected>,
    events: Vec<(u64, View)>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let page = Model { state: PageState::Private, held: Box::new([0; 4096]) };
        let mut script = Script::new();
        script.catch_exceptions();
        Self {
            random: Random(seed),
            script,
            pages: vec![page; PAGES],
            expected: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A load or store of a quadword through `view`, as a TD has it.
    fn access(&mut self, view: View, page: usize) {
        let offset = 8 * self.random.below(512);
        let address = if view == Private { gpa(page) } else { shared_address(page) } + offset as u64;
        let stored = (self.random.below(2) == 0).then(|| self.random.below(usize::MAX) as u64);
        let step = match stored {
            Some(value) => self.script.store(address, value),
            None => self.script.load(address),
        };
        let model = &mut self.pages[page];
        if !model.state.admits(view) {
            self.events.push((gpa(page), view));
            if view == Private {
                model.state = PageState::Unaccepted;
                let info = self.script.veinfo();
                self.expected.extend([Expected::Fault(step, gpa(page)), Expected::Status(info, 0, 0)]);
                return;
            }
            (model.state, model.held) = (PageState::Shared, Box::new([0; 4096]));
        }
        let held = &mut model.held[offset..offset + 8];
        if let Some(value) = stored {
            held.copy_from_slice(&value.to_le_bytes());
        } else {
            let held = u64::from_le_bytes(std::array::from_fn(|i| held[i]));
            self.expected.push(Expected::Value(step, held));
        }
    }

    fn range(&mut self) -> (usize, usize) {
        let first = self.random.below(PAGES);
        (first, 1 + self.random.below((PAGES - first).min(20)))
    }

    fn map_gpa(&mut self, bit: u64, to: PageState) {
        let (first, count) = self.range();
        let flag = if to == PageState::Shared { bit } else { 0 };
        let call = self.script.map_gpa(gpa(first) | flag, PAGE_SIZE * count as u64);
        self.expected.push(Expected::Status(call, 0, 0));
        for model in &mut self.pages[first..first + count] {
            // What is accepted is private already.
            let stays = to == PageState::Unaccepted && model.state == PageState::Private;
            if model.state != to && !stays {
                *model = Model { state: to, held: Box::new([0; 4096]) };
            }
        }
    }

    fn accept(&mut self) {
        const ALREADY: u64 = 0x0000_0b0a_0000_0000;
        let page = self.random.below(PAGES);
        let call = self.script.accept(gpa(page), 0);
        let model = &mut self.pages[page];
        if model.state == PageState::Private {
            self.expected.push(Expected::Status(call, ALREADY, 0));
        } else {
            *model = Model { state: PageState::Private, held: Box::new([0; 4096]) };
            self.expected.push(Expected::Status(call, 0, 0));
        }
    }

    fn visibility(&mut self, to: PageState) {
        let count = 1 + self.random.below(20);
        let pages: Vec<usize> = (0..count).map(|_| self.random.below(PAGES)).collect();
        let gpas: Vec<u64> = pages.iter().map(|page| gpa(*page)).collect();
        let call = self.script.visibility(&gpas, to == PageState::Shared);
        self.expected.push(Expected::Value(call, (count as u64) << 32));
        for page in pages {
            if self.pages[page].state != to {
                self.pages[page] = Model { state: to, held: Box::new([0; 4096]) };
            }
        }
    }

    /// Lives, then compares everything.
    fn run(&self, config: &MachineConfig) {
        let aliases: Vec<(View, u64)> = (0..PAGES).map(|page| (Shared, gpa(page))).collect();
        let mut machine = self.script.machine(config, &aliases);
        pass(&mut machine);
        for expected in &self.expected {
            match *expected {
                Expected::Value(step, held) => assert_eq!(value(&machine, step), held, "step {step}"),
                Expected::Fault(step, gpa) => {
                    assert_eq!(fault(&machine, step), script::rip(&machine, step), "step {step}");
                    assert_eq!(registers(&machine, step + 1).r9, gpa, "step {step}");
                }
                Expected::Status(step, rax, r10) => {
                    let found = registers(&machine, step);
                    assert_eq!((found.rax, found.r10), (rax, r10), "step {step}");
                }
            }
        }
        for (page, model) in self.pages.iter().enumerate() {
            assert_eq!(machine.memory().state(gpa(page)), Some(model.state), "page {page}");
            // What VBS lets through finds markers.
            let is_marked = |view| view == Shared && config.platform == Vbs;
            let empty = |view| if is_marked(view) { marked(page) } else { Box::new([0; 4096]) };
            for view in [Private, Shared] {
                let held = if model.state.admits(view) { model.held.clone() } else { empty(view) };
                assert!(seen::<4096>(&machine, view, gpa(page)) == *held, "page {page}, {view} view");
            }
        }
        let events: Vec<_> = each(&machine).map(|e| (e.gpa, e.view)).collect();
        assert_eq!(events, self.events);
        neighbours_are_untouched(&machine);
    }
}

/// Its events, one per access.
fn each(machine: &Machine) -> impl Iterator<Item = &'static RecordedAccess> {
    recorded(machine).iter().flat_map(|event| std::iter::repeat_n(event, event.count as usize))
}

fn neighbours_are_untouched(machine: &Machine) {
    for gpa in [FIRST - PAGE_SIZE, FIRST + PAGE_SIZE * PAGES as u64] {
        assert_eq!(machine.memory().state(gpa), Some(PageState::Private));
        assert!(seen::<4096>(machine, Private, gpa) == [0; 4096], "{gpa:#x}");
    }
}

fn bit(platform: Platform) -> u64 {
    1 << machine(platform).platform().encryption_bit().unwrap()
}

#[test]
fn pages_of_a_td_change_as_in_the_model() {
    let bit = bit(Tdx);
    for seed in 1..=4 {
        let mut life = Life::new(seed << 32 | 0x5eed);
        while life.expected.len() + life.events.len() < STEPS {
            match life.random.below(10) {
                0 => life.map_gpa(bit, PageState::Shared),
                1 => life.map_gpa(0, PageState::Unaccepted),
                2..5 => life.accept(),
                5..8 => {
                    let page = life.random.below(PAGES);
                    life.access(Private, page);
                }
                _ => {
                    let page = life.random.below(PAGES);
                    life.access(Shared, page);
                }
            }
        }
        assert!(life.events.len() > 50);
        life.run(&MachineConfig { sept_ve_disable: false, ..config(Tdx) });
    }
}

#[test]
fn pages_of_a_vbs_guest_change_as_in_the_model() {
    for seed in 1..=2 {
        let mut life = Life::new(seed << 32 | 0x5eed);
        life.script.enable_call_page();
        for _ in 0..STEPS {
            match life.random.below(10) {
                0 => life.visibility(PageState::Shared),
                1 => life.visibility(PageState::Private),
                _ => {
                    // Through the view the page's state admits: what comes otherwise is for another test.
                    let page = life.random.below(PAGES);
                    let view = if life.pages[page].state == PageState::Shared { Shared } else { Private };
                    life.access(view, page);
                }
            }
        }
        assert_eq!(life.events, []);
        life.run(&config(Vbs));
    }
}

#[test]
fn a_page_goes_back_and_forth_hundreds_of_times_while_others_stay() {
    const ROUNDS: u64 = 300;
    let bit = bit(Tdx);
    let mut life = Life::new(1);
    let start = life.script.map_gpa(FIRST | bit, PAGE_SIZE);
    life.script.fill_page(shared_address(0), 1);
    life.script.map_gpa(FIRST, PAGE_SIZE);
    life.script.accept(FIRST, 0);
    let zero = life.script.load(FIRST);
    life.script.fill_page(FIRST, 2);
    // A call's answers overwrite its registers, so these are put back for the next round.
    let calls = [start, start + 2, start + 3];
    let step = |index: usize, word: u64| script::SCRIPT + 128 * index as u64 + 8 * word;
    for (call, words) in calls.into_iter().zip([
        vec![(10, 0x10001), (11, FIRST | bit), (12, PAGE_SIZE)],
        vec![(10, 0x10001), (11, FIRST), (12, PAGE_SIZE)],
        vec![(1, 6), (2, FIRST)],
    ]) {
        for (word, put) in words {
            life.script.store(step(call, word), put);
        }
    }
    life.script.repeat_from(start, ROUNDS);
    let mut machine = life.script.machine(&config(Tdx), &[(Shared, FIRST)]);
    for gpa in [FIRST - PAGE_SIZE, FIRST + PAGE_SIZE] {
        machine.memory().write(gpa, &pattern()).unwrap();
    }
    pass(&mut machine);
    assert_eq!(value(&machine, zero), 0);
    assert_eq!(machine.memory().counters().conversions, 2 * ROUNDS);
    assert_eq!(machine.memory().counters().accepted, ROUNDS);
    for gpa in [FIRST - PAGE_SIZE, FIRST + PAGE_SIZE] {
        assert!(seen::<4096>(&machine, Private, gpa) == pattern(), "{gpa:#x}");
    }
    assert!(seen::<8>(&machine, Private, FIRST + 4088) == 2u64.to_le_bytes());
    assert_eq!((recorded(&machine), machine.bad_calls().all()), (&[][..], &[][..]));
}
