// SPDX-License-Identifier: Apache-2.0 OR MIT
//! bzImage and ELF files: recognise, unpack, read the headers, look up symbols.

use vmm::boot::image;

// Test inputs of the crate itself; not all of it is needed here.
#[allow(dead_code)]
#[path = "../../../vmm/src/boot/image/synth.rs"]
pub(crate) mod synth;

/// Calls everything on a kernel file.
pub(crate) fn run(bytes: &[u8]) {
    let format = image::identify(bytes);
    let kernel = match image::extract_vmlinux(bytes) {
        Ok(kernel) => kernel,
        Err(e) => {
            assert!(!e.to_string().is_empty());
            return;
        }
    };
    assert!(format.is_ok(), "unpacked what was not recognised");
    assert!(kernel.elf.len() <= image::decompress::MAX_UNPACKED.max(bytes.len()));
    let facts = &kernel.facts;
    assert!(facts.lowest() <= facts.entry && facts.entry < facts.highest());
    for segment in &facts.segments {
        assert_eq!(kernel.segment_bytes(segment).len() as u64, segment.filesz);
        let _ = facts.physical_of(segment.vaddr);
    }
    let _ = (kernel.version(), kernel.release());
    if let Ok(Some(symbols)) = kernel.symbols() {
        for segment in &facts.segments {
            if let Some(symbol) = symbols.resolve(segment.vaddr.wrapping_add(16)) {
                assert!(symbols.address_of(symbol.name).is_some());
            }
        }
    }
}

/// A small kernel in every packing, and some that are refused.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let elf = synth::elf();
    let packed = synth::METHODS.iter().chain(&["none"]).filter_map(|method| {
        let payload = synth::pack(method, &elf).ok()?;
        Some((format!("bzimage-{method}"), synth::bzimage(&payload)))
    });
    let mut seeds: Vec<_> = packed.collect();
    let refused: [(&str, &[u8]); 4] = [
        ("bzip2", b"BZh91AY&SY"),
        ("lzma", &[0x5d, 0, 0, 0, 4]),
        ("lzo", b"\x89LZO\0\r\n\x1a\n"),
        ("garbage", b"?"),
    ];
    seeds.extend(refused.map(|(name, payload)| (format!("bzimage-{name}"), synth::bzimage(payload))));
    let mut aarch64 = elf.clone();
    synth::put(&mut aarch64, 18, &[183, 0]);
    seeds.push(("elf-aarch64".to_owned(), aarch64));
    seeds.push(("elf".to_owned(), elf));
    seeds
}
