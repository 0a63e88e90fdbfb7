// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;
use types::PageState;

use super::leaf::{answer, field, status, tdcall, vmcall as sub};
use super::vmcall::MAP_GPA_AT_ONCE;
use super::*;
use crate::layout::{self, LARGE_PAGE_SIZE, PAGE_SIZE};
use crate::memory::protected::Cause;
use crate::platform::services::fake::{Fake, NO_MSR};

const BIT: u8 = 46;
const SHARED: u64 = 1 << BIT;
const CHUNK: u64 = 0x40_0000;
const RCX_INVALID: u64 = status::OPERAND_INVALID | status::operand::RCX;
const TOO_LARGE: u64 = status::PAGE_SIZE_MISMATCH | status::operand::RCX;

fn td() -> (Tdx, Fake) {
    (Tdx::new(BIT, Mode::Faithful, true), Fake::new(Architecture::Tdx))
}

fn call(td: &mut Tdx, fake: &mut Fake, mut regs: kvm_regs) -> kvm_regs {
    assert_eq!(td.instruction(Opcode::Tdcall, &mut regs, fake), Next::Resume);
    regs
}

fn tdcall(fake: &mut Fake, regs: kvm_regs) -> kvm_regs {
    call(&mut td().0, fake, regs)
}

/// One sub-function with R12 to R15.
fn vmcall(fake: &mut Fake, r11: u64, [r12, r13, r14, r15]: [u64; 4]) -> kvm_regs {
    let regs = tdcall(fake, kvm_regs { r11, r12, r13, r14, r15, ..Default::default() });
    assert_eq!(regs.rax, status::SUCCESS);
    regs
}

fn accept(fake: &mut Fake, rcx: u64) -> u64 {
    tdcall(fake, kvm_regs { rax: tdcall::MEM_PAGE_ACCEPT, rcx, ..Default::default() }).rax
}

fn states(fake: &Fake, gpa: u64, pages: u64, state: PageState) -> bool {
    (0..pages).all(|page| fake.memory.state(gpa + PAGE_SIZE * page) == Some(state))
}

#[test]
fn a_td_learns_its_width_attributes_and_that_it_is_alone() {
    for (disable, attributes) in [(true, 1 << 28), (false, 1)] {
        let (_, mut fake) = td();
        let mut td = Tdx::new(BIT, Mode::Faithful, disable);
        let regs = call(&mut td, &mut fake, kvm_regs { rax: tdcall::VP_INFO, ..Default::default() });
        assert_eq!((regs.rax, regs.rcx, regs.rdx), (0, u64::from(BIT) + 1, attributes));
        assert_eq!((regs.r8, regs.r9), (1 << 32 | 1, 0));
    }
}

#[test]
fn an_unknown_leaf_is_refused_and_reported_and_the_version_does_not_matter() {
    let (mut td, mut fake) = td();
    for rax in [2, 9, 0xffff, 1 << 24, u64::MAX] {
        let regs = call(&mut td, &mut fake, kvm_regs { rax, ..Default::default() });
        assert_eq!(regs.rax, status::OPERAND_INVALID, "{rax:#x}");
    }
    assert_eq!(fake.bad_calls.len(), 5);
    let regs = call(&mut td, &mut fake, kvm_regs { rax: 1 << 16 | tdcall::VP_INFO, ..Default::default() });
    assert_eq!(regs.rax, 0);
    let regs = call(&mut td, &mut fake, kvm_regs { rax: tdcall::VP_CPUIDVE_SET, ..Default::default() });
    assert_eq!(regs.rax, 0);
}

#[test]
fn fields_are_read_and_one_of_them_written_under_a_mask() {
    let (mut td, mut fake) = td();
    let mut access = |rax, rdx, r8, r9| {
        let regs = call(&mut td, &mut fake, kvm_regs { rax, rdx, r8, r9, ..Default::default() });
        (regs.rax, regs.r8)
    };
    for known in [field::CONFIG_FLAGS, field::TD_CTLS, field::TOPOLOGY_ENUM] {
        assert_eq!(access(tdcall::VM_RD, known, 9, 0), (0, 0));
        assert_eq!(access(tdcall::VM_WR, known, 9, !0), (status::METADATA_FIELD_NOT_WRITABLE, 9));
    }
    assert_eq!(access(tdcall::VM_RD, 77, 9, 0), (status::METADATA_FIELD_ID_INCORRECT, 9));
    assert_eq!(access(tdcall::VM_WR, 77, 9, !0), (status::METADATA_FIELD_ID_INCORRECT, 9));
    assert_eq!(access(tdcall::VM_WR, field::NOTIFY_ENABLES, 0b11, 0b01), (0, 0));
    assert_eq!(access(tdcall::VM_WR, field::NOTIFY_ENABLES, 0b10, 0b10), (0, 0b01));
    assert_eq!(access(tdcall::VM_RD, field::NOTIFY_ENABLES, 9, 0), (0, 0b11));
}

fn violation(kind: AccessKind) -> Mismatch {
    Mismatch { gpa: CHUNK, view: View::Private, state: PageState::Unaccepted, kind, refused: false }
}

#[test]
fn ve_information_is_returned_once_and_a_second_ve_before_that_is_the_end() {
    let (mut td, mut fake) = (Tdx::new(BIT, Mode::Faithful, false), td().1);
    let veinfo_get = kvm_regs { rax: tdcall::VP_VEINFO_GET, rcx: 1, ..Default::default() };
    let end = Consequence::End(Termination::SeptViolation { gpa: CHUNK });
    for (kind, qualification) in [(AccessKind::Read, 1), (AccessKind::Write, 2), (AccessKind::Fetch, 4)] {
        let raised = td.denied(&violation(kind), 0x1234, true);
        assert!(matches!(raised, Consequence::Exception(Exception { vector: 20, error_code: None, .. })));
        assert_eq!(td.denied(&violation(AccessKind::Read), 0x5678, true), end);
        let regs = call(&mut td, &mut fake, veinfo_get);
        assert_eq!((regs.rax, regs.rcx, regs.rdx, regs.r8, regs.r9), (0, 48, qualification, 0x1234, CHUNK));
        let regs = call(&mut td, &mut fake, veinfo_get);
        assert_eq!((regs.rax, regs.rcx), (status::NO_VALID_VE_INFO, 1));
    }
    assert_eq!(self::td().0.denied(&violation(AccessKind::Read), 0, true), end);
    let nowhere = Consequence::End(Termination::NoMemory { gpa: layout::BAR32 });
    assert_eq!(td.private_device(layout::BAR32), nowhere);
}

#[test]
fn a_page_is_accepted_once_with_zeros_in_it() {
    let (_, mut fake) = td();
    assert_eq!(accept(&mut fake, CHUNK), status::PAGE_ALREADY_ACCEPTED);
    fake.memory.write(CHUNK, &[7; 16]).unwrap();
    fake.memory.launch_as(CHUNK, LARGE_PAGE_SIZE, PageState::Unaccepted).unwrap();
    // The large entry is split for one page.
    assert_eq!(accept(&mut fake, CHUNK), status::SUCCESS);
    assert!(states(&fake, CHUNK, 1, PageState::Private));
    assert!(states(&fake, CHUNK + PAGE_SIZE, 511, PageState::Unaccepted));
    let mut bytes = [1; 16];
    fake.memory.read(View::Private, CHUNK, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 16]);
    assert_eq!(accept(&mut fake, CHUNK), status::PAGE_ALREADY_ACCEPTED);
    assert_eq!(accept(&mut fake, (CHUNK + LARGE_PAGE_SIZE) | 1), TOO_LARGE, "the entries are 4 KiB");
    assert_eq!((fake.memory.counters().smashed, fake.bad_calls.len()), (1, 2));
}

#[test]
fn two_mib_are_accepted_where_there_is_one_entry_and_never_in_part() {
    let (_, mut fake) = td();
    fake.memory.launch_as(CHUNK, LARGE_PAGE_SIZE, PageState::Unaccepted).unwrap();
    assert_eq!(accept(&mut fake, CHUNK | 1), status::SUCCESS);
    assert!(states(&fake, CHUNK, 512, PageState::Private));
    assert_eq!(accept(&mut fake, CHUNK | 1), status::PAGE_ALREADY_ACCEPTED);
    // Entries of 4 KiB: Linux goes on with those.
    fake.memory.launch_as(CHUNK, LARGE_PAGE_SIZE, PageState::Unaccepted).unwrap();
    fake.memory.smash(CHUNK + PAGE_SIZE);
    assert_eq!(accept(&mut fake, CHUNK | 1), TOO_LARGE);
    assert!(states(&fake, CHUNK, 512, PageState::Unaccepted));
    assert_eq!(accept(&mut fake, 2), TOO_LARGE, "1 GiB");
}

#[test]
fn accepting_shared_pages_makes_the_hypervisor_convert_them_and_is_reported() {
    let (_, mut fake) = td();
    fake.memory.launch_as(CHUNK, LARGE_PAGE_SIZE, PageState::Shared).unwrap();
    assert_eq!(accept(&mut fake, CHUNK), status::SUCCESS);
    assert_eq!(accept(&mut fake, (CHUNK + LARGE_PAGE_SIZE) | 1), TOO_LARGE);
    fake.memory.launch_as(CHUNK + LARGE_PAGE_SIZE, LARGE_PAGE_SIZE, PageState::Shared).unwrap();
    assert_eq!(accept(&mut fake, (CHUNK + LARGE_PAGE_SIZE) | 1), status::SUCCESS);
    assert!(states(&fake, CHUNK + LARGE_PAGE_SIZE, 512, PageState::Private));
    assert!(states(&fake, CHUNK + PAGE_SIZE, 511, PageState::Shared));
    assert_eq!(fake.bad_calls.len(), 2);
    assert!(fake.bad_calls[1].1.contains("512 of 512"), "{:?}", fake.bad_calls);
    assert_eq!(fake.memory.counters().mismatches, 513);
}

#[test]
fn an_operand_that_is_no_page_is_refused_and_device_space_is_the_end() {
    let (mut td, mut fake) = td();
    for rcx in [3, 7, 8, 0x800, CHUNK | PAGE_SIZE | 1, CHUNK | 2, SHARED, SHARED | CHUNK, u64::MAX, !0xfff] {
        assert_eq!(accept(&mut fake, rcx), RCX_INVALID, "{rcx:#x}");
    }
    assert_eq!(fake.bad_calls.len(), 10);
    for gpa in [layout::VGA, layout::BAR32, layout::BAR64, SHARED - PAGE_SIZE, fake.memory.ram().low_end()] {
        let mut regs = kvm_regs { rax: tdcall::MEM_PAGE_ACCEPT, rcx: gpa, ..Default::default() };
        let next = td.instruction(Opcode::Tdcall, &mut regs, &mut fake);
        assert_eq!(next, Next::End(Termination::NoMemory { gpa }));
    }
    assert!(states(&fake, CHUNK, 512, PageState::Private));
}

#[test]
fn a_report_needs_private_aligned_memory_at_both_ends() {
    let (_, mut fake) = td();
    fake.memory.write(CHUNK + 0x1040, &[9; 64]).unwrap();
    fake.memory.launch_as(0, PAGE_SIZE, PageState::Shared).unwrap();
    fake.memory.launch_as(PAGE_SIZE, PAGE_SIZE, PageState::Unaccepted).unwrap();
    let mut report = |rcx, rdx, r8| {
        tdcall(&mut fake, kvm_regs { rax: tdcall::MR_REPORT, rcx, rdx, r8, ..Default::default() }).rax
    };
    assert_eq!(report(CHUNK + 0x400, CHUNK + 0x1040, 0), status::SUCCESS);
    let data = CHUNK + 0x1040;
    for rcx in [CHUNK + 0x200, 0, PAGE_SIZE, layout::BAR32, SHARED | CHUNK, !0x3ff] {
        assert_eq!(report(rcx, data, 0), status::OPERAND_INVALID | 1, "{rcx:#x}");
    }
    for rdx in [data + 8, 0, PAGE_SIZE, layout::VGA, !0x3f] {
        assert_eq!(report(CHUNK, rdx, 0), status::OPERAND_INVALID | 2, "{rdx:#x}");
    }
    assert_eq!(report(CHUNK, data, 1), status::OPERAND_INVALID | 8);
    let mut bytes = [0; 64];
    fake.memory.read(View::Private, CHUNK + 0x400 + 128, &mut bytes).unwrap();
    assert_eq!((bytes, fake.bad_calls.len()), ([9; 64], 12));
}

#[test]
fn the_hypervisor_answers_what_would_have_been_exits() {
    let (_, mut fake) = td();
    let regs = vmcall(&mut fake, sub::CPUID, [7, 1, 0, 0]);
    assert_eq!((regs.r10, regs.r12, regs.r13, regs.r14, regs.r15), (0, 7, 1, 3, 4));
    let regs = vmcall(&mut fake, sub::RDMSR, [0x1b, 0, 0, 0]);
    assert_eq!((regs.r10, regs.r11), (0, 0x1b << 32 | 5));
    assert_eq!(vmcall(&mut fake, sub::RDMSR, [NO_MSR.into(), 0, 0, 0]).r10, answer::OPERAND_INVALID);
    assert_eq!(vmcall(&mut fake, sub::WRMSR, [0x1b, 8, 0, 0]).r10, 0);
    assert_eq!(vmcall(&mut fake, sub::WRMSR, [NO_MSR.into(), 8, 0, 0]).r10, answer::OPERAND_INVALID);
    assert_eq!(fake.msrs, [(0x1b, 8), (NO_MSR, 8)]);
    assert_eq!(vmcall(&mut fake, sub::IO, [2, 0, 0x71, 0]).r11, 0x7102);
    assert_eq!(vmcall(&mut fake, sub::IO, [1, 1, 0x3f8, 0x141]).r10, 0);
    assert_eq!(fake.outs, [(0x3f8, 1, 0x141)]);
    for bad in [[3, 0, 0x71, 0], [8, 0, 0x71, 0], [1, 0, 0x1_0000, 0], [1, 2, 0x71, 0]] {
        assert_eq!(vmcall(&mut fake, sub::IO, bad).r10, answer::OPERAND_INVALID);
    }
    let regs = vmcall(&mut fake, sub::INFO, [1, 1, 1, 1]);
    assert_eq!((regs.r10, regs.r11, regs.r12, regs.r13, regs.r14), (0, 0, 0, 0, 0));
    for quiet in [sub::HLT, sub::WBINVD, sub::SETUP_EVENT_NOTIFY] {
        assert_eq!(vmcall(&mut fake, quiet, [0; 4]).r10, 0);
    }
    assert_eq!(fake.idles, 1);
    for refused in [sub::GET_QUOTE, 5, u64::MAX] {
        assert_eq!(vmcall(&mut fake, refused, [0; 4]).r10, answer::OPERAND_INVALID);
    }
    let regs = tdcall(&mut fake, kvm_regs { r10: 11, r11: sub::MAP_GPA, ..Default::default() });
    assert_eq!((regs.rax, regs.r10), (0, crate::platform::plain::KVM_ENOSYS));
}

#[test]
fn device_memory_is_reached_by_address_and_ram_is_not() {
    let (mut fake, device) = (td().1, layout::BAR32 | SHARED);
    let regs = vmcall(&mut fake, sub::REQUEST_MMIO, [4, 0, device, 0]);
    assert_eq!((regs.r10, regs.r11), (0, 0xd7d7_d7d7));
    assert_eq!(vmcall(&mut fake, sub::REQUEST_MMIO, [2, 1, device + 6, 0x1234_5678]).r10, 0);
    assert_eq!(fake.stores, [(layout::BAR32 + 6, vec![0x78, 0x56])]);
    let refused = [
        [0, 0, device, 0],
        [3, 0, device, 0],
        [16, 0, device, 0],
        [8, 2, device, 0],
        [8, 0, CHUNK, 0],
        [8, 0, SHARED << 1, 0],
        [u64::MAX, 0, device, 0],
    ];
    for operands in refused {
        let regs = vmcall(&mut fake, sub::REQUEST_MMIO, operands);
        assert_eq!((regs.r10, regs.r11), (answer::OPERAND_INVALID, sub::REQUEST_MMIO), "{operands:?}");
    }
    assert_eq!(fake.bad_calls.len(), refused.len());
}

#[test]
fn a_long_conversion_is_done_in_parts_and_each_answer_holds_the_next_address() {
    let (_, mut fake) = td();
    let (start, end) = (layout::HIGH_MEMORY, fake.memory.ram().low_end());
    let (mut r12, mut rounds) = (start | SHARED, 0);
    loop {
        let regs = vmcall(&mut fake, sub::MAP_GPA, [r12, end - (r12 & !SHARED), 0, 0]);
        rounds += 1;
        if regs.r10 == answer::SUCCESS {
            break;
        }
        assert_eq!((regs.r10, regs.r11), (answer::RETRY, r12 + MAP_GPA_AT_ONCE));
        r12 = regs.r11;
    }
    assert_eq!(rounds, (end - start).div_ceil(MAP_GPA_AT_ONCE));
    assert!(states(&fake, start, (end - start) / PAGE_SIZE, PageState::Shared));
    assert!(states(&fake, 0, layout::VGA / PAGE_SIZE, PageState::Private));
    assert_eq!(vmcall(&mut fake, sub::MAP_GPA, [start, PAGE_SIZE, 0, 0]).r10, 0);
    assert!(states(&fake, start, 1, PageState::Unaccepted));
    assert_eq!(fake.bad_calls, []);
}

#[test]
fn a_range_that_is_none_is_refused_and_nothing_is_converted() {
    let (_, mut fake) = td();
    let low_end = fake.memory.ram().low_end();
    let cases = [
        (CHUNK + 1, PAGE_SIZE, answer::ALIGN_ERROR, CHUNK + 1),
        (CHUNK | SHARED, PAGE_SIZE - 1, answer::ALIGN_ERROR, CHUNK | SHARED),
        (CHUNK, 0, answer::OPERAND_INVALID, CHUNK),
        (CHUNK | SHARED, SHARED, answer::OPERAND_INVALID, CHUNK | SHARED),
        (CHUNK, !0xfff, answer::OPERAND_INVALID, CHUNK),
        (SHARED << 1 | CHUNK, PAGE_SIZE, answer::OPERAND_INVALID, SHARED << 1 | CHUNK),
        (!0xfff, PAGE_SIZE, answer::OPERAND_INVALID, !0xfff),
        // No memory to make private: R11 is its address.
        (layout::BAR32, PAGE_SIZE, answer::OPERAND_INVALID, layout::BAR32),
        (0, layout::HIGH_MEMORY, answer::OPERAND_INVALID, layout::VGA),
        (low_end - PAGE_SIZE, 2 * PAGE_SIZE, answer::OPERAND_INVALID, low_end),
        (CHUNK, SHARED - CHUNK, answer::OPERAND_INVALID, low_end),
        (layout::HIGH_RAM - PAGE_SIZE, 2 * PAGE_SIZE, answer::OPERAND_INVALID, layout::HIGH_RAM - PAGE_SIZE),
    ];
    for (r12, r13, r10, r11) in cases {
        let regs = vmcall(&mut fake, sub::MAP_GPA, [r12, r13, 0, 0]);
        assert_eq!((regs.r10, regs.r11), (r10, r11), "{r12:#x} + {r13:#x}");
    }
    assert_eq!((fake.bad_calls.len(), fake.memory.counters().conversions), (cases.len(), 0));
    // Device space may well be shared.
    assert_eq!(vmcall(&mut fake, sub::MAP_GPA, [layout::BAR32 | SHARED, PAGE_SIZE, 0, 0]).r10, 0);
    assert_eq!((fake.bad_calls.len(), fake.memory.counters().conversions), (cases.len(), 0));
}

#[test]
fn a_td_reports_a_fatal_error_in_sixty_four_bytes() {
    let (mut td, mut fake) = td();
    let text = *b"0123456789 abcdefghijklmnopqrstuvwxyz\x01ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| text[8 * at + i]));
    let mut regs = kvm_regs {
        r11: sub::REPORT_FATAL_ERROR,
        r12: 5,
        r14: word(0),
        r15: word(1),
        rbx: word(2),
        rdi: word(3),
        rsi: word(4),
        r8: word(5),
        r9: word(6),
        rdx: word(7),
        ..Default::default()
    };
    let ended = |code, text: &str| Next::End(Termination::FatalError { code, text: text.into() });
    let whole = "0123456789 abcdefghijklmnopqrstuvwxyz.ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    assert_eq!(td.instruction(Opcode::Tdcall, &mut regs.clone(), &mut fake), ended(5, whole));
    regs.r15 = 0;
    assert_eq!(td.instruction(Opcode::Tdcall, &mut regs, &mut fake), ended(5, "01234567"));
}

fn word() -> impl Strategy<Value = u64> {
    let page =
        prop::sample::select(vec![0, 0x9f, 0xa0, 0xc0, 0x400, 0x401, 0x7fff, 0x8000, 0xe_0000, 0x10_0000]);
    prop_oneof![
        any::<u64>(),
        0u64..64,
        (page, 0u64..4, any::<bool>()).prop_map(|(p, low, s)| p << 12 | low | if s { SHARED } else { 0 }),
        (0u32..64).prop_map(|bit| 1 << bit),
        (0u32..64).prop_map(|bit| !0 << bit),
    ]
}

fn registers() -> impl Strategy<Value = kvm_regs> {
    let leaf = prop_oneof![Just(0), Just(0), Just(0), Just(6), Just(6), 0u64..10, word()];
    let function = prop_oneof![
        Just(sub::MAP_GPA),
        Just(sub::MAP_GPA),
        prop::sample::select(vec![10, 12, 30, 31, 32, 48, 54, 0x10000, 0x10002, 0x10003, 0x10004]),
        word()
    ];
    let others = prop::array::uniform12(word());
    (leaf, function, others, any::<bool>()).prop_map(|(rax, r11, o, own)| kvm_regs {
        rax,
        r11,
        r10: if own { o[0] } else { 0 },
        rcx: o[1],
        rdx: o[2],
        rbx: o[3],
        rsi: o[4],
        rdi: o[5],
        r8: o[6],
        r9: o[7],
        r12: o[8],
        r13: o[9],
        r14: o[10],
        r15: o[11],
        ..Default::default()
    })
}

proptest! {
    #[test]
    fn whatever_a_td_calls_every_page_has_a_state_and_no_others_bytes(
        calls in prop::collection::vec(registers(), 1..12),
    ) {
        let (mut td, mut fake) = td();
        fake.memory.launch_as(0x800_0000 - LARGE_PAGE_SIZE, LARGE_PAGE_SIZE, PageState::Unaccepted).unwrap();
        fake.memory.write(CHUNK, &[0x5a; 8192]).unwrap();
        for mut regs in calls {
            let (rsp, rip) = (regs.rsp, regs.rip);
            let _ = td.instruction(Opcode::Tdcall, &mut regs, &mut fake);
            prop_assert_eq!((regs.rsp, regs.rip), (rsp, rip));
            prop_assert!(fake.memory.take_failure().is_none());
        }
        let mut unaccepted = 0;
        for (start, len) in fake.memory.ram().backed() {
            for gpa in (start..start + len).step_by(PAGE_SIZE as usize) {
                let state = fake.memory.state(gpa);
                prop_assert!(state.is_some());
                unaccepted += u64::from(state == Some(PageState::Unaccepted)) * PAGE_SIZE;
            }
        }
        prop_assert_eq!(fake.memory.unaccepted(), unaccepted);
        let (mut shared, mut private) = ([0; 8], [0; 8]);
        fake.memory.read(View::Shared, CHUNK, &mut shared).unwrap();
        fake.memory.read(View::Private, CHUNK, &mut private).unwrap();
        prop_assert_ne!(shared, [0x5a; 8]);
        if private == [0x5a; 8] {
            prop_assert_eq!(fake.memory.apply(CHUNK, 1, Cause::Accept).unwrap().unchanged, 1);
        }
    }
}

proptest! {
    /// A refused `MapGPA` converts the pages it reports in R11 and no others, and the next call goes on from there.
    #[test]
    fn a_refused_map_gpa_converts_what_it_reports(
        pages in 1u64..40,
        done in 0u32..50,
        private: bool,
        error in prop::sample::select(vec!["invalid-operand", "in-use", "align-error", "retry"]),
    ) {
        let mut fake = Fake::failing(Architecture::Tdx, &[&format!("map-gpa:nth=1,error={error},done={done}")]);
        if private {
            fake.memory.apply(CHUNK, pages, Cause::MakeShared).unwrap();
        }
        let (before, after) =
            if private { (PageState::Shared, PageState::Unaccepted) } else { (PageState::Private, PageState::Shared) };
        let bit = if private { 0 } else { SHARED };
        let regs = vmcall(&mut fake, sub::MAP_GPA, [CHUNK | bit, pages * PAGE_SIZE, 0, 0]);
        prop_assert_ne!(regs.r10, answer::SUCCESS);
        let reached = regs.r11 & !SHARED;
        prop_assert_eq!(regs.r11 & SHARED, bit);
        let converted = (reached - CHUNK) / PAGE_SIZE;
        prop_assert_eq!(converted, u64::from(done).min(pages - 1));
        prop_assert!(states(&fake, CHUNK, converted, after));
        prop_assert!(states(&fake, reached, pages - converted, before));
        let rest = vmcall(&mut fake, sub::MAP_GPA, [reached | bit, (pages - converted) * PAGE_SIZE, 0, 0]);
        prop_assert_eq!(rest.r10, answer::SUCCESS);
        prop_assert!(states(&fake, CHUNK, pages, after));
        prop_assert!(fake.bad_calls.is_empty());
    }
}

#[test]
fn a_refused_accept_changes_nothing_and_a_call_the_module_refuses_anyway_is_not_counted() {
    for (error, value) in [
        ("operand-invalid", RCX_INVALID),
        ("operand-busy", 0x8000_0200_0000_0001),
        ("size-mismatch", TOO_LARGE),
    ] {
        let mut fake = Fake::failing(Architecture::Tdx, &[&format!("accept:nth=1,error={error}")]);
        fake.memory.launch_as(CHUNK, LARGE_PAGE_SIZE, PageState::Unaccepted).unwrap();
        assert_eq!(accept(&mut fake, CHUNK + LARGE_PAGE_SIZE), status::PAGE_ALREADY_ACCEPTED);
        fake.bad_calls.clear();
        assert_eq!(accept(&mut fake, CHUNK | 1), value);
        assert!(states(&fake, CHUNK, 512, PageState::Unaccepted));
        assert_eq!(accept(&mut fake, CHUNK | 1), 0);
        assert!(states(&fake, CHUNK, 512, PageState::Private));
        assert!(fake.bad_calls.is_empty());
    }
}
