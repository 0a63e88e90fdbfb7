// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The four instructions of confidential guests that KVM cannot hand to user space, found in a kernel so that the loader
//! can write something else in their place.
//!
//! Without the hardware TDCALL, PVALIDATE and RMPADJUST are undefined (#UD in the guest, no exit) and VMGEXIT is a
//! VMMCALL that KVM answers itself (`arch/x86/kvm/x86.c:handle_ud`, `kvm_emulate_hypercall`). An OUT to a port that only
//! found has the same length, changes no register either, and leaves KVM with RIP still at it.

use std::collections::HashMap;
use std::ops::Range;

use sha2::{Digest, Sha256};

pub use self::boundary::Reason;
pub use self::modules::{Findings, ModuleError, scan_initramfs, scan_module, scan_module_file};
use super::image::Vmlinux;
use super::image::elf::{ElfError, code_sections};
use crate::x86::opcode::Opcode;

mod boundary;
mod modules;
mod newc;
mod stored;
#[cfg(test)]
mod tests;
mod unpack;

/// No kernel has a hundredth of that many places that even look like one of the instructions.
const MAX_CANDIDATES: usize = 4096;
/// How many bytes before and after a site its hash covers.
const HASHED: usize = 32;

/// Why a kernel's sites cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpcodeError {
    /// Section headers that contradict the file.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// An image made to keep copra busy.
    #[error(
        "more than {MAX_CANDIDATES} places in the kernel's code look like TDCALL, VMGEXIT, PVALIDATE or RMPADJUST; no \
         kernel has that many, build or fetch it again"
    )]
    TooMany,
}

/// An instruction to rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// What it is.
    pub opcode: Opcode,
    /// Its virtual address.
    pub address: u64,
    /// Its guest physical address: where to write, and RIP before the kernel has mapped itself high.
    pub physical: u64,
    /// The first 8 bytes of the SHA-256 of the code around it (32 bytes before to 32 bytes after its first, as far as
    /// the section has them), as it was in the file: names the place across kernels.
    pub hash: u64,
    /// The section it is in; empty if the kernel has no section headers.
    pub section: String,
}

impl Site {
    /// The bytes there in the file.
    pub const fn original(&self) -> [u8; Opcode::LEN] {
        self.opcode.bytes()
    }

    /// What to write there.
    pub const fn replacement(&self) -> [u8; Opcode::LEN] {
        self.opcode.replacement()
    }
}

/// Bytes that look like one of the instructions and are left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// What it looks like.
    pub opcode: Opcode,
    /// Its virtual address.
    pub address: u64,
    /// Why it is none.
    pub reason: Reason,
}

/// All there is to rewrite in a kernel.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    found: Vec<Site>,
    rejected: Vec<Rejected>,
    by_address: HashMap<u64, usize>,
}

impl Sites {
    /// In the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Site> {
        self.found.iter()
    }

    /// Those of some instructions: what one platform needs rewritten.
    pub fn for_opcodes(&self, opcodes: &[Opcode]) -> impl Iterator<Item = &Site> {
        self.found.iter().filter(|site| opcodes.contains(&site.opcode))
    }

    /// How many there are of an instruction.
    pub fn count(&self, opcode: Opcode) -> usize {
        self.for_opcodes(&[opcode]).count()
    }

    /// The site at an instruction pointer. Early code runs at its physical address, in an identity map
    /// (`arch/x86/kernel/head_64.S:startup_64`), all later code at its virtual one.
    pub fn at(&self, rip: u64) -> Option<&Site> {
        self.by_address.get(&rip).and_then(|&index| self.found.get(index))
    }

    /// What looked like a site.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// The same in a kernel that is `by` bytes higher in physical memory.
    #[must_use]
    pub fn moved(&self, by: u64) -> Self {
        let mut moved = Self { rejected: self.rejected.clone(), ..Self::default() };
        for site in &self.found {
            moved.push(Site { physical: site.physical.wrapping_add(by), ..site.clone() });
        }
        moved
    }

    fn push(&mut self, site: Site) {
        for address in [site.address, site.physical] {
            self.by_address.insert(address, self.found.len());
        }
        self.found.push(site);
    }
}

/// Finds the instructions in a kernel's executable segments: in all sections of code, `.init.text` and those of the
/// alternatives included, or in all of the segment if the section headers are gone.
pub fn find(kernel: &Vmlinux<'_>) -> Result<Sites, OpcodeError> {
    let sections = code_sections(&kernel.elf)?;
    let mut found = Sites::default();
    let mut count = 0;
    for segment in kernel.facts.executable() {
        let bytes = kernel.segment_bytes(segment);
        let mut parts: Vec<(Range<usize>, &str)> = sections
            .iter()
            .filter_map(|s| Some((within(&s.file, segment.offset as usize, bytes.len())?, s.name.as_str())))
            .collect();
        if sections.is_empty() {
            parts.push((0..bytes.len(), ""));
        }
        for (code, section) in parts {
            let start = code.start;
            let code = &bytes[code];
            for (at, opcode) in boundary::candidates(code) {
                count += 1;
                if count > MAX_CANDIDATES {
                    return Err(OpcodeError::TooMany);
                }
                let address = segment.vaddr + (start + at) as u64;
                match judge(code, at, opcode) {
                    Ok(hash) => found.push(Site {
                        opcode,
                        address,
                        physical: segment.paddr + (start + at) as u64,
                        hash,
                        section: section.to_owned(),
                    }),
                    Err(reason) => found.rejected.push(Rejected { opcode, address, reason }),
                }
            }
        }
    }
    Ok(found)
}

/// Finds the instructions in code that is nothing but instructions, as small test guests are, loaded and run at `address`.
pub fn find_flat(code: &[u8], address: u64) -> Sites {
    let mut found = Sites::default();
    for (at, opcode) in boundary::sweep(code) {
        let hash = hash(code, at);
        let place = address + at as u64;
        found.push(Site { opcode, address: place, physical: place, hash, section: String::new() });
    }
    found
}

/// A section's place in the segment's bytes, which are `len` from `start` on; `None` unless it is inside.
fn within(section: &Range<usize>, start: usize, len: usize) -> Option<Range<usize>> {
    let range = section.start.checked_sub(start)?..section.end.checked_sub(start)?;
    (range.end <= len).then_some(range)
}

/// The hash of a site's surroundings, if it is one.
fn judge(code: &[u8], at: usize, opcode: Opcode) -> Result<u64, Reason> {
    boundary::judge(code, at, opcode)?;
    Ok(hash(code, at))
}

fn hash(code: &[u8], at: usize) -> u64 {
    let around = &code[at.saturating_sub(HASHED)..code.len().min(at + HASHED)];
    let digest: [u8; 32] = Sha256::digest(around).into();
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}
