// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What one test's forbidden accesses moved or destroyed is back before the next one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::View::{Private, Shared};
use vmm::guest_code;
use vmm::machine::Stop;

use self::common::*;

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
fn on_sev_a_page_goes_back_to_its_view_with_its_contents() {
    for gpa in [ROM_PAGE, PLAYGROUND] {
        let mut machine = two_views(load_and_store_shared_twice(), gpa);
        machine.memory().write(gpa, &pattern()).unwrap();
        for round in 1..=2 {
            assert_eq!(run(&mut machine), Stop::DebugExit(1));
            // The load is an event each time; the store then finds the contents in its view.
            let events = recorded(&machine);
            assert_eq!(events.iter().map(|event| event.gpa).collect::<Vec<_>>(), vec![gpa; round]);
            assert!(seen::<4096>(&machine, Private, gpa) != pattern());
            assert_eq!(machine.memory().restore_changed_pages().unwrap(), 1);
            assert!(seen::<4096>(&machine, Private, gpa) == pattern());
            assert!(seen::<4096>(&machine, Shared, gpa) == encrypted(gpa, &pattern()));
            assert_eq!(machine.memory().restore_changed_pages().unwrap(), 0);
            machine.send_to_agent(&[]);
        }
        pass(&mut machine);
    }
}

#[test]
fn what_boot_moved_is_where_a_test_expects_it() {
    let mut machine = two_views(load_and_store_shared_twice(), PLAYGROUND);
    assert_eq!(run(&mut machine), Stop::DebugExit(1));
    let damaged: Page = seen(&machine, Private, PLAYGROUND);
    machine.mark_start().unwrap();
    assert!(seen::<4096>(&machine, Private, PLAYGROUND) == damaged);
    assert_eq!(machine.memory().restore_changed_pages().unwrap(), 0);
    machine.send_to_agent(&[]);
    assert_eq!(run(&mut machine), Stop::DebugExit(1));
    assert_eq!(recorded(&machine).len(), 2);
    assert_eq!(machine.memory().restore_changed_pages().unwrap(), 1);
    assert!(seen::<4096>(&machine, Private, PLAYGROUND) == damaged);
}
