// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Page states of platforms with two contents, on real KVM: what an access does, and what every page holds afterwards.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::AccessKind::{self, Fetch, Read, Write};
use types::Platform::{Tdx, Vbs};
use types::View::{self, Private, Shared};
use types::{AccessTarget, Mode, PageState};
use vmm::layout::{self, LARGE_PAGE_SIZE, PAGE_SIZE};
use vmm::machine::{Machine, MachineConfig, Stop};
use vmm::marker::{self, Tag};
use vmm::platform::services::Termination;
use vmm::trace::RecordedAccess;

use self::common::script::{self, CALL_PAGE, Script, registers, rip, value};
use self::common::*;

const EPT_VIOLATION: u64 = 48;
const NO_VALID_VE_INFO: u64 = 0xc000_0704_0000_0000;
const BYTES: u64 = 0x1122_3344_5566_7788;

/// A TD that gets #VE where private memory is not accepted.
fn with_ve() -> MachineConfig {
    MachineConfig { sept_ve_disable: false, ..config(Tdx) }
}

fn record() -> MachineConfig {
    MachineConfig { mode: Mode::Record, ..config(Tdx) }
}

/// The address of `gpa` in the shared view, as calls and page tables have it.
fn shared(machine: &Machine, gpa: u64) -> u64 {
    machine.platform().alias(Shared, gpa)
}

fn what(event: &RecordedAccess) -> (u64, View, AccessKind, AccessTarget) {
    (event.gpa, event.view, event.kind, event.state)
}

#[track_caller]
fn one_event(machine: &Machine, gpa: u64, view: View, kind: AccessKind, state: AccessTarget, rip: u64) {
    let [event] = recorded(machine) else { panic!("{}", script::account(machine)) };
    assert_eq!(what(event), (gpa, view, kind, state));
    let at = event.at.as_ref().unwrap();
    assert_eq!((at.rip, at.exact, at.cpl), (rip, true, 0));
}

fn marked(gpa: u64) -> Page {
    let mut page = [0; 4096];
    marker::fill(Tag::Shared, gpa, &mut page);
    page
}

#[test]
fn an_access_through_the_shared_view_makes_a_tds_private_page_shared_and_its_contents_are_gone() {
    for gpa in [PLAYGROUND, 0, ROM_PAGE, layout::HIGH_RAM] {
        for kind in [Read, Write] {
            let mut script = Script::new();
            let access = if kind == Read { script.load(ALIAS + 8) } else { script.store(ALIAS + 8, BYTES) };
            let again = script.load(ALIAS + 8);
            let mut machine = script.machine(&config(Tdx), &[(Shared, gpa)]);
            machine.memory().write(gpa, &pattern()).unwrap();
            pass(&mut machine);
            one_event(
                &machine,
                gpa,
                Shared,
                kind,
                AccessTarget::Page(PageState::Private),
                rip(&machine, access),
            );
            assert_eq!(machine.memory().state(gpa), Some(PageState::Shared));
            let mut expected: Page = [0; 4096];
            if kind == Write {
                expected[8..16].copy_from_slice(&BYTES.to_le_bytes());
            }
            assert!(seen::<4096>(&machine, Shared, gpa) == expected, "{gpa:#x}");
            assert!(seen::<4096>(&machine, Private, gpa) == [0; 4096], "{gpa:#x}");
            assert_eq!(value(&machine, again).to_le_bytes(), expected[8..16]);
        }
    }
}

#[test]
fn what_hyper_v_does_is_not_documented_so_the_access_goes_on_and_nothing_changes() {
    let mut script = Script::new();
    let access = script.store(ALIAS, BYTES);
    let seen_there = script.load(ALIAS + 16);
    let private = script.load(ALIAS + PAGE_SIZE);
    script.stop(1);
    let mut machine = script.machine(&config(Vbs), &[(Shared, PLAYGROUND), (Private, PLAYGROUND)]);
    machine.memory().write(PLAYGROUND, &pattern()).unwrap();
    assert_eq!(run(&mut machine), Stop::DebugExit(1));
    one_event(
        &machine,
        PLAYGROUND,
        Shared,
        Write,
        AccessTarget::Page(PageState::Private),
        rip(&machine, access),
    );
    assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Private));
    assert_eq!(value(&machine, seen_there).to_le_bytes(), marked(PLAYGROUND)[16..24]);
    assert_eq!(value(&machine, private).to_le_bytes(), pattern()[..8]);
    pass(&mut machine);
    assert!(seen::<4096>(&machine, Private, PLAYGROUND) == pattern());
    assert!(seen::<4096>(&machine, Shared, PLAYGROUND) == marked(PLAYGROUND), "what was stored is gone");
}

#[test]
fn a_td_without_ve_ends_at_its_first_access_of_memory_it_has_not_accepted() {
    for (gpa, kind) in [(PLAYGROUND, Read), (layout::HIGH_RAM, Write), (ROM_PAGE, Read), (PLAYGROUND, Fetch)]
    {
        let mut script = Script::new();
        let access = match kind {
            Read => script.load(ALIAS + 8),
            Write => script.store(ALIAS + 8, BYTES),
            Fetch => script.call(ALIAS, 0, 0),
        };
        let mut machine = script.machine(&config(Tdx), &[(Private, gpa)]);
        machine.memory().launch_as(gpa, PAGE_SIZE, PageState::Unaccepted).unwrap();
        assert_eq!(run(&mut machine), Stop::Terminated(Termination::SeptViolation { gpa }));
        let at = if kind == Fetch { ALIAS } else { rip(&machine, access) };
        one_event(&machine, gpa, Private, kind, AccessTarget::Page(PageState::Unaccepted), at);
        assert_eq!(machine.memory().state(gpa), Some(PageState::Unaccepted));
        // It cannot be resumed.
        assert_eq!(run(&mut machine), Stop::Terminated(Termination::SeptViolation { gpa }));
    }
}

#[test]
fn a_shared_page_accessed_through_the_private_view_is_converted_and_the_td_ends() {
    let mut script = Script::new();
    script.load(ALIAS);
    let mut machine = script.machine(&config(Tdx), &[(Private, PLAYGROUND)]);
    machine.memory().launch_as(PLAYGROUND, PAGE_SIZE, PageState::Shared).unwrap();
    machine.memory().store(Shared, PLAYGROUND, &pattern()).unwrap();
    let saved = machine.save().unwrap();
    assert_eq!(run(&mut machine), Stop::Terminated(Termination::SeptViolation { gpa: PLAYGROUND }));
    one_event(&machine, PLAYGROUND, Private, Read, AccessTarget::Page(PageState::Shared), rip(&machine, 0));
    assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Unaccepted));
    let machine = machine.revive(&saved).unwrap();
    assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Shared));
    assert!(seen::<4096>(&machine, Shared, PLAYGROUND) == pattern());
}

#[test]
fn a_td_with_ve_enabled_gets_one_at_the_instruction_and_reads_the_page_once() {
    let mut script = Script::new();
    script.catch_exceptions();
    let load = script.load(PLAYGROUND + 0x18);
    let (info, none) = (script.veinfo(), script.veinfo());
    let store = script.store(PLAYGROUND + 0x1000, BYTES);
    let info_again = script.veinfo();
    let accepted = script.accept(PLAYGROUND, 0);
    let works = script.load(PLAYGROUND + 0x18);
    let mut machine = script.machine(&with_ve(), &[]);
    machine.memory().launch_as(PLAYGROUND, 0x2000, PageState::Unaccepted).unwrap();
    pass(&mut machine);
    assert_eq!(script::fault(&machine, load), rip(&machine, load));
    assert_eq!(script::fault(&machine, store), rip(&machine, store));
    let first = registers(&machine, info);
    assert_eq!((first.rax, first.rcx, first.rdx, first.r9), (0, EPT_VIOLATION, 1, PLAYGROUND));
    assert_eq!(first.r8, PLAYGROUND + 0x18, "the guest linear address");
    assert_eq!(registers(&machine, none).rax, NO_VALID_VE_INFO);
    let second = registers(&machine, info_again);
    assert_eq!((second.rax, second.rcx, second.rdx, second.r9), (0, EPT_VIOLATION, 2, PLAYGROUND + 0x1000));
    assert_eq!((registers(&machine, accepted).rax, script::fault(&machine, works)), (0, 0));
    assert_eq!(value(&machine, works), 0);
    let events: Vec<_> = recorded(&machine).iter().map(what).collect();
    let unaccepted = |gpa, kind| (gpa, Private, kind, AccessTarget::Page(PageState::Unaccepted));
    assert_eq!(events, [unaccepted(PLAYGROUND, Read), unaccepted(PLAYGROUND + 0x1000, Write)]);
    assert_eq!(machine.stats().exceptions, 2);
}

#[test]
fn a_second_ve_before_the_first_was_looked_at_ends_the_td() {
    let mut script = Script::new();
    script.catch_exceptions();
    script.load(PLAYGROUND);
    script.load(PLAYGROUND + 0x1000);
    let mut machine = script.machine(&with_ve(), &[]);
    machine.memory().launch_as(PLAYGROUND, 0x2000, PageState::Unaccepted).unwrap();
    let gpa = PLAYGROUND + 0x1000;
    assert_eq!(run(&mut machine), Stop::Terminated(Termination::SeptViolation { gpa }));
    assert_eq!((recorded(&machine).len(), machine.stats().exceptions), (2, 1));
}

#[test]
fn a_ve_without_a_table_to_deliver_it_by_ends_the_td() {
    let mut script = Script::new();
    script.load(PLAYGROUND);
    let mut machine = script.machine(&with_ve(), &[]);
    machine.memory().launch_as(PLAYGROUND, 0x1000, PageState::Unaccepted).unwrap();
    let stop = run(&mut machine);
    assert!(
        matches!(
            stop,
            Stop::Terminated(Termination::Undeliverable(vmm::x86::exception::Undeliverable {
                vector: 20,
                ..
            }))
        ),
        "{stop}, {}",
        script::account(&machine)
    );
}

#[test]
fn a_ve_whose_frame_would_be_in_memory_not_accepted_ends_the_td() {
    const STACK: u64 = layout::FLAT_CODE - PAGE_SIZE;
    let mut script = Script::new();
    script.catch_exceptions();
    script.load(PLAYGROUND);
    let mut machine = script.machine(&with_ve(), &[]);
    machine.memory().launch_as(PLAYGROUND, PAGE_SIZE, PageState::Unaccepted).unwrap();
    machine.memory().launch_as(STACK, PAGE_SIZE, PageState::Unaccepted).unwrap();
    let stop = run(&mut machine);
    assert!(
        matches!(
            stop,
            Stop::Terminated(Termination::Undeliverable(vmm::x86::exception::Undeliverable {
                vector: 20,
                ..
            }))
        ),
        "{stop}"
    );
}

#[test]
fn recording_only_changes_nothing_and_each_access_after_an_exit_is_reported_again() {
    let pages =
        [(Shared, PageState::Private), (Private, PageState::Shared), (Private, PageState::Unaccepted)];
    for (view, state) in pages {
        let mut script = Script::new();
        let first = script.load(ALIAS);
        script.stop(1);
        let second = script.store(ALIAS, BYTES);
        let third = script.load(ALIAS);
        script.stop(2);
        let fourth = script.load(ALIAS);
        script.stop(3);
        let mut machine = script.machine(&record(), &[(view, PLAYGROUND)]);
        machine.memory().write(PLAYGROUND, &pattern()).unwrap();
        machine.memory().launch_as(PLAYGROUND, PAGE_SIZE, state).unwrap();
        machine.memory().store(view.other(), PLAYGROUND, &pattern()).unwrap();
        let held: (Page, Page) = (seen(&machine, Private, PLAYGROUND), seen(&machine, Shared, PLAYGROUND));
        for stop in 1..4 {
            assert_eq!(run(&mut machine), Stop::DebugExit(stop), "{}", script::account(&machine));
        }
        pass(&mut machine);
        let kinds: Vec<_> = recorded(&machine).iter().map(|e| (e.gpa, e.view, e.kind)).collect();
        // A heartbeat between the second and the third access stops the third too, which the fourth then repeats.
        assert_eq!(kinds.iter().map(|(.., kind)| *kind).collect::<Vec<_>>(), [Read, Write, Read]);
        assert!(kinds.iter().all(|(gpa, v, _)| (*gpa, *v) == (PLAYGROUND, view)));
        assert_eq!(machine.memory().state(PLAYGROUND), Some(state));
        let holds: (Page, Page) = (seen(&machine, Private, PLAYGROUND), seen(&machine, Shared, PLAYGROUND));
        assert!(held == holds, "{view} access of a page {state}");
        let unwritten = if view == Shared { marked(PLAYGROUND)[..8].to_vec() } else { vec![0; 8] };
        assert_eq!(value(&machine, first).to_le_bytes()[..], unwritten);
        assert_eq!(value(&machine, fourth).to_le_bytes()[..], unwritten);
        assert!([BYTES, value(&machine, first)].contains(&value(&machine, third)), "step {second}");
    }
}

#[test]
fn what_accesses_destroyed_is_restored_in_contents_and_state() {
    let mut script = Script::new();
    script.store(ALIAS, BYTES);
    script.load(ALIAS + PAGE_SIZE);
    let mut machine = script.machine(&config(Tdx), &[(Shared, PLAYGROUND), (Shared, ROM_PAGE)]);
    machine.memory().write(PLAYGROUND, &pattern()).unwrap();
    let rom: Page = seen(&machine, Private, ROM_PAGE);
    let saved = machine.save().unwrap();
    pass(&mut machine);
    assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Shared));
    machine.restore(&saved).unwrap();
    for (gpa, held) in [(PLAYGROUND, pattern()), (ROM_PAGE, rom)] {
        assert_eq!(machine.memory().state(gpa), Some(PageState::Private));
        assert!(seen::<4096>(&machine, Private, gpa) == held, "{gpa:#x}");
        assert!(seen::<4096>(&machine, Shared, gpa) == [0; 4096], "{gpa:#x}");
    }
    assert_eq!(machine.restore(&saved).unwrap().changed, 0);
    // And the guest sees it so: private works, shared is an event again.
    let mut script = Script::new();
    let private = script.load(PLAYGROUND);
    script.load(ALIAS);
    script.load_into(&machine);
    boot_again(&mut machine);
    pass(&mut machine);
    assert_eq!(value(&machine, private).to_le_bytes(), pattern()[..8]);
    assert_eq!(recorded(&machine).len(), 3);
}

/// Starts the guest of [`what_accesses_destroyed_is_restored_in_contents_and_state`] at its first step.
fn boot_again(machine: &mut Machine) {
    let code: [u8; 0x400] = seen(machine, Private, layout::FLAT_CODE);
    let alias = shared(machine, PLAYGROUND);
    machine.boot_flat(&code, &[alias]).unwrap();
}

#[test]
fn events_are_bounded() {
    const KEPT: usize = 1 << 16;
    let mut script = Script::new();
    let start = script.load(ALIAS);
    script.store(ALIAS, 0);
    script.repeat_from(start, KEPT as u64 / 2 + 50);
    let mut machine = script.machine(&config(Vbs), &[(Private, layout::UNCLAIMED_MMIO)]);
    pass(&mut machine);
    assert_eq!(recorded(&machine).len(), KEPT);
    assert!((50..=100).contains(&machine.stats().events_not_kept), "{:?}", machine.stats());
}

#[test]
fn whole_chunks_change_hands_and_their_neighbours_keep_every_byte() {
    const CHUNK: u64 = PLAYGROUND + LARGE_PAGE_SIZE;
    let edges = [CHUNK - PAGE_SIZE, CHUNK, CHUNK + LARGE_PAGE_SIZE - PAGE_SIZE, CHUNK + LARGE_PAGE_SIZE];
    let aliases: Vec<_> = edges.map(|gpa| (Shared, gpa)).to_vec();
    let bit = 1 << machine(Tdx).platform().encryption_bit().unwrap();
    let mut script = Script::new();
    let calls = [
        script.map_gpa(CHUNK | bit, LARGE_PAGE_SIZE),
        script.fill_page(ALIAS + PAGE_SIZE, BYTES),
        script.fill_page(ALIAS + 2 * PAGE_SIZE, BYTES),
        script.stop(1),
        script.map_gpa(CHUNK, LARGE_PAGE_SIZE),
        script.accept(CHUNK, 1),
        script.accept(CHUNK, 1),
    ];
    let zeros = [script.load(CHUNK), script.load(CHUNK + LARGE_PAGE_SIZE - 8)];
    script.fill_page(CHUNK + PAGE_SIZE, !BYTES);
    let mut machine = script.machine(&config(Tdx), &aliases);
    for gpa in edges {
        machine.memory().write(gpa, &pattern()).unwrap();
    }
    assert_eq!(run(&mut machine), Stop::DebugExit(1), "{}", script::account(&machine));
    let filled: Page = std::array::from_fn(|i| BYTES.to_le_bytes()[i % 8]);
    for gpa in [edges[1], edges[2]] {
        assert!(seen::<4096>(&machine, Shared, gpa) == filled, "{gpa:#x}");
        assert!(seen::<4096>(&machine, Private, gpa) == [0; 4096], "{gpa:#x}");
    }
    pass(&mut machine);
    let status: Vec<_> = [0, 4, 5, 6].map(|i| registers(&machine, calls[i]).rax).to_vec();
    assert_eq!(status, [0, 0, 0, 0x0000_0b0a_0000_0000]);
    assert_eq!(zeros.map(|step| value(&machine, step)), [0, 0]);
    for gpa in [edges[0], edges[3]] {
        assert!(seen::<4096>(&machine, Private, gpa) == pattern(), "{gpa:#x}");
    }
    assert_eq!(machine.memory().state(CHUNK + LARGE_PAGE_SIZE - PAGE_SIZE), Some(PageState::Private));
    assert_eq!((recorded(&machine), script::account(&machine).lines().count()), (&[][..], 1));
}

#[test]
fn a_visible_page_is_shared_and_a_hidden_one_private_and_both_ways_the_contents_go() {
    let mut script = Script::new();
    script.enable_call_page();
    let calls = [script.visibility(&[PLAYGROUND, ROM_PAGE], true)];
    let fresh = script.load(ALIAS);
    script.fill_page(ALIAS, BYTES);
    let hidden = script.visibility(&[PLAYGROUND], false);
    let zeros = script.load(PLAYGROUND);
    let mut machine = script.machine(&config(Vbs), &[(Shared, PLAYGROUND)]);
    machine.memory().write(PLAYGROUND, &pattern()).unwrap();
    pass(&mut machine);
    assert_eq!(value(&machine, calls[0]), 2 << 32, "{}", script::account(&machine));
    assert_eq!(value(&machine, hidden), 1 << 32);
    assert_eq!((value(&machine, fresh), value(&machine, zeros)), (0, 0));
    assert_eq!(machine.memory().state(ROM_PAGE), Some(PageState::Shared));
    assert!(seen::<3>(&machine, Private, CALL_PAGE) == [0xe7, 0xf5, 0xc3]);
    assert_eq!((recorded(&machine), machine.bad_calls().all()), (&[][..], &[][..]));
}
