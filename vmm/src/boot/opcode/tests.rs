// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Code made of pieces whose meaning is known.

use proptest::prelude::*;

use super::super::image::{extract_vmlinux, synth};
use super::*;

/// Where `synth::elf` has its first segment in the file, and the first byte that is ours.
const TEXT_OFFSET: usize = 0x1000;
const CODE: usize = 0x400;

/// Ordinary instructions as compilers make them, none longer than 10 bytes.
const ORDINARY: [&[u8]; 12] = [
    &[0x55],                                     // push rbp
    &[0x48, 0x89, 0xe5],                         // mov rbp, rsp
    &[0x48, 0x8b, 0x7d, 0xf8],                   // mov rdi, [rbp-8]
    &[0xe8, 0x10, 0x02, 0x00, 0x00],             // call
    &[0x31, 0xc0],                               // xor eax, eax
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],             // nop
    &[0x85, 0xc0],                               // test eax, eax
    &[0x74, 0x05],                               // je
    &[0xc3],                                     // ret
    &[0xcc],                                     // int3
    &[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], // mov rax, gs:0
    &[0x41, 0xbc, 0x01, 0x00, 0x00, 0x00],       // mov r12d, 1
];

/// One of the four, or bytes of one in another instruction.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Ordinary(usize),
    Site(Opcode),
    Operand(Opcode),
    Prefixed(Opcode),
}

impl Piece {
    fn push(self, code: &mut Vec<u8>) {
        match self {
            Self::Ordinary(index) => code.extend_from_slice(ORDINARY[index]),
            Self::Site(opcode) => code.extend_from_slice(&opcode.bytes()),
            // movabs rax, imm64: the bytes are the middle of the immediate.
            Self::Operand(opcode) => {
                code.extend_from_slice(&[0x48, 0xb8, 0x90, 0x90]);
                code.extend_from_slice(&opcode.bytes());
                code.extend_from_slice(&[0x90, 0x90]);
            }
            // A segment prefix that does nothing.
            Self::Prefixed(opcode) => {
                code.push(0x2e);
                code.extend_from_slice(&opcode.bytes());
            }
        }
    }
}

fn opcode() -> impl Strategy<Value = Opcode> {
    prop::sample::select(Opcode::ALL.to_vec())
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        40 => (0..ORDINARY.len()).prop_map(Piece::Ordinary),
        1 => opcode().prop_map(Piece::Site),
        1 => opcode().prop_map(Piece::Operand),
        1 => opcode().prop_map(Piece::Prefixed),
    ]
}

/// A relocatable ELF with one section of code and one of data, both of the same contents.
fn module(code: &[u8]) -> Vec<u8> {
    const SECTIONS: usize = 64;
    let names = b"\0.text\0.data\0.shstrtab\0";
    let contents = SECTIONS + 4 * 64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    synth::put(&mut file, 16, &[1, 0, 62, 0, 1]);
    synth::put(&mut file, 40, &[SECTIONS as u8]);
    synth::put(&mut file, 52, &[64, 0, 0, 0, 0, 0, 64, 0, 4, 0, 3, 0]);
    let code_len = code.len();
    let headers = [
        (1_u32, 1_u32, 6_u64, contents, code_len),
        (7, 1, 3, contents + code_len, code_len),
        (13, 3, 0, contents + 2 * code_len, names.len()),
    ];
    for (index, (name, kind, flags, offset, size)) in headers.into_iter().enumerate() {
        let at = SECTIONS + (index + 1) * 64;
        synth::put(&mut file, at, &name.to_le_bytes());
        synth::put(&mut file, at + 4, &kind.to_le_bytes());
        synth::put(&mut file, at + 8, &flags.to_le_bytes());
        synth::put(&mut file, at + 24, &(offset as u64).to_le_bytes());
        synth::put(&mut file, at + 32, &(size as u64).to_le_bytes());
    }
    synth::put(&mut file, contents, &[code, code, names].concat());
    file
}

/// Appends a member to an archive.
fn member(archive: &mut Vec<u8>, name: &str, contents: &[u8]) {
    let start = archive.len();
    archive.extend_from_slice(b"070701");
    for index in 0..13 {
        let number = match index {
            6 => contents.len(),
            11 => name.len() + 1,
            _ => 0,
        };
        archive.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(start + (archive.len() - start).next_multiple_of(4), 0);
    archive.extend_from_slice(contents);
    archive.resize(start + (archive.len() - start).next_multiple_of(4), 0);
}

/// An archive of some files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, contents) in files {
        member(&mut archive, name, contents);
    }
    member(&mut archive, "TRAILER!!!", &[]);
    archive
}

/// Without the size that `scripts/Makefile.lib` appends; gzip has none.
fn pack(method: &str, data: &[u8]) -> Vec<u8> {
    let mut packed = synth::pack(method, data).unwrap();
    packed.truncate(packed.len() - if method == "gzip" { 0 } else { 4 });
    packed
}

#[test]
fn a_rewrite_is_as_long_as_the_instruction_and_has_a_port_of_its_own() {
    for opcode in Opcode::ALL {
        let [out, port, ..] = opcode.replacement();
        assert_eq!(out, 0xe7);
        assert_eq!(Opcode::of_port(u16::from(port)), Some(opcode));
    }
    assert_eq!(Opcode::of_port(crate::layout::COM1), None);
}

#[test]
fn a_site_is_known_by_both_addresses_and_by_its_surroundings() {
    let mut file = synth::elf();
    // Zeros, which a reading never gets out of step with, are no code.
    synth::put(&mut file, TEXT_OFFSET + CODE - 256, &[0x90; 256]);
    synth::put(&mut file, TEXT_OFFSET + CODE, &Opcode::Vmgexit.bytes());
    let sites = find(&extract_vmlinux(&file).unwrap()).unwrap();
    let site = sites.at(synth::VIRTUAL + synth::TEXT + CODE as u64).unwrap();
    assert_eq!((site.physical, site.opcode), (synth::TEXT + CODE as u64, Opcode::Vmgexit));
    assert_eq!(sites.at(site.physical), Some(site));
    assert_eq!(sites.at(site.physical + 1), None);
    assert_eq!((site.original(), site.replacement()), ([0xf3, 0x0f, 0x01, 0xd9], [0xe7, 0xf2, 0x66, 0x90]));
    let (hash, count) = (site.hash, sites.count(Opcode::Vmgexit));
    assert_eq!((count, sites.count(Opcode::Tdcall), sites.iter().count()), (1, 0, 1));
    synth::put(&mut file, TEXT_OFFSET + CODE - 1, &[0x55]);
    let sites = find(&extract_vmlinux(&file).unwrap()).unwrap();
    assert_ne!(sites.iter().next().unwrap().hash, hash);
}

#[test]
fn a_kernel_of_nothing_else_is_refused() {
    let mut file = synth::elf();
    for at in (0..0xff0).step_by(4) {
        synth::put(&mut file, TEXT_OFFSET + at, &Opcode::Tdcall.bytes());
    }
    assert_eq!(find(&extract_vmlinux(&file).unwrap()).unwrap().iter().count(), 0xff0 / 4);
    let mut code = vec![0x90; 4];
    (0..=MAX_CANDIDATES).for_each(|_| Piece::Operand(Opcode::Tdcall).push(&mut code));
    assert_eq!(scan_module(&module(&code)), Err(ModuleError::TooMany));
}

#[test]
fn modules_are_found_in_all_an_initramfs_is_made_of() {
    let with = |opcode: Opcode| module(&[&[0x55], &opcode.bytes()[..], &[0xc3]].concat());
    let (plain, guest) = (module(&[0x90; 300]), with(Opcode::Tdcall));
    let zst = pack("zstd", &with(Opcode::Rmpadjust));
    let mut initramfs = archive(&[("a/plain.ko", &plain), ("a/tdx-guest.ko", &guest), ("init", &guest)]);
    initramfs.resize(initramfs.len().next_multiple_of(512), 0);
    for method in ["gzip", "zstd", "xz"] {
        let name = format!("{method}.ko.xz");
        let xz = pack("xz", &with(Opcode::Pvalidate));
        initramfs.extend(pack(method, &archive(&[(&name, &xz), ("x.ko.zst", &zst), ("bad.ko", b"bad")])));
    }
    let findings = scan_initramfs(&initramfs);
    assert_eq!(findings.scanned, 8);
    let (pvalidate, rmpadjust) = (vec![Opcode::Pvalidate], vec![Opcode::Rmpadjust]);
    let mut expected = vec![("a/tdx-guest.ko".to_owned(), vec![Opcode::Tdcall])];
    for method in ["gzip", "zstd", "xz"] {
        expected.push((format!("{method}.ko.xz"), pvalidate.clone()));
        expected.push(("x.ko.zst".to_owned(), rmpadjust.clone()));
    }
    assert_eq!(findings.modules, expected);
    assert_eq!(findings.unread.len(), 3);

    initramfs.truncate(initramfs.len() - 9);
    let cut = scan_initramfs(&initramfs);
    assert_eq!((cut.scanned, cut.unread.last().unwrap().0.as_str()), (6, "initramfs"));
}

proptest! {
    #[test]
    fn exactly_the_instructions_are_found(pieces in prop::collection::vec(piece(), 1..800)) {
        let (mut code, mut expected, mut others) = (Vec::new(), Vec::new(), 0);
        for piece in pieces {
            match piece {
                Piece::Site(opcode) => expected.push((code.len(), opcode)),
                Piece::Ordinary(_) => {}
                _ => others += 1,
            }
            piece.push(&mut code);
        }
        code.truncate(0x1000 - CODE);
        expected.retain(|(at, _)| at + Opcode::LEN <= code.len());
        let mut file = synth::elf();
        synth::put(&mut file, TEXT_OFFSET + CODE, &code);
        let sites = find(&extract_vmlinux(&file).unwrap()).unwrap();
        let base = synth::VIRTUAL + synth::TEXT + CODE as u64;
        let found: Vec<_> = sites.iter().map(|s| ((s.address - base) as usize, s.opcode)).collect();
        prop_assert_eq!(&found, &expected);
        prop_assert!(sites.rejected().len() <= others);

        let mut opcodes: Vec<_> = expected.iter().map(|(_, opcode)| *opcode).collect();
        opcodes.sort_unstable();
        opcodes.dedup();
        prop_assert_eq!(scan_module(&module(&code)), Ok(opcodes));
    }

    #[test]
    fn no_bytes_disturb(mut bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0..600_usize, value: u8) {
        let _ = scan_initramfs(&bytes);
        let mut file = module(&[0x90; 8]);
        file[at % 320] = value;
        let _ = scan_module(&file);
        bytes.splice(0..0, *b"070701");
        let _ = scan_initramfs(&bytes);
        let mut file = archive(&[("a.ko", &file), ("b", b"b")]);
        let at = at % file.len();
        file[at] = value;
        let _ = scan_initramfs(&file);
        let mut packed = pack("zstd", &file);
        let at = at % packed.len();
        packed[at] = value;
        let _ = scan_initramfs(&packed);
        bytes.splice(0..0, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
        let _ = scan_initramfs(&bytes);
    }
}
