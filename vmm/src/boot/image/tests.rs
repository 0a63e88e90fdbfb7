// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernel files good, bad and random.

use proptest::prelude::*;

use super::synth::{self, put};
use super::*;

/// What is wrong with a file, as the user reads it.
fn refusal(bytes: &[u8]) -> String {
    extract_vmlinux(bytes).map(|_| ()).expect_err("a broken kernel was taken").to_string()
}

/// A good ELF file with some bytes changed.
fn elf_with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = synth::elf();
    put(&mut file, offset, bytes);
    file
}

/// A good zstd bzImage with some bytes changed.
fn bzimage_with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = packed("zstd");
    put(&mut file, offset, bytes);
    file
}

/// A good bzImage.
fn packed(method: &str) -> Vec<u8> {
    synth::bzimage(&synth::pack(method, &synth::elf()).unwrap())
}

#[track_caller]
fn assert_contains(bytes: &[u8], expected: &str) {
    let message = refusal(bytes);
    assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
}

#[test]
fn elf_facts() {
    let file = synth::elf();
    assert_eq!(identify(&file).unwrap(), Format::Vmlinux);
    let kernel = extract_vmlinux(&file).unwrap();
    assert!(matches!(kernel.elf, Cow::Borrowed(_)));
    assert!(kernel.bzimage.is_none());
    let facts = &kernel.facts;
    assert_eq!(facts.entry, synth::TEXT + synth::ENTRY);
    assert_eq!(facts.lowest(), synth::TEXT);
    assert_eq!(facts.highest(), synth::DATA + synth::DATA_MEMSZ);
    assert_eq!(facts.build_id.as_deref(), Some(&synth::BUILD_ID[..]));
    assert_eq!(facts.executable().count(), 1);
    assert_eq!(facts.physical_of(synth::VIRTUAL + synth::DATA + 5), Some(synth::DATA + 5));
    assert_eq!(facts.physical_of(synth::VIRTUAL), None);
    assert_eq!(kernel.segment_bytes(&facts.segments[0]), &file[0x1000..0x3000]);
    assert_eq!(kernel.version().as_deref(), Some(synth::VERSION));
    assert_eq!(kernel.release().as_deref(), Some("6.12.0-test"));
    assert_eq!(kernel.clone().into_owned().facts, kernel.facts);
}

#[test]
fn elf_symbols() {
    let file = synth::elf();
    let symbols = extract_vmlinux(&file).unwrap().symbols().unwrap().unwrap();
    let entry = synth::VIRTUAL + synth::TEXT + synth::ENTRY;
    assert_eq!(symbols.address_of("startup_64"), Some(entry));
    assert_eq!(symbols.address_of("_end"), Some(synth::VIRTUAL + synth::DATA + synth::DATA_MEMSZ));
    assert_eq!(symbols.address_of(".Llocal"), None);
    assert_eq!(symbols.address_of("zzz"), None);
    assert_eq!(symbols.len(), 3);
    assert_eq!(symbols.resolve(entry + 5).unwrap().to_string(), "startup_64+0x5");
    assert_eq!(symbols.resolve(entry + synth::STARTUP_SIZE), None, "behind a function of known size");
    assert_eq!(symbols.resolve(entry - 1), None);
    assert_eq!(symbols.resolve(u64::MAX), None);

    // e_shnum = 0: stripped
    let stripped = elf_with(60, &[0, 0]);
    assert!(extract_vmlinux(&stripped).unwrap().symbols().unwrap().is_none());
    // sh_link of the symbol table
    let lost = elf_with(0x3b00 + 64 + 40, &[9]);
    let error = extract_vmlinux(&lost).unwrap().symbols().unwrap_err().to_string();
    assert!(error.contains("no string table"), "{error}");
}

#[test]
fn map_symbols() {
    let text = "ffffffff81000000 T _text\nffffffff81000010 t do_it\nnonsense\n\
                ffffffffc0000000 t in_module\t[some_module]\nffffffff81000020 D table\n";
    let symbols = SymbolTable::from_map(text);
    assert_eq!(symbols.len(), 3);
    assert_eq!(symbols.address_of("do_it"), Some(0xffff_ffff_8100_0010));
    assert_eq!(symbols.resolve(0xffff_ffff_8100_0018).unwrap().to_string(), "do_it+0x8");
    assert!(SymbolTable::from_map("").is_empty());
    assert!(SymbolTable::default().resolve(0).is_none());
}

#[test]
fn every_compression() {
    for method in synth::METHODS {
        let file = packed(method);
        assert_eq!(identify(&file).unwrap(), Format::BzImage);
        let kernel = extract_vmlinux(&file).unwrap();
        assert!(kernel.elf.as_ref() == synth::elf(), "{method} changes the contents");
        let facts = kernel.bzimage.as_ref().unwrap();
        assert_eq!(facts.compression.to_string(), method);
        assert_eq!(facts.header.pref_address.get(), synth::TEXT);
        assert_eq!(facts.header.init_size.get(), 0);
        assert_eq!(facts.header_bytes, &file[0x1f1..0x26c]);
        assert_eq!(kernel.version().as_deref(), Some(synth::VERSION));
    }
    assert!(extract_vmlinux(&packed("none")).unwrap().elf.as_ref() == synth::elf());
}

#[test]
fn lz4_in_several_blocks() {
    let mut file = synth::elf();
    file.resize(20 << 20, 7);
    let kernel = synth::bzimage(&synth::pack("lz4", &file).unwrap());
    assert!(extract_vmlinux(&kernel).unwrap().elf.as_ref() == file);
}

#[test]
fn header_that_older_kernels_have() {
    // Protocol 2.08, header ends at 0x250; what follows is code.
    let mut old = bzimage_with(0x206, &[8, 2]);
    put(&mut old, 0x201, &[0x250_u16.to_le_bytes()[0] - 2]);
    let facts = extract_vmlinux(&old).unwrap().bzimage.unwrap();
    assert_eq!(facts.header_bytes.len(), 0x250 - 0x1f1);
    assert_eq!(facts.header.pref_address.get(), 0);
}

#[test]
fn wrong_elf_kinds_are_named() {
    assert_contains(&elf_with(18, &[183, 0]), "an aarch64 ELF");
    assert_contains(&elf_with(18, &[3, 0]), "an i386 (32-bit) ELF");
    assert_contains(&elf_with(18, &[0x34, 0x12]), "machine number 4660");
    assert_contains(&elf_with(4, &[1]), "32-bit");
    assert_contains(&elf_with(4, &[7]), "unknown ELF class 7");
    assert_contains(&elf_with(5, &[2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62]), "big-endian");
    assert_contains(&elf_with(5, &[2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 22]), "an s390 ELF");
    assert_contains(&elf_with(5, &[9]), "unknown byte order");
    assert_contains(&elf_with(16, &[1, 0]), "relocatable object");
    assert_contains(&elf_with(16, &[4, 0]), "core dump");
    assert_contains(&elf_with(16, &[9, 0]), "unknown ELF type 9");
    assert_contains(&elf_with(64 + 2 * 56, &[3]), "a user-space program");
}

#[test]
fn broken_elf_is_described() {
    assert_contains(&elf_with(56, &[0, 0]), "no PT_LOAD segment");
    assert_contains(&elf_with(56, &[0xff, 0xff]), "65535 program headers");
    assert_contains(&elf_with(54, &[55]), "55 bytes instead of 56");
    assert_contains(&elf_with(24, &[0; 8]), "its entry 0x0 is a physical address in none");
    // p_flags of segment 0 without PF_X: Linux 7.x calls the segment with its entry data.
    assert!(extract_vmlinux(&elf_with(68, &[4])).is_ok());
    // p_filesz of segment 1 above its p_memsz, then p_memsz and p_paddr beyond reason
    assert_contains(
        &elf_with(64 + 56 + 40, &[0; 8]),
        "program header 1 has 2048 bytes in the file but only 0 in memory",
    );
    assert_contains(&elf_with(64 + 56 + 40, &[0xff; 8]), "beyond 2^64");
    assert_contains(
        &elf_with(64 + 56 + 24, &[0xff; 8]),
        "at physical address 0xffffffffffffffff, beyond 2^64",
    );
    assert_contains(
        &elf_with(64 + 56 + 8, &[0xff; 8]),
        "program header 1 needs bytes 18446744073709551615 to",
    );
    let file = synth::elf();
    assert_contains(
        &file[..0x3400],
        "it ends at byte 13312, but its section header table needs bytes 15104 to 15296",
    );
    let mut stripped = elf_with(60, &[0, 0]);
    stripped.truncate(0x3400);
    assert_contains(&stripped, "it ends at byte 13312, but program header 1 needs bytes 12288 to 14336");
    assert_contains(&file[..40], "the ELF header needs bytes 0 to 64");
}

#[test]
fn broken_bzimage_is_described() {
    let file = packed("zstd");
    assert_contains(
        &file[..file.len() - 1],
        &format!("it ends at byte {}, but its protected-mode code needs {}", file.len() - 1, file.len()),
    );
    assert_contains(&file[..0x800], "its setup code needs 4096");
    assert_contains(&file[..0x240], "its setup header needs 620");
    assert_contains(&file[..0x100], "cut off");
    assert_contains(&bzimage_with(0x206, &[7, 2]), "boot protocol 2.07 has no payload fields");
    assert_contains(&bzimage_with(0x211, &[0]), "zImage");
    assert_contains(&bzimage_with(0x236, &[0]), "32-bit kernel");
    assert_contains(&bzimage_with(0x201, &[0xff]), "claims to end at 0x301");
    assert_contains(&bzimage_with(0x201, &[0]), "claims to end at 0x202");
    assert_contains(
        &bzimage_with(0x24c, &[0xff; 4]),
        "its payload (4294967295 bytes at 0x2cc) does not lie in",
    );
    assert_contains(&bzimage_with(0x248, &[0xff; 4]), "does not lie in");
    // setup_sects = 0 means 4
    assert_contains(&bzimage_with(0x1f1, &[0]), "belong to no compression method");
}

#[test]
fn broken_payload_is_described() {
    let elf = synth::elf();
    for method in synth::METHODS {
        let payload = synth::pack(method, &elf).unwrap();
        let middle = payload.len() / 2;
        let mut broken = payload.clone();
        broken[middle..middle + 8].copy_from_slice(&[0xff; 8]);
        let message = refusal(&synth::bzimage(&broken));
        assert!(message.contains(&format!("payload ({method})")), "{message}");

        let mut cut = payload[..middle].to_vec();
        cut.extend_from_slice(&(elf.len() as u32).to_le_bytes());
        let message = refusal(&synth::bzimage(&cut));
        assert!(message.contains(&format!("payload ({method})")), "{message}");

        let end = payload.len() - 4;
        let resized = |size: u32| [&payload[..end], &size.to_le_bytes()].concat();
        assert_contains(&synth::bzimage(&resized(u32::MAX)), "more than the limit of 536870912");
        refusal(&synth::bzimage(&resized(1000)));
        refusal(&synth::bzimage(&resized(elf.len() as u32 + 1)));
    }
    for (magic, name) in
        [(&b"BZh91"[..], "bzip2"), (&[0x5d, 0, 0, 0, 4], "lzma"), (b"\x89LZO\0\r\n\x1a\n", "lzo")]
    {
        assert_contains(
            &synth::bzimage(magic),
            &format!("compressed by {name}, which copra does not unpack"),
        );
    }
    assert_contains(&synth::bzimage(b"garbage!"), "belong to no compression method that Linux has");
    let not_elf = synth::pack("zstd", b"no kernel").unwrap();
    assert_contains(&synth::bzimage(&not_elf), "no ELF file at all");
}

#[test]
fn a_bomb_is_not_unpacked() {
    // 64 MiB of zeros that claim to be 1000 bytes.
    let zeros = vec![0; 64 << 20];
    for method in synth::METHODS {
        let mut bomb = synth::pack(method, &zeros).unwrap();
        let end = bomb.len() - 4;
        bomb[end..].copy_from_slice(&1000_u32.to_le_bytes());
        let message = refusal(&synth::bzimage(&bomb));
        assert!(message.contains(&format!("payload ({method})")), "{message}");
    }
}

#[test]
fn other_files_are_named() {
    let at = |offset: usize, magic: &[u8]| {
        let mut file = vec![1; 0x1000];
        put(&mut file, offset, magic);
        file
    };
    let mut uki = at(0, b"MZ");
    put(&mut uki, 0x3c, &[0x80, 0]);
    put(&mut uki, 0x80, b"PE\0\0\x64\x86\x02\0");
    put(&mut uki, 0x80 + 20, &[0xf0, 0]);
    assert_contains(&uki, "an EFI or Windows program");
    put(&mut uki, 0x80 + 24 + 0xf0 + 40, b".linux\0\0");
    assert_contains(&uki, "a unified kernel image");
    for (file, name) in [
        (Vec::new(), "an empty file"),
        (vec![0; 5000], "5000 zero bytes"),
        (at(0x38, b"ARM\x64"), "an arm64 Image"),
        (at(0, &[0x1f, 0x8b, 8]), "a gzip file"),
        (at(0, b"MZ"), "MZ without a PE header"),
        (at(0x1fe, &[0x55, 0xaa]), "no \"HdrS\" at 0x202"),
        (at(0, b"!<arch>\ndebian-binary"), "a Debian package"),
        (at(0, b"070701"), "a cpio archive"),
        (b"<html>\n<title>404".to_vec(), "a text file that begins \"<html>\""),
        ("ä".repeat(700).into_bytes(), "a text file"),
        (vec![1, 2, 3], "3 bytes of an unknown kind, beginning [01, 02, 03]"),
    ] {
        assert!(identify(&file).is_err());
        assert_contains(&file, name);
    }
}

#[test]
fn files_that_are_not_read() {
    let message = |path: &Path| read(path).unwrap_err().to_string();
    assert!(message(Path::new("/")).contains("it is a directory"));
    assert!(message(Path::new("/dev/null")).contains("a device"));
    assert!(message(Path::new("/no/such/kernel")).contains("/no/such/kernel"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vmlinux");
    File::create(&path).unwrap().set_len(MAX_FILE_SIZE + 1).unwrap();
    assert!(message(&path).contains("strip"));
    std::fs::write(&path, synth::elf()).unwrap();
    assert_eq!(read(&path).unwrap(), synth::elf());
}

#[test]
fn every_truncation_is_refused() {
    for file in [synth::elf(), packed("zstd"), packed("gzip"), packed("xz"), packed("lz4")] {
        // All lengths around the headers, then a coarse step and the last bytes.
        let tail = file.len() - 40..file.len();
        for length in (0..0x300).chain((0x300..file.len()).step_by(13)).chain(tail) {
            assert!(extract_vmlinux(&file[..length]).is_err(), "{length} of {} bytes", file.len());
        }
    }
}

/// Calls everything on a file that was accepted as a kernel.
fn exercise(bytes: &[u8]) {
    let _ = identify(bytes).map_err(|e| e.to_string());
    match extract_vmlinux(bytes) {
        Ok(kernel) => {
            assert!(kernel.elf.len() <= decompress::MAX_UNPACKED.max(bytes.len()));
            let facts = &kernel.facts;
            assert!(facts.lowest() <= facts.entry && facts.entry < facts.highest());
            for segment in &facts.segments {
                assert_eq!(kernel.segment_bytes(segment).len() as u64, segment.filesz);
            }
            kernel.version();
            if let Ok(Some(symbols)) = kernel.symbols() {
                symbols.resolve(facts.entry);
                symbols.address_of("_end");
            }
            kernel.kallsyms();
            kernel.section(".text");
            kernel.code();
            kernel.data_from(facts.entry);
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// Parts of real files, so that random bytes get past the first checks.
fn seeds() -> impl Strategy<Value = Vec<u8>> {
    let mut files: Vec<_> = synth::METHODS.iter().map(|m| packed(m)).collect();
    files.push(synth::elf());
    files.push(b"\x7fELF".to_vec());
    files.push(vec![]);
    prop::sample::select(files)
}

/// Bytes that fields are wrong with.
fn edges() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![0, 1, 2, 0x7f, 0x80, 0xff])
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        exercise(&bytes);
    }

    #[test]
    fn mutated_kernels_never_panic(
        mut file in seeds(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        header in prop::collection::vec((0_usize..0x300, edges()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        file.extend_from_slice(&tail);
        for (at, value) in header {
            if let Some(byte) = file.get_mut(at) {
                *byte = value;
            }
        }
        for (index, value) in changes {
            if !file.is_empty() {
                let at = index.index(file.len());
                file[at] = value;
            }
        }
        exercise(&file);
    }

    #[test]
    fn what_is_packed_is_unpacked(
        data in prop::collection::vec(any::<u8>(), 1..5000),
        repeat in 1_usize..20,
        method in prop::sample::select(&synth::METHODS[..]),
    ) {
        let data = data.repeat(repeat);
        let (found, unpacked) = decompress::unpack(&synth::pack(method, &data).unwrap()).unwrap();
        prop_assert_eq!(found.to_string(), method);
        prop_assert!(unpacked == data);
    }
}
