// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;
use types::{Mode, PageState};

use super::super::bench::{Bench, C_BIT, PRIVATE};
use super::*;

/// A page, and a 2 MiB page, of low RAM.
const PAGE: u64 = 0x30_0000;
const LARGE: u64 = 0x100_0000;

type Instruction = fn(&Snp, &mut kvm_regs, &mut dyn Services) -> Next;

/// EAX and CF of the instruction.
fn run(bench: &mut Bench, instruction: Instruction, rax: u64, rcx: u64, rdx: u64) -> (u32, bool) {
    // All flags this instruction writes are set before.
    let mut regs = kvm_regs { rax, rcx, rdx, rbx: 3, rflags: 0x8d7, ..Default::default() };
    let next = instruction(&Snp::new(C_BIT, Mode::Faithful), &mut regs, bench);
    assert_eq!(next, Next::Resume);
    assert_eq!((regs.rbx, regs.rcx, regs.rdx, regs.rax >> 32), (3, rcx, rdx, 0));
    assert_eq!(regs.rflags & ZERO != 0, regs.rax == 0);
    assert_eq!(regs.rflags & (SIGN | OVERFLOW | ADJUST), 0);
    (regs.rax as u32, regs.rflags & CARRY != 0)
}

fn validate(bench: &mut Bench, address: u64, size: u64, validate: u64) -> (u32, bool) {
    run(bench, pvalidate, address, size, validate)
}

fn adjust(bench: &mut Bench, address: u64, size: u64, attributes: u64) -> u32 {
    run(bench, rmpadjust, address, size, attributes).0
}

#[test]
fn pvalidate_rescinds_and_validates_and_reports_when_nothing_changes() {
    let mut bench = Bench::new().unwrap();
    let page = PAGE | PRIVATE;
    assert_eq!(validate(&mut bench, page, 0, 0), (SUCCESS, false));
    assert_eq!(bench.memory.state(PAGE), Some(PageState::Unaccepted));
    assert_eq!(validate(&mut bench, page, 0, 1), (SUCCESS, false));
    assert_eq!(bench.memory.state(PAGE), Some(PageState::Private));
    assert_eq!(bench.bad_calls, []);
    assert_eq!(validate(&mut bench, page, 0, 1), (SUCCESS, true));
    assert_eq!(bench.bad_calls.len(), 1);
}

#[test]
fn two_mib_need_a_two_mib_entry_and_four_kib_split_it() {
    let mut bench = Bench::new().unwrap();
    let page = LARGE | PRIVATE;
    assert_eq!(validate(&mut bench, page, 1, 1), (FAIL_SIZEMISMATCH, false));
    bench.memory.launch_as(LARGE, LARGE_PAGE_SIZE, PageState::Unaccepted).unwrap();
    assert_eq!(validate(&mut bench, page, 1, 1), (SUCCESS, false));
    assert_eq!(bench.memory.state(LARGE + 0x1f_f000), Some(PageState::Private));
    assert!(bench.memory.is_large_entry(LARGE));
    assert_eq!(validate(&mut bench, page + PAGE_SIZE, 0, 0), (SUCCESS, false));
    assert_eq!(bench.memory.state(LARGE + PAGE_SIZE), Some(PageState::Unaccepted));
    assert!(!bench.memory.is_large_entry(LARGE));
    assert_eq!(validate(&mut bench, page, 1, 0), (FAIL_SIZEMISMATCH, false));
    assert_eq!(bench.bad_calls, []);
}

#[test]
fn a_shared_page_is_converted_first_and_that_is_reported() {
    for (cause, state, carry) in [(1, PageState::Private, false), (0, PageState::Unaccepted, true)] {
        let mut bench = Bench::new().unwrap();
        bench.memory.apply(PAGE, 1, Cause::MakeShared).unwrap();
        assert_eq!(validate(&mut bench, PAGE | PRIVATE, 0, cause), (SUCCESS, carry));
        assert_eq!(bench.memory.state(PAGE), Some(state));
        assert_eq!(bench.bad_calls.len(), 1);
    }
}

#[test]
fn invalid_operands_are_refused_and_reported_and_change_nothing() {
    for (address, size, validate_) in [
        (PAGE | PRIVATE | 8, 0, 0),
        (LARGE | PRIVATE | PAGE_SIZE, 1, 0),
        // Mapped shared.
        (PAGE, 0, 0),
    ] {
        let mut bench = Bench::new().unwrap();
        assert_eq!(validate(&mut bench, address, size, validate_), (FAIL_INPUT, false), "{address:#x}");
        assert_eq!(bench.bad_calls.len(), 1);
        assert_eq!(bench.memory.unaccepted(), 0);
    }
}

#[test]
fn only_bit_0_of_rcx_and_rdx_counts_for_pvalidate() {
    let mut bench = Bench::new().unwrap();
    assert_eq!(validate(&mut bench, PAGE | PRIVATE, !1, !1), (SUCCESS, false));
    assert_eq!(bench.memory.state(PAGE), Some(PageState::Unaccepted));
    assert_eq!(validate(&mut bench, PAGE | PRIVATE, !1, !0), (SUCCESS, false));
    assert_eq!(bench.memory.state(PAGE), Some(PageState::Private));
}

#[test]
fn memory_that_is_not_there_ends_the_guest() {
    for gpa in [0xa_0000, 0xe000_0000, 0x20_0000_0000] {
        for instruction in [pvalidate, rmpadjust] as [Instruction; 2] {
            let mut bench = Bench::new().unwrap();
            let mut regs = kvm_regs { rax: gpa | PRIVATE, rdx: 1, ..Default::default() };
            let next = instruction(&Snp::new(C_BIT, Mode::Faithful), &mut regs, &mut bench);
            assert_eq!(next, Next::End(Termination::NoMemory { gpa }));
            assert_eq!(bench.bad_calls.len(), 1);
        }
    }
}

#[test]
fn rmpadjust_shows_that_this_is_vmpl0() {
    let mut bench = Bench::new().unwrap();
    let page = PAGE | PRIVATE;
    // `svsm_setup_ca`: VMPL1, no rights.
    assert_eq!(adjust(&mut bench, page, 0, 1), SUCCESS);
    assert_eq!(adjust(&mut bench, page, 0, 3 | 0xff << 8 | 1 << 16), SUCCESS);
    assert_eq!(adjust(&mut bench, page, 0, 0), FAIL_PERMISSION);
    assert_eq!(adjust(&mut bench, LARGE | PRIVATE, 1, 1), FAIL_SIZEMISMATCH);
    assert_eq!(bench.bad_calls, []);
    assert_eq!(bench.memory.state(PAGE), Some(PageState::Private));
    for (address, size, attributes) in [
        (page, 0, 4),
        (page, 0, 1 << 17 | 1),
        (page, 0, 1 << 63 | 1),
        (page + PAGE_SIZE, 3, 1),
        (page | 1, 0, 1),
        (PAGE, 0, 1),
    ] {
        assert_eq!(adjust(&mut bench, address, size, attributes), FAIL_INPUT);
    }
    assert_eq!(bench.bad_calls.len(), 6);
}

fn faults(bench: &mut Bench, instruction: Instruction, rax: u64) -> Exception {
    let before = kvm_regs { rax, rdx: 1, rflags: 0x8d7, ..Default::default() };
    let mut regs = before;
    let next = instruction(&Snp::new(C_BIT, Mode::Faithful), &mut regs, bench);
    assert_eq!(regs, before);
    let Next::Fault(exception) = next else { panic!("{next:?}") };
    exception
}

#[test]
fn an_address_not_mapped_is_a_page_fault() {
    for instruction in [pvalidate, rmpadjust] as [Instruction; 2] {
        let mut bench = Bench::new().unwrap();
        let exception = faults(&mut bench, instruction, 1 << 50);
        assert_eq!(exception, Exception { vector: 14, error_code: Some(0), address: Some(1 << 50) });
        assert_eq!(bench.bad_calls, [], "Linux maps its direct map as it faults");
    }
}

#[test]
fn rmpadjust_of_a_page_not_validated_is_vc_and_a_shared_page_is_converted() {
    for (cause, implicit) in [(Cause::Rescind, 0), (Cause::MakeShared, 1)] {
        let mut bench = Bench::new().unwrap();
        bench.memory.apply(PAGE, 1, cause).unwrap();
        let exception = faults(&mut bench, rmpadjust, PAGE | PRIVATE);
        assert_eq!((exception.vector, exception.error_code), (29, Some(0x404)));
        assert_eq!(bench.bad_calls.len(), 1);
        assert_eq!(bench.memory.state(PAGE), Some(PageState::Unaccepted));
        assert_eq!(bench.memory.counters().mismatches, implicit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_registers_give_a_code_or_the_end(
        rax: u64, rcx: u64, rdx: u64, page in 0u64..0x1_0000, size in 0u64..3, small in 0u64..6,
    ) {
        let mut bench = Bench::new().unwrap();
        let snp = Snp::new(C_BIT, Mode::Faithful);
        for (rax, rcx, rdx) in [(rax, rcx, rdx), (page << 12 | PRIVATE, size, small), (page << 21 | PRIVATE, size, small)] {
            for instruction in [pvalidate, rmpadjust] as [Instruction; 2] {
                let mut regs = kvm_regs { rax, rcx, rdx, ..Default::default() };
                if instruction(&snp, &mut regs, &mut bench) == Next::Resume {
                    prop_assert!([SUCCESS, FAIL_INPUT, FAIL_PERMISSION, FAIL_SIZEMISMATCH].map(u64::from).contains(&regs.rax));
                }
            }
        }
        bench.check(3);
    }
}

#[test]
fn a_refused_pvalidate_changes_nothing() {
    for (error, expected) in [
        ("fail-input", (FAIL_INPUT, false)),
        ("size-mismatch", (FAIL_SIZEMISMATCH, false)),
        ("unchanged", (SUCCESS, true)),
    ] {
        let mut bench = Bench::new().unwrap();
        bench.fail(&[&format!("pvalidate:nth=2,error={error}")]);
        let page = PAGE | PRIVATE;
        assert_eq!(validate(&mut bench, page, 0, 0), (SUCCESS, false));
        assert_eq!(validate(&mut bench, page, 0, 1), expected, "{error}");
        assert_eq!(bench.memory.state(PAGE), Some(PageState::Unaccepted));
        assert_eq!(validate(&mut bench, page, 0, 1), (SUCCESS, false));
        assert_eq!(bench.memory.state(PAGE), Some(PageState::Private));
        assert_eq!(bench.bad_calls, []);
    }
}
