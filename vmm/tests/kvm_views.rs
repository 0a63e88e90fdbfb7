// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest sees of one page through two views.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::Platform::{None as Plain, Sev, Snp};
use types::View::{Private, Shared};
use vmm::guest_code;
use vmm::layout;
use vmm::machine::{Machine, MachineError, Stop};
use vmm::marker::{self, Tag};
use vmm::memory::MemoryCounters;

use self::common::*;

guest_code!(
    // Copies the page at the first alias to RESULT, then the one at the second behind it.
    copy_both,
    "mov esi, 0x40000000",
    "mov edi, 0x200000",
    "mov ecx, 1024",
    "2: mov rax, [rsi]",
    "mov [rdi], rax",
    "add rsi, 8",
    "add rdi, 8",
    "loop 2b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

/// The two pages the guest above found.
fn copies(machine: &Machine) -> (Page, Page) {
    (seen(machine, Private, RESULT), seen(machine, Private, RESULT + 4096))
}

/// Every class of memory there is, at its first and last page.
fn places(machine: &Machine) -> [u64; 8] {
    let ram = machine.ram();
    let low_ram = ram.low_end() - 4096;
    [0, PLAYGROUND, ROM_PAGE, ram.reserved(), ram.acpi(), low_ram, layout::HIGH_RAM, ram.end() - 4096]
}

#[test]
fn the_wrong_view_shows_exactly_the_ciphertext_and_the_right_one_the_plaintext_again() {
    for gpa in places(&machine(Sev)) {
        let mut machine = two_views(copy_both(), gpa);
        machine.memory().write(gpa, &pattern()).unwrap();
        pass(&mut machine);
        let (shared, private) = copies(&machine);
        assert!(shared == encrypted(gpa, &pattern()), "{gpa:#x}");
        assert!(private == pattern(), "{gpa:#x}");
    }
}

#[test]
fn a_plain_guest_sees_one_page_at_every_alias_and_nothing_is_recorded() {
    for gpa in places(&machine(Plain)) {
        let mut machine = guest(Plain, copy_both(), &[(Shared, gpa), (Private, gpa)]);
        machine.memory().write(gpa, &pattern()).unwrap();
        pass(&mut machine);
        assert!(copies(&machine) == (pattern(), pattern()), "{gpa:#x}");
        assert_eq!((recorded(&machine), machine.memory().counters()), (&[][..], MemoryCounters::default()));
        assert!(machine.memory().slots().iter().all(|slot| slot.view == Private));
    }
}

#[test]
fn the_guest_reads_what_the_host_reads_through_each_view() {
    for gpa in places(&machine(Sev)) {
        let mut machine = two_views(copy_both(), gpa);
        let expected: (Page, Page) = (seen(&machine, Shared, gpa), seen(&machine, Private, gpa));
        pass(&mut machine);
        assert!(copies(&machine) == expected, "{gpa:#x}");
        assert!(
            (seen(&machine, Shared, gpa), seen(&machine, Private, gpa)) == expected,
            "looking changes nothing"
        );
    }
}

#[test]
fn markers_distinguish_private_memory_from_ciphertext_and_from_devices() {
    let mut machine = two_views(copy_both(), ROM_PAGE);
    pass(&mut machine);
    let (shared, private) = copies(&machine);
    assert_eq!((marker::parse(&shared), marker::parse(&private)), (None, Some((Tag::Private, ROM_PAGE))));
    let mut machine = guest(Sev, copy_both(), &[(Shared, layout::BAR32 + 0x1000), (Shared, layout::BAR64)]);
    pass(&mut machine);
    let (bar32, bar64) = copies(&machine);
    assert_eq!(marker::parse(&bar32), Some((Tag::Bar32, 0x1000)));
    assert_eq!(marker::parse(&bar64), Some((Tag::Bar64, 0)));
}

guest_code!(
    write_one_byte_then_copy,
    "not byte ptr [0x40000000 + 100]",
    "mov esi, 0x40000000",
    "mov edi, 0x200000",
    "mov ecx, 1024",
    "2: mov rax, [rsi]",
    "mov [rdi], rax",
    "add rsi, 8",
    "add rdi, 8",
    "loop 2b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_byte_written_through_the_wrong_view_garbles_its_block_and_no_other() {
    for gpa in places(&machine(Sev)) {
        let mut machine = two_views(write_one_byte_then_copy(), gpa);
        machine.memory().write(gpa, &pattern()).unwrap();
        pass(&mut machine);
        let (shared, private) = copies(&machine);
        let mut expected = encrypted(gpa, &pattern());
        expected[100] = !expected[100];
        assert!(shared == expected, "{gpa:#x}");
        assert_eq!(changed_blocks(&pattern(), &private), [100 / 16], "{gpa:#x}");
        assert!(private == decrypted(gpa, &expected), "{gpa:#x}");
    }
}

guest_code!(
    fill_shared_then_stop_then_copy,
    "mov edi, 0x40000000",
    "mov ecx, 4096",
    "mov al, 0x77",
    "rep stosb",
    "mov al, 1",
    "mov dx, 0x501",
    "out dx, al",
    "mov esi, 0x40000000",
    "mov edi, 0x200000",
    "mov ecx, 1024",
    "2: mov rax, [rsi]",
    "mov [rdi], rax",
    "add rsi, 8",
    "add rdi, 8",
    "loop 2b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_page_written_shared_is_clear_in_the_shared_view_and_noise_in_the_private_one() {
    let mut machine = two_views(fill_shared_then_stop_then_copy(), PLAYGROUND);
    assert_eq!(run(&mut machine), Stop::DebugExit(1));
    let clear = [0x77; 4096];
    assert!(seen::<4096>(&machine, Shared, PLAYGROUND) == clear);
    assert!(seen::<4096>(&machine, Private, PLAYGROUND) == decrypted(PLAYGROUND, &clear));
    pass(&mut machine);
    assert!(copies(&machine) == (clear, decrypted(PLAYGROUND, &clear)));
}

#[test]
fn what_the_host_writes_into_a_shared_page_the_guest_sees_in_its_private_view() {
    let mut machine = two_views(fill_shared_then_stop_then_copy(), PLAYGROUND);
    assert_eq!(run(&mut machine), Stop::DebugExit(1));
    machine.memory().write(PLAYGROUND, &pattern()).unwrap();
    pass(&mut machine);
    assert!(copies(&machine) == (encrypted(PLAYGROUND, &pattern()), pattern()));
}

#[test]
fn two_guests_with_the_same_seed_see_the_same_ciphertext_and_others_do_not() {
    let ciphertext = |seed| {
        let mut machine = Machine::new(&vmm::machine::MachineConfig { seed, ..config(Sev) }).unwrap();
        boot(&mut machine, copy_both(), &[(Shared, ROM_PAGE), (Private, ROM_PAGE)]);
        pass(&mut machine);
        copies(&machine).0
    };
    let (once, again, other) = (ciphertext(1), ciphertext(1), ciphertext(2));
    assert!(once == again && once != other);
}

guest_code!(call_the_alias, "mov eax, 0x40000000", "call rax", "mov dx, 0x501", "out dx, al");

/// mov al, 0x4b; ret
const RETURN_PASS: [u8; 3] = [0xb0, 0x4b, 0xc3];

#[test]
fn code_is_fetched_through_the_view_its_mapping_names() {
    for gpa in [ROM_PAGE, PLAYGROUND] {
        let mut machine = guest(Sev, call_the_alias(), &[(Private, gpa)]);
        machine.memory().write(gpa, &page(&RETURN_PASS)).unwrap();
        pass(&mut machine);
        assert_eq!(recorded(&machine), []);
        // Noise to the private view, code to the shared one.
        let mut machine = guest(Sev, call_the_alias(), &[(Shared, gpa)]);
        machine.memory().write(gpa, &decrypted(gpa, &page(&RETURN_PASS))).unwrap();
        pass(&mut machine);
    }
}

guest_code!(
    load_from_the_next_2_mib,
    "mov eax, [0x40200008]",
    "mov [0x200000], eax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al"
);

#[test]
fn page_tables_are_walked_through_the_view_their_parent_names() {
    for (view, table) in [Private, Shared].into_iter().flat_map(|v| [(v, PLAYGROUND), (v, ROM_PAGE)]) {
        let mut machine = guest(Sev, load_from_the_next_2_mib(), &[]);
        let (target, directory) = (PLAYGROUND + 0x1000, layout::PAGE_TABLES + 3 * 4096);
        let alias = |view, gpa| (machine.platform().alias(view, gpa) | 0b0110_0011).to_le_bytes();
        let entries = page(&alias(Private, target));
        let held = if view == Private { entries } else { decrypted(table, &entries) };
        machine.memory().write(table, &held).unwrap();
        machine.memory().write(directory + 8, &alias(view, table)).unwrap();
        machine.memory().write(target + 8, &[1, 2, 3, 4]).unwrap();
        pass(&mut machine);
        assert_eq!(result(&machine, 0), 0x0403_0201, "{view} table at {table:#x}");
    }
}

guest_code!(
    load_with_a_root_table_without_the_encryption_bit,
    "mov rax, cr3",
    // Only the low half remains.
    "mov eax, eax",
    "mov cr3, rax",
    "mov eax, [0x40000008]",
    "mov [0x200000], eax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al"
);

#[test]
fn the_root_of_page_tables_is_private_whatever_cr3_says() {
    let code = load_with_a_root_table_without_the_encryption_bit;
    for platform in [Sev, Snp] {
        let mut machine = guest(platform, code(), &[(Private, PLAYGROUND)]);
        // Before a SEV guest reports its conversions, an access through the other view is one.
        machine.memory().map_gpa_range_enabled();
        machine.memory().write(PLAYGROUND + 8, &[1, 2, 3, 4]).unwrap();
        pass(&mut machine);
        assert_eq!(result(&machine, 0), 0x0403_0201, "{platform}");
        assert_eq!(recorded(&machine), [], "{platform}");
    }
}

guest_code!(
    straddle,
    "mov rax, cr4",
    "or eax, 0x600",
    "mov cr4, rax",
    "mov byte ptr [0x40000000], 0x77",
    "movups xmm0, [0x40000ff8]",
    "movups [0x200000], xmm0",
    "movups xmm1, [0x200010]",
    "movups [0x40000ff8], xmm1",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn sixteen_bytes_across_two_pages_of_different_state_come_half_from_each() {
    let (shared, private) = (PLAYGROUND, ROM_PAGE);
    let mut machine = guest(Sev, straddle(), &[(Shared, shared), (Shared, private)]);
    machine.memory().write(shared, &decrypted(shared, &pattern())).unwrap();
    machine.memory().write(private, &pattern()).unwrap();
    machine.memory().write(RESULT + 16, b"0123456789abcdef").unwrap();
    pass(&mut machine);
    let mut first = pattern();
    first[0] = 0x77;
    let mut second = encrypted(private, &pattern());
    let found: [u8; 16] = seen(&machine, Private, RESULT);
    assert_eq!(found, *[&first[4088..], &second[..8]].concat());
    first[4088..].copy_from_slice(b"01234567");
    second[..8].copy_from_slice(b"89abcdef");
    assert!(seen::<4096>(&machine, Shared, shared) == first);
    assert!(seen::<4096>(&machine, Private, private) == decrypted(private, &second));
    assert_eq!(recorded(&machine).iter().map(|e| e.gpa).collect::<Vec<_>>(), [private]);
}

#[test]
fn the_encryption_bit_may_be_anywhere_it_fits() {
    for bit in 38..machine(Sev).host().physical_bits.min(48) {
        let config = vmm::machine::MachineConfig { encryption_bit: Some(bit), ..config(Sev) };
        let mut machine = Machine::new(&config).unwrap();
        assert_eq!(machine.platform().alias(Private, ROM_PAGE), ROM_PAGE | 1 << bit);
        boot(&mut machine, copy_both(), &[(Shared, ROM_PAGE), (Private, ROM_PAGE)]);
        pass(&mut machine);
        let (shared, private) = copies(&machine);
        assert!(shared == encrypted(ROM_PAGE, &private));
        assert_eq!(marker::parse(&private), Some((Tag::Private, ROM_PAGE)));
    }
}

#[test]
fn an_encryption_bit_that_does_not_fit_is_refused_by_name() {
    for bit in [0, 12, 37, machine(Sev).host().physical_bits, 63, 64, 255] {
        let config = vmm::machine::MachineConfig { encryption_bit: Some(bit), ..config(Sev) };
        let refused = Machine::new(&config).unwrap_err();
        assert!(matches!(refused, MachineError::EncryptionBit { bit: b, .. } if b == bit), "{refused}");
        assert!(refused.to_string().contains(&bit.to_string()));
    }
}
