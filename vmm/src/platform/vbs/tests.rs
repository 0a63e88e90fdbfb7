// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;
use types::PageState;

use super::*;
use crate::layout::{BAR32, HIGH_RAM, VGA};
use crate::platform::services::fake::Fake;

const BIT: u8 = 46;
const LIST: u64 = 0x10_0000;
const PAGE: u64 = 0x40_0000;
const HIDDEN: u64 = 0;
const VISIBLE: u64 = 3;

fn vbs() -> (Vbs, Fake) {
    (Vbs::new(BIT, Mode::Faithful), Fake::new(Architecture::Vbs))
}

/// Enters the hypercall page; gives status and pages done.
fn enter(fake: &mut Fake, rcx: u64, rdx: u64) -> (u64, u64) {
    let mut regs = kvm_regs { rcx, rdx, rax: 77, ..Default::default() };
    assert_eq!(vbs().0.page_call(&mut regs, fake), Next::Resume);
    (regs.rax & 0xffff, regs.rax >> REPS_SHIFT)
}

fn put(fake: &Fake, at: u64, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    fake.memory.write(at, &bytes).unwrap();
}

/// Visibility of pages, from the `first` on.
fn modify(fake: &mut Fake, visibility: u64, pages: &[u64], first: u64) -> (u64, u64) {
    let numbers = pages.iter().map(|gpa| gpa / PAGE_SIZE);
    put(fake, LIST, &[PARTITION_SELF, visibility].into_iter().chain(numbers).collect::<Vec<_>>());
    let count = pages.len() as u64;
    enter(fake, CALL_MODIFY_HOST_VISIBILITY | count << REPS_SHIFT | first << REP_START_SHIFT, LIST)
}

#[test]
fn pages_become_visible_and_hidden_again_and_lose_their_contents_each_time() {
    let (_, mut fake) = vbs();
    fake.memory.write(PAGE, &[7; 8]).unwrap();
    let pages = [PAGE, HIGH_RAM, PAGE + PAGE_SIZE];
    assert_eq!(modify(&mut fake, VISIBLE, &pages, 0), (0, 3));
    assert!(pages.iter().all(|gpa| fake.memory.state(*gpa) == Some(PageState::Shared)));
    assert_eq!(modify(&mut fake, HIDDEN, &pages, 1), (0, 3), "all but the first");
    let states = pages.map(|gpa| fake.memory.state(gpa));
    assert_eq!(states, [PageState::Shared, PageState::Private, PageState::Private].map(Some));
    modify(&mut fake, HIDDEN, &pages, 0);
    let mut bytes = [1; 8];
    fake.memory.read(View::Private, PAGE, &mut bytes).unwrap();
    assert_eq!((bytes, &fake.bad_calls[..]), ([0; 8], &[][..]));
}

#[test]
fn the_first_page_that_is_none_ends_the_list_and_the_count_shows_where() {
    for none in [VGA, BAR32, 1 << BIT, !0xfff] {
        let (_, mut fake) = vbs();
        let found = modify(&mut fake, VISIBLE, &[PAGE, none, PAGE + PAGE_SIZE], 0);
        assert_eq!(found, (STATUS_INVALID_PARAMETER, 1), "{none:#x}");
        assert_eq!(fake.memory.state(PAGE), Some(PageState::Shared));
        assert_eq!(fake.memory.state(PAGE + PAGE_SIZE), Some(PageState::Private));
        assert_eq!(fake.bad_calls.len(), 1);
    }
}

#[test]
fn a_malformed_call_is_refused_and_reported_and_does_nothing() {
    let (_, mut fake) = vbs();
    let call =
        |reps: u64, first: u64| CALL_MODIFY_HOST_VISIBILITY | reps << REPS_SHIFT | first << REP_START_SHIFT;
    put(&fake, LIST, &[PARTITION_SELF, VISIBLE, PAGE / PAGE_SIZE]);
    put(&fake, LIST + PAGE_SIZE, &[PARTITION_SELF, 1, PAGE / PAGE_SIZE]);
    put(&fake, LIST + 2 * PAGE_SIZE, &[1, VISIBLE, PAGE / PAGE_SIZE]);
    let cases = [
        (call(1, 0), LIST + 4, STATUS_INVALID_ALIGNMENT),
        (call(1, 2), LIST, STATUS_INVALID_ALIGNMENT),
        (call(511, 0), LIST, STATUS_INVALID_ALIGNMENT),
        (call(0xfff, 0), LIST, STATUS_INVALID_ALIGNMENT),
        (call(510, 0), LIST + 8, STATUS_INVALID_ALIGNMENT),
        (call(1, 0), u64::MAX - 7, STATUS_INVALID_ALIGNMENT),
        (call(1, 0), BAR32, STATUS_INVALID_PARAMETER),
        (call(1, 0), VGA, STATUS_INVALID_PARAMETER),
        (call(1, 0), LIST + PAGE_SIZE, STATUS_INVALID_PARAMETER),
        (call(1, 0), LIST + 2 * PAGE_SIZE, STATUS_INVALID_PARAMETER),
        (0x5c, LIST, STATUS_INVALID_CODE),
    ];
    for (rcx, rdx, status) in cases {
        assert_eq!(enter(&mut fake, rcx, rdx), (status, 0), "{rcx:#x} {rdx:#x}");
    }
    assert_eq!(fake.bad_calls.len(), cases.len());
    assert_eq!(enter(&mut fake, call(1, 0) | INPUT_FAST, LIST), (STATUS_INVALID_INPUT, 0));
    assert_eq!(fake.memory.counters().conversions, 0);
    assert_eq!(enter(&mut fake, call(0, 0), LIST), (STATUS_SUCCESS, 0), "nothing to do is no mistake");
}

#[test]
fn a_list_the_host_could_see_is_not_read() {
    let (_, mut fake) = vbs();
    fake.memory.apply(LIST, 1, Cause::MakeShared).unwrap();
    fake.memory.store(View::Shared, LIST, &u64::MAX.to_le_bytes()).unwrap();
    let call = CALL_MODIFY_HOST_VISIBILITY | 1 << REPS_SHIFT;
    assert_eq!(enter(&mut fake, call, LIST), (STATUS_INVALID_PARAMETER, 0));
}

#[test]
fn the_hypercall_page_is_written_when_it_is_enabled_and_only_into_memory() {
    let (mut platform, fake) = vbs();
    assert_eq!(platform.hypercall_page(), None);
    assert_eq!(platform.write_msr(VcpuId::BOOT, MSR_HYPERCALL, PAGE, &fake.memory), Some(()));
    assert_eq!(
        (platform.hypercall_page(), platform.read_msr(VcpuId::BOOT, MSR_HYPERCALL)),
        (None, Some(PAGE))
    );
    for none in [BAR32, VGA, 1 << BIT, !0xfff] {
        assert_eq!(
            platform.write_msr(VcpuId::BOOT, MSR_HYPERCALL, none | HYPERCALL_ENABLE, &fake.memory),
            None,
            "{none:#x}"
        );
        assert_eq!(
            platform.read_msr(VcpuId::BOOT, MSR_HYPERCALL),
            Some(PAGE),
            "a write that faults leaves all as it was"
        );
    }
    assert_eq!(
        platform.write_msr(VcpuId::BOOT, MSR_HYPERCALL, PAGE | HYPERCALL_ENABLE, &fake.memory),
        Some(())
    );
    assert_eq!(platform.hypercall_page(), Some(PAGE));
    let mut code = [0; 3];
    fake.memory.read(View::Private, PAGE, &mut code).unwrap();
    assert_eq!(code, [0xe7, 0xf5, 0xc3]);
    assert_eq!(platform.write_msr(VcpuId::BOOT, MSR_GUEST_OS_ID, 9, &fake.memory), Some(()));
    assert_eq!(
        (platform.read_msr(VcpuId::BOOT, MSR_GUEST_OS_ID), platform.read_msr(VcpuId::BOOT, 0x4000_0073)),
        (Some(9), Some(0))
    );
}

fn page_number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0u64..0x8100, 0xf_fff0u64..0x10_4010, Just(u64::MAX)]
}

fn input() -> impl Strategy<Value = u64> {
    let near = (0u64..0x1000).prop_map(|at| LIST + at * 8);
    prop_oneof![any::<u64>(), Just(LIST), near, Just(BAR32), Just(!7u64)]
}

proptest! {
    #[test]
    fn whatever_a_guest_calls_every_page_is_private_or_shared(
        calls in prop::collection::vec((any::<u64>(), 0u64..600, 0u64..4, input(), any::<bool>()), 1..8),
        head in (prop_oneof![Just(PARTITION_SELF), any::<u64>()], prop_oneof![Just(VISIBLE), Just(HIDDEN), any::<u64>()]),
        list in prop::collection::vec(page_number(), 0..510),
    ) {
        let (_, mut fake) = vbs();
        let words: Vec<u64> = [head.0, head.1].into_iter().chain(list).collect();
        put(&fake, LIST, &words);
        for (any, reps, first, rdx, arbitrary) in calls {
            let good = CALL_MODIFY_HOST_VISIBILITY | reps << REPS_SHIFT | first << REP_START_SHIFT;
            let (status, done) = enter(&mut fake, if arbitrary { any } else { good }, rdx);
            prop_assert!(status <= STATUS_INVALID_PARAMETER && done <= MAX_LIST);
            prop_assert!(fake.memory.take_failure().is_none());
        }
        prop_assert_eq!(fake.memory.unaccepted(), 0);
        for (start, len) in fake.memory.ram().backed() {
            for gpa in (start..start + len).step_by(PAGE_SIZE as usize) {
                prop_assert!(fake.memory.state(gpa).is_some_and(|state| state != PageState::Unaccepted));
            }
        }
    }
}

#[test]
fn a_refused_call_makes_visible_the_pages_it_counts() {
    for (rule, status, done) in [
        ("host-visibility:nth=1", STATUS_INVALID_PARAMETER, 0),
        ("host-visibility:nth=1,error=access-denied,done=1", 6, 1),
        ("host-visibility:nth=1,error=insufficient-memory,done=9", 11, 2),
    ] {
        let mut fake = Fake::failing(Architecture::Vbs, &[rule]);
        let pages = [PAGE, HIGH_RAM, PAGE + PAGE_SIZE];
        assert_eq!(modify(&mut fake, VISIBLE, &pages, 0), (status, done), "{rule}");
        let state = |place: usize| if place < done as usize { PageState::Shared } else { PageState::Private };
        assert!((0..3).all(|place| fake.memory.state(pages[place]) == Some(state(place))), "{rule}");
        // Linux makes the rest of a rep hypercall from the count on (`mshyperv.h:hv_do_rep_hypercall`).
        assert_eq!(modify(&mut fake, VISIBLE, &pages, done), (0, 3));
    }
}
