// SPDX-License-Identifier: Apache-2.0 OR MIT
//! libFuzzer's way in to `copra_fuzz::VIRTIO`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (copra_fuzz::VIRTIO.run)(bytes));
