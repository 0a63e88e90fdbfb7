// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether /dev/kvm here runs a 64-bit guest, found by running one.
//!
//! A software KVM opens, answers every capability and creates VMs, yet ends any paging guest in a shutdown. So
//! the probe runs what copra will need: 64-bit mode, paging, code and exceptions in the high half, a mapping of a memory
//! slot alias, a filtered MSR and port I/O, some thousand instructions, under a deadline.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use types::Platform;

use crate::machine::{Machine, MachineConfig, MachineError, RunError, Stop};

/// How long the probe's guest may take; a working KVM needs milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);
/// Where the probe's guest finds whether it is to read the filtered MSR.
const READS_MSR: u64 = 0x34000;
/// What the probe's guest reports when everything it tried came out right.
const PASS: u8 = 0x4b;

/// Why KVM here cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The machine could not be made.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The guest could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The guest ran with wrong results.
    #[error(
        "a 64-bit guest of a few thousand instructions failed on /dev/kvm here ({0}): this KVM cannot run Linux"
    )]
    Guest(Stop),
}

crate::guest_code!(
    /// Counts, looks through a view alias, reads a filtered MSR, jumps to the high half, takes exceptions through
    /// tables of its own, reloads CR3, and reports through the debug port.
    code,
    "mov ecx, 4096",
    "xor ebx, ebx",
    "2: inc ebx",
    "loop 2b",
    "cmp ebx, 4096",
    "jne 9f",
    "cmp byte ptr [0x34000], 0",
    "je 5f",
    "mov ecx, 0xc0010131",
    "rdmsr",
    "cmp eax, 1",
    "jne 9f",
    "5: mov edi, 0x40000000",
    "mov eax, [rdi]",
    "cmp eax, [0x30000]",
    "jne 9f",
    "lea rax, [rip + 3f]",
    "mov rcx, 0xffffffff80000000",
    "add rax, rcx",
    "jmp rax",
    // In the high half: a GDT at 0x31800, an IDT at 0x31000 with a gate for #BP, a stack below 0x31e00.
    "3: lea rax, [rip + 7f]",
    "mov rdi, 0xffffffff80031030",
    "mov [rdi], ax",
    "mov dx, cs",
    "mov [rdi + 2], dx",
    "mov word ptr [rdi + 4], 0x8e00",
    "shr rax, 16",
    "mov [rdi + 6], ax",
    "shr rax, 16",
    "mov [rdi + 8], eax",
    "mov rdi, 0xffffffff80031800",
    "movabs rax, 0x00af9b000000ffff",
    "mov [rdi + 0x10], rax",
    "movabs rax, 0x00cf93000000ffff",
    "mov [rdi + 0x18], rax",
    "mov rdi, 0xffffffff80031f00",
    "mov word ptr [rdi], 0x1f",
    "mov rax, 0xffffffff80031800",
    "mov [rdi + 2], rax",
    "lgdt [rdi]",
    "mov word ptr [rdi], 0x3f",
    "mov rax, 0xffffffff80031000",
    "mov [rdi + 2], rax",
    "lidt [rdi]",
    "mov rsp, 0xffffffff80031e00",
    "xor ebx, ebx",
    "mov ecx, 64",
    "4: int3",
    "loop 4b",
    "cmp ebx, 64",
    "jne 9f",
    "mov rax, cr3",
    "mov cr3, rax",
    "mov al, 0x4b",
    "jmp 8f",
    "7: inc ebx",
    "iretq",
    "9: xor eax, eax",
    "8: mov dx, 0x501",
    "out dx, al",
    "hlt",
);

/// Runs the probe's guest: as an ordinary one, or with an encryption bit and a filtered MSR where the platform has those.
pub fn probe(platform: Platform) -> Result<(), ProbeError> {
    let kind = if platform == Platform::None { platform } else { Platform::Sev };
    let config = MachineConfig { ram: crate::layout::MIN_RAM, ..MachineConfig::new(kind) };
    let mut machine = Machine::new(&config)?;
    machine.memory().write(READS_MSR, &[u8::from(kind == Platform::Sev)]).map_err(MachineError::from)?;
    let alias = machine.platform().alias(types::View::Private, crate::layout::FLAT_CODE);
    machine.boot_flat(code(), &[alias])?;
    match machine.run(Instant::now() + DEADLINE, &AtomicBool::new(false))? {
        Stop::DebugExit(PASS) => Ok(()),
        other => Err(ProbeError::Guest(other)),
    }
}
