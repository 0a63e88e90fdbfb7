// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;
use types::PageState;

use super::super::bench::Bench;
use super::*;

const PRIVATE: u8 = OPERATION_PRIVATE;
const SHARED: u8 = OPERATION_SHARED;

fn entry(operation: u8, frame: u64, large: bool) -> Entry {
    Entry { done: 0, frame, operation, large }
}

/// A list as long as the shared buffer.
fn list(current: u16, end: u16, entries: &[Entry]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_SIZE + MAX_ENTRIES * ENTRY_SIZE];
    bytes[..2].copy_from_slice(&current.to_le_bytes());
    bytes[2..4].copy_from_slice(&end.to_le_bytes());
    for (place, entry) in bytes[HEADER_SIZE..].chunks_exact_mut(ENTRY_SIZE).zip(entries) {
        place.copy_from_slice(&entry.encode().to_le_bytes());
    }
    bytes
}

fn header(bytes: &[u8]) -> (u16, u16) {
    (u16::from_le_bytes([bytes[0], bytes[1]]), u16::from_le_bytes([bytes[2], bytes[3]]))
}

fn run(current: u16, end: u16, entries: &[Entry]) -> (Outcome, Vec<u8>, GuestMemory) {
    let memory = Bench::new().unwrap().memory;
    let mut bytes = list(current, end, entries);
    let (outcome, why) = process(&mut bytes, &memory, None);
    assert_eq!(why.is_some(), outcome != Outcome::Done);
    (outcome, bytes, memory)
}

#[test]
fn entries_are_encoded_as_linux_lays_them_out() {
    // struct psc_entry: cur_page 12, gfn 40, operation 4, pagesize 1, reserved 7.
    let value = Entry { done: 5, frame: 0x1a00, operation: 2, large: true }.encode();
    assert_eq!(value, 0x0120_0000_01a0_0005);
}

#[test]
fn a_list_is_processed_and_its_header_shows_it() {
    let (outcome, bytes, memory) =
        run(0, 2, &[entry(SHARED, 0x1000, true), entry(SHARED, 0x300, false), entry(PRIVATE, 0x1000, true)]);
    assert_eq!((outcome, header(&bytes)), (Outcome::Done, (3, 2)));
    assert_eq!(memory.state(0x30_0000), Some(PageState::Shared));
    assert_eq!(memory.state(0x11f_f000), Some(PageState::Unaccepted));
    assert!(memory.is_large_entry(0x100_0000));
    assert_eq!(bytes[8..10], [0, 2], "cur_page of the first entry is 512");
}

#[test]
fn what_is_done_is_not_done_again() {
    let done = |done, frame| Entry { done, ..entry(SHARED, frame, true) };
    let (outcome, bytes, memory) = run(1, 3, &[entry(9, 0, false), done(512, 0x1000), done(511, 0x1200)]);
    // Entry 3 is all zeros: operation 0.
    assert_eq!((outcome, header(&bytes)), (Outcome::InvalidEntry, (3, 3)));
    assert_eq!(memory.state(0x100_0000), Some(PageState::Private));
    assert_eq!(memory.state(0x13f_e000), Some(PageState::Private));
    assert_eq!(memory.state(0x13f_f000), Some(PageState::Shared));
    let (outcome, bytes, _) = run(9, 3, &[]);
    assert_eq!((outcome, header(&bytes)), (Outcome::Done, (9, 3)), "nothing left to do");
}

#[test]
fn a_list_that_does_not_fit_is_refused_whole() {
    for end in [253, 254, u16::MAX] {
        let (outcome, bytes, memory) = run(0, end, &[entry(SHARED, 0x300, false)]);
        assert_eq!((outcome, header(&bytes)), (Outcome::InvalidHeader, (0, end)));
        assert_eq!(memory.state(0x30_0000), Some(PageState::Private));
    }
    let memory = Bench::new().unwrap().memory;
    for len in 0..HEADER_SIZE + ENTRY_SIZE {
        assert_eq!(process(&mut vec![0; len], &memory, None).0, Outcome::InvalidHeader);
    }
}

#[test]
fn an_entry_that_means_nothing_stops_the_list_there() {
    let bad = [
        entry(SHARED, 0x1001, true),
        entry(0, 0x1000, false),
        entry(5, 0x1000, false),
        entry(15, 0x1000, false),
        // The VGA window, the device hole, high RAM's end, the end of addresses.
        entry(SHARED, 0xa0, false),
        entry(SHARED, 0, true),
        entry(PRIVATE, 0xe_0000, false),
        entry(PRIVATE, 0x10_4000, false),
        entry(PRIVATE, (1 << 40) - 512, true),
        Entry { done: 2, ..entry(SHARED, 0x1000, false) },
        Entry { done: 513, ..entry(SHARED, 0x1000, true) },
    ];
    for bad in bad {
        let (outcome, bytes, memory) =
            run(0, 2, &[entry(SHARED, 0x300, false), bad, entry(SHARED, 0x301, false)]);
        assert_eq!((outcome, header(&bytes)), (Outcome::InvalidEntry, (1, 2)), "{bad:?}");
        assert_eq!(memory.state(0x30_0000), Some(PageState::Shared));
        assert_eq!(memory.state(0x30_1000), Some(PageState::Private));
    }
}

#[test]
fn smash_splits_and_unsmash_is_a_hint() {
    let large = entry(PRIVATE, 0x1000, true);
    let (_, _, memory) = run(0, 0, &[large]);
    assert!(memory.is_large_entry(0x100_0000));
    let smash = Entry { operation: OPERATION_PSMASH, ..large };
    let (outcome, _, memory) = run(0, 2, &[large, smash, Entry { operation: OPERATION_UNSMASH, ..large }]);
    assert_eq!(outcome, Outcome::Done);
    assert!(!memory.is_large_entry(0x100_0000));
}

#[test]
fn overlapping_entries_apply_in_order() {
    let (outcome, _, memory) = run(
        0,
        2,
        &[entry(SHARED, 0x1000, true), entry(PRIVATE, 0x1001, false), entry(PRIVATE, 0x1001, false)],
    );
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(memory.state(0x100_1000), Some(PageState::Unaccepted));
    assert_eq!(memory.state(0x100_2000), Some(PageState::Shared));
    assert!(!memory.is_large_entry(0x100_0000));
}

proptest! {
    #[test]
    fn entries_read_back(value: u64, done in 0u16..0x1000, frame in 0u64..1 << 40, operation in 0u8..16, large: bool) {
        let entry = Entry { done, frame, operation, large };
        prop_assert_eq!(Entry::parse(entry.encode()), entry);
        prop_assert_eq!(Entry::parse(value).encode(), value & ((1 << 57) - 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_buffer_is_worked_off_in_bounds(
        bytes in prop::collection::vec(any::<u8>(), 0..0x7f0),
        current in 0u16..260,
        end in 0u16..260,
    ) {
        let bench = Bench::new().unwrap();
        let mut buffer = bytes.clone();
        if buffer.len() >= 4 {
            buffer[..2].copy_from_slice(&current.to_le_bytes());
            buffer[2..4].copy_from_slice(&end.to_le_bytes());
        }
        let (outcome, _) = process(&mut buffer, &bench.memory, None);
        if bytes.len() >= HEADER_SIZE {
            let (now, _) = header(&buffer);
            prop_assert!(now == current || now <= end + 1);
            prop_assert!(outcome != Outcome::Done || now > end);
        }
        bench.check(0);
    }
}

fn states(memory: &GuestMemory, frame: u64, pages: u64, state: PageState) -> bool {
    (frame..frame + pages).all(|frame| memory.state(frame * PAGE_SIZE) == Some(state))
}

proptest! {
    /// A list that is refused converts the pages its header and entries report; the rest of it converts the others.
    #[test]
    fn a_refused_list_converts_what_it_reports(
        small in 0u64..30,
        large in any::<bool>(),
        done in 0u64..600,
        error in prop::sample::select(ConversionCall::Psc.errors().iter().collect::<Vec<_>>()),
    ) {
        // 4 KiB pages that follow each other, then perhaps one of 2 MiB.
        let mut entries: Vec<Entry> = (0..small).map(|page| entry(SHARED, 0x300 + page, false)).collect();
        if large || small == 0 {
            entries.push(entry(SHARED, 0x1000, true));
        }
        let end = entries.len() as u16 - 1;
        let memory = Bench::new().unwrap().memory;
        let mut bytes = list(0, end, &entries);
        let conversion = conversion_of_list(&bytes, &memory).unwrap();
        let total: u64 = entries.iter().map(|entry| entry.pages()).sum();
        prop_assert_eq!((conversion.pages, conversion.gpa), (total, entries[0].frame * PAGE_SIZE));
        let done = done.min(total - 1);
        let (outcome, why) = process(&mut bytes, &memory, Some(Refusal { error, done }));
        prop_assert_eq!((outcome, why), (Outcome::Refused(error.value), None));
        let (current, _) = header(&bytes);
        prop_assert!(current <= end);
        let reported: u64 = bytes[HEADER_SIZE..].chunks_exact(ENTRY_SIZE).take(entries.len())
            .map(|entry| u64::from(Entry::parse(u64::from_le_bytes(entry.try_into().unwrap())).done)).sum();
        prop_assert_eq!(reported, done);
        let in_small = done.min(small);
        prop_assert!(states(&memory, 0x300, in_small, PageState::Shared));
        prop_assert!(states(&memory, 0x300 + in_small, small - in_small, PageState::Private));
        prop_assert!(states(&memory, 0x1000, done - in_small, PageState::Shared));
        prop_assert!(states(&memory, 0x1000 + (done - in_small), 512 - (done - in_small), PageState::Private));
        prop_assert_eq!(process(&mut bytes, &memory, None).0, Outcome::Done);
        prop_assert!(entries.iter().all(|entry| states(&memory, entry.frame, entry.pages(), PageState::Shared)));
    }
}

#[test]
fn a_list_that_means_nothing_requests_no_conversion() {
    let memory = Bench::new().unwrap().memory;
    for (current, end, entry) in [
        (0, 253, entry(SHARED, 0x300, false)),
        (1, 0, entry(SHARED, 0x300, false)),
        (0, 0, entry(3, 0x1000, true)),
    ] {
        assert_eq!(conversion_of_list(&list(current, end, &[entry]), &memory), None);
    }
    assert_eq!(conversion_of_page(u64::MAX, SHARED, &memory), None);
    assert_eq!(conversion_of_page(0x300, 7, &memory), None);
    assert_eq!(conversion_of_page(0x300, SHARED, &memory).unwrap().gpa, 0x30_0000);
}
