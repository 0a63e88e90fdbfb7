// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which modules contain the four instructions. Where a module lands is decided in the guest, so copra rewrites none of
//! them; but a report can name the modules that would not work.

use std::borrow::Cow;

use super::super::image::elf::{ElfError, code_sections, is_elf, is_module};
use super::{MAX_CANDIDATES, Opcode, boundary, newc, unpack};

/// How the names of modules end (scripts/Makefile.modinst).
const SUFFIXES: [&[u8]; 4] = [b".ko", b".ko.gz", b".ko.xz", b".ko.zst"];

/// Why a module cannot be looked through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// Something else.
    #[error("it is no x86-64 kernel module")]
    NotAModule,
    /// Section headers that contradict the file.
    #[error("its section headers are damaged")]
    Elf(#[from] ElfError),
    /// A module made to keep copra busy.
    #[error("too many places in it look like TDCALL, VMGEXIT, PVALIDATE or RMPADJUST")]
    TooMany,
    /// It was packed, and does not unpack.
    #[error("{0}")]
    Packed(String),
}

/// What was found in an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many modules were looked through.
    pub scanned: usize,
    /// The modules that contain some of the instructions, with which.
    pub modules: Vec<(String, Vec<Opcode>)>,
    /// Files that could not be looked through, with the reason; "initramfs" is the archive itself.
    pub unread: Vec<(String, String)>,
}

/// The instructions that a module's code contains, each once.
pub fn scan_module(elf: &[u8]) -> Result<Vec<Opcode>, ModuleError> {
    if !is_module(elf) {
        return Err(ModuleError::NotAModule);
    }
    let mut found = Vec::new();
    let mut count = 0;
    for section in code_sections(elf)? {
        let code = &elf[section.file];
        for (at, opcode) in boundary::candidates(code) {
            if found.contains(&opcode) {
                continue;
            }
            count += 1;
            if count > MAX_CANDIDATES {
                return Err(ModuleError::TooMany);
            }
            if boundary::judge(code, at, opcode).is_ok() {
                found.push(opcode);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Looks through all modules of an initramfs: cpio archives, packed or not, one after the other with zeros between
/// (Documentation/driver-api/early-userspace/buffer-format.rst). Damage is a finding, no error: Linux boots with it.
pub fn scan_initramfs(initramfs: &[u8]) -> Findings {
    let mut findings = Findings::default();
    let mut rest = initramfs;
    loop {
        rest = &rest[rest.iter().take_while(|b| **b == 0).count()..];
        if rest.is_empty() {
            return findings;
        }
        let next = if newc::is_archive(rest) {
            scan_archive(rest, &mut findings)
        } else {
            // What is packed may be several archives as well, but nothing is packed twice.
            unpack::unpack(rest).and_then(|(unpacked, next)| {
                let mut inner = &unpacked[..];
                while newc::is_archive(inner) {
                    inner = scan_archive(inner, &mut findings)?;
                    inner = &inner[inner.iter().take_while(|b| **b == 0).count()..];
                }
                if inner.is_empty() {
                    Ok(next)
                } else {
                    Err("it holds something else than cpio archives".to_owned())
                }
            })
        };
        match next {
            Ok(next) => rest = next,
            Err(reason) => {
                findings.unread.push(("initramfs".to_owned(), reason));
                return findings;
            }
        }
    }
}

/// Looks through the archive that `bytes` begin with; gives what follows it.
fn scan_archive<'a>(bytes: &'a [u8], findings: &mut Findings) -> Result<&'a [u8], String> {
    let (members, rest) = newc::walk(bytes)?;
    for member in members {
        // Of several names of one file, only the last has the contents.
        if member.contents.is_empty() || !SUFFIXES.iter().any(|suffix| member.name.ends_with(suffix)) {
            continue;
        }
        let name = String::from_utf8_lossy(member.name).into_owned();
        match scan_module_file(member.contents) {
            Ok(opcodes) => {
                findings.scanned += 1;
                if !opcodes.is_empty() {
                    findings.modules.push((name, opcodes));
                }
            }
            Err(error) => findings.unread.push((name, error.to_string())),
        }
    }
    Ok(rest)
}

/// Looks through a module, packed or not, as its first bytes show.
pub fn scan_module_file(contents: &[u8]) -> Result<Vec<Opcode>, ModuleError> {
    let elf = if is_elf(contents) {
        Cow::Borrowed(contents)
    } else {
        Cow::Owned(unpack::unpack(contents).map_err(ModuleError::Packed)?.0)
    };
    scan_module(&elf)
}
