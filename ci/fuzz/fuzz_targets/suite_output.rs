// SPDX-License-Identifier: Apache-2.0 OR MIT
//! libFuzzer's way in to `copra_fuzz::SUITE_OUTPUT`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (copra_fuzz::SUITE_OUTPUT.run)(bytes));
