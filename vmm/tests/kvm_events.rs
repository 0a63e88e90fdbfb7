// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses a page's state forbids: what is recorded of each, and that nothing else is.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::AccessKind::{self, Fetch, Read, Write};
use types::AccessTarget;
use types::Platform::Sev;
use types::View::{self, Private, Shared};
use vmm::guest_code;
use vmm::layout;
use vmm::machine::{Machine, Stop};
use vmm::trace::RecordedAccess;
use vmm::trace::code_page::CodePage;
use vmm::x86::cpuid::host_is_tcg;

use self::common::*;

/// An event without the vCPU's place.
fn what(event: &RecordedAccess) -> (u64, View, AccessKind, AccessTarget) {
    (event.gpa, event.view, event.kind, event.state)
}

/// Runs a guest to its end; there must be one event, of a page that is private, at the instruction whose address the
/// guest left at RESULT.
#[track_caller]
fn one_event(machine: &mut Machine, gpa: u64, kind: AccessKind) -> RecordedAccess {
    pass(machine);
    let [event] = recorded(machine) else { panic!("{:#?}", recorded(machine)) };
    assert_eq!(what(event), (gpa, Shared, kind, AccessTarget::Page(types::PageState::Private)));
    let at = event.at.as_ref().unwrap();
    assert_eq!((at.rip, at.exact), (result(machine, 0), true));
    assert_eq!(machine.memory().counters().mismatches, 1);
    event.clone()
}

guest_code!(
    load,
    "lea rax, [rip + 2f]",
    "mov [0x200000], rax",
    "2: mov eax, [0x40000ffc]",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_load_through_the_wrong_view_is_recorded_at_its_instruction() {
    for gpa in [ROM_PAGE, PLAYGROUND, layout::HIGH_RAM] {
        let mut machine = two_views(load(), gpa);
        let event = one_event(&mut machine, gpa, Read);
        let at = event.at.unwrap();
        assert_eq!((event.number, at.cpl, at.rsp), (0, 0, layout::FLAT_CODE));
        assert_eq!(at.cr3, machine.platform().alias(Private, layout::PAGE_TABLES));
    }
}

guest_code!(
    store,
    "lea rax, [rip + 2f]",
    "mov [0x200000], rax",
    "2: mov dword ptr [0x40000010], 7",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_store_through_the_wrong_view_into_firmwares_page_is_recorded() {
    one_event(&mut two_views(store(), ROM_PAGE), ROM_PAGE, Write);
}

guest_code!(
    exchange,
    "lea rbx, [rip + 2f]",
    "mov [0x200000], rbx",
    "mov eax, 1",
    "2: lock xadd [0x40000010], rax",
    "mov [0x200008], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_read_modify_write_is_one_event_and_sees_the_ciphertext() {
    let mut machine = two_views(exchange(), ROM_PAGE);
    let before = u64::from_le_bytes(seen(&machine, Shared, ROM_PAGE + 16));
    // One store to a processor; QEMU's loads first and then stores.
    one_event(&mut machine, ROM_PAGE, if host_is_tcg() { Read } else { Write });
    assert_eq!(result(&machine, 1), before);
    assert_eq!(u64::from_le_bytes(seen(&machine, Shared, ROM_PAGE + 16)), before.wrapping_add(1));
}

guest_code!(
    call,
    "mov qword ptr [0x200000], 0x40000020",
    "mov eax, 0x40000020",
    "call rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn an_instruction_fetch_through_the_wrong_view_is_recorded_as_one() {
    const RET: u8 = 0xc3;
    for gpa in [ROM_PAGE, PLAYGROUND] {
        let mut machine = two_views(call(), gpa);
        machine.memory().write(gpa, &decrypted(gpa, &[RET; 4096])).unwrap();
        one_event(&mut machine, gpa, Fetch);
    }
}

guest_code!(
    load_in_the_high_half,
    "lea rax, [rip + 2f]",
    "mov rcx, 0xffffffff80000000",
    "add rax, rcx",
    "mov [0x200000], rax",
    "jmp rax",
    "2: mov eax, [0x40000ffc]",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn an_address_in_the_high_half_is_recorded_as_it_is() {
    one_event(&mut two_views(load_in_the_high_half(), ROM_PAGE), ROM_PAGE, Read);
}

guest_code!(
    load_in_ring_3,
    "lgdt [0x38fe0]",
    "lea rax, [rip + 2f]",
    "mov [0x200000], rax",
    "push 0x23",
    "push 0x2f000",
    "push 0x3002",
    "push 0x2b",
    "push rax",
    "iretq",
    "2: mov eax, [0x40000000]",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn an_access_from_ring_3_is_recorded_with_its_level() {
    let mut machine = two_views(load_in_ring_3(), ROM_PAGE);
    catch_exceptions(&machine);
    open_to_user(&machine);
    let at = one_event(&mut machine, ROM_PAGE, Read).at.unwrap();
    assert_eq!((at.cpl, at.rsp), (3, 0x2_f000));
    let mut code = [0; layout::PAGE_SIZE as usize];
    machine.memory().read(Private, layout::FLAT_CODE, &mut code).unwrap();
    assert_eq!(at.user_code, Some(CodePage::of(&code)));
}

guest_code!(
    walk,
    "lea rax, [rip + 2f]",
    "mov [0x200000], rax",
    "2: mov eax, [0x40200000]",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_page_walk_through_the_wrong_view_is_recorded_at_the_instruction_that_needed_it() {
    let mut machine = two_views(walk(), ROM_PAGE);
    let entry = machine.platform().alias(Private, PLAYGROUND) | 0b0110_0011;
    machine.memory().write(ROM_PAGE, &decrypted(ROM_PAGE, &page(&entry.to_le_bytes()))).unwrap();
    let parent = layout::PAGE_TABLES + 3 * 4096 + 8;
    machine.memory().write(parent, &(ROM_PAGE | 0b0110_0011).to_le_bytes()).unwrap();
    pass(&mut machine);
    let [event] = recorded(&machine) else { panic!("{:#?}", recorded(&machine)) };
    // Processors walk with the right to set accessed bits, so kind may be either.
    assert_eq!((event.gpa, event.view), (ROM_PAGE, Shared));
    assert_ne!(event.kind, Fetch);
    assert_eq!(event.at.as_ref().unwrap().rip, result(&machine, 0));
}

guest_code!(
    look_three_times_each_way,
    "mov ecx, 3",
    "2: mov eax, [0x40000000]",
    "mov eax, [0x40000010]",
    "mov eax, [0x40001000]",
    "mov eax, [0x40001010]",
    "loop 2b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn going_back_and_forth_is_counted_each_time_it_goes_wrong() {
    let mut machine = two_views(look_three_times_each_way(), ROM_PAGE);
    pass(&mut machine);
    let [event] = recorded(&machine) else { panic!("{:#?}", recorded(&machine)) };
    assert_eq!(what(event), (ROM_PAGE, Shared, Read, AccessTarget::Page(types::PageState::Private)));
    assert_eq!((event.number, event.count), (0, 3));
    let counters = machine.memory().counters();
    assert_eq!((counters.mismatches, counters.declared_moves, counters.implicit_moves), (3, 3, 0));
}

guest_code!(
    string_out,
    "mov esi, 0x40000000",
    "mov dx, 0x3f8",
    "mov ecx, 64",
    "lea rax, [rip + 2f]",
    "mov [0x200000], rax",
    "2: rep outsb",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn what_kvm_itself_reads_through_the_wrong_view_is_the_ciphertext_and_recorded() {
    let mut machine = two_views(string_out(), ROM_PAGE);
    machine.memory().write(ROM_PAGE, &decrypted(ROM_PAGE, &[b'c'; 4096])).unwrap();
    pass(&mut machine);
    assert_eq!(machine.console().text(), "c".repeat(64));
    let [event] = recorded(&machine) else { panic!("{:#?}", recorded(&machine)) };
    assert_eq!(what(event), (ROM_PAGE, Shared, Read, AccessTarget::Page(types::PageState::Private)));
    assert_eq!(event.at.as_ref().unwrap().rip, result(&machine, 0));
}

guest_code!(
    string_in,
    "mov edi, 0x40000000",
    "mov dx, 0x680",
    "mov ecx, 64",
    "rep insb",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn what_kvm_itself_writes_through_the_wrong_view_arrives_there_and_is_recorded() {
    let mut machine = two_views(string_in(), ROM_PAGE);
    let before: Page = seen(&machine, Shared, ROM_PAGE);
    pass(&mut machine);
    let mut expected = before;
    expected[..64].fill(0xff);
    assert!(seen::<4096>(&machine, Shared, ROM_PAGE) == expected);
    let [event] = recorded(&machine) else { panic!("{:#?}", recorded(&machine)) };
    assert_eq!(what(event), (ROM_PAGE, Shared, Write, AccessTarget::Page(types::PageState::Private)));
}

guest_code!(illegal_with_the_table_at_the_alias, "lgdt [0x38fe0]", "lidt [0x38ff0]", "ud2");

#[test]
fn an_exception_whose_table_is_seen_through_the_wrong_view_is_delivered_once() {
    let mut machine = two_views(illegal_with_the_table_at_the_alias(), ROM_PAGE);
    catch_exceptions(&machine);
    machine.memory().write(0x3_8ff2, &ALIAS.to_le_bytes()).unwrap();
    machine.memory().write(ROM_PAGE, &decrypted(ROM_PAGE, &page(&gates()))).unwrap();
    assert_eq!(run(&mut machine), Stop::DebugExit(6));
    assert_eq!(recorded(&machine).iter().map(|e| e.gpa).collect::<Vec<_>>(), [ROM_PAGE]);
}

guest_code!(
    device_through_the_private_view,
    "lea rax, [rip + 2f]",
    "mov [0x200000], rax",
    "lea rax, [rip + 3f]",
    "mov [0x200008], rax",
    "2: mov eax, [0x40000000]",
    "mov eax, [0x40000010]",
    "3: mov [0x40000000], eax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_device_reached_through_the_private_view_is_recorded_and_answers() {
    for gpa in [layout::BAR32, layout::BAR64, layout::VGA, layout::UNCLAIMED_MMIO] {
        let mut machine = guest(Sev, device_through_the_private_view(), &[(Private, gpa)]);
        pass(&mut machine);
        let [load, store] = recorded(&machine) else { panic!("{:#?}", recorded(&machine)) };
        assert_eq!(what(load), (gpa, Private, Read, AccessTarget::Device));
        assert_eq!(what(store), (gpa, Private, Write, AccessTarget::Device));
        let exact = |event: &RecordedAccess| event.at.as_ref().filter(|at| at.exact).map(|at| at.rip);
        assert_eq!(exact(load), Some(result(&machine, 0)));
        // KVM has finished a store when it reports it: no address, or the right one.
        assert!([None, Some(result(&machine, 1))].contains(&exact(store)), "{store}");
    }
}

#[test]
fn an_event_reads_well() {
    let mut machine = two_views(load(), ROM_PAGE);
    let event = one_event(&mut machine, ROM_PAGE, Read);
    let rip = result(&machine, 0);
    assert_eq!(
        event.to_string(),
        format!("GPA 0xf1000: read through the shared view, page is private, RIP {rip:#x}, CPL 0")
    );
}
