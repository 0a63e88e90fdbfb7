// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An SNP guest's VMGEXIT, PVALIDATE and RMPADJUST.

/// Carries out the requests `bytes` stand for.
pub fn run(bytes: &[u8]) {
    vmm::platform::snp::fuzz::fuzz_vmgexit(bytes);
}

/// Every kind of request once, and a long run of them.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let kinds = (0..8u8).map(|kind| (format!("kind-{kind}"), [kind].repeat(64)));
    kinds.chain([("mixed".to_owned(), (0..=255u8).collect())]).collect()
}
