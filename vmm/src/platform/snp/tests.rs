// SPDX-License-Identifier: Apache-2.0 OR MIT

use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use proptest::prelude::*;
use types::{AccessKind, PageState};

use super::bench::{Bench, C_BIT, GHCB};
use super::*;

fn snp() -> Snp {
    Snp::new(C_BIT, Mode::Faithful)
}

fn request(message: Message) -> (Message, Bench) {
    let mut bench = Bench::new().unwrap();
    let (next, answer) = bench.msr(&mut snp(), message.encode());
    assert_eq!(next, Next::Resume);
    (Message::parse(answer), bench)
}

#[test]
fn cpuid_and_status_make_linux_an_snp_guest() {
    let entry = |function, eax| kvm_cpuid_entry2 { function, eax, ..Default::default() };
    let kvm = CpuId::from_entries(&[
        entry(0x8000_0000, 0x8000_0008),
        entry(0x8000_0008, 0x3027),
        entry(0x4000_0001, !0),
    ]);
    let mut table = CpuidTable::new(&kvm.unwrap());
    let mut platform = Snp::new(47, Mode::Faithful);
    platform.cpuid(&mut table);
    assert_eq!(table.get(0x8000_0000).unwrap().eax, 0x8000_001f);
    let leaf = table.get(0x8000_001f).unwrap();
    assert_eq!((leaf.eax, leaf.ebx & 0x3f), (1 << 1 | 1 << 3 | 1 << 4, 47));
    assert_eq!(table.get(0x8000_0008).unwrap().eax, 0x3030);
    assert_eq!(table.get(0x4000_0001).unwrap().eax, !(1 << 17));
    assert_eq!(platform.read_msr(VcpuId::BOOT, MSR_SEV_STATUS), Some(7));
    let memory = Bench::new().unwrap().memory;
    assert_eq!(platform.write_msr(VcpuId::BOOT, MSR_SEV_STATUS, 0, &memory), None);
    // As after reset: version 2 only, C-bit 47.
    assert_eq!(platform.read_msr(VcpuId::BOOT, MSR_GHCB), Some(0x0002_0002_2f00_0001));
}

#[test]
fn a_cpuid_table_without_kvm_leaves_gets_none() {
    let mut table = CpuidTable::new(&CpuId::from_entries(&[]).unwrap());
    snp().cpuid(&mut table);
    assert_eq!(table.get(LEAF_KVM_FEATURES), None);
}

#[test]
fn the_msr_protocol_answers_the_requests_of_linux_at_boot() {
    let (answer, bench) = request(Message::SevInformationRequest);
    assert_eq!(answer, Message::SevInformation { max: 2, min: 2, c_bit: C_BIT });
    assert_eq!(bench.bad_calls, []);
    assert_eq!(request(Message::FeaturesRequest).0, Message::FeaturesResponse { features: 1 });
    let register = Register::Ecx;
    assert_eq!(
        request(Message::CpuidRequest { leaf: 0x8000_001f, register }).0,
        Message::CpuidResponse { value: 0xc, register }
    );
    assert_eq!(request(Message::PreferredGhcbRequest).0, Message::PreferredGhcbResponse { frame: NO_FRAME });
    let frame = GHCB / PAGE_SIZE;
    assert_eq!(request(Message::RegisterGhcbRequest { frame }).0, Message::RegisterGhcbResponse { frame });
    let (answer, bench) = request(Message::ApResetHoldRequest);
    assert_eq!((answer, bench.idles), (Message::ApResetHoldResponse { result: 0 }, 1));
}

#[test]
fn a_page_state_change_by_msr_changes_one_page() {
    let frame = 0x123;
    let (answer, mut bench) = request(Message::PageStateRequest { frame, operation: 2 });
    assert_eq!(answer, Message::PageStateResponse { error: 0 });
    assert_eq!(bench.memory.state(0x12_3000), Some(PageState::Shared));
    assert_eq!(bench.memory.state(0x12_4000), Some(PageState::Private));
    bench.msr(&mut snp(), Message::PageStateRequest { frame, operation: 1 }.encode());
    assert_eq!(bench.memory.state(0x12_3000), Some(PageState::Unaccepted));
    assert_eq!(bench.bad_calls, []);
}

#[test]
fn what_the_hypervisor_has_not_is_refused_and_reported() {
    let refused = [
        (
            Message::PageStateRequest { frame: 0xe_0000, operation: 2 },
            Message::PageStateResponse { error: MSR_ERROR },
        ),
        // The VGA window.
        (
            Message::PageStateRequest { frame: 0xa0, operation: 1 },
            Message::PageStateResponse { error: MSR_ERROR },
        ),
        // The C-bit is no part of a frame number.
        (
            Message::PageStateRequest { frame: 1 << (C_BIT - 12) | 0x100, operation: 1 },
            Message::PageStateResponse { error: MSR_ERROR },
        ),
        (
            Message::PageStateRequest { frame: 0x100, operation: 7 },
            Message::PageStateResponse { error: MSR_ERROR },
        ),
        (Message::RegisterGhcbRequest { frame: NO_FRAME }, Message::RegisterGhcbResponse { frame: NO_FRAME }),
        (Message::RunVmplRequest { vmpl: 1 }, Message::RunVmplResponse { error: MSR_ERROR }),
        (Message::Unknown(0x7f00_0fff), Message::Unknown(0x7f00_0fff)),
        (Message::FeaturesResponse { features: 3 }, Message::FeaturesResponse { features: 3 }),
    ];
    for (request, expected) in refused {
        let (answer, bench) = self::request(request);
        assert_eq!(answer, expected);
        assert_eq!(bench.bad_calls.len(), 1, "{request:?}");
    }
}

#[test]
fn reserved_bits_are_reported_and_ignored() {
    let mut bench = Bench::new().unwrap();
    let (_, answer) = bench.msr(&mut snp(), 1 << 50 | 0x080);
    assert_eq!(Message::parse(answer), Message::FeaturesResponse { features: 1 });
    assert_eq!(bench.bad_calls.len(), 1);
}

#[test]
fn the_guest_ends_itself_by_msr() {
    let mut bench = Bench::new().unwrap();
    let (next, _) = bench.msr(&mut snp(), Message::Termination { set: 1, reason: 2 }.encode());
    assert_eq!(next, Next::End(Termination::GhcbRequest { set: 1, reason: 2 }));
}

#[test]
fn other_instructions_than_snps_are_reported() {
    let mut bench = Bench::new().unwrap();
    let next = snp().instruction(Opcode::Tdcall, &mut kvm_regs::default(), &mut bench);
    assert_eq!((next, bench.bad_calls.len()), (Next::Resume, 1));
}

#[test]
fn a_denied_access_is_vc_404_and_a_private_device_ends_the_guest() {
    let mismatch = Mismatch {
        gpa: 0xf_0000,
        view: View::Private,
        state: PageState::Unaccepted,
        kind: AccessKind::Read,
        refused: false,
    };
    assert_eq!(
        snp().denied(&mismatch, 0, true),
        Consequence::Exception(Exception { vector: 29, error_code: Some(0x404), address: None })
    );
    let gpa = 0xe000_0000;
    assert_eq!(snp().private_device(gpa), Consequence::End(Termination::NoMemory { gpa }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_ghcb_page_breaks_anything(page in prop::collection::vec(any::<u8>(), ghcb::SIZE)) {
        let (mut bench, mut platform) = (Bench::new().unwrap(), snp());
        bench.set_up_ghcb(&mut platform);
        bench.exit(&mut platform, &mut page.try_into().unwrap());
        bench.check(1);
    }

    #[test]
    fn any_msr_value_is_answered(value: u64, info in 0u64..0x120) {
        let mut bench = Bench::new().unwrap();
        for value in [value, value & !0xfff | info] {
            let mut platform = snp();
            let (next, answer) = bench.msr(&mut platform, value);
            let expected = match Message::parse(value) {
                Message::Termination { set, reason } => Next::End(Termination::GhcbRequest { set, reason }),
                _ => Next::Resume,
            };
            prop_assert_eq!(next, expected);
            prop_assert!(answer == value || answer & 0xfff == (value & 0xfff) + 1 || answer & 0xfff == 1);
        }
        bench.check(2);
    }
}
