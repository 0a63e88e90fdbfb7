// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small kernel files for tests, made without the code that reads them.

use std::io::{Read, Write};

/// Physical address of the first segment.
pub(crate) const TEXT: u64 = 0x0100_0000;
/// What the kernel's virtual addresses are ahead of the physical (arch/x86: `__START_KERNEL_map`).
pub(crate) const VIRTUAL: u64 = 0xffff_ffff_8000_0000;
/// Physical address of the second segment.
pub(crate) const DATA: u64 = 0x0120_0000;
/// Size of the second segment in memory.
pub(crate) const DATA_MEMSZ: u64 = 0x3000;
/// Offset of the entry in the first segment.
pub(crate) const ENTRY: u64 = 0x40;
/// The build id in the note.
pub(crate) const BUILD_ID: [u8; 20] = *b"copra-test-build-id!";
/// The text of the banner.
pub(crate) const VERSION: &str = "6.12.0-test (me@here) #1 SMP";
/// Size of `startup_64` in the symbol table.
pub(crate) const STARTUP_SIZE: u64 = 0x20;

/// Where the first segment is in the file.
const TEXT_OFFSET: usize = 0x1000;
/// Its size.
const TEXT_SIZE: usize = 0x2000;
/// Where the second segment is.
const DATA_OFFSET: usize = 0x3000;
/// Its size in the file.
const DATA_FILESZ: usize = 0x800;
/// Where the note is, in the first segment.
const NOTE_OFFSET: usize = 0x2000;
/// Where the banner is, in the second segment.
const BANNER_OFFSET: usize = 0x3100;
/// Where the symbols are.
const SYMTAB_OFFSET: usize = 0x3800;
/// Where their names are.
const STRTAB_OFFSET: usize = 0x3a00;
/// Where the section headers are.
const SECTIONS_OFFSET: usize = 0x3b00;

/// Overwrites, or appends after filling with zeros.
pub(crate) fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Little-endian words, one after the other.
fn words(file: &mut Vec<u8>, offset: usize, values: &[u64]) {
    for (index, value) in values.iter().enumerate() {
        put(file, offset + index * 8, &value.to_le_bytes());
    }
}

/// Two 32-bit halves as a word.
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// An ELF file as a kernel's: two load segments, a note, a symbol table.
pub(crate) fn elf() -> Vec<u8> {
    let mut file = Vec::new();
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    // ET_EXEC, EM_X86_64, version 1
    put(&mut file, 16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    words(&mut file, 24, &[TEXT + ENTRY, 64, SECTIONS_OFFSET as u64]);
    // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
    put(&mut file, 52, &[64, 0, 56, 0, 3, 0, 64, 0, 3, 0, 0, 0]);
    let segment = |file: &mut Vec<u8>, index: usize, kind: u32, flags: u32, rest: [u64; 6]| {
        words(file, 64 + index * 56, &[pair(kind, flags)]);
        words(file, 64 + index * 56 + 8, &rest);
    };
    let text = TEXT_SIZE as u64;
    segment(&mut file, 0, 1, 5, [TEXT_OFFSET as u64, VIRTUAL + TEXT, TEXT, text, text, 0x20_0000]);
    let data = [DATA_OFFSET as u64, VIRTUAL + DATA, DATA, DATA_FILESZ as u64, DATA_MEMSZ, 0x20_0000];
    segment(&mut file, 1, 1, 6, data);
    let note = TEXT + (NOTE_OFFSET - TEXT_OFFSET) as u64;
    segment(&mut file, 2, 4, 4, [NOTE_OFFSET as u64, VIRTUAL + note, note, 64, 64, 4]);

    // Calls, so that the x86 filter of xz has something to do.
    for at in (TEXT_OFFSET..NOTE_OFFSET).step_by(16) {
        put(&mut file, at, &[0xe8, at as u8, (at >> 8) as u8, 0, 0, 0x90, 0x0f, 0x0b]);
    }
    // A foreign note first: name of 4 bytes, 3 bytes of contents.
    put(&mut file, NOTE_OFFSET, &[4, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0]);
    put(&mut file, NOTE_OFFSET + 12, b"Xen\0abc\0");
    put(&mut file, NOTE_OFFSET + 20, &[4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0]);
    put(&mut file, NOTE_OFFSET + 32, b"GNU\0");
    put(&mut file, NOTE_OFFSET + 36, &BUILD_ID);
    put(&mut file, BANNER_OFFSET - 0x80, b"Linux version %s\n\0");
    put(&mut file, BANNER_OFFSET, format!("Linux version {VERSION}\n\0").as_bytes());

    let names = b"\0startup_64\0_end\0.Llocal\0alias\0";
    put(&mut file, STRTAB_OFFSET, names);
    let end = VIRTUAL + DATA + DATA_MEMSZ;
    let entry = VIRTUAL + TEXT + ENTRY;
    // name, kind, section, value, size
    let symbols = [
        (0, 0, 0, 0, 0),
        (1, 2, 1, entry, STARTUP_SIZE),
        (12, 0, 1, end, 0),
        (17, 2, 1, entry, 1),
        (25, 0, 1, entry, 0),
    ];
    for (index, (name, kind, section, value, size)) in symbols.into_iter().enumerate() {
        words(&mut file, SYMTAB_OFFSET + index * 24, &[pair(name, kind | section << 16), value, size]);
    }
    // sh_name/sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link/sh_info, sh_addralign, sh_entsize
    let symtab = [pair(0, 2), 0, 0, SYMTAB_OFFSET as u64, symbols.len() as u64 * 24, pair(2, 1), 8, 24];
    words(&mut file, SECTIONS_OFFSET + 64, &symtab);
    let strtab = [pair(0, 3), 0, 0, STRTAB_OFFSET as u64, names.len() as u64, 0, 1, 0];
    words(&mut file, SECTIONS_OFFSET + 128, &strtab);
    file
}

/// The same with more sections: name, address, flags and contents.
pub(crate) fn elf_with_sections(sections: &[(&str, u64, u64, &[u8])]) -> Vec<u8> {
    let mut file = elf();
    let mut headers = file[SECTIONS_OFFSET..SECTIONS_OFFSET + 3 * 64].to_vec();
    let mut names = vec![0];
    for (name, address, flags, contents) in sections {
        let at = file.len().next_multiple_of(8);
        put(&mut file, at, contents);
        let (end, size) = (headers.len(), contents.len() as u64);
        words(&mut headers, end, &[pair(names.len() as u32, 1), *flags, *address, at as u64, size, 0, 1, 0]);
        names.extend_from_slice(name.as_bytes());
        names.push(0);
    }
    let names_at = file.len();
    let end = headers.len();
    words(&mut headers, end, &[pair(0, 3), 0, 0, names_at as u64, names.len() as u64, 0, 1, 0]);
    put(&mut file, names_at, &names);
    let headers_at = file.len().next_multiple_of(8);
    put(&mut file, headers_at, &headers);
    words(&mut file, 40, &[headers_at as u64]);
    let count = headers.len() as u16 / 64;
    put(&mut file, 60, &count.to_le_bytes());
    put(&mut file, 62, &(count - 1).to_le_bytes());
    file
}

/// What the kernel's build can pack with, and copra can unpack.
pub(crate) const METHODS: [&str; 4] = ["gzip", "zstd", "xz", "lz4"];

/// Packs as `scripts/Makefile.lib` does; any other method gives the input as it is.
pub(crate) fn pack(method: &str, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = Vec::new();
    match method {
        "gzip" => {
            flate2::read::GzEncoder::new(data, flate2::Compression::best()).read_to_end(&mut packed)?;
            return Ok(packed);
        }
        // From a pipe, so without the size in the frame.
        "zstd" => {
            let mut encoder = zstd::stream::write::Encoder::new(&mut packed, 3)?;
            encoder.include_checksum(true)?;
            encoder.write_all(data)?;
            encoder.finish()?;
        }
        "xz" => {
            let options = xz2::stream::LzmaOptions::new_preset(1)?;
            let mut filters = xz2::stream::Filters::new();
            filters.x86().lzma2(&options);
            let stream = xz2::stream::Stream::new_stream_encoder(&filters, xz2::stream::Check::Crc32)?;
            xz2::bufread::XzEncoder::new_stream(data, stream).read_to_end(&mut packed)?;
        }
        "lz4" => {
            packed.extend_from_slice(&[0x02, 0x21, 0x4c, 0x18]);
            for block in data.chunks(8 << 20) {
                let block = lz4_flex::block::compress(block);
                packed.extend_from_slice(&(block.len() as u32).to_le_bytes());
                packed.extend_from_slice(&block);
            }
        }
        _ => return Ok(data.to_vec()),
    }
    packed.extend_from_slice(&(data.len() as u32).to_le_bytes());
    Ok(packed)
}

/// How many sectors follow the first.
pub(crate) const SETUP_SECTS: usize = 7;
/// Where the payload is in the protected-mode code.
pub(crate) const PAYLOAD: usize = 0x2cc;
/// The bytes between the payload and the end of the file.
pub(crate) const TRAILER: usize = 100;

/// A bzImage around a payload, as arch/x86/boot/header.S and tools/build.c lay it out.
pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let setup = (SETUP_SECTS + 1) * 512;
    let code = (PAYLOAD + payload.len() + TRAILER).next_multiple_of(16);
    put(&mut file, 0, b"MZ");
    put(&mut file, 0x1f1, &[SETUP_SECTS as u8]);
    put(&mut file, 0x1f4, &((code / 16) as u32).to_le_bytes());
    put(&mut file, 0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(&mut file, 0x202, b"HdrS\x0f\x02");
    put(&mut file, 0x20e, &0x800_u16.to_le_bytes());
    put(&mut file, 0x211, &[1]);
    put(&mut file, 0x234, &[1, 21, 0x7f, 0]);
    put(&mut file, 0x248, &(PAYLOAD as u32).to_le_bytes());
    put(&mut file, 0x24c, &(payload.len() as u32).to_le_bytes());
    put(&mut file, 0x258, &TEXT.to_le_bytes());
    put(&mut file, 0xa00, VERSION.as_bytes());
    put(&mut file, setup + PAYLOAD, payload);
    file.resize(setup + code, 0xcc);
    file
}
