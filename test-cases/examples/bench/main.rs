// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures copra against QEMU's microvm with the same kernel and initramfs, and the agent's channel: `scripts/bench`.
//!
//! `bench IMAGE ROUNDS KERNEL INITRAMFS`: the image of a kernel, which is in the cache, and what `bench files KERNEL INITRAMFS`
//! wrote. `bench throughput IMAGE ROUNDS INITRAMFS` measures devices only, `bench log PLATFORM VMLINUX OPTIONS` prints the log
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
mod throughput;

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
        ["files", spec, to] => throughput::write_files(spec, to),
        ["io", platform, vmlinux, initramfs, disk, share] => {
            throughput::run(platform, [vmlinux, initramfs, disk, share])
        }
        ["throughput", kernel, rounds, initramfs] => compare::devices(kernel, rounds.parse()?, initramfs),
        [kernel, rounds, spec, initramfs] => compare::compare(kernel, rounds.parse()?, spec, initramfs),
        _ => Err("usage: bench IMAGE ROUNDS KERNEL INITRAMFS | bench files KERNEL INITRAMFS | bench throughput IMAGE ROUNDS INITRAMFS | bench log PLATFORM VMLINUX OPTIONS | bench (restore | guests) PLATFORM VMLINUX".into()),
    }
}
