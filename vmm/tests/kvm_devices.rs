// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ports, device memory, and the two serial lines.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use types::Platform::{None as Plain, Sev};
use types::View::{Private, Shared};
use vmm::device::serial::Capture;
use vmm::guest_code;
use vmm::layout;
use vmm::machine::{Machine, Stop};
use vmm::x86::cpuid::host_is_tcg;

use self::common::*;

guest_code!(
    configuration_by_every_width,
    "mov eax, 0x80000804",
    "mov dx, 0xcf8",
    "out dx, eax",
    "in eax, dx",
    "mov [0x200000], rax",
    "mov dx, 0xcfc",
    "in eax, dx",
    "mov [0x200008], rax",
    "xor eax, eax",
    "in ax, dx",
    "mov [0x200010], rax",
    "xor eax, eax",
    "inc dx",
    "in al, dx",
    "mov [0x200018], rax",
    // Command register: memory decoding off by a word, on again by a byte.
    "dec dx",
    "xor eax, eax",
    "out dx, ax",
    "in ax, dx",
    "mov [0x200020], rax",
    "mov al, 2",
    "out dx, al",
    "in ax, dx",
    "mov [0x200028], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn ports_are_read_and_written_by_byte_word_and_doubleword() {
    let mut machine = guest(Plain, configuration_by_every_width(), &[]);
    pass(&mut machine);
    let [address, dword, word, byte, off, on] = std::array::from_fn(|i| result(&machine, i as u64));
    assert_eq!(address, 0x8000_0804);
    assert_eq!((word, byte), (dword & 0xffff, dword >> 8 & 0xff));
    assert_ne!(dword & 2, 0, "memory decoding is on");
    assert_eq!((off & 2, on & 2), (0, 2));
}

guest_code!(
    nobodys_port,
    "mov dx, 0x680",
    "xor eax, eax",
    "in al, dx",
    "mov [0x200000], rax",
    "xor eax, eax",
    "in ax, dx",
    "mov [0x200008], rax",
    "in eax, dx",
    "mov [0x200010], rax",
    "out dx, eax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn a_port_without_a_device_floats_high() {
    let mut machine = guest(Sev, nobodys_port(), &[]);
    pass(&mut machine);
    assert_eq!([0, 1, 2].map(|i| result(&machine, i)), [0xff, 0xffff, 0xffff_ffff]);
}

guest_code!(
    strings,
    "mov esi, 0x200000",
    "mov edi, 0x201000",
    "mov ecx, 2",
    "mov dx, 0xcf8",
    "rep outsd",
    "mov ecx, 3",
    "mov dx, 0xcfc",
    "rep insd",
    "mov ecx, 3",
    "rep insw",
    "mov ecx, 3",
    "rep insb",
    "mov [0x202000], rsi",
    "mov [0x202008], rdi",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn string_instructions_move_every_item_at_every_width() {
    let mut machine = guest(Sev, strings(), &[]);
    // The second address is the one that counts: 00:01.0, vendor and device.
    machine.memory().write(RESULT, &[0x8000_0000u32, 0x8000_0800].map(u32::to_le_bytes).concat()).unwrap();
    pass(&mut machine);
    let id = [0x36, 0x1b, 0x05, 0x00];
    let expected = [id.repeat(3), id[..2].repeat(3), id[..1].repeat(3)].concat();
    assert_eq!(seen::<21>(&machine, Private, RESULT + 0x1000).to_vec(), expected);
    assert_eq!([0x400, 0x401].map(|i| result(&machine, i)), [RESULT + 8, RESULT + 0x1000 + 21]);
}

guest_code!(
    load_by_every_width,
    "mov esi, 0x40000000",
    "mov edi, 0x200000",
    "xor eax, eax",
    "mov al, [rsi + 3]",
    "mov [rdi], rax",
    "xor eax, eax",
    "mov ax, [rsi + 3]",
    "mov [rdi + 8], rax",
    "mov eax, [rsi + 3]",
    "mov [rdi + 16], rax",
    "mov rax, [rsi + 3]",
    "mov [rdi + 24], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

guest_code!(
    store_by_every_width,
    "mov esi, 0x40000000",
    "movabs rax, 0x1122334455667788",
    "mov [rsi + 0x10], al",
    "mov [rsi + 0x20], ax",
    "mov [rsi + 0x30], eax",
    "mov [rsi + 0x40], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

const DEVICES: [u64; 4] = [layout::BAR32, layout::BAR64, layout::VGA, layout::CLAIMED_MMIO];

#[test]
fn device_memory_is_read_by_every_width() {
    for (platform, gpa) in [Plain, Sev].into_iter().flat_map(|p| DEVICES.map(|gpa| (p, gpa))) {
        let mut machine = guest(platform, load_by_every_width(), &[(Shared, gpa)]);
        let bytes = seen(&machine, Shared, gpa + 3);
        assert_ne!(bytes, [0xff; 8], "{gpa:#x} answers");
        pass(&mut machine);
        let all = u64::from_le_bytes(bytes);
        let found = [0, 1, 2, 3].map(|i| result(&machine, i));
        assert_eq!(found, [all & 0xff, all & 0xffff, all & 0xffff_ffff, all], "{platform} {gpa:#x}");
        assert_eq!((machine.stats().mmio, recorded(&machine).len()), (4, 0));
    }
}

#[test]
fn device_memory_keeps_what_is_written_by_every_width_until_it_is_restored() {
    for gpa in DEVICES {
        let mut machine = guest(Sev, store_by_every_width(), &[(Shared, gpa)]);
        let before: Page = seen(&machine, Shared, gpa);
        let saved = machine.save().unwrap();
        pass(&mut machine);
        let mut expected = before;
        let bytes = 0x1122_3344_5566_7788u64.to_le_bytes();
        for (at, len) in [(0x10, 1), (0x20, 2), (0x30, 4), (0x40, 8)] {
            expected[at..at + len].copy_from_slice(&bytes[..len]);
        }
        assert_eq!(seen::<4096>(&machine, Shared, gpa), expected, "{gpa:#x}");
        machine.restore(&saved).unwrap();
        assert_eq!(seen::<4096>(&machine, Shared, gpa), before, "{gpa:#x}");
    }
}

#[test]
fn an_address_without_a_device_floats_high_and_keeps_nothing() {
    for gpa in [layout::UNCLAIMED_MMIO, 0x1_0400_0000] {
        let mut machine = guest(Sev, load_by_every_width(), &[(Shared, gpa)]);
        pass(&mut machine);
        assert_eq!([0, 1, 2, 3].map(|i| result(&machine, i)), [0xff, 0xffff, 0xffff_ffff, u64::MAX]);
        let mut machine = guest(Sev, store_by_every_width(), &[(Shared, gpa)]);
        pass(&mut machine);
        assert_eq!(seen::<4096>(&machine, Shared, gpa), [0xff; 4096]);
    }
}

guest_code!(
    load_and_store_sixteen_bytes,
    "mov rax, cr4",
    "or eax, 0x600",
    "mov cr4, rax",
    "movups xmm0, [0x40000ff8]",
    "movups [0x200000], xmm0",
    "movups xmm1, [0x200010]",
    "movups [0x40000ff8], xmm1",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn one_access_may_straddle_ram_and_a_device() {
    let last = layout::VGA - 4096;
    for platform in [Plain, Sev] {
        let mut machine =
            guest(platform, load_and_store_sixteen_bytes(), &[(Private, last), (Shared, layout::VGA)]);
        let (ram, device): ([u8; 8], [u8; 8]) =
            (seen(&machine, Private, layout::VGA - 8), seen(&machine, Shared, layout::VGA));
        machine.memory().write(RESULT + 16, b"0123456789abcdef").unwrap();
        pass(&mut machine);
        assert_eq!(seen::<16>(&machine, Private, RESULT).to_vec(), [ram, device].concat(), "{platform}");
        assert_eq!(&seen::<8>(&machine, Private, layout::VGA - 8), b"01234567");
        assert_eq!(&seen::<8>(&machine, Shared, layout::VGA), b"89abcdef");
        assert_eq!(recorded(&machine), []);
    }
}

#[test]
fn the_truth_of_any_address_can_be_read() {
    let machine = machine(Sev);
    machine.memory().write(layout::VGA - 4, b"abcd").unwrap();
    assert_eq!(&seen::<8>(&machine, Private, layout::VGA - 4), b"abcd<dev", "half RAM, half device");
    for gpa in [layout::VGA - 4, layout::VGA, layout::ROM - 4, machine.ram().end() - 4, 1 << 51, u64::MAX - 4]
    {
        for view in [Private, Shared] {
            let _ = seen::<8>(&machine, view, gpa);
        }
    }
}

guest_code!(
    talk,
    "mov dx, 0x3f8",
    "mov ecx, 1000",
    "mov al, 0x61",
    "2: out dx, al",
    "inc al",
    "cmp al, 0x7b",
    "jne 3f",
    "mov al, 0x61",
    "3: test ecx, 0x7f",
    "jnz 4f",
    "mov ebx, eax",
    "mov dx, 0x3fd",
    "in al, dx",
    "mov dx, 0x3f8",
    "mov eax, ebx",
    "4: loop 2b",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn console_bytes_arrive_in_order_and_most_without_an_exit() {
    let mut machine = guest(Sev, talk(), &[]);
    pass(&mut machine);
    let expected: String = ('a'..='z').cycle().take(1000).collect();
    assert_eq!(machine.console().text(), expected);
    let stats = machine.stats();
    assert!(stats.coalesced > 900 && stats.port_io < 100, "{stats:?}");
}

guest_code!(speak_and_spin, "mov dx, 0x3f8", "mov al, 0x21", "out dx, al", "2: jmp 2b");

#[test]
fn a_last_byte_is_not_left_behind_when_the_guest_hangs() {
    let mut machine = guest(Sev, speak_and_spin(), &[]);
    assert_eq!(run_for(&mut machine, Duration::from_millis(500)), Stop::Deadline);
    assert_eq!(machine.console().text(), "!");
}

guest_code!(
    flood,
    "mov edx, 0x3f8",
    "lea rsi, [rip + 4f]",
    "mov ecx, 5",
    "rep outsb",
    "mov ebx, [0x200000]",
    "2: mov esi, 0x400000",
    "mov ecx, 0x100000",
    "rep outsb",
    "dec ebx",
    "jnz 2b",
    "lea rsi, [rip + 5f]",
    "mov ecx, 4",
    "rep outsb",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
    "4: .ascii \"first\"",
    "5: .ascii \"last\"",
);

/// Peak resident set of this process in KiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_console_flood_keeps_its_head_and_tail_and_no_more() {
    // KVM emulates every byte; 100 MiB take seconds on a processor and six minutes on QEMU's, which makes do with
    // what fills head and tail.
    let mib: u32 = if host_is_tcg() { 3 } else { 100 };
    let mut machine = guest(Plain, flood(), &[]);
    machine.memory().write(RESULT, &mib.to_le_bytes()).unwrap();
    machine.memory().write(PLAYGROUND, &vec![b'x'; 1 << 20]).unwrap();
    let before = peak();
    assert_eq!(run_for(&mut machine, Duration::from_secs(600)), PASS);
    assert_eq!(machine.console().total(), 9 + (u64::from(mib) << 20));
    let text = machine.console().text();
    assert!(text.starts_with("firstx") && text.ends_with("xlast"));
    assert!(text.len() < Capture::HEAD + Capture::TAIL + 200);
    assert!(peak() - before < 16 << 10, "{} KiB before, {} KiB after", before, peak());
}

guest_code!(
    // Takes two bytes of length and then as many, and gives each back incremented, after the same two.
    echo,
    "call 6f",
    "mov cl, al",
    "call 6f",
    "mov ch, al",
    "movzx ecx, cx",
    "mov al, cl",
    "call 7f",
    "mov al, ch",
    "call 7f",
    "2: call 6f",
    "inc al",
    "call 7f",
    "loop 2b",
    "in al, 0x64",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
    "6: mov dx, 0x2fd",
    "in al, dx",
    "test al, 1",
    "jz 6b",
    "mov dx, 0x2f8",
    "in al, dx",
    "ret",
    "7: mov dx, 0x2f8",
    "out dx, al",
    "ret",
);

/// Runs on until the guest passes; what it wrote to the agent's port by then.
fn listen(machine: &mut Machine) -> Vec<u8> {
    let mut heard = Vec::new();
    loop {
        let stop = run(machine);
        heard.extend(machine.take_from_agent());
        match stop {
            Stop::Agent => {}
            stop => {
                assert_eq!(stop, PASS);
                return heard;
            }
        }
    }
}

#[test]
fn the_agents_port_carries_every_byte_both_ways() {
    let sent: Vec<u8> = (0..=255).chain((0..744).map(|i: u32| (i * 7) as u8)).collect();
    for platform in [Plain, Sev] {
        let mut machine = guest(platform, echo(), &[]);
        machine.send_to_agent(&(sent.len() as u16).to_le_bytes());
        let (first, rest) = sent.split_at(300);
        machine.send_to_agent(first);
        machine.send_to_agent(rest);
        let heard = listen(&mut machine);
        assert_eq!(heard[..2], (sent.len() as u16).to_le_bytes());
        let expected: Vec<u8> = sent.iter().map(|b| b.wrapping_add(1)).collect();
        assert_eq!(heard[2..], expected, "{platform}");
        assert_eq!(machine.console().total(), 0);
    }
}

#[test]
fn a_guest_that_waits_for_the_agents_port_gets_bytes_sent_later() {
    let mut machine = guest(Plain, echo(), &[]);
    assert_eq!(run_for(&mut machine, Duration::from_millis(200)), Stop::Deadline);
    machine.send_to_agent(&[2, 0, 10, 20]);
    assert_eq!(listen(&mut machine), [2, 0, 11, 21]);
}
