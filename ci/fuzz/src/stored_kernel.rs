// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files in the cache that hold what was found in a kernel image: the kernel to boot, and its names.

use vmm::boot::{image, opcode, prepared};
use vmm::trace::kernel::NameData;

use crate::kernel_image::synth;

/// Takes the bytes for either file, and uses what comes back.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(image) = prepared::decode(bytes) {
        let kernel = &image.kernel;
        for segment in &kernel.facts.segments {
            assert_eq!(kernel.segment_bytes(segment).len() as u64, segment.filesz);
        }
        let sites = image.sites.iter().flat_map(opcode::Sites::iter);
        sites.for_each(|site| assert_eq!(site.original().len(), site.replacement().len()));
    }
    if let Ok(names) = NameData::decode(bytes) {
        if let Some(symbols) = names.symbols() {
            let _ = (symbols.address_of("_end"), symbols.next_after(0), symbols.resolve(u64::MAX));
        }
        let _ = names.name(synth::VIRTUAL + synth::TEXT);
        // What was taken is what would be stored.
        assert_eq!(NameData::decode(&names.encode()), Ok(names));
    }
}

/// Both files of a small kernel.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let file = synth::elf();
    let Ok(kernel) = image::extract_vmlinux(&file) else { return Vec::new() };
    vec![
        ("boot".to_owned(), prepared::encode(&kernel)),
        ("names".to_owned(), NameData::find(&kernel).encode()),
    ]
}
