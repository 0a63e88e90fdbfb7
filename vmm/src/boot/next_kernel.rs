// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel that the guest itself started by kexec, unpacked where its own decompressor would put it.
//!
//! The decompressor cannot run: its kernel's instructions would not be rewritten. So the VMM does its work, as for the first kernel.

use super::image::Vmlinux;
use super::linux::LoadError;
use super::opcode::{self, Sites};
use crate::layout::LARGE_PAGE_SIZE;
use crate::memory::GuestMemory;
use crate::platform::PlatformModel;

/// Offset of the 64-bit entry in a bzImage's protected-mode part (Documentation/arch/x86/boot.rst).
pub const ENTRY_64: u64 = 0x200;

/// A kernel in its place.
#[derive(Debug)]
pub struct Placed {
    /// Its first instruction.
    pub rip: u64,
    /// What was added to its physical addresses.
    pub moved: u64,
    /// Instructions that were found, at these addresses.
    pub sites: Sites,
}

/// Unpacks a kernel whose bzImage was loaded at `at`: `arch/x86/boot/compressed/head_64.S:startup_64` aligns that address to
/// `kernel_alignment` and never goes below `LOAD_PHYSICAL_ADDR`; without KASLR nothing else changes it.
pub fn place(
    memory: &GuestMemory,
    platform: &dyn PlatformModel,
    kernel: &Vmlinux<'_>,
    sites: Option<&Sites>,
    at: u64,
) -> Result<Placed, LoadError> {
    let lowest = kernel.facts.lowest();
    let output = at.next_multiple_of(LARGE_PAGE_SIZE).max(lowest);
    let moved = output - lowest;
    for segment in &kernel.facts.segments {
        let (start, len) = (segment.offset as usize, segment.filesz as usize);
        let bytes = kernel.elf.get(start..start + len);
        let bytes = bytes.ok_or_else(|| LoadError::Elf("a segment ends behind the file".to_owned()))?;
        memory.write(segment.paddr + moved, bytes)?;
        let zeros = vec![0; (segment.memsz - segment.filesz) as usize];
        memory.write(segment.paddr + moved + segment.filesz, &zeros)?;
    }
    let sites = match sites {
        _ if platform.opcodes().is_empty() => Sites::default(),
        Some(sites) => sites.moved(moved),
        None => opcode::find(kernel)?.moved(moved),
    };
    for site in sites.for_opcodes(platform.opcodes()) {
        memory.write(site.physical, &site.replacement())?;
    }
    Ok(Placed { rip: kernel.facts.entry + moved, moved, sites })
}
