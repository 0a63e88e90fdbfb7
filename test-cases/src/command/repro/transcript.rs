// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The text of `copra repro` for a case that ends in a guest's end or a signal: each step with its forbidden accesses,
//! and how the guest ended.

use types::Platform;

use super::narrative::{head, mark};
use super::observed::Observed;
use engine::report::evidence::hexdump;

/// Rows of a dump shown of each step.
const ROWS: usize = 2;

/// Prints the results of the stock kernel; returns whether all are as documented.
pub fn describe(stock: &Observed, platform: Platform) -> bool {
    head(stock, platform);
    outln!();
    let all = steps(stock);
    deaths(stock);
    all
}

/// Prints the results of the patched kernel; returns whether it denies.
pub fn contrast(patched: &[Observed]) -> bool {
    outln!("\nThe same steps with the patch of the thread (policy open-eperm):\n");
    patched.iter().all(steps)
}

fn steps(observed: &Observed) -> bool {
    let mut all = true;
    for (id, call) in observed.calls() {
        let what = match observed.class_names(&id) {
            classes if classes.is_empty() => observed.answer(&id),
            classes => format!("{}: {classes}", observed.answer(&id)),
        };
        all &= mark(observed, &id, &call, &what);
        let bytes = observed.bytes(&id);
        let lines = if observed.is_of_memory(&id) {
            hexdump(observed.gpa(&id), bytes)
        } else {
            String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
        };
        for line in lines.iter().take(ROWS) {
            outln!("      {line}");
        }
        for line in observed.events(&id) {
            outln!("      {line}");
        }
    }
    all
}

fn deaths(observed: &Observed) {
    for (text, console) in observed.deaths() {
        outln!("\n{text}");
        for line in console {
            outln!("    {line}");
        }
    }
}
