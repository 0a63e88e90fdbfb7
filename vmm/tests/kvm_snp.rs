// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SEV-SNP's instructions and its exception, on real KVM.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::AccessKind::Read;
use types::Platform::Snp;
use types::View::{Private, Shared};
use types::{AccessTarget, PageState};
use vmm::layout::{self, LARGE_PAGE_SIZE, PAGE_SIZE};
use vmm::machine::Stop;
use vmm::platform::services::Termination;

use self::common::script::{Script, account, error_code, fault, rip, validated, value};
use self::common::*;

const NOT_VALIDATED: u64 = 0x404;
const SIZE_MISMATCH: u64 = 6;
const BYTES: u64 = 0x1122_3344_5566_7788;

/// GHCB specification §2.3.1, page state change request.
fn page_state(gpa: u64, shared: bool) -> u64 {
    (if shared { 2 } else { 1 }) << 52 | gpa | 0x14
}
const PAGE_STATE_DONE: u64 = 0x15;

#[test]
fn a_private_access_of_a_page_not_validated_is_a_vc_at_the_instruction_until_it_is_validated() {
    let mut script = Script::new();
    script.catch_exceptions();
    let load = script.load(PLAYGROUND + 8);
    let store = script.store(PLAYGROUND + 8, BYTES);
    let validate = script.pvalidate(PLAYGROUND, 0, true);
    let works = script.load(PLAYGROUND + 8);
    let again = script.pvalidate(PLAYGROUND, 0, true);
    let mut machine = script.machine(&config(Snp), &[]);
    machine.memory().launch_as(PLAYGROUND, PAGE_SIZE, PageState::Unaccepted).unwrap();
    pass(&mut machine);
    for access in [load, store] {
        assert_eq!(fault(&machine, access), rip(&machine, access));
        assert_eq!(error_code(&machine, access), NOT_VALIDATED);
    }
    assert_eq!((validated(&machine, validate), validated(&machine, again)), ((0, false), (0, true)));
    assert_eq!((fault(&machine, works), value(&machine, works)), (0, 0));
    let events: Vec<_> = recorded(&machine).iter().map(|e| (e.gpa, e.view, e.state)).collect();
    assert_eq!(events, [(PLAYGROUND, Private, AccessTarget::Page(PageState::Unaccepted)); 2]);
    assert_eq!(machine.stats().exceptions, 2);
}

#[test]
fn the_order_linux_keeps_gives_a_shared_page_and_a_private_one_again_without_an_event() {
    let mut script = Script::new();
    script.catch_exceptions();
    let rescind = script.pvalidate(PLAYGROUND, 0, false);
    let to_shared = script.ghcb_msr(page_state(PLAYGROUND, true));
    let fresh = script.load(ALIAS);
    script.fill_page(ALIAS, BYTES);
    script.stop(1);
    let to_private = script.ghcb_msr(page_state(PLAYGROUND, false));
    let validate = script.pvalidate(PLAYGROUND, 0, true);
    let zeros = script.load(PLAYGROUND);
    let mut machine = script.machine(&config(Snp), &[(Shared, PLAYGROUND)]);
    machine.memory().write(PLAYGROUND, &pattern()).unwrap();
    assert_eq!(run(&mut machine), Stop::DebugExit(1), "{}", account(&machine));
    assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Shared));
    assert_eq!(seen::<8>(&machine, Shared, PLAYGROUND + 4088), BYTES.to_le_bytes());
    pass(&mut machine);
    assert_eq!([rescind, validate].map(|step| validated(&machine, step)), [(0, false); 2]);
    assert_eq!([to_shared, to_private].map(|step| value(&machine, step)), [PAGE_STATE_DONE; 2]);
    assert_eq!([fresh, zeros].map(|step| value(&machine, step)), [0; 2]);
    assert_eq!((recorded(&machine), machine.bad_calls().all()), (&[][..], &[][..]));
}

#[test]
fn a_shared_access_of_a_private_page_converts_it_and_the_next_private_access_is_a_vc() {
    let mut script = Script::new();
    script.catch_exceptions();
    let shared = script.load(ALIAS);
    let private = script.load(PLAYGROUND);
    let mut machine = script.machine(&config(Snp), &[(Shared, PLAYGROUND)]);
    machine.memory().write(PLAYGROUND, &pattern()).unwrap();
    let saved = machine.save().unwrap();
    pass(&mut machine);
    assert_eq!(value(&machine, shared), 0, "a host gives zeros");
    assert_eq!(
        (fault(&machine, private), error_code(&machine, private)),
        (rip(&machine, private), NOT_VALIDATED)
    );
    assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Unaccepted));
    let [first, second] = recorded(&machine) else { panic!("{}", account(&machine)) };
    assert_eq!((first.view, first.state, first.kind), (Shared, AccessTarget::Page(PageState::Private), Read));
    assert_eq!(
        (second.view, second.state, second.kind),
        (Private, AccessTarget::Page(PageState::Shared), Read)
    );
    machine.restore(&saved).unwrap();
    assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Private));
    assert!(seen::<4096>(&machine, Private, PLAYGROUND) == pattern());
}

#[test]
fn two_mib_are_validated_at_once_only_where_there_is_one_entry() {
    const CHUNK: u64 = PLAYGROUND;
    let mut script = Script::new();
    script.catch_exceptions();
    let whole = script.pvalidate(CHUNK, 1, true);
    let ends = [script.load(CHUNK), script.load(CHUNK + LARGE_PAGE_SIZE - 8)];
    let small = script.pvalidate(CHUNK + LARGE_PAGE_SIZE, 1, true);
    let mut machine = script.machine(&config(Snp), &[]);
    machine.memory().launch_as(CHUNK, 2 * LARGE_PAGE_SIZE, PageState::Unaccepted).unwrap();
    machine.memory().smash(CHUNK + LARGE_PAGE_SIZE);
    pass(&mut machine);
    assert_eq!((validated(&machine, whole), validated(&machine, small).0), ((0, false), SIZE_MISMATCH));
    assert_eq!(ends.map(|step| (fault(&machine, step), value(&machine, step))), [(0, 0); 2]);
    assert_eq!(machine.memory().state(CHUNK + LARGE_PAGE_SIZE), Some(PageState::Unaccepted));
    assert_eq!(recorded(&machine), []);
}

#[test]
fn a_vc_that_cannot_be_delivered_a_device_and_a_request_all_end_the_guest() {
    let mut script = Script::new();
    script.load(PLAYGROUND);
    let mut machine = script.machine(&config(Snp), &[]);
    machine.memory().launch_as(PLAYGROUND, PAGE_SIZE, PageState::Unaccepted).unwrap();
    let stop = run(&mut machine);
    assert!(
        matches!(
            stop,
            Stop::Terminated(Termination::Undeliverable(vmm::x86::exception::Undeliverable {
                vector: 29,
                ..
            }))
        ),
        "{stop}"
    );
    let mut script = Script::new();
    script.load(ALIAS);
    let mut machine = script.machine(&config(Snp), &[(Private, layout::BAR32)]);
    let gpa = layout::BAR32;
    assert_eq!(run(&mut machine), Stop::Terminated(Termination::NoMemory { gpa }));
    let mut script = Script::new();
    script.ghcb_msr(3 << 16 | 1 << 12 | 0x100);
    let mut machine = script.machine(&config(Snp), &[]);
    let requested = Termination::GhcbRequest { set: 1, reason: 3 };
    assert_eq!(run(&mut machine), Stop::Terminated(requested));
}

#[test]
fn an_out_to_an_instructions_port_from_where_none_was_is_refused() {
    let mut script = Script::new();
    for port in [0xf2, 0xf3, 0xf4] {
        script.out(port, 0);
    }
    let mut machine = script.machine(&config(Snp), &[]);
    pass(&mut machine);
    let names: Vec<_> = machine.bad_calls().all().iter().map(|call| call.call).collect();
    assert_eq!((names, machine.stats().calls), (vec!["VMGEXIT", "PVALIDATE", "RMPADJUST"], 0));
}
