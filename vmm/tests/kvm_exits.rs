// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exits of a guest's instructions: CPUID, MSRs, hypercalls.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::Platform::{None as Plain, Sev};
use types::View::{Private, Shared};
use vmm::guest_code;
use vmm::machine::Stop;

use self::common::*;

/// #GP.
const GENERAL_PROTECTION: Stop = Stop::DebugExit(13);
/// `-KVM_EINVAL` as RAX.
const EINVAL: u64 = (-22i64).cast_unsigned();
/// `-KVM_ENOSYS` as RAX.
const ENOSYS: u64 = (-1000i64).cast_unsigned();

guest_code!(
    cpuid,
    "mov edi, 0x200000",
    "mov esi, 1",
    "call 3f",
    "mov esi, 0x8000001f",
    "call 3f",
    "mov esi, 0x80000008",
    "call 3f",
    "mov esi, 0x40000000",
    "call 3f",
    "mov esi, 0x40000001",
    "call 3f",
    "mov esi, 0x80000000",
    "call 3f",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
    "3: mov eax, esi",
    "xor ecx, ecx",
    "cpuid",
    "mov [rdi], eax",
    "mov [rdi + 4], ebx",
    "mov [rdi + 8], ecx",
    "mov [rdi + 12], edx",
    "add edi, 16",
    "ret",
);

/// EAX, EBX, ECX, EDX of each leaf the guest above reads.
fn leaves(machine: &vmm::machine::Machine) -> [[u32; 4]; 6] {
    let bytes: [u8; 96] = seen(machine, Private, RESULT);
    let words: Vec<u32> = bytes.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect();
    std::array::from_fn(|leaf| words[4 * leaf..4 * leaf + 4].try_into().unwrap())
}

#[test]
fn a_sev_guest_sees_the_encryption_leaf_and_its_bit() {
    let mut machine = guest(Sev, cpuid(), &[]);
    pass(&mut machine);
    let [_, [eax, ebx, ..], [sizes, ..], _, [features, ..], [largest, ..]] = leaves(&machine);
    let bit = u32::from(machine.platform().encryption_bit().unwrap());
    assert_eq!((eax, ebx & 0x3f, ebx >> 6 & 0x3f), (2, bit, 1));
    assert!(largest >= 0x8000_001f);
    assert!(sizes & 0xff > bit, "the bit must be a physical address bit");
    assert_eq!(sizes & 0xff, u32::from(machine.guest_physical_bits()));
    assert_ne!(features & 1 << 17, 0, "the guest must see KVM_FEATURE_MIGRATION_CONTROL");
}

/// CPUID 0x8000001f EAX: SME in bit 0, SEV in bit 1 (AMD APM volume 3, appendix E).
const SME_AND_SEV: u32 = 0b11;

#[test]
fn a_plain_guest_sees_no_memory_encryption() {
    let mut machine = guest(Plain, cpuid(), &[]);
    pass(&mut machine);
    let [_, [eax, ..], [sizes, ..], .., [largest, ..]] = leaves(&machine);
    // An Intel processor answers a leaf beyond its largest with its largest basic one; Linux looks at the largest first
    // (`arch/x86/mm/mem_encrypt_identity.c:sme_enable`).
    assert!(largest < 0x8000_001f || eax & SME_AND_SEV == 0, "neither SME nor SEV");
    assert_eq!(sizes & 0xff, u32::from(machine.guest_physical_bits()));
}

#[test]
fn every_guest_sees_that_it_runs_on_kvm_without_async_page_faults() {
    for platform in [Plain, Sev] {
        let mut machine = guest(platform, cpuid(), &[]);
        pass(&mut machine);
        let [[_, ebx, ecx, _], _, _, [_, a, b, c], [features, ..], _] = leaves(&machine);
        assert_ne!(ecx & 1 << 31, 0, "hypervisor bit");
        assert_eq!(ebx >> 24, 0, "APIC ID");
        assert_eq!([a, b, c].map(u32::to_le_bytes).concat(), b"KVMKVMKVM\0\0\0");
        assert_eq!(features & (1 << 4 | 1 << 10 | 1 << 14), 0);
    }
}

guest_code!(
    read_msr,
    "lgdt [0x38fe0]",
    "lidt [0x38ff0]",
    "mov ecx, [0x200000]",
    "mov eax, -1",
    "mov edx, -1",
    "rdmsr",
    "mov [0x200008], eax",
    "mov [0x20000c], edx",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

guest_code!(
    write_msr,
    "lgdt [0x38fe0]",
    "lidt [0x38ff0]",
    "mov ecx, [0x200000]",
    "mov eax, 1",
    "xor edx, edx",
    "wrmsr",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

/// Runs one of the two above on one register: how it ended, and what it read.
fn msr(platform: types::Platform, code: &[u8], index: u32) -> (Stop, u64) {
    let mut machine = guest(platform, code, &[]);
    catch_exceptions(&machine);
    machine.memory().write(RESULT, &index.to_le_bytes()).unwrap();
    (run(&mut machine), result(&machine, 1))
}

#[test]
fn sev_status_reads_as_sev_and_nothing_more() {
    assert_eq!(msr(Sev, read_msr(), 0xc001_0131), (PASS, 1));
}

#[test]
fn sev_status_cannot_be_written() {
    assert_eq!(msr(Sev, write_msr(), 0xc001_0131).0, GENERAL_PROTECTION);
}

#[test]
fn a_plain_guest_has_no_sev_status() {
    assert_eq!(msr(Plain, read_msr(), 0xc001_0131).0, GENERAL_PROTECTION);
}

#[test]
fn plain_sev_has_no_ghcb_register() {
    assert_eq!(msr(Sev, read_msr(), 0xc001_0130).0, GENERAL_PROTECTION);
    assert_eq!(msr(Sev, write_msr(), 0xc001_0130).0, GENERAL_PROTECTION);
}

#[test]
fn migration_control_takes_what_the_guest_writes_and_reads_as_zero() {
    assert_eq!(msr(Sev, write_msr(), 0x4b56_4d08).0, PASS);
    assert_eq!(msr(Sev, read_msr(), 0x4b56_4d08), (PASS, 0));
}

guest_code!(
    hypercall,
    "mov rax, [0x200000]",
    "mov rbx, [0x200008]",
    "mov rcx, [0x200010]",
    "mov rdx, [0x200018]",
    "vmmcall",
    "mov [0x200020], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

const MAP_GPA_RANGE: u64 = 12;
const ENCRYPTED: u64 = 1 << 4;

/// Makes one hypercall; gives the machine after it, and RAX.
fn call(platform: types::Platform, registers: [u64; 4]) -> (vmm::machine::Machine, u64) {
    let mut machine = guest(platform, hypercall(), &[]);
    machine.memory().write(RESULT, &registers.map(u64::to_le_bytes).concat()).unwrap();
    pass(&mut machine);
    let rax = result(&machine, 4);
    (machine, rax)
}

#[test]
fn map_gpa_range_declares_exactly_the_pages_it_names() {
    let (machine, rax) = call(Sev, [MAP_GPA_RANGE, PLAYGROUND, 3, 0]);
    let declared: Vec<_> = (0..5).map(|n| machine.memory().declared(PLAYGROUND + n * 4096 - 4096)).collect();
    assert_eq!(rax, 0);
    assert_eq!(declared, [Private, Shared, Shared, Shared, Private].map(Some));
    assert_eq!((machine.stats().hypercalls, machine.memory().counters().declared_pages), (1, 3));
}

#[test]
fn map_gpa_range_takes_the_address_with_the_encryption_bit_too() {
    let bit = 1 << machine(Sev).platform().encryption_bit().unwrap();
    let (machine, rax) = call(Sev, [MAP_GPA_RANGE, PLAYGROUND | bit, 1, 0]);
    assert_eq!((rax, machine.memory().declared(PLAYGROUND)), (0, Some(Shared)));
}

#[test]
fn map_gpa_range_encrypted_declares_private() {
    let (machine, rax) = call(Sev, [MAP_GPA_RANGE, PLAYGROUND, 1, ENCRYPTED]);
    assert_eq!((rax, machine.memory().declared(PLAYGROUND)), (0, Some(Private)));
}

#[test]
fn map_gpa_range_with_absurd_ranges_is_refused_or_harmless() {
    let (all, top) = (u64::MAX, 1 << 51);
    for (gpa, pages, answers) in [
        (0, 0, &[EINVAL][..]),
        (PLAYGROUND + 1, 1, &[EINVAL]),
        (PLAYGROUND, all, &[EINVAL]),
        (PLAYGROUND, 1 << 52, &[EINVAL]),
        (all & !0xfff, 1, &[EINVAL]),
        (all & !0xfff, 2, &[EINVAL]),
        (top, 1, &[EINVAL]),
        // Inside the address space, mostly nothing there.
        (0, 1 << 26, &[0]),
        (0xa_0000, 0x20, &[0]),
        (0xe000_0000, 1, &[0]),
        (0x1_0400_0000, 1 << 20, &[0]),
    ] {
        let (machine, rax) = call(Sev, [MAP_GPA_RANGE, gpa, pages, 0]);
        assert!(answers.contains(&rax), "{gpa:#x} + {pages:#x}: {rax:#x}");
        let ram_pages = machine.ram().mapped_size() / 4096;
        assert!(machine.memory().counters().declared_pages <= ram_pages);
    }
}

#[test]
fn the_whole_address_space_declared_at_once_covers_all_ram() {
    let bit = machine(Sev).platform().encryption_bit().unwrap();
    let (machine, rax) = call(Sev, [MAP_GPA_RANGE, 0, 1 << (bit - 12), 0]);
    assert_eq!(rax, 0);
    let last = [0, machine.ram().low_end() - 4096, 1 << 32, machine.ram().end() - 4096];
    assert_eq!(last.map(|gpa| machine.memory().declared(gpa)), [Some(Shared); 4]);
}

#[test]
fn other_hypercalls_and_those_of_a_plain_guest_are_unknown() {
    assert_eq!(call(Sev, [4711, 0, 0, 0]).1, ENOSYS);
    assert_eq!(call(Plain, [MAP_GPA_RANGE, PLAYGROUND, 1, 0]).1, ENOSYS);
}
