// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels of a few bytes: an ELF vmlinux with one segment at 16 MiB, entered in 64-bit mode with memory mapped
//! one to one.

/// Where the segment is loaded; its first byte is the entry.
pub const BASE: u64 = 16 << 20;
/// Where the code's data may begin, counted from [`BASE`].
pub const DATA: usize = 0x1000;
/// ELF and program header.
const HEADERS: usize = 64 + 56;
/// `EM_X86_64`.
pub const X86_64: u16 = 62;
/// `EM_AARCH64`.
pub const AARCH64: u16 = 183;
/// `EM_386`.
pub const I386: u16 = 3;

/// An endless loop.
pub const HANG: &[u8] = &[0xeb, 0xfe]; // jmp .
/// An exception without an interrupt table.
pub const TRIPLE_FAULT: &[u8] = &[
    0x0f, 0x01, 0x1c, 0x25, 0x00, 0x10, 0x00, 0x01, // lidt [BASE + DATA], ten zero bytes
    0x0f, 0x0b, // ud2
];
/// A reset through the keyboard controller, before anything else.
pub const RESET: &[u8] = &[
    0xb0, 0xfe, // mov al, 0xfe
    0xe6, 0x64, // out 0x64, al
    0xeb, 0xfe, // jmp .
];
/// Counts on the agent's port, for ever.
pub const BABBLE: &[u8] = &[
    0x66, 0xba, 0xf8, 0x02, // mov dx, 0x2f8
    0xee, // out dx, al
    0xfe, 0xc0, // inc al
    0xeb, 0xfb, // jmp to out
];
/// A write to the agent's port that never ends in a frame, then silence.
pub const MUTE: &[u8] = &[
    0x66, 0xba, 0xf8, 0x02, // mov dx, 0x2f8
    0xb0, 0xc5, // mov al, 0xc5 (a frame's first byte)
    0xee, // out dx, al
    0xeb, 0xfe, // jmp .
];

/// The last console line of the flooding kernel.
pub const LAST_WORDS: &str = "\nKernel panic - not syncing: flooded\n";

/// An ELF file for x86-64 with this code.
pub fn vmlinux(code: &[u8]) -> Vec<u8> {
    elf(X86_64, code, 1 << 20)
}

/// An ELF file for a machine, whose segment takes `memory` bytes.
pub fn elf(machine: u16, code: &[u8], memory: u64) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', if machine == I386 { 1 } else { 2 }, 1, 1];
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());
    half(&mut file, 2); // ET_EXEC
    half(&mut file, machine);
    word(&mut file, 1);
    long(&mut file, BASE); // entry
    long(&mut file, 64); // program headers
    long(&mut file, 0); // no sections
    word(&mut file, 0);
    for value in [64, 56, 1, 0, 0, 0] {
        half(&mut file, value);
    }
    word(&mut file, 1); // PT_LOAD
    word(&mut file, 5); // readable, executable
    let offset = DATA as u64;
    for value in [offset, BASE, BASE, code.len() as u64, memory.max(code.len() as u64), 0x1000] {
        long(&mut file, value);
    }
    assert_eq!(file.len(), HEADERS);
    // The mark by which a vmlinux is recognized; it is not loaded.
    file.extend(b"Linux version 6.12.0-copra-test (copra) #1\0");
    file.resize(DATA, 0);
    file.extend(code);
    file
}

/// Writes so many pages to the console, then panics as a kernel would and halts.
pub fn flood(pages: u32) -> Vec<u8> {
    let page = (BASE as u32 + DATA as u32).to_le_bytes();
    let words = (BASE as u32 + 2 * DATA as u32).to_le_bytes();
    let mut code = vec![0x66, 0xba, 0xf8, 0x03]; // mov dx, 0x3f8
    code.push(0xbb); // mov ebx, pages
    code.extend(pages.to_le_bytes());
    code.push(0xbe); // mov esi, page
    code.extend(page);
    code.push(0xb9); // mov ecx, 0x1000
    code.extend((DATA as u32).to_le_bytes());
    code.extend([0xf3, 0x6e]); // rep outsb
    code.extend([0xff, 0xcb]); // dec ebx
    code.extend([0x75, 0xf0]); // jnz to mov esi
    code.push(0xbe); // mov esi, words
    code.extend(words);
    code.push(0xb9); // mov ecx, length
    code.extend((LAST_WORDS.len() as u32).to_le_bytes());
    code.extend([0xac, 0xee, 0xe2, 0xfc]); // lodsb; out dx, al; loop to lodsb
    code.extend([0xfa, 0xf4, 0xeb, 0xfd]); // cli; hlt; jmp to hlt
    code.resize(DATA, 0);
    code.resize(2 * DATA, b'x');
    code.extend(LAST_WORDS.as_bytes());
    code
}
