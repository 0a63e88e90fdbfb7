// SPDX-License-Identifier: Apache-2.0 OR MIT
//! libFuzzer's way in to `copra_fuzz::DMA_PROBE`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (copra_fuzz::DMA_PROBE.run)(bytes));
