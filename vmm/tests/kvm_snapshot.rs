// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A restored guest is the guest that was saved, whatever happened to it since.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::View::{Private, Shared};
use types::{Mode, PageState, Platform};
use vmm::guest_code;
use vmm::layout::{self, PAGE_SIZE};
use vmm::machine::{Machine, Stop};
use vmm::memory::protected::Cause;
use vmm::snapshot::Snapshot;
use vmm::snapshot::file::FileError;
use vmm::stored::{Reader, Writer};

use self::common::*;

guest_code!(
    // Counts in memory and in a register, and ends its turn with the count.
    count,
    "2: inc dword ptr [0x200000]",
    "inc ebx",
    "mov eax, [0x200000]",
    "add eax, ebx",
    "mov dx, 0x501",
    "out dx, al",
    "jmp 2b",
);

guest_code!(
    // Counts as above; then damages itself: code, page tables, stack, segments, a debug register and SSE.
    count_and_wreck,
    "inc dword ptr [0x200000]",
    "mov al, [0x200000]",
    "mov dx, 0x501",
    "out dx, al",
    "mov rax, 0x1122334455667788",
    "mov dr0, rax",
    "movq xmm3, rax",
    "mov [0x400000], rax",
    "mov [0x401000], rax",
    "mov rdi, cr3",
    "mov rcx, 0xfffffff000",
    "and rdi, rcx",
    "mov ecx, 64",
    "lidt [0x38ff0]",
    "xor eax, eax",
    "mov dx, 0x3f8",
    "out dx, al",
    "mov al, 7",
    "mov dx, 0x3fb",
    "out dx, al",
    "push 0",
    "push 0",
    "lidt [rsp]",
    "mov qword ptr [0x38000], -1",
    "int3",
);

/// All platforms.
fn platforms() -> impl Iterator<Item = Platform> {
    Platform::ALL.iter().copied()
}

/// A guest that runs `code` and has ended its first turn.
fn counted(platform: Platform, code: &[u8]) -> Machine {
    let mut machine = guest(platform, code, &[(Shared, PLAYGROUND)]);
    assert!(matches!(run(&mut machine), Stop::DebugExit(_)));
    machine
}

/// Memory of the guest is what was saved, page by page and state by state.
#[track_caller]
fn assert_memory(machine: &mut Machine, saved: &Snapshot) {
    let now = machine.save().unwrap();
    assert_eq!(saved.memory().differences(now.memory()).iter().collect::<Vec<_>>(), Vec::<usize>::new());
    assert_eq!(saved.memory().states(), now.memory().states());
}

#[test]
fn a_guest_goes_on_from_the_instant_it_was_saved_as_often_as_wanted() {
    for platform in platforms() {
        let mut machine = counted(platform, count());
        let saved = machine.save().unwrap();
        for _ in 0..3 {
            for turn in 2..5 {
                assert_eq!(run(&mut machine), Stop::DebugExit(2 * turn), "{platform}");
            }
            machine.restore(&saved).unwrap();
            assert_memory(&mut machine, &saved);
        }
    }
}

#[test]
fn a_new_machine_goes_on_where_the_saved_one_was() {
    for platform in platforms() {
        let mut first = counted(platform, count());
        let saved = first.save().unwrap();
        assert_eq!(run(&mut first), Stop::DebugExit(4));
        let mut others: Vec<Machine> =
            (0..2).map(|_| saved.start(&config(platform), None).unwrap()).collect();
        for other in &mut others {
            assert_eq!(run(other), Stop::DebugExit(4), "{platform}");
            assert_eq!(run(other), Stop::DebugExit(6), "{platform}");
            other.restore(&saved).unwrap();
            assert_eq!(run(other), Stop::DebugExit(4), "{platform}");
        }
        assert_eq!(run(&mut first), Stop::DebugExit(6));
    }
}

#[test]
fn a_guest_that_wrecked_itself_and_died_leaves_no_trace() {
    for platform in platforms() {
        let mut machine = counted(platform, count_and_wreck());
        let saved = machine.save().unwrap();
        for _ in 0..3 {
            assert_eq!(run(&mut machine), Stop::TripleFault, "{platform}");
            machine = machine.revive(&saved).unwrap();
            assert_memory(&mut machine, &saved);
        }
    }
}

/// Deterministic numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What a guest and its hypervisor may do to memory.
fn change(machine: &Machine, numbers: &mut Numbers) {
    let memory = machine.memory();
    // Around two 2 MiB chunks, firmware's pages, and the highest RAM.
    let place = [PLAYGROUND, PLAYGROUND + layout::LARGE_PAGE_SIZE, layout::SYSTEM_ROM, layout::HIGH_RAM];
    let gpa = place[numbers.below(4) as usize] + numbers.below(16) * PAGE_SIZE;
    let view = if numbers.below(2) == 0 { Private } else { Shared };
    // The first 2 MiB hold the guest's code and page tables.
    let pages = if gpa >= PLAYGROUND && numbers.below(8) == 0 { 512 } else { 1 + numbers.below(4) };
    let aligned = if pages == 512 { gpa & !(layout::LARGE_PAGE_SIZE - 1) } else { gpa };
    match numbers.below(6) {
        0 | 1 => {
            let bytes = [numbers.below(256) as u8; 100];
            let _ = memory.store(view, gpa + numbers.below(2000), &bytes);
        }
        2 => memory.declare(aligned, pages, view),
        3 => drop(memory.apply(aligned, pages, Cause::MakeShared)),
        4 => drop(memory.apply(aligned, pages, Cause::MakePrivate)),
        _ => {
            let _ = memory.apply(aligned, pages, Cause::MakePrivate);
            let _ = memory.apply(aligned, pages, Cause::Accept);
        }
    }
}

#[test]
fn any_conversions_and_writes_are_undone_in_place_and_in_a_new_machine() {
    for platform in platforms() {
        let mut numbers = Numbers(7);
        let mut machine = counted(platform, count());
        machine
            .memory()
            .launch_as(PLAYGROUND + layout::LARGE_PAGE_SIZE, 64 << 12, PageState::Unaccepted)
            .unwrap();
        (0..40).for_each(|_| change(&machine, &mut numbers));
        let saved = machine.save().unwrap();
        let mut other = saved.start(&config(platform), None).unwrap();
        assert_memory(&mut other, &saved);
        for round in 0..12 {
            (0..30).for_each(|_| change(&machine, &mut numbers));
            machine.restore(&saved).unwrap();
            assert_memory(&mut machine, &saved);
            assert!(machine.memory().take_failure().is_none(), "{platform} {round}");
            assert_eq!(run(&mut machine), Stop::DebugExit(4), "{platform} {round}");
        }
    }
}

guest_code!(
    load_and_store_shared,
    "mov eax, [0x40000000]",
    "mov dword ptr [0x40000020], 7",
    "jmp 3f",
    "3: mov al, 1",
    "mov dx, 0x501",
    "out dx, al",
    "hlt"
);

#[test]
fn forbidden_accesses_are_undone_and_recorded_anew() {
    for platform in platforms().filter(|platform| *platform != Platform::None) {
        for mode in [Mode::Record, Mode::Faithful] {
            let mut machine =
                Machine::new(&vmm::machine::MachineConfig { mode, ..config(platform) }).unwrap();
            boot(&mut machine, load_and_store_shared(), &[(Shared, ROM_PAGE)]);
            let saved = machine.save().unwrap();
            let mut seen = 0;
            for _ in 0..3 {
                let stop = run(&mut machine);
                let events = recorded(&machine);
                assert!(events.len() > seen, "{platform} {mode:?} {stop:?}");
                let new = &events[seen..];
                assert!(new.iter().all(|event| event.gpa == ROM_PAGE), "{new:?}");
                seen = events.len();
                machine = if stop == Stop::DebugExit(1) {
                    machine.restore(&saved).unwrap();
                    machine
                } else {
                    machine.revive(&saved).unwrap()
                };
                assert_memory(&mut machine, &saved);
            }
        }
    }
}

guest_code!(
    load_and_store_shared_twice,
    "mov ecx, 2",
    "2: mov eax, [0x40000000]",
    "mov dword ptr [0x40000020], 7",
    "mov al, 1",
    "mov dx, 0x501",
    "out dx, al",
    "loop 2b",
    "mov al, 0x4b",
    "out dx, al",
);

#[test]
fn on_sev_a_page_is_restored_in_its_view_with_its_contents() {
    for gpa in [ROM_PAGE, PLAYGROUND] {
        let mut machine = two_views(load_and_store_shared_twice(), gpa);
        machine.memory().write(gpa, &pattern()).unwrap();
        let saved = machine.save().unwrap();
        for round in 1..=2 {
            assert_eq!(run(&mut machine), Stop::DebugExit(1));
            // The load is an event each time; the store then finds the contents in its view.
            let events = recorded(&machine);
            assert_eq!(events.iter().map(|event| event.gpa).collect::<Vec<_>>(), vec![gpa; round]);
            assert!(seen::<4096>(&machine, Private, gpa) != pattern());
            machine.restore(&saved).unwrap();
            assert!(seen::<4096>(&machine, Private, gpa) == pattern());
            assert!(seen::<4096>(&machine, Shared, gpa) == encrypted(gpa, &pattern()));
            assert_eq!(machine.restore(&saved).unwrap().changed, 0);
        }
        assert_eq!(run(&mut machine), Stop::DebugExit(1));
        assert_eq!(run(&mut machine), Stop::DebugExit(1));
        pass(&mut machine);
    }
}

#[test]
fn on_sev_what_boot_moved_is_in_its_view_when_the_guest_is_saved() {
    let mut machine = two_views(load_and_store_shared_twice(), PLAYGROUND);
    assert_eq!(run(&mut machine), Stop::DebugExit(1));
    let damaged: Page = seen(&machine, Private, PLAYGROUND);
    machine.move_private_contents().unwrap();
    assert!(seen::<4096>(&machine, Private, PLAYGROUND) == damaged);
    let saved = machine.save().unwrap();
    assert_eq!(run(&mut machine), Stop::DebugExit(1));
    assert_eq!(recorded(&machine).len(), 2);
    machine.restore(&saved).unwrap();
    assert!(seen::<4096>(&machine, Private, PLAYGROUND) == damaged);
}

/// A guest that was saved, as bytes.
fn bytes_of(saved: &Snapshot) -> Vec<u8> {
    let mut head = Writer::default();
    saved.encode(&mut head).unwrap();
    let mut bytes = Writer::default();
    bytes.bytes(&head.into_bytes());
    let mut pages = Vec::new();
    saved.write_pages(&mut pages).unwrap();
    bytes.raw(&pages);
    bytes.into_bytes()
}

fn read(bytes: &[u8]) -> Result<Snapshot, FileError> {
    let mut from = Reader::new(bytes);
    let head = from.bytes("head")?;
    Snapshot::decode(Reader::new(head), &mut from.rest())
}

#[test]
fn a_guest_read_from_bytes_is_the_guest_that_was_saved() {
    for platform in platforms() {
        let mut numbers = Numbers(3);
        let mut machine = counted(platform, count());
        for _ in 0..20 {
            change(&machine, &mut numbers);
        }
        let saved = machine.save().unwrap();
        let bytes = bytes_of(&saved);
        let same = read(&bytes).unwrap();
        assert!(bytes_of(&same) == bytes, "{platform}");
        let mut other = same.start(&config(platform), None).unwrap();
        assert_memory(&mut other, &saved);
        assert_eq!(run(&mut other), Stop::DebugExit(4), "{platform}");
    }
}

#[test]
fn bytes_that_are_no_snapshot_are_refused() {
    let mut machine = counted(Platform::Snp, count());
    let bytes = bytes_of(&machine.save().unwrap());
    let mut numbers = Numbers(11);
    for _ in 0..60 {
        let cut = numbers.below(bytes.len() as u64) as usize;
        assert!(read(&bytes[..cut]).is_err(), "{cut} of {}", bytes.len());
    }
    // Of the header any byte may be another; what is read then is still bounded.
    for _ in 0..300 {
        let mut changed = bytes.clone();
        changed[numbers.below(60_000.min(bytes.len() as u64)) as usize] ^= 1 << numbers.below(8);
        let _ = read(&changed);
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Restores and ends a guest that often; neither descriptors nor memory become more.
fn restore_often(times: u32) {
    let mut machine = counted(Platform::Snp, count());
    let saved = machine.save().unwrap();
    let restore = |machine: &mut Machine, times: u32| {
        for _ in 0..times {
            assert_eq!(run(machine), Stop::DebugExit(4));
            machine.restore(&saved).unwrap();
        }
    };
    restore(&mut machine, 100);
    let before = (descriptors(), resident_kib());
    restore(&mut machine, times);
    for _ in 0..20 {
        machine = machine.revive(&saved).unwrap();
        assert_eq!(run(&mut machine), Stop::DebugExit(4));
    }
    let after = (descriptors(), resident_kib());
    assert_eq!(after.0, before.0);
    assert!(after.1 < before.1 + 1024, "{before:?} {after:?} KiB");
}

#[test]
fn restores_leak_nothing() {
    restore_often(500);
}

#[test]
#[ignore = "takes a minute; scripts/nightly runs it"]
fn ten_thousand_restores_leak_nothing() {
    restore_often(10_000);
}
