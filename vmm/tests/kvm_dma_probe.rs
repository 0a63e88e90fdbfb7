// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `dma-probe` in guests: its registers, and what it accesses, with the guest as the submitter.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use types::Platform::{None as Plain, Sev, Snp, Tdx, Vbs};
use types::View::Shared;
use types::{AccessKind, AccessTarget, DeviceKind, DmaOrigin, PageState};
use vmm::guest_code;
use vmm::layout;
use vmm::machine::Machine;

use self::common::*;

guest_code!(
    write_and_read,
    // Bus mastering on.
    "mov eax, 0x80001804",
    "mov dx, 0xcf8",
    "out dx, eax",
    "mov dx, 0xcfc",
    "mov al, 6",
    "out dx, al",
    "mov esi, 0x40000000",
    "mov eax, [rsi]",
    "mov [0x200000], rax",
    // 4 bytes of pattern 0 to the address that the test has left.
    "mov rax, [0x200040]",
    "mov [rsi + 0x08], rax",
    "mov dword ptr [rsi + 0x10], 4",
    "mov dword ptr [rsi + 0x14], 2",
    "mov dword ptr [rsi + 0x18], 0",
    "mov dword ptr [rsi + 0x1c], 1",
    "mov rax, [rsi + 0x20]",
    "mov [0x200008], rax",
    // And back.
    "mov dword ptr [rsi + 0x14], 1",
    "mov dword ptr [rsi + 0x1c], 1",
    "mov rax, [rsi + 0x28]",
    "mov [0x200010], rax",
    "mov dword ptr [rsi + 0x14], 3",
    "mov dword ptr [rsi + 0x1c], 1",
    "mov eax, [rsi + 0x30]",
    "mov [0x200018], rax",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

/// Bytes of pattern 0, and their digest.
const BYTES: [u8; 4] = [0x00, 0x9e, 0x3c, 0xda];

/// A guest that has the device access `gpa`.
fn submitter(platform: types::Platform, gpa: u64) -> Machine {
    let mut config = config(platform);
    config.dma_probe = true;
    let mut machine = Machine::new(&config).unwrap();
    boot(&mut machine, write_and_read(), &[(Shared, layout::DMA_PROBE_BAR)]);
    machine.memory().write(RESULT + 0x40, &gpa.to_le_bytes()).unwrap();
    machine
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn without_encryption_the_probe_reaches_all_memory() {
    let mut machine = submitter(Plain, PLAYGROUND + 6);
    pass(&mut machine);
    assert_eq!([0, 1, 2, 3].map(|i| result(&machine, i)), [0x5041_4d44, 1, fnv(&BYTES), 1]);
    assert_eq!(seen(&machine, Shared, PLAYGROUND + 6), BYTES);
    assert_eq!(recorded(&machine), []);
    assert!(machine.save().is_err(), "its registers are no part of a saved guest");
}

#[test]
fn an_access_to_private_memory_is_an_event_of_the_submitting_instruction() {
    for platform in [Sev, Snp, Tdx, Vbs] {
        let mut machine = submitter(platform, PLAYGROUND);
        machine.memory().write(PLAYGROUND, b"secret").unwrap();
        pass(&mut machine);
        // STATUS and FORBIDDEN, and the state: of private memory.
        assert_eq!([1, 3].map(|i| result(&machine, i)), [1 | 1 << 32, 2], "{platform}");
        let events = recorded(&machine);
        let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [AccessKind::Write, AccessKind::Read], "{platform}");
        for event in events {
            let origin = DmaOrigin { kind: DeviceKind::Probe, queue: None, chain: None };
            assert_eq!(event.device, Some(origin), "{platform}");
            let private = AccessTarget::Page(PageState::Private);
            assert_eq!((event.gpa, event.view, event.state), (PLAYGROUND, Shared, private), "{platform}");
            assert!(event.at.is_some(), "{platform}");
        }
        if platform != Sev {
            assert_eq!(result(&machine, 2), fnv(&[0; 4]), "{platform}: it finds no memory");
        }
    }
}
