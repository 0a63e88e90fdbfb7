// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Medians, and figures as they are printed.

use std::time::Duration;

/// Bytes of a MiB, for figures.
pub const MIB: f64 = 1_048_576.0;

/// The middle one.
pub fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A line that `scripts/check-bench` compares with the earlier one: with enough digits to show a change of 2 %.
pub fn print_ratio(name: &str, value: f64) {
    /// Below this three decimals are not enough.
    const SMALL: f64 = 0.1;
    if value < SMALL {
        println!("ratio {name}: {value:.5}");
    } else {
        println!("ratio {name}: {value:.3}");
    }
}

/// In milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
