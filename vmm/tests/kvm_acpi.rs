// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What ACPI tables lead a guest to: the I/O APIC, and configuration space in memory.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::Platform::{None as Plain, Sev, Tdx};
use types::View::{Private, Shared};
use vmm::guest_code;
use vmm::layout;

use self::common::*;

guest_code!(
    ioapic_through_both_views,
    // The version; then an entry, written shared and read private.
    "mov esi, 0x40000000",
    "mov dword ptr [rsi], 1",
    "mov eax, [rsi + 0x10]",
    "mov [0x200000], rax",
    "mov dword ptr [rsi], 0x15",
    "mov dword ptr [rsi + 0x10], 0x7000000",
    "mov dword ptr [rsi], 0x14",
    "mov dword ptr [rsi + 0x10], 0x10031",
    "mov edi, 0x40001000",
    "mov eax, [rdi]",
    "mov [0x200008], rax",
    "mov eax, [rdi + 0x10]",
    "mov [0x200010], rax",
    "mov dword ptr [rdi], 0x15",
    "mov eax, [rdi + 0x10]",
    "mov [0x200018], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn the_io_apic_that_a_td_maps_shared_is_kvms() {
    let mut machine =
        guest(Tdx, ioapic_through_both_views(), &[(Shared, layout::IOAPIC), (Private, layout::IOAPIC)]);
    pass(&mut machine);
    let found: [u64; 4] = std::array::from_fn(|i| result(&machine, i as u64));
    assert_eq!(found, [0x0017_0011, 0x14, 0x0001_0031, 0x0700_0000]);
    assert_eq!(recorded(&machine), []);
}

guest_code!(
    configuration_in_memory,
    "mov esi, 0x40000000",
    "mov eax, [rsi]",
    "mov [0x200000], rax",
    "mov eax, [rsi + 0x10]",
    "mov [0x200008], rax",
    // The command register by a word and by a byte.
    "mov word ptr [rsi + 4], 0",
    "mov eax, [rsi + 4]",
    "mov [0x200010], rax",
    "mov byte ptr [rsi + 4], 2",
    "mov eax, [rsi + 4]",
    "mov [0x200018], rax",
    "mov eax, [rsi + 0x100]",
    "mov [0x200020], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn configuration_space_is_in_memory_too_and_shared() {
    let device = layout::ECAM + (1 << 15);
    for platform in [Plain, Sev, Tdx] {
        let mut machine = guest(platform, configuration_in_memory(), &[(Shared, device)]);
        pass(&mut machine);
        let found: [u64; 5] = std::array::from_fn(|i| result(&machine, i as u64));
        assert_eq!(found, [0x0005_1b36, layout::BAR32, 0, 2, 0xffff_ffff], "{platform}");
        assert_eq!(recorded(&machine), [], "{platform}");
    }
    let mut machine = guest(Sev, configuration_in_memory(), &[(Private, device)]);
    pass(&mut machine);
    assert!(!recorded(&machine).is_empty(), "a private access to a device is recorded");
}
