// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the kernel enters.

use core::arch::global_asm;

use crate::{boot, serial, supervisor, syscall, worker};

global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);

/// The first Rust code, with the stack as the kernel laid it out: the number of arguments, then pointers to them.
extern "C" fn main(stack: *const usize) -> ! {
    if syscall::getpid() == 1 {
        as_init()
    }
    // SAFETY: the kernel's layout; `arguments` words follow the count.
    let (count, last) = unsafe { (*stack, *stack.add(3) as *const u8) };
    if count == 3 {
        let mut file = 0;
        for at in 0..3 {
            // SAFETY: arguments are terminated by zero, which ends the loop.
            let digit = unsafe { *last.add(at) }.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            file = file * 10 + i32::from(digit);
        }
        // SAFETY: the same layout; there are three arguments, of which the second is in the middle.
        let word = unsafe { *stack.add(2) as *const u8 };
        // SAFETY: as above; a shorter argument ends with the zero that stops the comparison.
        let resumes =
            worker::RESUME.to_bytes().iter().enumerate().all(|(at, &byte)| unsafe { *word.add(at) } == byte);
        if resumes {
            worker::resume(file)
        }
        supervisor::run(file, false)
    }
    boot::print(b"usage: agent --fd N (it is meant to be PID 1 of a copra guest)\n");
    syscall::exit(2)
}

fn as_init() -> ! {
    boot::mount_all();
    let marker = boot::marker_requested();
    let port = serial::open();
    if marker {
        boot::send_ready();
    }
    let Some(port) = port else {
        if !marker {
            boot::print(b"copra: agent: no second serial port (ttyS1): nothing to do, restarting\n");
        }
        syscall::sync();
        syscall::reboot(syscall::REBOOT_RESTART);
        // Not reached, unless the kernel forbids it; the end of PID 1 is a panic, and that ends the guest as well.
        syscall::exit(1)
    };
    supervisor::run(port, true)
}
