// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages as the kernel reads them.

use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;

fn read<T: FromBytes>(bytes: &[u8], at: usize) -> T {
    T::read_from_bytes(&bytes[at..at + size_of::<T>()]).unwrap()
}

fn entry() -> impl Strategy<Value = CpuidEntry> {
    let leaf = prop_oneof![0u32..0x20, Just(0xd), 0x3fff_fff0u32..0x4000_0010, 0x8000_0000u32..0x8000_0022];
    let value = || prop_oneof![Just(0), any::<u32>()];
    (leaf, 0u32..4, value(), value(), value(), value())
        .prop_map(|(leaf, subleaf, eax, ebx, ecx, edx)| CpuidEntry { leaf, subleaf, eax, ebx, ecx, edx })
}

#[test]
fn keys_are_marked_as_no_secret() {
    let page = secrets_page();
    assert_eq!(page.len(), 4096);
    let secrets: SecretsPage = read(&page, 0);
    assert_eq!(secrets.version.get(), 3);
    for (index, key) in secrets.vmpck.iter().enumerate() {
        let text = std::str::from_utf8(key).unwrap();
        assert_eq!(text, format!("copra simulated VMPCK{index} no secret"));
    }
    assert!(page[0xa0..].iter().all(|b| *b == 0));
}

#[test]
fn pages_that_linux_would_not_take_are_refused() {
    let entry = CpuidEntry { leaf: 1, subleaf: 0, eax: 1, ebx: 0, ecx: 0, edx: 0 };
    assert_eq!(cpuid_page(&[entry; 65]), Err(CpuidPageError::TooMany(65)));
    assert!(cpuid_page(&[entry; 64]).is_ok());
    assert_eq!(cpuid_page(&[CpuidEntry { eax: 0, ..entry }; 100]), Err(CpuidPageError::Empty));
}

proptest! {
    #[test]
    fn the_blob_leads_to_both_pages(secrets: u64, cpuid: u64) {
        let bytes = cc_blob(secrets, cpuid);
        let blob: CcBlob = read(&bytes, 0);
        prop_assert_eq!((bytes.len(), &bytes[..4]), (40, &b"AMDE"[..]));
        prop_assert_eq!((blob.secrets_phys.get(), blob.secrets_len.get()), (secrets, 4096));
        prop_assert_eq!((blob.cpuid_phys.get(), blob.cpuid_len.get()), (cpuid, 4096));
    }

    #[test]
    fn linux_gets_the_answers_that_went_in(entries in prop::collection::vec(entry(), 0..80)) {
        // Zeros are what `snp_cpuid` gives for what is not there.
        let known = |e: &&CpuidEntry| (e.eax, e.ebx, e.ecx, e.edx) != (0, 0, 0, 0);
        let expected: Vec<_> = entries.iter().filter(known).copied().collect();
        let page = match cpuid_page(&entries) {
            Ok(page) => page,
            Err(error) => {
                prop_assert_eq!(error == CpuidPageError::Empty, expected.is_empty());
                prop_assert!(expected.is_empty() || expected.len() > 64);
                return Ok(());
            }
        };
        prop_assert_eq!(page.len(), 4096);
        let count = read::<CpuidTable>(&page, 0).count.get() as usize;
        prop_assert_eq!(count, expected.len());
        for (index, expected) in expected.into_iter().enumerate() {
            let found: CpuidFunction = read(&page, 16 + index * 48);
            let sizes = expected.leaf == 0xd && expected.subleaf < 2;
            prop_assert_eq!((found.xcr0_in.get(), found.xss_in.get()), (u64::from(sizes), 0));
            let ebx = if sizes { 0x240 } else { expected.ebx };
            prop_assert_eq!((found.eax_in.get(), found.ecx_in.get()), (expected.leaf, expected.subleaf));
            prop_assert_eq!((found.eax.get(), found.ebx.get()), (expected.eax, ebx));
            prop_assert_eq!((found.ecx.get(), found.edx.get()), (expected.ecx, expected.edx));
        }
        prop_assert!(page[16 + count * 48..].iter().all(|b| *b == 0));
    }
}
