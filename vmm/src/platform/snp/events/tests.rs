// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;
use types::{Mode, PageState, View};

use super::super::bench::{Bench, C_BIT, GHCB};
use super::super::ghcb::{SHARED_BUFFER, SIZE, put};
use super::super::msr_protocol::{Message, OPERATION_PRIVATE};
use super::*;

const SCRATCH: u64 = GHCB + SHARED_BUFFER.start as u64;

struct Guest {
    snp: Snp,
    bench: Bench,
    page: [u8; SIZE],
}

impl Guest {
    fn new() -> Self {
        let (mut snp, mut bench) = (Snp::new(C_BIT, Mode::Faithful), Bench::new().unwrap());
        bench.set_up_ghcb(&mut snp);
        Self { snp, bench, page: [0; SIZE] }
    }

    fn with(mut self, field: Field, value: u64) -> Self {
        put(&mut self.page, field, value);
        self
    }

    fn buffer(mut self, bytes: &[u8]) -> Self {
        self.page[SHARED_BUFFER][..bytes.len()].copy_from_slice(bytes);
        self
    }

    fn calls(mut self, code: u64, first: u64, second: u64) -> (Next, Self) {
        put(&mut self.page, Field::SW_EXITCODE, code);
        put(&mut self.page, Field::SW_EXITINFO1, first);
        put(&mut self.page, Field::SW_EXITINFO2, second);
        let next = self.bench.exit(&mut self.snp, &mut self.page);
        (next, self)
    }

    fn call(self, event: Event, first: u64, second: u64) -> Self {
        let (next, guest) = self.calls(event.code(), first, second);
        assert_eq!(next, Next::Resume);
        guest
    }

    /// What the guest finds, `None` where it is not marked valid.
    fn get(&self, field: Field) -> Option<u64> {
        let bit = field.offset / 8;
        let valid = self.page[0x3f0 + bit / 8] >> (bit % 8) & 1 == 1;
        let mut value = [0; 8];
        value.copy_from_slice(&self.page[field.offset..field.offset + 8]);
        valid.then_some(u64::from_le_bytes(value))
    }

    fn answer(&self) -> (u64, u64) {
        (self.get(Field::SW_EXITINFO1).unwrap(), self.get(Field::SW_EXITINFO2).unwrap())
    }

    fn is_malformed(&self, reason: Reason) {
        assert_eq!(self.answer(), (2, reason as u64), "{:?}", self.bench.bad_calls);
        assert_eq!(self.bench.bad_calls.len(), 1, "{:?}", self.bench.bad_calls);
    }
}

#[test]
fn a_list_of_page_state_changes_is_worked_off() {
    let mut list = vec![0, 0, 1, 0, 0, 0, 0, 0];
    for entry in [0x0020_0000_0030_0000u64, 0x0120_0000_0100_0000] {
        list.extend(entry.to_le_bytes());
    }
    let guest =
        Guest::new().with(Field::SW_SCRATCH, SCRATCH).buffer(&list).call(Event::PageStateChange, 0, 0);
    assert_eq!((guest.answer(), guest.page[0x800]), ((0, 0), 2));
    assert_eq!(guest.bench.memory.state(0x30_0000), Some(PageState::Shared));
    assert_eq!(guest.bench.memory.state(0x11f_f000), Some(PageState::Shared));
    assert_eq!(guest.bench.bad_calls, []);
}

#[test]
fn a_list_may_start_later_but_has_less_room_then() {
    let start = SHARED_BUFFER.end as u64 - 16;
    let mut guest = Guest::new().with(Field::SW_SCRATCH, GHCB + start);
    guest.page[start as usize + 8..][..8].copy_from_slice(&0x0020_0000_0030_0000u64.to_le_bytes());
    let mut second = guest.call(Event::PageStateChange, 0, 0);
    assert_eq!(second.answer(), (0, 0));
    second.page[start as usize + 2] = 9;
    let second = second.with(Field::SW_SCRATCH, GHCB + start).call(Event::PageStateChange, 0, 0);
    assert_eq!(second.answer(), (0, 1 << 32 | 1));
    assert_eq!(second.bench.bad_calls.len(), 1);
}

#[test]
fn a_guest_may_take_its_own_ghcb_away() {
    let list = [vec![0; 8], 0x0010_0000_0010_0000u64.to_le_bytes().to_vec()].concat();
    let guest =
        Guest::new().with(Field::SW_SCRATCH, SCRATCH).buffer(&list).call(Event::PageStateChange, 0, 0);
    assert_eq!(guest.bench.memory.state(GHCB), Some(PageState::Unaccepted));
    guest.bench.check(1);
    let (mut snp, mut bench) = (guest.snp, guest.bench);
    assert_eq!(bench.msr(&mut snp, GHCB).0, Next::Resume);
    assert!(bench.bad_calls[0].1.contains("unaccepted, not shared"), "{:?}", bench.bad_calls);
}

#[test]
fn a_page_that_is_no_ghcb_takes_no_answer() {
    for gpa in [0, 0xa_0000, 0x30_0000, 0xe000_0000, GHCB | 1 << C_BIT, !0xfff] {
        let mut guest = Guest::new();
        assert_eq!(guest.bench.msr(&mut guest.snp, gpa), (Next::Resume, gpa));
        assert_eq!(guest.bench.bad_calls.len(), 1, "{gpa:#x}");
    }
}

#[test]
fn the_page_must_be_the_one_registered() {
    let mut guest = Guest::new();
    guest.bench.msr(&mut guest.snp, Message::RegisterGhcbRequest { frame: 0x400 }.encode());
    guest.call(Event::NmiComplete, 0, 0).is_malformed(Reason::NotRegistered);
}

#[test]
fn format_and_fields_are_checked() {
    let mut guest = Guest::new();
    guest.page[0xffc] = 1;
    guest.call(Event::NmiComplete, 0, 0).is_malformed(Reason::InvalidUsage);

    let mut guest = Guest::new();
    guest.bench.exit(&mut guest.snp, &mut guest.page);
    guest.is_malformed(Reason::MissingInput);

    let (_, guest) = Guest::new().calls(0x8000_0099, 0, 0);
    guest.is_malformed(Reason::InvalidEvent);
    let (_, guest) = Guest::new().calls(1 << 32 | Event::Cpuid.code(), 0, 0);
    guest.is_malformed(Reason::InvalidEvent);

    let mut guest = Guest::new();
    guest.page[0xffa] = 9;
    let guest = guest.call(Event::NmiComplete, 0, 0);
    assert_eq!((guest.answer(), guest.bench.bad_calls.len()), ((0, 0), 1));
}

#[test]
fn what_an_exit_needs_must_be_valid() {
    let needs: [(Event, u64, u64, &[Field]); 12] = [
        (Event::Cpuid, 0, 0, &[Field::RAX, Field::RCX]),
        (Event::Msr, 0, 0, &[Field::RCX]),
        (Event::Msr, 1, 0, &[Field::RCX, Field::RAX, Field::RDX]),
        (Event::Port, 0x60 << 16 | 1 << 4, 0, &[Field::RAX]),
        (Event::Port, 0x60 << 16 | 1 << 4 | 1 << 2, 1, &[Field::SW_SCRATCH]),
        (Event::Rdpmc, 0, 0, &[Field::RCX]),
        (Event::Vmmcall, 0, 0, &[Field::RAX, Field::CPL]),
        (Event::Monitor, 0, 0, &[Field::RAX, Field::RCX, Field::RDX]),
        (Event::Mwait, 0, 0, &[Field::RAX, Field::RCX]),
        (Event::MmioRead, 0xe000_0000, 4, &[Field::SW_SCRATCH]),
        (Event::MmioWrite, 0xe000_0000, 4, &[Field::SW_SCRATCH]),
        (Event::PageStateChange, 0, 0, &[Field::SW_SCRATCH]),
    ];
    for (event, first, second, fields) in needs {
        for missing in fields {
            let mut guest = Guest::new();
            for field in fields.iter().filter(|field| *field != missing) {
                guest = guest.with(*field, 0);
            }
            guest.call(event, first, second).is_malformed(Reason::MissingInput);
        }
    }
    let guest = Guest::new().with(Field::RAX, 0xd).with(Field::RCX, 0);
    guest.call(Event::Cpuid, 0, 0).is_malformed(Reason::MissingInput);
}

#[test]
fn instructions_are_carried_out() {
    let guest = Guest::new().with(Field::RAX, 0x1_0000_000b).with(Field::RCX, 2).call(Event::Cpuid, 0, 0);
    let registers = [Field::RAX, Field::RBX, Field::RCX, Field::RDX].map(|field| guest.get(field));
    assert_eq!(registers, [Some(0xb), Some(2), Some(0xc), Some(0xd)]);

    let guest = Guest::new().call(Event::Rdtscp, 0, 0);
    let registers = [Field::RAX, Field::RDX, Field::RCX].map(|field| guest.get(field));
    assert_eq!(registers, [Some(7), Some(0x10), Some(7)]);
    assert_eq!(Guest::new().call(Event::Rdtsc, 0, 0).get(Field::RCX), None);

    let guest = Guest::new().with(Field::RCX, 0x174).call(Event::Msr, 0, 0);
    assert_eq!((guest.get(Field::RAX), guest.get(Field::RDX)), (Some(7), Some(0x174)));
    for write in [0, 1] {
        let guest =
            [Field::RAX, Field::RCX, Field::RDX].into_iter().fold(Guest::new(), |g, f| g.with(f, u64::MAX));
        // #GP(0) with an error code, type exception, valid.
        assert_eq!(guest.call(Event::Msr, write, 0).answer(), (1, 0x8000_0b0d));
    }
    assert_eq!(Guest::new().with(Field::RCX, 0).call(Event::Rdpmc, 0, 0).answer(), (1, 0x8000_0b0d));

    let guest = Guest::new().with(Field::RAX, 5).with(Field::CPL, 0).call(Event::Vmmcall, 0, 0);
    assert_eq!(guest.get(Field::RAX), Some((-1000i64).cast_unsigned()));
    for event in [Event::Wbinvd, Event::Invd, Event::NmiComplete] {
        let guest = Guest::new().call(event, 0, 0);
        assert_eq!((guest.answer(), guest.bench.bad_calls.len()), ((0, 0), 0));
    }
    let guest = Guest::new().with(Field::RAX, 0).with(Field::RCX, 0).call(Event::Mwait, 0, 0);
    assert_eq!((guest.answer(), guest.bench.idles), ((0, 0), 1));
}

#[test]
fn ports_are_read_and_written() {
    let guest = Guest::new().call(Event::Port, 0x3f8 << 16 | 1 << 4 | 1, 0);
    assert_eq!(guest.get(Field::RAX), Some(0xf8));
    let guest = Guest::new().with(Field::RAX, 0x1234_5678).call(Event::Port, 0x80 << 16 | 2 << 4, 0);
    assert_eq!((guest.get(Field::RAX), guest.bench.outs), (None, vec![(0x80, 2, 0x5678)]));

    let string = 0x60 << 16 | 1 << 2 | 1 << 3;
    let guest = Guest::new().with(Field::SW_SCRATCH, SCRATCH).buffer(&[1, 2, 3, 4, 5, 6]).call(
        Event::Port,
        string | 2 << 4,
        2,
    );
    assert_eq!(guest.bench.outs, vec![(0x60, 2, 0x0201), (0x60, 2, 0x0403)]);
    let guest = Guest::new().with(Field::SW_SCRATCH, SCRATCH).call(Event::Port, string | 4 << 4 | 1, 508);
    assert_eq!(guest.page[SHARED_BUFFER], [0x60, 0, 0x60, 0].repeat(508));
    let guest = Guest::new().with(Field::SW_SCRATCH, SCRATCH).call(Event::Port, string | 1 << 4, 0);
    assert_eq!((guest.answer(), guest.bench.outs.len()), ((0, 0), 0));

    for (information, count) in
        [(string | 4 << 4, 509), (string | 1 << 4, u64::MAX), (string | 3 << 4, 1), (string, 1)]
    {
        let guest = Guest::new().with(Field::SW_SCRATCH, SCRATCH).call(Event::Port, information, count);
        guest.is_malformed(Reason::InvalidInput);
    }
    let guest = Guest::new().with(Field::SW_SCRATCH, SCRATCH + 4).call(Event::Port, string | 4 << 4, 508);
    guest.is_malformed(Reason::InvalidScratch);
}

#[test]
fn devices_are_read_and_written_and_ram_is_none() {
    let guest = Guest::new().with(Field::SW_SCRATCH, SCRATCH).call(Event::MmioRead, 0xe000_1234, 4);
    assert_eq!(guest.page[0x800..0x808], [0x34, 0x12, 0, 0xe0, 0, 0, 0, 0]);
    for event in [Event::MmioRead, Event::MmioWrite] {
        for (gpa, len) in [(0xe000_0000, 0), (0xe000_0000, 9), (u64::MAX, 8), (0x30_0000, 4)] {
            let guest = Guest::new().with(Field::SW_SCRATCH, SCRATCH).call(event, gpa, len);
            guest.is_malformed(Reason::InvalidInput);
        }
        let guest = Guest::new().with(Field::SW_SCRATCH, GHCB).call(event, 0xe000_0000, 4);
        guest.is_malformed(Reason::InvalidScratch);
    }
}

#[test]
fn services_not_offered_are_refused() {
    for event in [Event::ApCreation, Event::HvDoorbell, Event::RunVmpl] {
        Guest::new().call(event, 1, 0x30_0000).is_malformed(Reason::InvalidEvent);
    }
    for event in [Event::GuestRequest, Event::ExtendedGuestRequest] {
        let guest = Guest::new().call(event, 0x30_0000, 0x30_1000);
        assert_eq!((guest.answer(), guest.bench.bad_calls.len()), ((0, 0xffff_ffff << 32), 0));
        for (request, response) in [(0x30_0000, 0x30_0000), (0x30_0001, 0x30_1000), (0x30_0000, 0x30_1008)] {
            Guest::new().call(event, request, response).is_malformed(Reason::InvalidInput);
        }
    }
    assert_eq!(Guest::new().call(Event::Features, 0, 0).answer(), (0, 1));
}

#[test]
fn the_jump_table_is_kept() {
    let guest = Guest::new().call(Event::ApJumpTable, 0, 0x9_f000).call(Event::ApJumpTable, 1, 0);
    assert_eq!(guest.answer(), (0, 0x9_f000));
    Guest::new().call(Event::ApJumpTable, 2, 0).is_malformed(Reason::InvalidInput);
}

#[test]
fn the_guest_ends_itself_or_reports_an_unhandled_vc() {
    let (next, _) = Guest::new().calls(Event::Termination.code(), 1 | 2 << 4, 0);
    assert_eq!(next, Next::End(Termination::GhcbRequest { set: 1, reason: 2 }));
    let guest = Guest::new().call(Event::Unsupported, 0x404, 0);
    assert_eq!((guest.answer(), guest.bench.bad_calls.len()), ((0, 0), 1));
}

#[test]
fn every_event_has_one_code() {
    for event in Event::ALL {
        assert_eq!(Event::of(event.code()), Some(event));
        assert_eq!(Event::ALL.iter().filter(|other| other.code() == event.code()).count(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every answer is one the specification has, and only the page of the GHCB is written.
    #[test]
    fn any_fields_get_an_answer(
        index in 0..Event::ALL.len(),
        values in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..16, Just(SCRATCH), Just(0xe000_0000)], 10),
        present: u16,
        buffer in prop::collection::vec(any::<u8>(), 64),
    ) {
        let mut guest = Guest::new().buffer(&buffer);
        for (bit, (field, value)) in Field::ALL.into_iter().zip(values).enumerate() {
            if present >> bit & 1 == 1 || field == Field::SW_EXITINFO1 || field == Field::SW_EXITINFO2 {
                guest = guest.with(field, value);
            }
        }
        put(&mut guest.page, Field::SW_EXITCODE, Event::ALL[index].code());
        let before = guest.bench.memory.counters();
        let next = guest.bench.exit(&mut guest.snp, &mut guest.page);
        if next == Next::Resume && guest.bench.memory.state(GHCB) == Some(PageState::Shared) {
            match guest.answer() {
                (NO_ACTION, _) => {}
                (ISSUE_EXCEPTION, details) => prop_assert_eq!(details, GENERAL_PROTECTION),
                (MALFORMED_INPUT, details) => prop_assert!((1..=6).contains(&details)),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        if Event::ALL[index] != Event::PageStateChange {
            prop_assert_eq!(guest.bench.memory.counters(), before);
        }
        guest.bench.check(1);
    }
}

#[test]
fn a_ghcb_made_private_again_is_left_alone() {
    let mut guest = Guest::new();
    let request = Message::PageStateRequest { frame: GHCB >> 12, operation: OPERATION_PRIVATE };
    guest.bench.msr(&mut guest.snp, request.encode());
    guest.bench.memory.apply(GHCB, 1, crate::memory::protected::Cause::Accept).unwrap();
    guest.bench.memory.store(View::Private, GHCB, &[0xaa; SIZE]).unwrap();
    guest.bench.msr(&mut guest.snp, GHCB);
    guest.bench.memory.read(View::Private, GHCB, &mut guest.page).unwrap();
    assert_eq!(guest.page, [0xaa; SIZE]);
    assert_eq!(guest.bench.bad_calls.len(), 1);
}
