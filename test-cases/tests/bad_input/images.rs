// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files that are not kernels: refused before a KVM host is started for them.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;

use crate::common::elf;
use crate::common::outcome::Outcome;
use crate::common::trouble::{Checked, trial};
use crate::copra;

/// The tests.
pub fn trials() -> Vec<Trial> {
    vec![
        trial("images::a_truncated_vmlinux", || {
            let mut file = elf::vmlinux(&[0x90; 0x4000]);
            file.truncate(0x2000);
            refused(&file, &["it ends at byte 8192", "program header 0", "again"])
        }),
        trial("images::a_truncated_bzimage", || refused(&bzimage_cut_off(), &["cannot", "again"])),
        trial("images::an_elf_for_aarch64", || {
            refused(&elf::elf(elf::AARCH64, elf::HANG, 0), &["aarch64", "x86-64"])
        }),
        trial("images::an_elf_for_32_bits", || {
            refused(&elf::elf(elf::I386, elf::HANG, 0), &["32-bit", "x86-64"])
        }),
        trial("images::a_text_file", || {
            refused(b"#!/bin/sh\necho I am no kernel\n", &["cannot use", "kernel", "bzImage"])
        }),
        trial("images::an_empty_file", || refused(b"", &["an empty file", "kernel", "again"])),
        trial("images::a_directory", || {
            let folder = tempfile::tempdir()?;
            refused_at(folder.path(), &["a directory", "bzImage"])
        }),
        trial("images::a_missing_file", || {
            refused_at(Path::new("/no/such/vmlinuz"), &["/no/such/vmlinuz", "No such file"])
        }),
    ]
}

/// A setup header whose sizes exceed the file (Documentation/arch/x86/boot.rst).
fn bzimage_cut_off() -> Vec<u8> {
    let mut file = vec![0; 0x800];
    file[0x1f1] = 3; // setup_sects
    file[0x1f4..0x1f8].copy_from_slice(&0x1_0000u32.to_le_bytes()); // syssize
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x200..0x202].copy_from_slice(&[0xeb, 0x6a]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    file[0x211] = 1; // loaded high
    file[0x236] = 0x3f; // xloadflags: 64-bit entry and the rest
    file[0x248..0x24c].copy_from_slice(&0x100u32.to_le_bytes()); // payload_offset
    file[0x24c..0x250].copy_from_slice(&0x8000u32.to_le_bytes()); // payload_length
    file
}

fn refused(bytes: &[u8], words: &[&str]) -> Checked {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("image");
    fs::write(&file, bytes)?;
    refused_at(&file, words)
}

fn refused_at(file: &Path, words: &[&str]) -> Checked {
    let kernel = format!("path:{}", file.display());
    let mut command = copra(&["run", "dmi/sysfs", "--kernel", &kernel]);
    // Were a KVM host to be started after all, this would be the error instead.
    command.env("COPRA_KVM_HOST", "qemu").env_remove("COPRA_IN_KVM_HOST").env("PATH", "/nowhere");
    let outcome = Outcome::of(&mut command)?;
    outcome.refused(words)?;
    outcome.refused(&[&file.display().to_string()])
}
