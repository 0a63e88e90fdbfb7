// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures copra against QEMU's microvm with the same kernel and initramfs, and the agent's channel: `scripts/bench`.
//!
//! `bench IMAGE ROUNDS KERNEL`: the image of a kernel, which is in the cache. `bench log PLATFORM VMLINUX OPTIONS` prints the log
//! of one kernel, `bench restore PLATFORM VMLINUX` what snapshots cost, `bench guests PLATFORM VMLINUX` what several guests cost. The
//! other forms are the children that the first one starts.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod cases;
mod channel;
mod compare;
mod figures;
mod guest;
mod guests;
mod in_memory;
mod kept;
mod restore;

use std::error::Error;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// RAM of every guest here, MiB.
const MEMORY: u64 = 256;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts[..] {
        ["boot", platform, vmlinux] => guest::boot(platform, vmlinux),
        ["log", platform, vmlinux, more] => guest::log(platform, vmlinux, more),
        ["restore", platform, vmlinux] => restore::restore(platform, vmlinux),
        ["guests", platform, vmlinux] => guests::guests(platform, vmlinux),
        ["channel", vmlinux] => channel::channel(vmlinux),
        [kernel, rounds, spec] => compare::compare(kernel, rounds.parse()?, spec),
        _ => Err("usage: bench IMAGE ROUNDS KERNEL | bench log PLATFORM VMLINUX OPTIONS | bench (restore | guests) PLATFORM VMLINUX".into()),
    }
}
