// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses that may fault: loads, stores and port instructions whose signal is an observation.
//!
//! They are one stretch of assembly. The signal handler checks where the signal was raised: inside, it records what
//! happened and lets the access return as if it were done; anywhere else, the worker dies of the signal.

use core::arch::global_asm;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

use protocol::Width;

use crate::syscall;

static SIGNAL: AtomicU32 = AtomicU32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);

// copra_copyN(from, to, count) -> elements done. copra_inN(port) -> value. copra_outN(port, value).
global_asm!(
    "copra_guard_begin:",
    "copra_copy1:",
    "xor eax, eax",
    "2: cmp rax, rdx",
    "jae copra_guard_leave",
    "mov cl, [rdi + rax]",
    "mov [rsi + rax], cl",
    "inc rax",
    "jmp 2b",
    "copra_copy2:",
    "xor eax, eax",
    "2: cmp rax, rdx",
    "jae copra_guard_leave",
    "mov cx, [rdi + rax * 2]",
    "mov [rsi + rax * 2], cx",
    "inc rax",
    "jmp 2b",
    "copra_copy4:",
    "xor eax, eax",
    "2: cmp rax, rdx",
    "jae copra_guard_leave",
    "mov ecx, [rdi + rax * 4]",
    "mov [rsi + rax * 4], ecx",
    "inc rax",
    "jmp 2b",
    "copra_copy8:",
    "xor eax, eax",
    "2: cmp rax, rdx",
    "jae copra_guard_leave",
    "mov rcx, [rdi + rax * 8]",
    "mov [rsi + rax * 8], rcx",
    "inc rax",
    "jmp 2b",
    "copra_in1: mov edx, edi",
    "xor eax, eax",
    "in al, dx",
    "ret",
    "copra_in2: mov edx, edi",
    "xor eax, eax",
    "in ax, dx",
    "ret",
    "copra_in4: mov edx, edi",
    "in eax, dx",
    "ret",
    "copra_out1: mov edx, edi",
    "mov eax, esi",
    "out dx, al",
    "ret",
    "copra_out2: mov edx, edi",
    "mov eax, esi",
    "out dx, ax",
    "ret",
    "copra_out4: mov edx, edi",
    "mov eax, esi",
    "out dx, eax",
    "ret",
    "copra_guard_leave: ret",
    "copra_guard_end:",
    // Returns from the signal handler.
    "copra_guard_restore:",
    "mov eax, 15",
    "syscall",
    "ud2",
);

unsafe extern "C" {
    fn copra_guard_begin();
    fn copra_guard_leave();
    fn copra_guard_end();
    fn copra_guard_restore();
    fn copra_copy1(from: u64, to: u64, count: u64) -> u64;
    fn copra_copy2(from: u64, to: u64, count: u64) -> u64;
    fn copra_copy4(from: u64, to: u64, count: u64) -> u64;
    fn copra_copy8(from: u64, to: u64, count: u64) -> u64;
    fn copra_in1(port: u32) -> u32;
    fn copra_in2(port: u32) -> u32;
    fn copra_in4(port: u32) -> u32;
    fn copra_out1(port: u32, value: u32);
    fn copra_out2(port: u32, value: u32);
    fn copra_out4(port: u32, value: u32);
}

/// A signal raised by an access.
#[derive(Clone, Copy)]
pub struct Fault {
    pub signal: u8,
    pub code: i32,
    pub address: u64,
}

fn fault() -> Option<Fault> {
    let signal = SIGNAL.swap(0, Relaxed) as u8;
    (signal != 0).then(|| Fault { signal, code: CODE.load(Relaxed), address: ADDRESS.load(Relaxed) })
}

/// Copies elements of `width`, one access each on both sides. Gives the number of whole elements copied.
///
/// # Safety
/// The side in Rust's memory must be valid for the length.
unsafe fn copy(from: u64, to: u64, len: usize, width: Width) -> (usize, Option<Fault>) {
    let count = (len / width as usize) as u64;
    // SAFETY: the side that is not ours may fault, which the handler turns into a return.
    let done = unsafe {
        match width {
            Width::Byte => copra_copy1(from, to, count),
            Width::Word => copra_copy2(from, to, count),
            Width::Long => copra_copy4(from, to, count),
            Width::Quad => copra_copy8(from, to, count),
        }
    };
    (done as usize * width as usize, fault())
}

/// Loads from an address in a mapping.
pub fn load(address: u64, buffer: &mut [u8], width: Width) -> (usize, Option<Fault>) {
    // SAFETY: the destination is a buffer of ours.
    unsafe { copy(address, buffer.as_mut_ptr() as u64, buffer.len(), width) }
}

/// Stores to an address in a mapping of the host's making, never to Rust's memory.
pub fn store(address: u64, bytes: &[u8], width: Width) -> (usize, Option<Fault>) {
    // SAFETY: the source is a buffer of ours.
    unsafe { copy(bytes.as_ptr() as u64, address, bytes.len(), width) }
}

/// `IN`.
pub fn port_in(port: u16, width: Width) -> Result<u32, Fault> {
    let port = u32::from(port);
    // SAFETY: port instructions access no memory; if they are forbidden, the handler turns the signal into a return.
    let value = unsafe {
        match width {
            Width::Byte => copra_in1(port),
            Width::Word => copra_in2(port),
            Width::Long | Width::Quad => copra_in4(port),
        }
    };
    fault().map_or(Ok(value), Err)
}

/// `OUT`.
pub fn port_out(port: u16, width: Width, value: u32) -> Result<(), Fault> {
    let port = u32::from(port);
    // SAFETY: as above.
    unsafe {
        match width {
            Width::Byte => copra_out1(port, value),
            Width::Word => copra_out2(port, value),
            Width::Long | Width::Quad => copra_out4(port, value),
        }
    }
    fault().map_or(Ok(()), Err)
}

/// Index of the saved instruction pointer in the kernel's `struct ucontext`: five words before the registers, of which
/// it is the seventeenth.
const SAVED_RIP: usize = 5 + 16;

/// The handler: `info` is a `siginfo_t`, `context` a `struct ucontext`, both as words.
extern "C" fn handler(signal: u32, info: *const u64, context: *mut u64) {
    // SAFETY: both come from the kernel and have these fields; `si_code` is the low half of the second word.
    let (code, address, rip) = unsafe { (*info.add(1) as u32, *info.add(2), &mut *context.add(SAVED_RIP)) };
    let guarded = copra_guard_begin as *const () as u64..copra_guard_end as *const () as u64;
    if guarded.contains(rip) {
        SIGNAL.store(signal, Relaxed);
        CODE.store(code.cast_signed(), Relaxed);
        ADDRESS.store(address, Relaxed);
        *rip = copra_guard_leave as *const () as u64;
    } else {
        // SAFETY: back to the default action; the instruction faults again and kills the worker.
        let _ = unsafe { syscall::signal_action(signal, &[0; 4]) };
    }
}

/// Catches the signals of faulting accesses in this process.
pub fn install() -> syscall::Result<()> {
    const SA_SIGINFO: u64 = 4;
    const SA_ONSTACK: u64 = 0x0800_0000;
    const SA_RESTORER: u64 = 0x0400_0000;
    // ILL, TRAP, BUS, FPE, SEGV.
    const SIGNALS: [u32; 5] = [4, 5, 7, 8, 11];
    let stack = syscall::memory(64 << 10, syscall::MAP_PRIVATE)?;
    // SAFETY: the memory is never given back.
    unsafe { syscall::signal_stack(stack) }?;
    let action = [
        handler as *const () as u64,
        SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
        copra_guard_restore as *const () as u64,
        0,
    ];
    for signal in SIGNALS {
        // SAFETY: handler and restorer are what the kernel expects.
        unsafe { syscall::signal_action(signal, &action) }?;
    }
    Ok(())
}
