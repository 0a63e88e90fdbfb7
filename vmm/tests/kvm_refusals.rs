// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Conversions that fail by a rule, on real KVM: what the guest gets, what its pages are, and that a guest that is restored
//! meets the same refusals again.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::Platform::{self, Sev, Snp, Tdx, Vbs};
use types::View::{Private, Shared};
use types::{AccessTarget, PageState};
use vmm::guest_code;
use vmm::layout::PAGE_SIZE;
use vmm::machine::{Machine, MachineConfig};
use vmm::platform::failure::Failures;

use self::common::script::{Script, registers, validated, value};
use self::common::*;

const RETRY: u64 = 1;
const OPERAND_INVALID: u64 = 0x8000_0000_0000_0000;

fn failing(platform: Platform, rule: &str) -> MachineConfig {
    let failures = Failures::new(&[rule.parse().unwrap()]).unwrap();
    failures.check(platform).unwrap();
    MachineConfig { failures, ..config(platform) }
}

fn bit(platform: Platform) -> u64 {
    1 << machine(platform).platform().encryption_bit().unwrap()
}

/// Number, pages, pages done, error of each refusal.
fn refusals(machine: &Machine) -> Vec<(u64, u64, u64, &'static str)> {
    let kept = machine.conversions().all().iter();
    let refused = kept.filter_map(|it| Some((it.number, it.conversion.pages, it.refusal?)));
    refused.map(|(number, pages, refusal)| (number, pages, refusal.done, refusal.error.name)).collect()
}

#[test]
fn a_td_is_refused_in_part_and_goes_on_from_where_it_was_told() {
    let mut script = Script::new();
    let shared = bit(Tdx);
    let refused = script.map_gpa(PLAYGROUND | shared, 4 * PAGE_SIZE);
    let again = script.map_gpa((PLAYGROUND + PAGE_SIZE) | shared, 3 * PAGE_SIZE);
    let mut machine = script.machine(&failing(Tdx, "map-gpa:nth=1,error=retry,done=1"), &[]);
    pass(&mut machine);
    let call = registers(&machine, refused);
    assert_eq!((call.r10, call.r11), (RETRY, (PLAYGROUND + PAGE_SIZE) | shared));
    assert_eq!(registers(&machine, again).r10, 0);
    assert!(
        (0..4).all(|page| machine.memory().state(PLAYGROUND + page * PAGE_SIZE) == Some(PageState::Shared))
    );
    assert_eq!(refusals(&machine), [(1, 4, 1, "retry")]);
}

#[test]
fn a_td_that_uses_as_shared_what_it_was_refused_makes_a_forbidden_access() {
    let mut script = Script::new();
    let refused = script.map_gpa(PLAYGROUND | bit(Tdx), PAGE_SIZE);
    script.store(ALIAS, 7);
    let mut machine = script.machine(&failing(Tdx, "map-gpa:to=shared"), &[(Shared, PLAYGROUND)]);
    pass(&mut machine);
    assert_eq!(registers(&machine, refused).r10, OPERAND_INVALID);
    let [event] = recorded(&machine) else { panic!("{}", script::account(&machine)) };
    assert_eq!(
        (event.gpa, event.view, event.state),
        (PLAYGROUND, Shared, AccessTarget::Page(PageState::Private))
    );
}

#[test]
fn an_snp_guest_gets_the_codes_of_pvalidate_and_of_the_msr_protocol() {
    for (error, got) in [("fail-input", (1, false)), ("size-mismatch", (6, false)), ("unchanged", (0, true))]
    {
        let mut script = Script::new();
        let refused = script.pvalidate(PLAYGROUND, 0, false);
        let done = script.pvalidate(PLAYGROUND, 0, false);
        let mut machine = script.machine(&failing(Snp, &format!("pvalidate:nth=1,error={error}")), &[]);
        pass(&mut machine);
        assert_eq!((validated(&machine, refused), validated(&machine, done)), (got, (0, false)));
        assert_eq!(refusals(&machine), [(1, 1, 0, error)]);
    }
    let mut script = Script::new();
    // GHCB specification §2.3.1: page state change request, shared.
    let refused = script.ghcb_msr(2 << 52 | PLAYGROUND | 0x14);
    let mut machine = script.machine(&failing(Snp, "msr-psc"), &[]);
    pass(&mut machine);
    assert_eq!(value(&machine, refused), 1 << 63 | 0x15);
    assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Private));
}

guest_code!(
    map_gpa_range,
    "mov rax, 12",
    "mov rbx, [0x200008]",
    "mov rcx, 1",
    "xor rdx, rdx",
    "vmmcall",
    "mov [0x200020], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn an_sev_guest_gets_the_hypercalls_error_and_its_page_stays_what_it_was_declared() {
    for (error, rax) in [("einval", -22i64), ("enosys", -1000)] {
        let mut machine = Machine::new(&failing(Sev, &format!("map-gpa-range:error={error}"))).unwrap();
        boot(&mut machine, map_gpa_range(), &[]);
        machine.memory().write(RESULT + 8, &PLAYGROUND.to_le_bytes()).unwrap();
        pass(&mut machine);
        assert_eq!(result(&machine, 4), rax.cast_unsigned());
        assert_eq!(machine.memory().declared(PLAYGROUND), Some(Private));
        assert_eq!(refusals(&machine), [(1, 1, 0, error)]);
    }
}

#[test]
fn a_hyper_v_guest_is_told_how_many_pages_became_visible() {
    let mut script = Script::new();
    script.enable_call_page();
    let call = script.visibility(&[PLAYGROUND, PLAYGROUND + PAGE_SIZE], true);
    let mut machine = script.machine(&failing(Vbs, "host-visibility:error=access-denied,done=1"), &[]);
    pass(&mut machine);
    assert_eq!(value(&machine, call), 6 | 1 << 32);
    let state = |page: u64| machine.memory().state(PLAYGROUND + page * PAGE_SIZE);
    assert_eq!((state(0), state(1)), (Some(PageState::Shared), Some(PageState::Private)));
}

#[test]
fn a_guest_that_is_restored_meets_the_same_refusal_again() {
    let mut script = Script::new();
    let first = script.map_gpa(PLAYGROUND | bit(Tdx), PAGE_SIZE);
    script.stop(2);
    let second = script.map_gpa((PLAYGROUND + PAGE_SIZE) | bit(Tdx), PAGE_SIZE);
    let mut machine = script.machine(&failing(Tdx, "map-gpa:nth=2"), &[]);
    run(&mut machine);
    assert_eq!(registers(&machine, first).r10, 0);
    let saved = machine.save().unwrap();
    for _ in 0..2 {
        pass(&mut machine);
        assert_eq!(registers(&machine, second).r10, OPERAND_INVALID);
        assert_eq!(machine.memory().state(PLAYGROUND + PAGE_SIZE), Some(PageState::Private));
        machine.restore(&saved).unwrap();
    }
    assert_eq!(refusals(&machine).len(), 2);
}

#[test]
fn a_shared_page_whose_conversion_was_refused_is_found_at_its_next_use_and_only_there() {
    let next = PLAYGROUND + PAGE_SIZE;
    let mut script = Script::new();
    script.map_gpa(PLAYGROUND | bit(Tdx), 2 * PAGE_SIZE);
    script.store(ALIAS, 7);
    let refused = script.map_gpa(PLAYGROUND, PAGE_SIZE);
    script.store(ALIAS + PAGE_SIZE, 9);
    script.stop(2);
    let load = script.load(ALIAS);
    let again = script.load(ALIAS);
    let mut machine =
        script.machine(&failing(Tdx, "map-gpa:to=private,nth=1"), &[(Shared, PLAYGROUND), (Shared, next)]);
    run(&mut machine);
    assert_eq!(registers(&machine, refused).r10, OPERAND_INVALID);
    assert_eq!(recorded(&machine), [], "the other page may be used");
    // The VMM and devices see its contents.
    assert_eq!(seen::<8>(&machine, Shared, PLAYGROUND), 7u64.to_le_bytes());
    let saved = machine.save().unwrap();
    for count in 1..=2 {
        pass(&mut machine);
        assert_eq!([load, again].map(|step| value(&machine, step)), [7; 2]);
        assert_eq!(machine.events().len(), count, "{}", script::account(&machine));
        let event = &machine.events().all()[count - 1];
        assert_eq!((event.gpa, event.view, event.state), (PLAYGROUND, Shared, AccessTarget::Refused));
        assert_eq!(machine.memory().state(PLAYGROUND), Some(PageState::Shared));
        machine.restore(&saved).unwrap();
    }
}

#[test]
fn a_page_that_is_converted_after_all_may_be_used() {
    let mut script = Script::new();
    script.map_gpa(PLAYGROUND | bit(Tdx), PAGE_SIZE);
    script.map_gpa(PLAYGROUND, PAGE_SIZE);
    script.map_gpa(PLAYGROUND, PAGE_SIZE);
    script.accept(PLAYGROUND, 0);
    script.store(PLAYGROUND, 5);
    let mut machine = script.machine(&failing(Tdx, "map-gpa:to=private,nth=1,error=retry"), &[]);
    pass(&mut machine);
    assert_eq!(recorded(&machine), []);
    assert_eq!(seen::<8>(&machine, Private, PLAYGROUND), 5u64.to_le_bytes());
}
